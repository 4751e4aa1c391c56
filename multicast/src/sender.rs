//! The sender: one machine that feeds a whole room.
//!
//! Owns: what is sent next and why. The parts have files of their own: who lacks what
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
//! 3. image source in carousel order, each block followed by its proactive parity;
//! 4. a heartbeat on a lane that was quiet, so that the loss of its last packets is seen.
//!
//! Always holds: each parity index of a block goes out at most once between two sendings of
//! its source; a block is sent as source only when an active receiver is owed it; packet
//! numbers of a lane go up by one.

use crate::blockset::BlockSet;
use crate::carousel::Carousel;
use crate::layout::{BlockKey, Layout, ObjectId, PARITY_SYMBOLS};
use crate::ledger::{Answer, Claim, Ledger, Repair, Seen};
use crate::pacer::{Pacer, WIRE_BYTES};
use crate::peer::{MAX_BAD_BLOCKS, Peer, SILENT};
use crate::proactive::Proactive;
use crate::rate::Rate;
use crate::room::Room;
use crate::seal::Suite;
use crate::settle;
use crate::status::{MAX_BAD, MAX_DEFICITS, MAX_RANGES, Status, status_interval};
use crate::time::{Duration, Instant};
use crate::wants::Wants;
use crate::wire::{
    Epoch, FRAMING_BYTES, Flags, HEADER_BYTES, Header, Lane, PacketKind, PacketNumber, PerLane,
    SessionId, TAG_BYTES,
};
use std::collections::{BTreeMap, VecDeque};

/// A lane quiet for so long gets a heartbeat while somebody is incomplete.
const HEARTBEAT: Duration = Duration::from_millis(20);
/// And when all are complete: only to be heard.
const IDLE_HEARTBEAT: Duration = Duration::from_secs(1);
/// How often silence, rate and the end of a pass are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Repair saved up for while none was needed, in packets: about one block's worth.
const MAX_REPAIR_CREDIT: u64 = 512;
/// The image waits so long, from the first receiver that is ready for it, for the others to
/// be ready too: what it sends before that must be sent again to them.
const START_GRACE: Duration = Duration::from_millis(400);
/// Proactive parity of a manifest block: one in sixteen and a few. It is small, everybody
/// waits for it, and nothing is known of the loss yet.
const MANIFEST_PARITY: (u16, u16) = (16, 4);
/// Default cap of proactive parity: what 5 % loss at 200 receivers needs.
const PROACTIVE_MAX: u16 = 64;
/// A block is answered at once when a healthy receiver has less than this free, of a pool
/// that is at least twice as large.
const HURRY_BUFFERS: u32 = 8;

/// A receiver, as the shell numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiverId(pub u32);

/// What a sender must know from the start.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Random for each run of a job.
    pub session: SessionId,
    /// Key epoch.
    pub epoch: Epoch,
    /// Cipher, for the shell that seals.
    pub suite: Suite,
    /// Source symbols of each block of the manifest.
    pub manifest: Vec<u16>,
    /// Source symbols of each block of the image.
    pub image: Vec<u16>,
    /// Most bytes a second on the wire, framing included. Never exceeded.
    pub rate_cap_bytes_per_s: u64,
    /// Where to start when the cap is not to be trusted; the rate doubles from there until the
    /// first loss. At or above the cap: start there.
    pub start_rate_bytes_per_s: u64,
    /// Most of the wire that repair may take while a pass runs, in percent.
    pub repair_share_percent: u8,
    /// Most proactive parity symbols of a block; 0 turns it off.
    pub proactive_max: u16,
    /// Blocks that so few receivers lack after they were sent go by bulk.
    pub bulk_receivers: usize,
}

impl SenderConfig {
    /// The usual choices for a session.
    #[must_use]
    pub fn new(
        session: SessionId,
        manifest: &Layout,
        image: &Layout,
        rate_cap_bytes_per_s: u64,
    ) -> Self {
        Self {
            session,
            epoch: Epoch::default(),
            suite: Suite::default(),
            manifest: manifest.symbol_counts(),
            image: image.symbol_counts(),
            rate_cap_bytes_per_s,
            start_rate_bytes_per_s: rate_cap_bytes_per_s,
            repair_share_percent: 15,
            proactive_max: PROACTIVE_MAX,
            bulk_receivers: 2,
        }
    }
}

