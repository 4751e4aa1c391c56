//! The kernel's table of neighbours: the card at each address.

use facts::Mac;
use std::net::Ipv4Addr;

/// Flag of an entry that has been resolved.
const COMPLETE: u32 = 2;

/// The card that answers at an address, if the kernel has resolved it lately.
pub(super) fn lookup(address: Ipv4Addr) -> Option<Mac> {
    find(&std::fs::read_to_string("/proc/net/arp").ok()?, address)
}

/// Finds the card in a table such as `/proc/net/arp`: address, hardware type, flags, card, mask,
/// interface.
fn find(table: &str, address: Ipv4Addr) -> Option<Mac> {
    let card = |line: &str| {
        let mut fields = line.split_whitespace();
        let here = fields.next()?.parse::<Ipv4Addr>().ok()?;
        let flags = fields.nth(1)?.strip_prefix("0x")?;
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let mac: Mac = fields.next()?.parse().ok()?;
        (here == address && flags & COMPLETE != 0 && mac.is_card()).then_some(mac)
    };
    table.lines().skip(1).find_map(card)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.0.0.7         0x1         0x0         00:00:00:00:00:00     *        eth0\n\
                     10.0.0.9         0x1         0x2         52:54:00:00:00:09     *        eth0\nx\n";
        assert_eq!(
            find(table, Ipv4Addr::new(10, 0, 0, 9)),
            Some(Mac([0x52, 0x54, 0, 0, 0, 9]))
        );
        assert_eq!(
            find(table, Ipv4Addr::new(10, 0, 0, 7)),
            None,
            "nobody answered"
        );
        assert_eq!(find(table, Ipv4Addr::new(10, 0, 0, 1)), None);
    }
}
