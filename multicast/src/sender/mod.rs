//! The sender: one state machine that feeds all receivers of a session.
//!
//! Owns the choice of the next packet. Parts of the state have modules of their own: the blocks
//! each receiver lacks ([`wants`]), the deficits of each block ([`ledger`]), the order of blocks
//! ([`carousel`]), the speed ([`rate`], [`pacer`]), and the free buffers at receivers ([`room`]).
//! Never sees a payload, and at the default pace never waits for one receiver.
//!
//! Calling order: `handle_*` and commands as events happen; then [`Sender::poll_transmit`] until it
//! returns nothing, [`Sender::poll_event`] until it returns nothing, and sleep until
//! [`Sender::poll_timeout`]. Time never goes back.
//!
//! The order of priority when a packet may be sent:
//!
//! 1. manifest source, for receivers that lack it (the image is useless without it);
//! 2. repair of blocks that receivers reported incomplete, within its share while a pass runs;
//! 3. image source in carousel order, each block followed by its proactive parity: on the main lane
//!    the first time, later on the second lane as slow lane, for receivers that still lack it;
//! 4. a heartbeat on a lane that was quiet, so that receivers notice the loss of its last packets.
//!
//! Always holds: each parity index of a block is sent at most once between two transmissions of its
//! source; a block's source is sent only if an active receiver is owed it; packet numbers of a lane
//! go up by one.
//!
//! ```text
//!  config   configuration          intake   statuses        choice   the next packet
//!  output   packets and events     object   one object      passes   periodic work
//!                                                           ahead    forecast of blocks
//! ```

mod ahead;
mod carousel;
mod choice;
mod config;
mod intake;
mod ledger;
mod object;
mod output;
pub mod pacer;
mod passes;
mod peer;
mod proactive;
mod rate;
mod room;
mod settle;
pub(crate) mod standing;
mod wants;

pub use ahead::Upcoming;
pub use config::{Pace, ReceiverId, SenderConfig};
pub use output::{Progress, SenderCounters, SenderEvent, Transmit, TransmitKind};

use crate::block::layout::{ObjectId, PARITY_SYMBOLS};
use crate::packet::wire::{Lane, PerLane};
use crate::time::{Duration, Instant};
use object::Object;
use pacer::Pacer;
use peer::Peer;
use proactive::Proactive;
use rate::Rate;
use room::Room;
use standing::Sent;
use std::collections::{BTreeMap, VecDeque};

/// Time between two checks of silence, rate and the end of a pass.
const TICK: Duration = Duration::from_millis(50);

/// The sending state machine.
#[derive(Clone, Debug)]
pub struct Sender {
    config: SenderConfig,
    manifest: Object,
    image: Object,
    peers: BTreeMap<ReceiverId, Peer>,
    events: VecDeque<SenderEvent>,
    next_number: PerLane<u64>,
    last_sent_at: PerLane<Instant>,
    pacer: Pacer,
    rate: Rate,
    room: Room,
    proactive: Proactive,
    repair_credit: u64,
    sent: Sent,
    /// Time at which the image could first have begun.
    first_ready_at: Option<Instant>,
    started: bool,
    pass: u32,
    /// Number of times that the block sent most often was sent.
    most_goes: u16,
    pass_open: bool,
    next_tick: Instant,
    /// True if statuses arrived since the last digest.
    news: bool,
    digest_at: Instant,
    /// Number of receivers that are neither complete nor silent.
    waiting: usize,
    counters: SenderCounters,
}

impl Sender {
    /// A sender without receivers.
    #[must_use]
    pub fn new(config: SenderConfig, now: Instant) -> Self {
        let rate = Rate::new(
            now,
            config.rate_cap_bytes_per_s,
            config.start_rate_bytes_per_s,
        );
        Self {
            manifest: Object::new(ObjectId::Manifest, &config.manifest),
            image: Object::new(ObjectId::Image, &config.image),
            peers: BTreeMap::new(),
            events: VecDeque::new(),
            next_number: PerLane::default(),
            last_sent_at: PerLane {
                main: now,
                second: now,
            },
            pacer: Pacer::new(rate.rate()),
            rate,
            room: Room::new(config.pace),
            proactive: Proactive::new(config.proactive_max.min(PARITY_SYMBOLS)),
            repair_credit: 0,
            sent: Sent::default(),
            first_ready_at: None,
            started: false,
            pass: 0,
            most_goes: 0,
            pass_open: false,
            next_tick: now + TICK,
            news: false,
            digest_at: now,
            waiting: 0,
            counters: SenderCounters::default(),
            config,
        }
    }

