//! The sender: one machine that feeds a whole room.
//!
//! Owns: what is sent next and why. Parts have modules of their own: who lacks what
//! ([`wants`](crate::wants)), what was asked of each block ([`ledger`](crate::ledger)), order
//! ([`carousel`](crate::carousel)), speed ([`rate`](crate::rate), [`crate::pacer`]), room at
//! receivers ([`room`](crate::room)). Never sees a payload, never waits for one receiver.
//!
//! Calling order: `handle_*` and commands as things happen; then [`Sender::poll_transmit`]
//! until nothing comes, [`Sender::poll_event`] until nothing comes, and sleep until
//! [`Sender::poll_timeout`]. Time never goes back.
//!
//! What goes first when a packet may leave:
//!
//! 1. manifest source, to whoever lacks it (nobody can use the image without it);
//! 2. repair of blocks that receivers reported incomplete, within its share while a pass runs;
//! 3. image source in carousel order, each block followed by its proactive parity: on the main
//!    lane the first time, on the second, as slow lane, for those who lack it still;
//! 4. a heartbeat on a lane that was quiet, so that the loss of its last packets is seen.
//!
//! Always holds: each parity index of a block goes out at most once between two sendings of
//! its source; a block is sent as source only when an active receiver is owed it; packet
//! numbers of a lane go up by one.
//!
//! ```text
//!  config   what it is told        intake   statuses        choice   the next packet
//!  output   what it gives out      object   one object      passes   what time brings
//!                                                           ahead    what comes after it
//! ```

mod ahead;
mod choice;
mod config;
mod intake;
mod object;
mod output;
mod passes;

pub use ahead::Upcoming;
pub use config::{Pace, ReceiverId, SenderConfig};
pub use output::{Progress, ReceiverProgress, SenderCounters, SenderEvent, Transmit, TransmitKind};

use crate::layout::{ObjectId, PARITY_SYMBOLS};
use crate::pacer::Pacer;
use crate::peer::Peer;
use crate::proactive::Proactive;
use crate::rate::Rate;
use crate::room::Room;
use crate::standing::Sent;
use crate::time::{Duration, Instant};
use crate::wire::{Lane, PerLane};
use object::Object;
use std::collections::{BTreeMap, VecDeque};

/// How often silence, rate and the end of a pass are looked at.
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
    /// When the first receiver was ready for the image, and whether it has begun.
    first_ready_at: Option<Instant>,
    started: bool,
    pass: u32,
    pass_open: bool,
    next_tick: Instant,
    /// Statuses came that were not looked at together yet, and when that is due.
    news: bool,
    digest_at: Instant,
    /// Receivers that are neither complete nor silent.
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
            pass_open: false,
            next_tick: now + TICK,
            news: false,
            digest_at: now,
            waiting: 0,
            counters: SenderCounters::default(),
            config,
        }
    }

    /// Admits a receiver. It counts from its first status on, which must be a full one.
    /// Admitting one that is there begins it anew.
    pub fn add_receiver(&mut self, now: Instant, id: ReceiverId) {
        self.remove_receiver(id);
        self.peers.insert(id, Peer::new(now));
        self.waiting += 1;
    }

    /// Lets a receiver go; nothing is sent for it any more.
    pub fn remove_receiver(&mut self, id: ReceiverId) {
        if let Some(peer) = self.peers.remove(&id) {
            let waited = !peer.complete && !peer.silent;
            self.waiting = self.waiting.saturating_sub(usize::from(waited));
        }
        self.manifest.wants.remove(id);
        self.image.wants.remove(id);
        self.rate.forget(id);
    }

    /// Multicast does not reach the receiver (or reaches it again): everything it lacks, now
    /// and later, comes by bulk.
    pub fn set_bulk_only(&mut self, id: ReceiverId, bulk_only: bool) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.bulk_only = bulk_only;
        }
        if bulk_only {
            self.all_to_bulk(ObjectId::Manifest, id);
            self.all_to_bulk(ObjectId::Image, id);
        }
    }

    /// The receiver cannot fetch by bulk: what was given to it is sent again.
    pub fn handle_bulk_failed(&mut self, id: ReceiverId) {
        self.manifest.wants.return_bulk(id);
        self.image.wants.return_bulk(id);
    }

    /// Changes the most that may be sent, in wire bytes a second.
    pub fn set_rate_cap(&mut self, bytes_per_s: u64) {
        self.rate.set_cap(bytes_per_s);
        self.pacer.set_rate(self.rate.rate());
    }

    /// The packet to send now, if one may leave.
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

    /// When to ask for a packet again; nothing while there are no receivers.
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

    /// What the shell must know or do next.
    pub fn poll_event(&mut self) -> Option<SenderEvent> {
        self.events.pop_front()
    }

    /// The session's configuration.
    #[must_use]
    pub fn config(&self) -> &SenderConfig {
        &self.config
    }

    /// What was sent and heard so far.
    #[must_use]
    pub fn counters(&self) -> SenderCounters {
        SenderCounters {
            rate_falls: self.rate.falls(),
            held_us: self.room.held_micros(),
            ..self.counters
        }
    }

    /// The rate now, in wire bytes a second.
    #[must_use]
    pub fn rate_bytes_per_s(&self) -> u64 {
        self.rate.rate()
    }

    /// The cap, in wire bytes a second.
    #[must_use]
    pub fn rate_cap_bytes_per_s(&self) -> u64 {
        self.rate.cap()
    }

    /// Whether new blocks are held back because receivers have no room.
    #[must_use]
    pub fn is_held(&self, now: Instant) -> bool {
        self.room.is_held(now)
    }

    /// Whether nobody is owed anything and nothing is being repaired.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.peers.values().all(|peer| peer.complete || peer.silent)
            && !self.manifest.has_source()
            && !self.image.has_source()
    }

    /// How far the session is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Progress {
            blocks: self.image.ledger.len(),
            owed: self.image.wants.wanted().count(),
            pass: self.pass.max(self.image.carousel.rounds()),
            receivers: count(self.peers.len()),
            complete: count(self.peers.values().filter(|peer| peer.complete).count()),
        }
    }

    /// How far one receiver is.
    #[must_use]
    pub fn receiver_progress(&self, id: ReceiverId) -> Option<ReceiverProgress> {
        let peer = self.peers.get(&id)?;
        Some(ReceiverProgress {
            missing: if peer.image_open {
                self.image.wants.missing_count(id)
            } else {
                self.image.ledger.len()
            },
            undecided: self.image.wants.undecided_count(id),
            complete: peer.complete,
            silent: peer.silent,
            demoted: peer.standing.aside().is_some(),
            skipped: peer.skipped,
            free_buffers: peer.free_buffers,
            disk_bytes_per_s: peer.disk_bytes_per_s,
        })
    }

    fn object_mut(&mut self, id: ObjectId) -> &mut Object {
        match id {
            ObjectId::Manifest => &mut self.manifest,
            ObjectId::Image => &mut self.image,
        }
    }
}
