//! Addresses for an isolated switch: which client has which, and until when.
//!
//! ```text
//! DISCOVER -> OFFER (held 30 s) -> REQUEST -> ACK (an hour) -> renewed, released, or over
//!                                     +-> NAK: outside the range, another client's, or in use
//! ```
//!
//! Owns: the table and its rules (RFC 2131 section 4.3). Pure: time is an argument, the date in
//! seconds, because a lease outlives the process. Always holds: an address has one client at most;
//! the table is no longer than the range; no lease is given to another client before its time is
//! over; no entry ends later than a full term from now, so a clock that was wrong once (2099, and
//! right again) locks no address.

use crate::dhcp::{MessageType, Op, Packet, code};
use facts::Mac;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Term of a lease, in seconds.
const LEASE_S: u64 = 3600;
/// Time an offer is held for its client, in seconds.
const OFFER_S: u64 = 30;
/// Time an address is not given out after somebody else was found to use it, in seconds.
const CONFLICT_S: u64 = 600;
/// Most addresses a range may have. Bounds the table at many times the ports of a switch.
pub const MAX_ADDRESSES: u32 = 4096;
/// Longest client identifier (option 61) that is used, in bytes.
const MAX_CLIENT_ID: usize = 64;

/// A range of addresses, both ends included. Written `10.0.0.100-10.0.0.200`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

/// The reason a text is no range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is no range of addresses: {why}")]
pub struct BadRange {
    text: String,
    why: String,
}

impl Range {
    /// Every address of the range, ascending.
    pub fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.first.to_bits()..=self.last.to_bits()).map(Ipv4Addr::from_bits)
    }

    /// True when the range includes `address`.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// The first and the last address.
    pub fn ends(self) -> (Ipv4Addr, Ipv4Addr) {
        (self.first, self.last)
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for Range {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        let bad = |why: &str| BadRange {
            text: text.chars().take(60).collect(),
            why: why.to_owned(),
        };
        let example = "it looks like 10.0.0.100-10.0.0.200";
        let (first, last) = text.split_once('-').ok_or_else(|| bad(example))?;
        let first: Ipv4Addr = first.trim().parse().map_err(|_| bad(example))?;
        let last: Ipv4Addr = last.trim().parse().map_err(|_| bad(example))?;
        let count = last.to_bits().checked_sub(first.to_bits());
        match count {
            None => Err(bad("it ends before it begins")),
            Some(count) if count >= MAX_ADDRESSES => Err(bad("it has more than 4096 addresses")),
            Some(_) => Ok(Self { first, last }),
        }
    }
}

/// The network that the range belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// This server's address.
    pub server: Ipv4Addr,
    /// Length of the network prefix, in bits.
    pub prefix: u8,
}

impl Network {
    fn mask(self) -> Ipv4Addr {
        let host_bits = 32 - u32::from(self.prefix.min(32));
        Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
    }

    fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.server.to_bits() | !self.mask().to_bits())
    }

    /// True when the address is on this network and may belong to a machine.
    pub fn is_host(self, address: Ipv4Addr) -> bool {
        let mask = self.mask().to_bits();
        let network = self.server.to_bits() & mask;
        address.to_bits() & mask == network
            && address.to_bits() != network
            && address != self.broadcast()
    }
}

/// The state of one address. Times are dates in seconds.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
enum Holder {
    /// Offered to a client that has not taken it yet.
    Offered { client: String, until: u64 },
    /// Leased to a client.
    Leased { client: String, until: u64 },
    /// In use by a machine that did not get it from here.
    Conflict { until: u64 },
}

impl Holder {
    fn until(&self) -> u64 {
        match self {
            Self::Offered { until, .. } | Self::Leased { until, .. } | Self::Conflict { until } => {
                *until
            }
        }
    }

    /// Limits the end to a full term from now.
    fn shorten(&mut self, now: u64) {
        let (until, term) = match self {
            Self::Offered { until, .. } => (until, OFFER_S),
            Self::Leased { until, .. } => (until, LEASE_S),
            Self::Conflict { until } => (until, CONFLICT_S),
        };
        *until = (*until).min(now.saturating_add(term));
    }

    fn client(&self) -> Option<&str> {
        match self {
            Self::Offered { client, .. } | Self::Leased { client, .. } => Some(client),
            Self::Conflict { .. } => None,
        }
    }
}

/// The result of a question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The question needs no answer.
    Silent,
    /// The answer to send.
    Answer(Packet),
    /// No answer, because no address is free.
    Full,
}

/// The table of leases.
#[derive(Clone, Debug)]
pub struct Leases {
    range: Range,
    network: Network,
    table: BTreeMap<Ipv4Addr, Holder>,
    changed: bool,
    /// The date of the last question. An earlier date means that the clock was set back, or was
    /// wrong before a restart.
    latest: u64,
}

