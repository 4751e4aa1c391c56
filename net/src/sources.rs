//! Source addresses of a session's packets.
//!
//! Every member of a session has its key, so an authenticated packet may still come from an
//! attacker inside. The console sends nearly all packets; other senders are named when a block
//! turns out to be wrong. An address can be forged, so this proves nothing: it tells a technician
//! which machine to check first.
//!
//! Owns a few counters of fixed size, whatever arrives.

use std::net::Ipv4Addr;

/// Limit of addresses that are counted; packets of further ones are ignored.
const MOST: usize = 8;

/// Number of packets by source address.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sources {
    seen: [Option<(Ipv4Addr, u64)>; MOST],
}

impl Sources {
    /// Counts an authenticated packet from this address.
    pub fn count(&mut self, from: Ipv4Addr) {
        for place in &mut self.seen {
            match place {
                Some((address, packets)) if *address == from => {
                    *packets = packets.saturating_add(1);
                    return;
                }
                Some(_) => {}
                None => {
                    *place = Some((from, 1));
                    return;
                }
            }
        }
    }

    /// Every address but the one that sent the most.
    pub fn strangers(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let most = self
            .seen
            .iter()
            .flatten()
            .max_by_key(|(_, packets)| *packets)
            .map(|(address, _)| *address);
        self.seen
            .iter()
            .flatten()
            .map(|(address, _)| *address)
            .filter(move |address| Some(*address) != most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_the_most_is_the_console_and_the_others_are_named() {
        let mut sources = Sources::default();
        assert_eq!(sources.strangers().count(), 0);
        for n in 0..100 {
            sources.count(Ipv4Addr::new(10, 0, 0, 1));
            if n % 10 == 0 {
                sources.count(Ipv4Addr::new(10, 0, 0, 66));
            }
        }
        let strangers: Vec<_> = sources.strangers().collect();
        assert_eq!(strangers, [Ipv4Addr::new(10, 0, 0, 66)]);
        for last in 0..200 {
            sources.count(Ipv4Addr::new(10, 0, 1, last));
        }
        assert_eq!(sources.strangers().count(), MOST - 1);
    }
}
