//! Cards, addresses and UUIDs of machines, learnt from packets.
//!
//! Needed because TFTP and HTTP requests show only an address, and a request for a script only a
//! card. Bounded: a flood of made-up cards displaces the entries heard longest ago; at worst a
//! stage is then not shown.

use facts::boot::Machine;
use facts::{Mac, Uuid};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Most cards, and most addresses, that are remembered.
const MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Machines {
    /// UUID of a card, and the number of the packet that told it.
    cards: BTreeMap<Mac, (Option<Uuid>, u64)>,
    /// Card of an address, and the number of the packet that told it.
    addresses: BTreeMap<Ipv4Addr, (Mac, u64)>,
    heard: u64,
}

impl Machines {
    /// Records the machine that sent a packet, and its address if known.
    pub(super) fn note(&mut self, machine: Machine, address: Option<Ipv4Addr>) {
        self.heard += 1;
        let uuid = machine.uuid.or_else(|| self.of(machine.mac).uuid);
        put(&mut self.cards, machine.mac, (uuid, self.heard));
        if let Some(address) = address.filter(|address| !address.is_unspecified()) {
            put(&mut self.addresses, address, (machine.mac, self.heard));
        }
    }

    /// The machine with this card.
    pub(super) fn of(&self, mac: Mac) -> Machine {
        let uuid = self.cards.get(&mac).and_then(|(uuid, _)| *uuid);
        Machine { mac, uuid }
    }

    /// The machine at this address.
    pub(super) fn at(&self, address: Ipv4Addr) -> Option<Machine> {
        self.addresses.get(&address).map(|(mac, _)| self.of(*mac))
    }
}

fn put<K: Copy + Ord, V>(map: &mut BTreeMap<K, (V, u64)>, key: K, value: (V, u64)) {
    if map.len() >= MAX && !map.contains_key(&key) {
        let oldest = map
            .iter()
            .min_by_key(|(_, (_, heard))| *heard)
            .map(|(key, _)| *key);
        oldest.and_then(|oldest| map.remove(&oldest));
    }
    map.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_last_is_kept() {
        let mut machines = Machines::default();
        let uuid = "00112233-4455-6677-8899-aabbccddeeff".parse().ok();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let here = Ipv4Addr::new(10, 0, 0, 9);
        machines.note(Machine { mac, uuid }, None);
        machines.note(Machine { mac, uuid: None }, Some(here));
        assert_eq!(machines.at(here), Some(Machine { mac, uuid }));
        for n in 0..20_000_u32 {
            let [a, b, c, d] = n.to_be_bytes();
            let flood = Machine {
                mac: Mac([6, 6, a, b, c, d]),
                uuid: None,
            };
            machines.note(flood, Some(Ipv4Addr::from_bits(0x0b00_0000 + n)));
            if n % 1000 == 0 {
                machines.note(Machine { mac, uuid: None }, Some(here));
            }
        }
        assert_eq!(machines.at(here), Some(Machine { mac, uuid }));
        assert_eq!((machines.cards.len(), machines.addresses.len()), (MAX, MAX));
    }
}
