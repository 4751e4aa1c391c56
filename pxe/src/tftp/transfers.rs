//! All transfers: one for each address and port of a client, with caps.
//!
//! Calling order as for one [`Transfer`]. Always holds: at most [`MAX_TRANSFERS`] in all and
//! [`MAX_PER_ADDRESS`] for one address; a flood of requests from made-up addresses displaces only
//! transfers whose client has not answered.

use super::transfer::{Failure, Transfer};
use super::{Packet, Request};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// Most transfers at once. A room of 64 PCs has 64; each takes a kilobyte, as the files are shared.
pub const MAX_TRANSFERS: usize = 1024;
/// Most transfers of one address: GRUB has one, firmware that opens a file twice has two.
pub const MAX_PER_ADDRESS: usize = 4;

/// A transfer that has ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    /// Address and port of the client.
    pub client: SocketAddrV4,
    /// Name of the file.
    pub name: String,
    /// Its result.
    pub result: Result<(), Failure>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    began: Duration,
    transfer: Transfer,
}

/// All transfers under way.
#[derive(Debug, Default)]
pub struct Transfers(BTreeMap<SocketAddrV4, Entry>);

impl Transfers {
    /// Number of transfers under way.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when no transfer is under way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins a transfer; `name` is its name in reports. A client that asks again from the same
    /// port starts anew. Returns false when there is no room; the client then asks again by itself.
    pub fn begin(
        &mut self,
        client: SocketAddrV4,
        name: &str,
        file: Bytes,
        request: &Request,
        now: Duration,
    ) -> bool {
        if !self.0.contains_key(&client) && !self.make_room(client) {
            return false;
        }
        let entry = Entry {
            name: name.to_owned(),
            began: now,
            transfer: Transfer::begin(file, request, now),
        };
        self.0.insert(client, entry);
        true
    }

    fn make_room(&mut self, client: SocketAddrV4) -> bool {
        let all_ports =
            SocketAddrV4::new(*client.ip(), 0)..=SocketAddrV4::new(*client.ip(), u16::MAX);
        let own = self.0.range(all_ports);
        if own.clone().count() >= MAX_PER_ADDRESS {
            // The client has abandoned its oldest transfer without an error packet.
            let oldest = own
                .min_by_key(|(_, entry)| entry.began)
                .map(|(client, _)| *client);
            return oldest.is_some_and(|oldest| self.0.remove(&oldest).is_some());
        }
        if self.0.len() < MAX_TRANSFERS {
            return true;
        }
        let unproven = self
            .0
            .iter()
            .filter(|(_, entry)| !entry.transfer.is_proven());
        let oldest = unproven
            .min_by_key(|(_, entry)| entry.began)
            .map(|(client, _)| *client);
        oldest.is_some_and(|oldest| self.0.remove(&oldest).is_some())
    }

    /// Handles a packet from a client. Returns how its transfer ended, if it did.
    pub fn handle(
        &mut self,
        client: SocketAddrV4,
        packet: &Packet,
        now: Duration,
    ) -> Option<Ended> {
        let entry = self.0.get_mut(&client)?;
        let result = match packet {
            Packet::Read(_) => return None,
            Packet::Error { code, text } => {
                if entry.transfer.wanted_size_only() {
                    self.0.remove(&client);
                    return None;
                }
                Err(Failure::GaveUp(format!("{text} (code {code})")))
            }
            Packet::Ack(block) => {
                entry.transfer.handle_ack(*block, now);
                if !entry.transfer.is_done() {
                    return None;
                }
                Ok(())
            }
        };
        let name = std::mem::take(&mut entry.name);
        self.0.remove(&client);
        Some(Ended {
            client,
            name,
            result,
        })
    }

    /// Writes the next packet for a client into `out`; false when there is none.
    pub fn poll_transmit(&mut self, client: SocketAddrV4, out: &mut Vec<u8>) -> bool {
        self.0
            .get_mut(&client)
            .is_some_and(|entry| entry.transfer.poll_transmit(out))
    }

    /// Handles all deadlines that have passed. Returns the clients with something to send again,
    /// and the transfers that have ended.
    pub fn handle_timeouts(&mut self, now: Duration) -> (Vec<SocketAddrV4>, Vec<Ended>) {
        let (mut again, mut ended) = (Vec::new(), Vec::new());
        for (client, entry) in &mut self.0 {
            if now < entry.transfer.deadline() {
                continue;
            }
            match entry.transfer.handle_timeout(now) {
                Ok(()) => again.push(*client),
                Err(failure) => ended.push(Ended {
                    client: *client,
                    name: std::mem::take(&mut entry.name),
                    result: Err(failure),
                }),
            }
        }
        for over in &ended {
            self.0.remove(&over.client);
        }
        (again, ended)
    }

    /// Number of transfers of one address.
    pub fn of(&self, address: Ipv4Addr) -> usize {
        self.0
            .keys()
            .filter(|client| *client.ip() == address)
            .count()
    }
}