    /// Admits a receiver. It counts from its first status on, which must be a full one. If the
    /// receiver is known already, its record starts anew.
    pub fn add_receiver(&mut self, now: Instant, id: ReceiverId) {
        self.remove_receiver(id);
        self.peers.insert(id, Peer::new(now));
        self.waiting += 1;
    }

    /// Removes a receiver; nothing is sent for it any more.
    pub fn remove_receiver(&mut self, id: ReceiverId) {
        if let Some(peer) = self.peers.remove(&id) {
            let waited = !peer.complete && !peer.silent;
            self.waiting = self.waiting.saturating_sub(usize::from(waited));
        }
        self.manifest.wants.remove(id);
        self.image.wants.remove(id);
        self.rate.forget(id);
    }

    /// Records that multicast does not reach the receiver (or reaches it again): all blocks that it
    /// lacks, now and later, are sent by bulk.
    pub fn set_bulk_only(&mut self, id: ReceiverId, bulk_only: bool) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.bulk_only = bulk_only;
        }
        if bulk_only {
            self.all_to_bulk(ObjectId::Manifest, id);
            self.all_to_bulk(ObjectId::Image, id);
        }
    }

    /// Records that the receiver cannot fetch by bulk: blocks given to bulk are sent again by
    /// multicast.
    pub fn handle_bulk_failed(&mut self, id: ReceiverId) {
        self.manifest.wants.return_bulk(id);
        self.image.wants.return_bulk(id);
    }

    /// Changes the cap, in wire bytes a second.
    pub fn set_rate_cap(&mut self, bytes_per_s: u64) {
        self.rate.set_cap(bytes_per_s);
        self.pacer.set_rate(self.rate.rate());
    }

    /// Returns the packet to send now, if one may be sent.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if now >= self.next_tick {
            self.tick(now);
        }
        if self.news && now >= self.digest_at {
            self.digest(now);
        }
        if !self.pacer.is_ready(now) {
            return None;
        }
        let transmit = self
            .next_manifest()
            .or_else(|| self.next_repair(now))
            .or_else(|| self.next_source(now))
            .or_else(|| self.next_heartbeat(now))?;
        self.pacer.spend(now, transmit.wire_bytes());
        self.counters.wire_bytes += transmit.wire_bytes();
        *self.last_sent_at.get_mut(transmit.lane) = now;
        Some(transmit)
    }

    /// The time of the next call of [`Sender::poll_transmit`]; `None` while there are no receivers.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.peers.is_empty() {
            return None;
        }
        let mut at = self.next_tick;
        if self.news {
            at = at.min(self.digest_at);
        }
        let busy = self.manifest.has_source()
            || self.image.run.is_some()
            || (self.started
                && !self.image.wants.wanted().is_empty()
                && self.room.hold_end().is_none())
            || self.manifest.ledger.is_repairing()
            || self.image.ledger.is_repairing();
        if busy {
            at = at.min(self.pacer.ready_at());
        }
        if let Some(end) = self.room.hold_end()
            && !self.image.wants.wanted().is_empty()
        {
            at = at.min(end);
        }
        let period = self.heartbeat_period();
        for lane in Lane::ALL {
            at = at.min((*self.last_sent_at.get(lane) + period).max(self.pacer.ready_at()));
        }
        Some(at)
    }

    /// The next event for the shell, oldest first.
    pub fn poll_event(&mut self) -> Option<SenderEvent> {
        self.events.pop_front()
    }

    /// The session's configuration.
    #[must_use]
    pub fn config(&self) -> &SenderConfig {
        &self.config
    }

    /// The counters since the start.
    #[must_use]
    pub fn counters(&self) -> SenderCounters {
        SenderCounters {
            rate_falls: self.rate.falls(),
            held_us: self.room.held_micros(),
            ..self.counters
        }
    }

    /// The current rate, in wire bytes a second.
    #[must_use]
    pub fn rate_bytes_per_s(&self) -> u64 {
        self.rate.rate()
    }

    /// The cap, in wire bytes a second.
    #[must_use]
    pub fn rate_cap_bytes_per_s(&self) -> u64 {
        self.rate.cap()
    }

    /// True if new blocks are held back because receivers have no free buffer.
    #[must_use]
    pub fn is_held(&self, now: Instant) -> bool {
        self.room.is_held(now)
    }

    /// The progress of the session.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Progress {
            blocks: self.image.ledger.len(),
            owed: self.image.wants.wanted().count(),
            pass: self.pass.max(u32::from(self.most_goes.saturating_sub(1))),
            receivers: count(self.peers.len()),
            complete: count(self.peers.values().filter(|peer| peer.complete).count()),
        }
    }

    fn object_mut(&mut self, id: ObjectId) -> &mut Object {
        match id {
            ObjectId::Manifest => &mut self.manifest,
            ObjectId::Image => &mut self.image,
        }
    }
}