impl Leases {
    /// An empty table, or the one [`Leases::to_json`] wrote. Entries outside the range are left
    /// out; text that is not such a table gives an empty one.
    pub fn new(range: Range, network: Network, kept: Option<&str>) -> Self {
        let table: BTreeMap<Ipv4Addr, Holder> = kept
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let table = table
            .into_iter()
            .filter(|(address, _)| {
                range.contains(*address) && network.is_host(*address) && *address != network.server
            })
            .collect();
        Self {
            range,
            network,
            table,
            changed: false,
            latest: u64::MAX,
        }
    }

    /// Shortens entries when the clock went back. Called with each date before it is compared with
    /// the table.
    fn follow_clock(&mut self, now: u64) {
        if now < self.latest {
            for holder in self.table.values_mut() {
                holder.shorten(now);
            }
        }
        self.latest = now;
    }

    /// Returns the table as text if leases have changed since the last call. The caller stores it
    /// before it sends the answer; then no restart hands an address out twice.
    pub fn take_changed(&mut self) -> Option<String> {
        std::mem::take(&mut self.changed).then(|| self.to_json())
    }

    /// The table as JSON text.
    pub fn to_json(&self) -> String {
        // A map of addresses to plain values can always be written.
        serde_json::to_string(&self.table).unwrap_or_default()
    }

    /// Number of leases that have not expired at `now`.
    pub fn held(&self, now: u64) -> usize {
        let good =
            |holder: &&Holder| matches!(holder, Holder::Leased { until, .. } if *until > now);
        self.table.values().filter(good).count()
    }

    /// Answers a client's question at `now` (seconds, from any origin that survives restarts).
    /// `taken` says whether another card than the client's answers at an address; it is called once
    /// for each address about to be given.
    pub fn handle(
        &mut self,
        question: &Packet,
        now: u64,
        taken: impl Fn(Ipv4Addr, Mac) -> bool,
    ) -> Outcome {
        if question.op != Op::Request || !question.mac.is_card() {
            return Outcome::Silent;
        }
        self.follow_clock(now);
        let client = client_of(question);
        let options = &question.options;
        let to_us = options
            .address(code::SERVER_ID)
            .map(|server| server == self.network.server);
        let asked = options.address(code::REQUESTED_ADDRESS);
        match question.message_type() {
            Some(MessageType::Discover) => self.offer(question, &client, asked, now, taken),
            Some(MessageType::Request) => {
                self.request(question, &client, (to_us, asked), now, taken)
            }
            Some(MessageType::Decline) if to_us == Some(true) => {
                if let Some(address) = asked.filter(|address| self.is_of(*address, &client, now)) {
                    self.conflict(address, now);
                }
                Outcome::Silent
            }
            Some(MessageType::Release) if to_us != Some(false) => {
                let address = question.ciaddr;
                if self.is_of(address, &client, now) {
                    self.table.remove(&address);
                    self.changed = true;
                }
                Outcome::Silent
            }
            Some(MessageType::Inform) if !question.ciaddr.is_unspecified() => {
                let mut answer = question.answer(MessageType::Ack, self.network.server);
                answer.ciaddr = question.ciaddr;
                self.describe(&mut answer);
                Outcome::Answer(answer)
            }
            _ => Outcome::Silent,
        }
    }

    fn offer(
        &mut self,
        question: &Packet,
        client: &str,
        asked: Option<Ipv4Addr>,
        now: u64,
        taken: impl Fn(Ipv4Addr, Mac) -> bool,
    ) -> Outcome {
        // Bounded by the range: each round either answers or marks one address as in conflict.
        for _ in 0..MAX_ADDRESSES {
            let Some(address) = self.choose(client, asked, now) else {
                return Outcome::Full;
            };
            if taken(address, question.mac) {
                self.conflict(address, now);
                continue;
            }
            // A client that asks again keeps its lease.
            if !matches!(self.table.get(&address), Some(Holder::Leased { until, .. }) if *until > now)
            {
                let holder = Holder::Offered {
                    client: client.to_owned(),
                    until: now + OFFER_S,
                };
                self.table.insert(address, holder);
            }
            return Outcome::Answer(self.lease(question, MessageType::Offer, address));
        }
        Outcome::Full
    }

    /// Chooses an address: the client's own or former one, else the one it asked for, else one
    /// never given out, else the one that has been free the longest.
    fn choose(&self, client: &str, asked: Option<Ipv4Addr>, now: u64) -> Option<Ipv4Addr> {
        let own = self
            .table
            .iter()
            .find(|(_, holder)| holder.client() == Some(client));
        if let Some((address, _)) = own {
            return Some(*address);
        }
        let fits = |address: Ipv4Addr| {
            self.range.contains(address)
                && self.network.is_host(address)
                && address != self.network.server
        };
        let free = |address: &Ipv4Addr| {
            self.table
                .get(address)
                .is_none_or(|holder| holder.until() <= now)
        };
        if let Some(asked) = asked.filter(|asked| fits(*asked) && free(asked)) {
            return Some(asked);
        }
        let fresh = self
            .range
            .addresses()
            .find(|address| fits(*address) && !self.table.contains_key(address));
        fresh.or_else(|| {
            let over = self
                .table
                .iter()
                .filter(|(_, holder)| holder.until() <= now);
            over.min_by_key(|(_, holder)| holder.until())
                .map(|(address, _)| *address)
        })
    }

