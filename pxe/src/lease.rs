//! Addresses for an isolated switch: who has which, and for how long.
//!
//! ```text
//! DISCOVER -> OFFER (held 30 s) -> REQUEST -> ACK (an hour) -> renewed, released, or over
//!                                     +-> NAK: not ours, not theirs, or somebody else answers there
//! ```
//!
//! Owns: the table and its rules (RFC 2131 section 4.3). Pure: time is the date in seconds, as an argument, because a lease outlives the process. What always
//! holds: an address has one client at most; the table is no longer than the range; nobody's lease is given to another before its time is over; no entry ends later
//! than a full term from now, so a clock that was wrong once (2099, and right again) locks no address.

use crate::dhcp::{MessageType, Op, Packet, code};
use facts::Mac;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// How long a lease is good for.
const LEASE_S: u64 = 3600;
/// How long an offer is held for its client.
const OFFER_S: u64 = 30;
/// How long an address rests that somebody else was found on.
const CONFLICT_S: u64 = 600;
/// Most addresses of a range: a switch's worth many times over, and a bound for the table.
pub const MAX_ADDRESSES: u32 = 4096;
/// Longest client identifier that is kept.
const MAX_CLIENT_ID: usize = 64;

/// Addresses from the first to the last. Written `10.0.0.100-10.0.0.200`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

/// Why text is no range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is no range of addresses: {why}")]
pub struct BadRange {
    text: String,
    why: String,
}

impl Range {
    /// Addresses in it.
    pub fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.first.to_bits()..=self.last.to_bits()).map(Ipv4Addr::from_bits)
    }

    /// Whether it has this one.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// Both ends.
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

/// Network the addresses are in.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// This server's address.
    pub server: Ipv4Addr,
    /// Length of the prefix.
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

    /// Whether an address is on this network and may belong to a machine.
    pub fn is_host(self, address: Ipv4Addr) -> bool {
        let mask = self.mask().to_bits();
        let network = self.server.to_bits() & mask;
        address.to_bits() & mask == network
            && address.to_bits() != network
            && address != self.broadcast()
    }
}

/// Who has an address.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
enum Holder {
    /// Offered, not taken yet.
    Offered { client: String, until: u64 },
    /// Leased.
    Leased { client: String, until: u64 },
    /// In use by somebody who did not ask here.
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

    /// Ends no later than a full term that begins now.
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

/// What a question comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Nothing to say.
    Silent,
    /// This answer.
    Answer(Packet),
    /// Nothing to say, because no address is left.
    Full,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Leases {
    range: Range,
    network: Network,
    table: BTreeMap<Ipv4Addr, Holder>,
    changed: bool,
    /// The date of the last question. An earlier date means that the clock was set back, or was wrong before a restart.
    latest: u64,
}

impl Leases {
    /// An empty table, or the one that [`Leases::to_json`] wrote: what does not fit the range any more is left out, and so is text that is none.
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

    /// Called with each date before it is compared with what is in the table.
    fn follow_clock(&mut self, now: u64) {
        if now < self.latest {
            for holder in self.table.values_mut() {
                holder.shorten(now);
            }
        }
        self.latest = now;
    }

    /// The table as text when leases have changed since it was asked last. To be kept before the answer is sent: then no restart hands an address out twice.
    pub fn take_changed(&mut self) -> Option<String> {
        std::mem::take(&mut self.changed).then(|| self.to_json())
    }

    /// The table as text.
    pub fn to_json(&self) -> String {
        // A map of addresses to plain values always has a text.
        serde_json::to_string(&self.table).unwrap_or_default()
    }

    /// Leases that are good now.
    pub fn held(&self, now: u64) -> usize {
        let good =
            |holder: &&Holder| matches!(holder, Holder::Leased { until, .. } if *until > now);
        self.table.values().filter(good).count()
    }

    /// The answer to a client's question at `now` (seconds, any origin that survives restarts). `taken` says whether another card than the client's answers at an
    /// address: asked once for each that is about to be given.
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
        // Bounded by the range: each round either answers or takes one address out of it for a while.
        for _ in 0..MAX_ADDRESSES {
            let Some(address) = self.choose(client, asked, now) else {
                return Outcome::Full;
            };
            if taken(address, question.mac) {
                self.conflict(address, now);
                continue;
            }
            // A client that asks again keeps what it has leased.
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

    /// The address it has or had, the one it wants, one nobody ever had, and then the one that has been free the longest.
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
            // It took another server's offer: ours is free again.
            self.table.retain(
                |_, holder| !matches!(holder, Holder::Offered { client: own, .. } if own == client),
            );
            return Outcome::Silent;
        }
        // Taking an offer or coming back after a restart names the address in option 50, renewing in `ciaddr`.
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
        // After a restart without its table, an address that is free may be the client's: it is given back to it.
        let free = self
            .table
            .get(&address)
            .is_none_or(|holder| holder.until() <= now);
        if !ours || !(own || free) {
            return Outcome::Answer(self.refuse(question, "this address is not yours here"));
        }
        // Whoever renews answers at the address itself.
        if question.ciaddr.is_unspecified() && taken(address, question.mac) {
            self.conflict(address, now);
            return Outcome::Answer(self.refuse(question, "another machine has this address"));
        }
        // One address a client: an earlier one is free.
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

    /// The network. No router and no name server: there is none on an isolated switch.
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
        // It may use no address from now on, so it is told by broadcast (RFC 2131 section 4.3.2).
        answer.broadcast = true;
        answer
    }
}

/// The client: its identifier where it says one that is not its card's, else its card. A machine whose ROM says nothing and whose system says its card again is one.
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
