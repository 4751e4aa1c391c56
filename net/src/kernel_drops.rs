//! Datagrams the kernel threw away because nobody read them in time.
//!
//! Owns: finding our own sockets in `/proc/self/net/udp` and counting from there. Never fails loudly: without `/proc`
//! there is no count. Always holds: a count only grows, also when the kernel's own 32 bits wrap.
//!
//! `SO_RXQ_OVFL` would put the same number beside every datagram, but quinn-udp reads the control messages and keeps that one
//! to itself, and `SO_MEMINFO` has no safe wrapper. The table holds exactly what both report (`sk_drops`), its reading costs a line a
//! UDP socket of the machine, and once a second is often enough for a number that statuses carry. Packet gaps tell that
//! something was lost at once; this tells, a little later, where.

use std::os::fd::AsFd;

/// Counts the drops of one socket.
#[derive(Debug)]
pub struct KernelDrops {
    inode: Option<u64>,
    /// What the kernel said last; it counts modulo 2^32.
    last: u32,
    total: u64,
}

impl KernelDrops {
    /// Counts from the socket's birth.
    pub fn of(socket: &impl AsFd) -> Self {
        Self {
            inode: rustix::fs::fstat(socket).ok().map(|stat| stat.st_ino),
            last: 0,
            total: 0,
        }
    }

    /// Takes the socket's line of `table`, and answers how many more were dropped since the last time.
    pub fn update(&mut self, table: &str) -> u64 {
        let Some(now) = self.inode.and_then(|inode| drops(table, inode)) else {
            return 0;
        };
        let more = u64::from(now.wrapping_sub(self.last));
        self.last = now;
        self.total += more;
        more
    }

    /// All drops seen so far.
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// The kernel's table of UDP sockets in this network namespace; empty where there is none.
pub fn table() -> String {
    std::fs::read_to_string("/proc/self/net/udp").unwrap_or_default()
}

/// Last column of the line whose tenth is `inode`:
/// `sl local rem st tx:rx tr:when retr uid timeout inode ref pointer drops`.
fn drops(table: &str, inode: u64) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let own = fields.nth(9)?.parse() == Ok(inode);
        // After the inode come two fields and the drops.
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
