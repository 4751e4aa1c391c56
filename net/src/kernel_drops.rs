//! Datagrams that the kernel dropped because the program did not read them in time.
//!
//! Owns: finding the own sockets in `/proc/self/net/udp`, and counting from there. Without `/proc`
//! there is no count and no error. Invariants: a count only grows, even when the kernel's 32-bit
//! counter wraps.
//!
//! `SO_RXQ_OVFL` would deliver the same number with every datagram, but quinn-udp reads the control
//! messages and does not pass it on; `SO_MEMINFO` has no safe wrapper. The table holds the number
//! both report (`sk_drops`). Reading it costs one line for each UDP socket of the machine, and once
//! a second is often enough for a number in statuses. Packet gaps show at once that packets were
//! lost; this count shows, a little later, where.

use std::os::fd::AsFd;

/// Counter of drops at one socket.
#[derive(Debug)]
pub struct KernelDrops {
    inode: Option<u64>,
    /// Last value of the kernel's counter, which wraps at 2^32.
    last: u32,
    total: u64,
}

impl KernelDrops {
    /// A counter of all drops since the socket was opened.
    pub fn of(socket: &impl AsFd) -> Self {
        Self {
            inode: rustix::fs::fstat(socket).ok().map(|stat| stat.st_ino),
            last: 0,
            total: 0,
        }
    }

    /// Reads the socket's line of `table`. Returns the number of drops since the last call.
    pub fn update(&mut self, table: &str) -> u64 {
        let Some(now) = self.inode.and_then(|inode| drops(table, inode)) else {
            return 0;
        };
        let more = u64::from(now.wrapping_sub(self.last));
        self.last = now;
        self.total += more;
        more
    }

    /// Number of drops seen so far.
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// The kernel's table of UDP sockets in this network namespace; empty when there is none.
pub fn table() -> String {
    std::fs::read_to_string("/proc/self/net/udp").unwrap_or_default()
}

/// The last column of the line whose tenth is `inode`:
/// `sl local rem st tx:rx tr:when retr uid timeout inode ref pointer drops`.
fn drops(table: &str, inode: u64) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let own = fields.nth(9)?.parse() == Ok(inode);
        // Two fields follow the inode, then the drops.
        own.then(|| fields.nth(2)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n \
        3205: 0201FEEF:138A 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 17\n \
        3207: 0101FEEF:138A 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 4294967290\n";

    #[test]
    fn lines_are_found_by_inode_and_nonsense_is_no_line() {
        assert_eq!(drops(TABLE, 4711), Some(17));
        assert_eq!(drops(TABLE, 4713), None);
        for table in ["", "x", "a\nb c\n", "h\n 1 2 3 4 5 6 7 8 9 4711\n"] {
            assert_eq!(drops(table, 4711), None, "{table:?}");
        }
    }

    #[test]
    fn the_count_goes_on_when_the_kernel_wraps() {
        let mut drops = KernelDrops {
            inode: Some(4712),
            last: 0,
            total: 0,
        };
        assert_eq!(drops.update(TABLE), 4_294_967_290);
        assert_eq!(drops.update(&TABLE.replace(" 4294967290", " 4")), 10);
        assert_eq!(drops.update("gone"), 0);
        assert_eq!(drops.total(), 4_294_967_300);
    }
}