/// Why a packet is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransmitKind {
    /// A source symbol.
    Source,
    /// Parity nobody asked for yet.
    Proactive,
    /// Parity somebody asked for.
    Repair,
    /// No symbol.
    Heartbeat,
}

/// One packet to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Why.
    pub kind: TransmitKind,
    /// Which group.
    pub lane: Lane,
    /// The block; of a heartbeat, the pass as index.
    pub block: BlockKey,
    /// Below `k` a source symbol, from `k` on parity `symbol - k`.
    pub symbol: u16,
    /// Source symbols of the block; 0 for a heartbeat, which has no payload.
    pub k: u16,
    /// Hints for the header.
    pub flags: Flags,
    /// Number for the header.
    pub packet_number: PacketNumber,
}

impl Transmit {
    /// The packet's header.
    #[must_use]
    pub fn header(&self, session: SessionId, epoch: Epoch) -> Header {
        let kind = match (self.kind, self.block.object) {
            (TransmitKind::Heartbeat, _) => PacketKind::Heartbeat,
            (_, ObjectId::Manifest) => PacketKind::Manifest,
            (_, ObjectId::Image) if self.symbol < self.k => PacketKind::Data,
            (_, ObjectId::Image) => PacketKind::Parity,
        };
        Header {
            kind,
            flags: self.flags,
            epoch,
            session,
            number: self.packet_number,
            block: self.block.index,
            symbol: self.symbol,
            k: self.k,
        }
    }

    /// Bytes of the packet on the wire, framing included.
    #[must_use]
    pub fn wire_bytes(&self) -> u64 {
        match self.kind {
            TransmitKind::Heartbeat => (HEADER_BYTES + TAG_BYTES + FRAMING_BYTES) as u64,
            _ => WIRE_BYTES,
        }
    }
}

/// What the shell must know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SenderEvent {
    /// The receiver has everything.
    ReceiverComplete(ReceiverId),
    /// Tell the receiver to fetch these blocks over its own connection.
    UseBulk {
        /// Who.
        receiver: ReceiverId,
        /// What, ascending.
        blocks: Vec<BlockKey>,
    },
    /// It costs the others too much: its deficits do not count until the pass is over.
    Demoted(ReceiverId),
    /// It said nothing for three seconds: nothing is sent for it alone.
    ReceiverSilent(ReceiverId),
    /// It speaks again.
    ReceiverBack(ReceiverId),
    /// Everything owed was sent; blocks still lacking after it go out in another pass.
    PassEnded {
        /// The pass, from 0.
        pass: u32,
        /// Blocks of the next pass.
        again: u32,
    },
}

/// What was sent and heard, counted from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderCounters {
    /// Source packets of the image.
    pub source: u64,
    /// Source and repair packets of the manifest.
    pub manifest: u64,
    /// Proactive parity packets.
    pub proactive: u64,
    /// Repair packets of the image.
    pub repair: u64,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Bytes on the wire, framing included.
    pub wire_bytes: u64,
    /// Statuses taken.
    pub statuses: u64,
    /// Statuses of nobody we know, or older than one already taken.
    pub statuses_refused: u64,
    /// Deficits that did not know yet what was sent: answered already.
    pub deficits_early: u64,
    /// Deficits that cannot be.
    pub deficits_absurd: u64,
    /// Deficits that parity could not mend any more.
    pub deficits_spent: u64,
    /// Answers given.
    pub answers: u64,
    /// Times the rate fell.
    pub rate_falls: u64,
    /// Microseconds for which blocks were held back for want of room.
    pub held_us: u64,
}

/// How far the session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Blocks of the image.
    pub blocks: u32,
    /// Blocks that some active receiver is still owed.
    pub owed: u32,
    /// The pass, from 0.
    pub pass: u32,
    /// Receivers in the session.
    pub receivers: u32,
    /// Receivers that have everything.
    pub complete: u32,
}

/// How far one receiver is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverProgress {
    /// Blocks of the image that it lacks, those left to bulk included.
    pub missing: u32,
    /// Of those, blocks it still looks for on its own disk.
    pub undecided: u32,
    /// It has everything.
    pub complete: bool,
    /// It said nothing for a while.
    pub silent: bool,
    /// Its deficits do not count until the pass is over.
    pub demoted: bool,
    /// Blocks that it passed over for want of a buffer.
    pub skipped: u64,
    /// Its free buffers.
    pub free_buffers: u32,
    /// Its disk, in bytes a second; 0 when not known.
    pub disk_bytes_per_s: u64,
}

