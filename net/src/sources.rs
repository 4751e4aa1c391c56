//! Which addresses the packets of a session come from.
//!
//! Everybody in a session has its key, so a packet that authenticates may still come from an insider. The console sends
//! nearly all packets; whoever else sent some is named when a block turns out wrong. An address can be forged on the
//! wire, so this accuses nobody in court: it tells a technician which machine to look at first.
//!
//! Owns a few counters of fixed size, whatever comes.

use std::net::Ipv4Addr;

/// Addresses told apart; packets of further ones count for nobody.
const MOST: usize = 8;

/// Packets by sender.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sources {
    seen: [Option<(Ipv4Addr, u64)>; MOST],
}

impl Sources {
    /// An authenticated packet came from this address.
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

    /// Everyone but the one who sent the most.
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