    fn request(
        &mut self,
        question: &Packet,
        client: &str,
        (to_us, asked): (Option<bool>, Option<Ipv4Addr>),
        now: u64,
        taken: impl Fn(Ipv4Addr, Mac) -> bool,
    ) -> Outcome {
        if to_us == Some(false) {
            // The client took another server's offer: this one is free again.
            self.table.retain(
                |_, holder| !matches!(holder, Holder::Offered { client: own, .. } if own == client),
            );
            return Outcome::Silent;
        }
        // Option 50 names the address when a client takes an offer or comes back after a restart;
        // `ciaddr` names it in a renewal.
        let Some(address) = asked.or_else(|| Some(question.ciaddr).filter(|a| !a.is_unspecified()))
        else {
            return Outcome::Silent;
        };
        let ours = self.range.contains(address)
            && self.network.is_host(address)
            && address != self.network.server;
        let own = self
            .table
            .get(&address)
            .is_some_and(|holder| holder.client() == Some(client));
        // After a restart without the table, a free address may be the client's: it is confirmed.
        let free = self
            .table
            .get(&address)
            .is_none_or(|holder| holder.until() <= now);
        if !ours || !(own || free) {
            return Outcome::Answer(self.refuse(question, "this address is not yours here"));
        }
        // A client that renews answers at the address itself.
        if question.ciaddr.is_unspecified() && taken(address, question.mac) {
            self.conflict(address, now);
            return Outcome::Answer(self.refuse(question, "another machine has this address"));
        }
        // A client has one address: any other of its entries is freed.
        self.table
            .retain(|other, holder| *other == address || holder.client() != Some(client));
        let holder = Holder::Leased {
            client: client.to_owned(),
            until: now + LEASE_S,
        };
        self.table.insert(address, holder);
        self.changed = true;
        Outcome::Answer(self.lease(question, MessageType::Ack, address))
    }

    fn is_of(&self, address: Ipv4Addr, client: &str, now: u64) -> bool {
        let holder = self.table.get(&address);
        holder.is_some_and(|holder| holder.client() == Some(client) && holder.until() > now)
    }

    fn conflict(&mut self, address: Ipv4Addr, now: u64) {
        let holder = Holder::Conflict {
            until: now + CONFLICT_S,
        };
        self.table.insert(address, holder);
        self.changed = true;
    }

    fn lease(&self, question: &Packet, kind: MessageType, address: Ipv4Addr) -> Packet {
        let mut answer = question.answer(kind, self.network.server);
        answer.ciaddr = question.ciaddr;
        answer.yiaddr = address;
        let seconds = u32::try_from(LEASE_S).unwrap_or(u32::MAX);
        answer.options.set_seconds(code::LEASE_SECONDS, seconds);
        answer.options.set_seconds(code::RENEW_SECONDS, seconds / 2);
        answer
            .options
            .set_seconds(code::REBIND_SECONDS, seconds / 8 * 7);
        self.describe(&mut answer);
        answer
    }

    /// Adds mask and broadcast address of the network. No router and no name server: an isolated
    /// switch has none.
    fn describe(&self, answer: &mut Packet) {
        answer
            .options
            .set_address(code::SUBNET_MASK, self.network.mask());
        answer
            .options
            .set_address(code::BROADCAST, self.network.broadcast());
    }

    fn refuse(&self, question: &Packet, why: &str) -> Packet {
        let mut answer = question.answer(MessageType::Nak, self.network.server);
        answer.options.set(code::MESSAGE, why.as_bytes());
        // The client may use no address from now on, so the answer is broadcast (RFC 2131 section
        // 4.3.2).
        answer.broadcast = true;
        answer
    }
}

/// The key of a client: its card, or its identifier if that differs from the card. A ROM that sends
/// no identifier and a system that sends its card as one are the same client.
fn client_of(question: &Packet) -> String {
    match question.options.get(code::CLIENT_ID) {
        Some([1, mac @ ..]) if mac == question.mac.0 => question.mac.to_string(),
        Some(id) if !id.is_empty() && id.len() <= MAX_CLIENT_ID => id
            .iter()
            .fold("id".to_owned(), |text, byte| format!("{text}:{byte:02x}")),
        _ => question.mac.to_string(),
    }
}

#[cfg(test)]
mod tests;