/// A block whose symbols are going out.
#[derive(Clone, Copy, Debug)]
struct Run {
    block: u32,
    k: u16,
    next: u16,
    proactive: u16,
}

#[derive(Clone, Debug)]
struct Object {
    id: ObjectId,
    wants: Wants,
    ledger: Ledger,
    carousel: Carousel,
    run: Option<Run>,
}

impl Object {
    fn new(id: ObjectId, symbol_counts: &[u16]) -> Self {
        let ledger = Ledger::new(symbol_counts);
        Self {
            id,
            wants: Wants::new(ledger.len()),
            ledger,
            carousel: Carousel::default(),
            run: None,
        }
    }

    fn has_source(&self) -> bool {
        self.run.is_some() || !self.wants.wanted().is_empty()
    }
}

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
    /// When the first receiver was ready for the image, and whether it has begun.
    first_ready_at: Option<Instant>,
    started: bool,
    pass: u32,
    pass_open: bool,
    next_tick: Instant,
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
            room: Room::default(),
            proactive: Proactive::new(config.proactive_max.min(PARITY_SYMBOLS)),
            repair_credit: 0,
            first_ready_at: None,
            started: false,
            pass: 0,
            pass_open: false,
            next_tick: now + TICK,
            counters: SenderCounters::default(),
            config,
        }
    }

    /// Admits a receiver. It counts from its first status on, which must be a full one.
    /// Admitting one that is there begins it anew.
    pub fn add_receiver(&mut self, now: Instant, id: ReceiverId) {
        self.remove_receiver(id);
        self.peers.insert(id, Peer::new(now));
    }

    /// Lets a receiver go; nothing is sent for it any more.
    pub fn remove_receiver(&mut self, id: ReceiverId) {
        self.peers.remove(&id);
        self.manifest.wants.remove(id);
        self.image.wants.remove(id);
        self.rate.forget(id);
    }

    /// Takes a receiver's report. Everything in it is a claim: what cannot be is left out.
    pub fn handle_status(&mut self, now: Instant, id: ReceiverId, status: &Status) {
        let Some(peer) = self.peers.get_mut(&id) else {
            self.counters.statuses_refused += 1;
            return;
        };
        let known = peer.sequence.is_some();
        let newer = peer.sequence.is_none_or(|last| status.sequence > last);
        if !(status.full || known && newer) {
            self.counters.statuses_refused += 1;
            return;
        }
        self.counters.statuses += 1;
        let opened = status.image_open && (status.full || !peer.image_open);
        let progressed = peer.take(now, status, &self.next_number);
        let seen = peer.seen;
        if peer.silent {
            peer.silent = false;
            self.manifest.wants.set_active(id, true);
            self.image.wants.set_active(id, true);
            self.events.push_back(SenderEvent::ReceiverBack(id));
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.image_open = status.image_open || (peer.image_open && !status.full);
            if peer.is_healthy() && known {
                self.rate.sample(
                    now,
                    id,
                    progressed.received,
                    progressed.lost,
                    progressed.kernel,
                );
            }
        }
        if status.full || !known {
            self.take_picture(ObjectId::Manifest, id, status, &seen);
            if self.peers.get(&id).is_some_and(|peer| peer.bulk_only) {
                self.all_to_bulk(ObjectId::Manifest, id);
            }
        }
        if opened {
            self.take_picture(ObjectId::Image, id, status, &seen);
            if self.peers.get(&id).is_some_and(|peer| peer.is_deaf(now)) {
                self.all_to_bulk(ObjectId::Image, id);
            }
        } else if status.full {
            // A new life of the receiver, which has not read the manifest yet.
            self.image.wants.remove(id);
        }
        self.take_completed(id, status);
        if !opened {
            self.take_undecided(now, id, status, &seen);
        }
        self.take_bad(id, status);
        self.take_deficits(now, id, &seen);
        self.check_complete(id);
        self.answer(now);
        self.judge_room(now);
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
            demoted: peer.demoted,
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

    // ---- what receivers say ------------------------------------------------------------

    /// A full picture: what it has, and what of the rest it has begun or is about to see.
    fn take_picture(&mut self, object: ObjectId, id: ReceiverId, status: &Status, seen: &Seen) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let deficits = peer.deficits.clone();
        let held = peer.clone();
        let Object { wants, ledger, .. } = self.object_mut(object);
        let mut have = BlockSet::empty(ledger.len());
        for range in status.completed.iter().take(MAX_RANGES) {
            if range.object() == Some(object) {
                have.insert_range(range.blocks());
            }
        }
        let undecided = undecided(object, ledger.len(), status);
        wants.reset(id, &have, undecided, |index| {
            let key = BlockKey { object, index };
            deficits.contains_key(&key) || held.holds(key) || ledger.is_coming(index, seen)
        });
    }

    /// What it still looks for. A block it looks for no more and does not have is wanted like
    /// any other: owed, unless it has begun it or is about to.
    fn take_undecided(&mut self, now: Instant, id: ReceiverId, status: &Status, seen: &Seen) {
        let object = ObjectId::Image;
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let Object { wants, ledger, .. } = &mut self.image;
        if status.undecided.is_empty() && wants.undecided_count(id) == 0 {
            return;
        }
        let decided = wants.decide(id, undecided(object, ledger.len(), status));
        let mut bulk = Vec::new();
        for index in decided.iter() {
            let block = BlockKey { object, index };
            if peer.is_deaf(now) {
                if wants.assign_bulk(id, index) {
                    bulk.push(block);
                }
            } else if !(peer.deficits.contains_key(&block)
                || peer.holds(block)
                || ledger.is_coming(index, seen))
            {
                wants.owe(id, index);
            }
        }
        self.use_bulk(id, bulk);
    }

    fn take_completed(&mut self, id: ReceiverId, status: &Status) {
        // Ranges that overlap are a lie; each block is looked at twice at most.
        let mut budget = u64::from(self.manifest.ledger.len())
            .saturating_add(u64::from(self.image.ledger.len()))
            .saturating_mul(2);
        for range in status.completed.iter().take(MAX_RANGES) {
            let Some(object) = range.object() else {
                continue;
            };
            let object = self.object_mut(object);
            let blocks = range.blocks();
            for index in blocks.start..blocks.end.min(object.ledger.len()) {
                if budget == 0 {
                    return;
                }
                budget -= 1;
                object.wants.complete(id, index);
            }
        }
    }

    fn take_bad(&mut self, id: ReceiverId, status: &Status) {
        let mut blocks = Vec::new();
        for range in status.bad.iter().take(MAX_BAD) {
            let Some(object) = range.object() else {
                continue;
            };
            let index = range.blocks().start;
            let Some(peer) = self.peers.get_mut(&id) else {
                return;
            };
            if peer.bad_blocks >= MAX_BAD_BLOCKS {
                return;
            }
            peer.bad_blocks += 1;
            let wants = &mut self.object_mut(object).wants;
            if wants.lose_to_bulk(id, index) {
                blocks.push(BlockKey { object, index });
            }
        }
        self.use_bulk(id, blocks);
    }

    fn take_deficits(&mut self, now: Instant, id: ReceiverId, seen: &Seen) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        // A receiver set aside is repaired only when no pass is delayed by it.
        if peer.demoted && self.image.has_source() {
            return;
        }
        let claims: Vec<(BlockKey, u16)> = peer
            .deficits
            .iter()
            .take(MAX_DEFICITS)
            .map(|(block, missing)| (*block, *missing))
            .collect();
        for (block, missing) in claims {
            let object = self.object_mut(block.object);
            let claim = if object.wants.lacks(id, block.index) {
                object.ledger.claim(now, block.index, id, missing, seen)
            } else {
                Claim::Absurd
            };
            match claim {
                Claim::Counted => {}
                Claim::Early => self.counters.deficits_early += 1,
                Claim::Absurd => self.counters.deficits_absurd += 1,
                Claim::Spent => self.counters.deficits_spent += 1,
            }
        }
    }

    fn check_complete(&mut self, id: ReceiverId) {
        let done = self.manifest.wants.missing_count(id) == 0
            && self.image.wants.knows(id)
            && self.image.wants.missing_count(id) == 0;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let done = done && peer.image_open;
        if done && !peer.complete {
            self.events.push_back(SenderEvent::ReceiverComplete(id));
            self.rate.forget(id);
        }
        peer.complete = done;
    }

    /// What every healthy receiver of an object has seen.
    fn spoken(&self, object: &Object) -> Seen {
        let mut spoken: Option<Seen> = None;
        for (id, peer) in &self.peers {
            if !peer.is_healthy() || !peer.wants(object.id) || object.wants.open_count(*id) == 0 {
                continue;
            }
            spoken = Some(spoken.map_or(peer.seen, |so_far| PerLane {
                main: so_far.main.min(peer.seen.main),
                second: so_far.second.min(peer.seen.second),
            }));
        }
        spoken.unwrap_or_default()
    }

    fn answer(&mut self, now: Instant) {
        let hold = self.hold();
        let hurry = self
            .peers
            .values()
            .any(|peer| peer.is_healthy() && peer.image_open && peer.free_buffers < HURRY_BUFFERS);
        let spoken = self.spoken(&self.image);
        let answers = self.image.ledger.answer(now, &spoken, hold, hurry);
        for answer in answers {
            self.take_answer(answer);
        }
        self.proactive.judge(&self.image.ledger, &spoken);
        let spoken = self.spoken(&self.manifest);
        let answers = self.manifest.ledger.answer(now, &spoken, hold, false);
        self.counters.answers += answers.len() as u64;
    }

    fn take_answer(&mut self, answer: Answer) {
        self.counters.answers += 1;
        if let Some(before) = answer.first_after {
            self.proactive.needed(answer.deficit.saturating_add(before));
        }
        // Alone in the room, nobody is slowed by it.
        let healthy = self.peers.values().filter(|peer| peer.is_healthy()).count();
        if healthy < 2 {
            return;
        }
        if let Some(worst) = answer.worst
            && let Some(peer) = self.peers.get_mut(&worst)
            && peer.strike(answer.deficit.saturating_sub(answer.runner_up), answer.k)
        {
            self.rate.forget(worst);
            self.events.push_back(SenderEvent::Demoted(worst));
        }
    }

    /// How long deficits of a block are gathered at most: every receiver speaks within one
    /// and a half intervals.
    fn hold(&self) -> Duration {
        let interval = status_interval(self.peers.len());
        interval + Duration::from_micros(interval.as_micros() * 6 / 10)
    }

    fn judge_room(&mut self, now: Instant) {
        let Self {
            peers, room, image, ..
        } = self;
        let estimates: Vec<u32> = peers
            .iter()
            .filter(|(id, peer)| {
                !peer.silent && peer.image_open && image.wants.open_count(**id) > 0
            })
            .map(|(_, peer)| room.estimate(peer.free_buffers, peer.seen.main))
            .collect();
        room.judge(now, estimates.into_iter());
    }

    fn all_to_bulk(&mut self, object: ObjectId, id: ReceiverId) {
        let blocks = self.object_mut(object).wants.assign_all_to_bulk(id);
        let blocks = blocks
            .into_iter()
            .map(|index| BlockKey { object, index })
            .collect();
        self.use_bulk(id, blocks);
    }

    fn use_bulk(&mut self, receiver: ReceiverId, blocks: Vec<BlockKey>) {
        if !blocks.is_empty() {
            self.events
                .push_back(SenderEvent::UseBulk { receiver, blocks });
        }
    }

    // ---- what time brings --------------------------------------------------------------

    fn tick(&mut self, now: Instant) {
        self.next_tick = now + TICK;
        for (id, peer) in &mut self.peers {
            if !peer.silent && now.saturating_since(peer.last_status_at) >= SILENT {
                peer.silent = true;
                self.manifest.wants.set_active(*id, false);
                self.image.wants.set_active(*id, false);
                self.rate.forget(*id);
                self.events.push_back(SenderEvent::ReceiverSilent(*id));
            }
        }
        if self.rate.evaluate(now, status_interval(self.peers.len())) {
            self.pacer.set_rate(self.rate.rate());
        }
        self.answer(now);
        self.judge_room(now);
        self.settle(now);
    }

    /// At the end of a pass: what is still lacking goes by bulk or out again.
    fn settle(&mut self, now: Instant) {
        self.settle_object(now, ObjectId::Manifest);
        if self.image.has_source() {
            self.pass_open = true;
            return;
        }
        if self.pass_open {
            for peer in self.peers.values_mut() {
                peer.restore();
            }
        }
        let again = self.settle_object(now, ObjectId::Image);
        // While somebody looks through its disk, more may be wanted any time: an idle wire is
        // not the end.
        let looking = self
            .peers
            .iter()
            .any(|(id, peer)| !peer.silent && self.image.wants.undecided_count(*id) > 0);
        if self.pass_open && (again > 0 || !looking && self.image.ledger.is_quiet()) {
            self.events.push_back(SenderEvent::PassEnded {
                pass: self.pass,
                again,
            });
            self.pass_open = false;
            if again > 0 {
                self.pass = self.pass.saturating_add(1);
            }
        }
    }

    fn settle_object(&mut self, now: Instant, id: ObjectId) -> u32 {
        let bulk_receivers = self.config.bulk_receivers;
        let object = match id {
            ObjectId::Manifest => &mut self.manifest,
            ObjectId::Image => &mut self.image,
        };
        if object.has_source() || !object.ledger.is_quiet() {
            return 0;
        }
        let settled = settle::settle(
            now,
            id,
            &self.peers,
            &object.wants,
            &object.ledger,
            bulk_receivers,
        );
        let mut bulk: BTreeMap<ReceiverId, Vec<BlockKey>> = BTreeMap::new();
        for (receiver, index) in settled.bulk {
            if object.wants.assign_bulk(receiver, index) {
                bulk.entry(receiver)
                    .or_default()
                    .push(BlockKey { object: id, index });
            }
        }
        for (receiver, index) in settled.again {
            object.wants.owe(receiver, index);
        }
        let again = object.wants.wanted().count();
        for (receiver, blocks) in bulk {
            self.use_bulk(receiver, blocks);
        }
        again
    }

    // ---- what is sent ------------------------------------------------------------------

    fn number(&mut self, lane: Lane) -> PacketNumber {
        let next = self.next_number.get_mut(lane);
        let number = PacketNumber::new(lane, *next);
        *next = next.saturating_add(1);
        number
    }

    fn next_manifest(&mut self) -> Option<Transmit> {
        if self.manifest.run.is_none() {
            let block = self.manifest.carousel.next(self.manifest.wants.wanted())?;
            let (share, least) = MANIFEST_PARITY;
            let proactive = self.manifest.ledger.k(block) / share + least;
            self.manifest.start(block, proactive);
        }
        let transmit = self.continue_run(ObjectId::Manifest, Lane::Second)?;
        self.counters.manifest += 1;
        Some(transmit)
    }

    fn next_source(&mut self, now: Instant) -> Option<Transmit> {
        if self.image.run.is_none() {
            if self.room.is_held(now) || self.image.wants.wanted().is_empty() {
                return None;
            }
            if !self.may_start(now) {
                return None;
            }
            self.room.let_through(now);
            let block = self.image.carousel.next(self.image.wants.wanted())?;
            let healthy = self.peers.values().filter(|peer| peer.is_healthy()).count();
            let proactive = self.proactive.symbols(healthy);
            self.image.start(block, proactive);
            self.room.started(self.next_number.main);
        }
        let transmit = self.continue_run(ObjectId::Image, Lane::Main)?;
        if transmit.kind == TransmitKind::Source {
            self.counters.source += 1;
            let share = u64::from(self.config.repair_share_percent.min(99));
            let most = MAX_REPAIR_CREDIT * (100 - share);
            self.repair_credit = (self.repair_credit + share).min(most);
        } else {
            self.counters.proactive += 1;
        }
        if transmit.flags.has(Flags::LAST_OF_BLOCK) {
            self.proactive.sent(transmit.block.index);
        }
        Some(transmit)
    }

    /// Whether the image may begin: all who are there are ready, or were waited for.
    fn may_start(&mut self, now: Instant) -> bool {
        if self.started {
            return true;
        }
        let since = *self.first_ready_at.get_or_insert(now);
        let all = self
            .peers
            .values()
            .all(|peer| peer.image_open || peer.silent);
        self.started = all || now.saturating_since(since) >= START_GRACE;
        self.started
    }

    /// The next symbol of the block that is going out; source first, then proactive parity.
    fn continue_run(&mut self, id: ObjectId, lane: Lane) -> Option<Transmit> {
        let number = self.number(lane);
        let object = self.object_mut(id);
        let run = object.run.as_mut()?;
        let (symbol, kind) = if run.next < run.k {
            run.next += 1;
            (run.next - 1, TransmitKind::Source)
        } else {
            run.proactive = run.proactive.saturating_sub(1);
            // A go begins with 256 unused indexes and proactive parity is capped below that.
            let parity = object.ledger.take_parity(run.block)?;
            (run.k + parity, TransmitKind::Proactive)
        };
        let run = *run;
        object.ledger.sent(run.block, lane, number.counter());
        let last = run.next >= run.k && run.proactive == 0;
        if last {
            object.ledger.end(run.block);
            object.run = None;
        }
        let mut flags = Flags::NONE;
        if kind == TransmitKind::Proactive {
            flags = flags.with(Flags::PROACTIVE);
        }
        if last {
            flags = flags.with(Flags::LAST_OF_BLOCK);
        }
        Some(Transmit {
            kind,
            lane,
            block: BlockKey {
                object: id,
                index: run.block,
            },
            symbol,
            k: run.k,
            flags,
            packet_number: number,
        })
    }

    fn next_repair(&mut self, now: Instant) -> Option<Transmit> {
        let id = if self.manifest.ledger.has_repair() {
            ObjectId::Manifest
        } else if self.image.ledger.has_repair() {
            // While source can go out, repair has its share and no more.
            let source = self.image.run.is_some()
                || self.started && !self.image.wants.wanted().is_empty() && !self.room.is_held(now);
            let cost = 100 - u64::from(self.config.repair_share_percent.min(99));
            if self.repair_credit >= cost {
                self.repair_credit -= cost;
            } else if source {
                return None;
            }
            ObjectId::Image
        } else {
            return None;
        };
        let Repair {
            block,
            k,
            parity,
            last,
        } = self.object_mut(id).ledger.next_repair()?;
        let number = self.number(Lane::Second);
        self.object_mut(id)
            .ledger
            .sent(block, Lane::Second, number.counter());
        match id {
            ObjectId::Manifest => self.counters.manifest += 1,
            ObjectId::Image => self.counters.repair += 1,
        }
        let mut flags = Flags::REPAIR;
        if last {
            flags = flags.with(Flags::LAST_OF_BLOCK);
        }
        Some(Transmit {
            kind: TransmitKind::Repair,
            lane: Lane::Second,
            block: BlockKey {
                object: id,
                index: block,
            },
            symbol: k + parity,
            k,
            flags,
            packet_number: number,
        })
    }

    fn next_heartbeat(&mut self, now: Instant) -> Option<Transmit> {
        if self.peers.is_empty() {
            return None;
        }
        let period = self.heartbeat_period();
        let lane = Lane::ALL
            .into_iter()
            .find(|lane| now >= *self.last_sent_at.get(*lane) + period)?;
        let mut flags = Flags::NONE;
        if !self.image.has_source() {
            flags = flags.with(Flags::END_OF_PASS);
        }
        self.counters.heartbeats += 1;
        Some(Transmit {
            kind: TransmitKind::Heartbeat,
            lane,
            block: BlockKey::image(self.pass),
            symbol: 0,
            k: 0,
            flags,
            packet_number: self.number(lane),
        })
    }

    fn heartbeat_period(&self) -> Duration {
        let waiting = self
            .peers
            .values()
            .any(|peer| !peer.complete && !peer.silent);
        if waiting { HEARTBEAT } else { IDLE_HEARTBEAT }
    }
}

/// The blocks of an object that a status says are looked for. Ranges that do not ascend are a
/// mistake and left out, so that hostile ones cost no more than honest ones.
fn undecided(object: ObjectId, len: u32, status: &Status) -> BlockSet {
    let mut set = BlockSet::empty(len);
    let mut from = 0;
    for range in status.undecided.iter().take(MAX_RANGES) {
        let blocks = range.blocks();
        if range.object() == Some(object) && blocks.start >= from {
            from = blocks.end;
            set.insert_range(blocks);
        }
    }
    set
}

impl Object {
    fn start(&mut self, block: u32, proactive: u16) {
        self.wants.offered(block);
        self.ledger.begin(block);
        self.run = Some(Run {
            block,
            k: self.ledger.k(block),
            next: 0,
            proactive,
        });
    }
}
