//! The receiver: decides where each payload is stored and what is reported to the sender.
//!
//! Owns the state of every block (complete or in progress) and the loss counts. Never sees a
//! payload: the shell opens the seal, refuses replays, calls [`Receiver::handle_packet`] to learn
//! where the payload goes, and stores it there ([`crate::Assembly`]).
//!
//! Calling order: `handle_*` as events happen, then [`Receiver::poll_event`] until it returns
//! nothing, then [`Receiver::poll_status`] (send the status it returns), then sleep until
//! [`Receiver::poll_timeout`] or the next packet. Time never goes back.
//!
//! ```text
//!  absent ──first symbol, a slot is free──► filling ──k distinct symbols──► whole
//!    ▲  ▲                                      │                             │
//!    │  └── out of reach of parity, stale ─────┘        Ok ──► complete ◄────┤
//!    └────────────────────────────────────────────────────────── Failed ─────┘
//! ```
//!
//! Always holds: a block becomes complete only when the shell reports it. The shell is told about a
//! block only after `k` distinct symbols of it were stored, unless the block came by bulk or was
//! found on the disk. No call allocates memory in proportion to a number in a packet.

mod meter;
mod object;
mod report;
mod runs;
mod slots;
mod types;

pub use types::{
    BlockOutcome, Disposition, Ignored, ImageBlocks, ReceiverConfig, ReceiverCounters,
    ReceiverEvent, Stored,
};

use crate::block::layout::{BlockKey, ObjectId, PARITY_SYMBOLS};
use crate::packet::wire::{Flags, Header, Lane, PerLane, SessionId};
use crate::rng::Jitter;
use crate::time::{Duration, Instant};
use meter::LaneMeter;
use object::Object;
use slots::{Filled, Slots};
use std::collections::{BTreeSet, VecDeque};

/// Time without a packet of the session after which multicast counts as not working here.
pub const SILENCE: Duration = Duration::from_secs(3);
/// Largest number of symbols already missed at which a block is still begun: parity has 256
/// symbols, and other receivers lose symbols too.
const MAX_MISSED_AT_BEGIN: u16 = 200;
/// Time without a new symbol after which a block may lose its slot to a new block.
const STALE: Duration = Duration::from_secs(3);
/// Shortest time between two statuses, even if urgent.
const URGENT_GAP: Duration = Duration::from_millis(5);
/// Status interval after everything is complete and reported; it only shows that the receiver is
/// alive.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// The receiving state machine.
#[derive(Clone, Debug)]
pub struct Receiver {
    session: SessionId,
    manifest: Object,
    image: Option<Object>,
    slots: Slots,
    buffers: u32,
    meters: PerLane<LaneMeter>,
    /// The block whose source symbols are arriving now on the main lane or as slow lane. Its
    /// deficit is not reported, because more symbols are still to come.
    coming: Option<BlockKey>,
    /// The block being skipped on each lane, so that it is counted once and not begun halfway.
    skipping: PerLane<Option<BlockKey>>,
    bad: BTreeSet<BlockKey>,
    kernel_drops: u64,
    disk_bytes_per_s: u64,
    counters: ReceiverCounters,
    events: VecDeque<ReceiverEvent>,
    last_heard: Option<Instant>,
    last_symbol_at: Option<Instant>,
    jitter: Jitter,
    interval: Duration,
    sequence: u64,
    full: bool,
    urgent: bool,
    last_status_at: Option<Instant>,
    next_status_at: Instant,
    /// Number of free buffers in the last status.
    said_free: u32,
    /// Number of blocks begun since the last status, and the number that makes a new status urgent.
    begun: u32,
    begun_most: u32,
}

impl Receiver {
    /// A receiver that starts at `now`. Its first status is due at once.
    #[must_use]
    pub fn new(config: ReceiverConfig, now: Instant) -> Self {
        let mut receiver = Self {
            session: config.session,
            manifest: Object::new(ObjectId::Manifest, config.manifest),
            image: None,
            slots: Slots::new(config.buffers),
            buffers: u32::from(config.buffers),
            meters: PerLane::default(),
            coming: None,
            skipping: PerLane::default(),
            bad: BTreeSet::new(),
            kernel_drops: 0,
            disk_bytes_per_s: 0,
            counters: ReceiverCounters::default(),
            events: VecDeque::new(),
            last_heard: None,
            last_symbol_at: None,
            jitter: Jitter::new(config.seed),
            interval: config.status_interval,
            sequence: 0,
            full: true,
            urgent: true,
            last_status_at: None,
            next_status_at: now,
            said_free: u32::from(config.buffers),
            begun: 0,
            begun_most: u32::from(config.buffers) / 2,
        };
        receiver.check_complete(ObjectId::Manifest);
        if let Some(image) = config.image {
            receiver.open_image(image);
        }
        receiver
    }

    /// Tells the receiver the image's blocks, after the manifest was read. From now on it wants all
    /// of them except those that the disk already has. A second call is ignored.
    pub fn open_image(&mut self, image: ImageBlocks) {
        if self.image.is_some() {
            return;
        }
        self.image = Some(Object::image(image));
        self.full = true;
        self.check_complete(ObjectId::Image);
        self.hurry();
    }

    /// Decides where the payload of a packet is stored. Before the call, the packet's seal must be
    /// opened and its number checked to be new ([`crate::ReplayWindow`]).
    pub fn handle_packet(&mut self, now: Instant, header: &Header) -> Disposition {
        if header.session != self.session {
            return Disposition::Ignore(Ignored::OtherSession);
        }
        self.last_heard = Some(now);
        let lane = header.number.lane();
        let counter = header.number.counter();
        let newest = self.meters.get(lane).status().seen < Some(counter);
        self.meters.get_mut(lane).count(counter);
        let key = header.block_key();
        // Repair packets on the second lane say nothing about the source on the main lane. A
        // heartbeat is sent only on a lane that was quiet.
        let source = lane == Lane::Main || header.flags.has(Flags::SLOW_LANE);
        if newest && (source || key.is_none()) {
            self.moved_on(key);
        }
        let Some(block) = key else {
            // The image starts only when all receivers have the manifest, so a quick report helps
            // here too.
            if header.flags.has(Flags::END_OF_PASS) || !self.manifest.complete.is_full() {
                self.speak_up(now);
            }
            return Disposition::Ignore(Ignored::Heartbeat);
        };
        self.last_symbol_at = Some(now);
        match self.place(now, lane, block, header) {
            Ok(store) => store,
            Err(reason) => {
                if matches!(
                    reason,
                    Ignored::Duplicate | Ignored::Complete | Ignored::Whole
                ) {
                    self.counters.duplicate += 1;
                }
                Disposition::Ignore(reason)
            }
        }
    }

    /// Ends the work on a block announced by [`ReceiverEvent::BlockReady`]; its slot is free again.
    pub fn handle_block_done(&mut self, _now: Instant, block: BlockKey, outcome: BlockOutcome) {
        if !self.slots.done(block) {
            return;
        }
        match outcome {
            BlockOutcome::Ok => self.complete(block),
            BlockOutcome::Failed => {
                self.counters.failed += 1;
                if !self.is_complete(block) {
                    self.bad.insert(block);
                    self.hurry();
                }
            }
        }
        // A sender that waits for free buffers should learn about them before the disks become
        // idle.
        let (said, half) = (self.said_free, self.buffers / 2);
        if said <= half && self.slots.free_count() >= half.max(said.saturating_mul(2)) {
            self.hurry();
        }
    }

    /// Reports a block that came by bulk and was checked and written: it is complete.
    pub fn handle_bulk_block(&mut self, _now: Instant, block: BlockKey) {
        self.slots.abandon(block);
        self.counters.bulk += 1;
        self.complete(block);
    }

    /// Reports a block that was found on the disk and verified: it is complete. Symbols received
    /// for it are dropped.
    pub fn handle_kept_block(&mut self, _now: Instant, block: BlockKey) {
        if self.is_complete(block) {
            return;
        }
        self.slots.abandon(block);
        self.decided(block);
        self.complete(block);
        self.counters.kept += u64::from(self.is_complete(block));
    }

    /// Reports a block that was searched for on the disk and not found: it is wanted from now on.
    pub fn handle_wanted_block(&mut self, _now: Instant, block: BlockKey) {
        self.decided(block);
    }

    /// Reports that the kernel dropped `count` more datagrams because they were not read in time.
    pub fn handle_kernel_drops(&mut self, count: u64) {
        self.kernel_drops = self.kernel_drops.saturating_add(count);
    }

    /// Sets the disk's write rate in bytes a second, as measured by the shell.
    pub fn set_disk_rate(&mut self, bytes_per_s: u64) {
        self.disk_bytes_per_s = bytes_per_s;
    }

    /// True if [`Receiver::poll_event`] has an event to return.
    #[must_use]
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// The next event for the shell, oldest first.
    pub fn poll_event(&mut self) -> Option<ReceiverEvent> {
        self.events.pop_front()
    }

    /// True if any packet of the session arrived within the last three seconds.
    #[must_use]
    pub fn heard(&self, now: Instant) -> bool {
        self.last_heard
            .is_some_and(|at| now.saturating_since(at) < SILENCE)
    }

    /// True if the block is complete.
    #[must_use]
    pub fn is_complete(&self, block: BlockKey) -> bool {
        self.object(block.object)
            .is_some_and(|object| object.complete.contains(block.index))
    }

    /// Number of complete blocks of an object, and number of all its blocks; `None` for the image
    /// before [`Receiver::open_image`].
    #[must_use]
    pub fn progress(&self, object: ObjectId) -> Option<(u32, u32)> {
        self.object(object)
            .map(|object| (object.complete.count(), object.complete.len()))
    }

    /// True if manifest and image are complete.
    #[must_use]
    pub fn is_all_complete(&self) -> bool {
        self.manifest.complete.is_full()
            && self
                .image
                .as_ref()
                .is_some_and(|image| image.complete.is_full())
    }

    /// Number of blocks of the image that the agent still searches for on its disk.
    #[must_use]
    pub fn undecided(&self) -> u32 {
        self.image
            .as_ref()
            .map_or(0, |image| image.undecided.count())
    }

    /// The blocks of an object that are not complete, ascending.
    #[must_use]
    pub fn missing(&self, object: ObjectId) -> Vec<u32> {
        self.object(object)
            .map(|object| object.complete.complement().iter().collect())
            .unwrap_or_default()
    }

    /// The counters since the start.
    #[must_use]
    pub fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    /// Number of free block buffers.
    #[must_use]
    pub fn free_buffers(&self) -> u32 {
        self.slots.free_count()
    }

    /// Packet counts of one lane.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> crate::packet::status::LaneStatus {
        self.meters.get(lane).status()
    }

    fn object(&self, id: ObjectId) -> Option<&Object> {
        match id {
            ObjectId::Manifest => Some(&self.manifest),
            ObjectId::Image => self.image.as_ref(),
        }
    }

    fn object_mut(&mut self, id: ObjectId) -> Option<&mut Object> {
        match id {
            ObjectId::Manifest => Some(&mut self.manifest),
            ObjectId::Image => self.image.as_mut(),
        }
    }

    fn place(
        &mut self,
        now: Instant,
        lane: Lane,
        block: BlockKey,
        header: &Header,
    ) -> Result<Disposition, Ignored> {
        let object = self.object(block.object).ok_or(Ignored::NotOpen)?;
        if object.symbol_counts.get(block.index as usize) != Some(&header.k) {
            return Err(Ignored::Shape);
        }
        if object.complete.contains(block.index) {
            return Err(Ignored::Complete);
        }
        if self.slots.is_whole(block) {
            return Err(Ignored::Whole);
        }
        let first = self.slots.filling(block).is_none();
        if first {
            self.begin(now, lane, block, header)?;
        }
        let Some((slot, filled)) = self.slots.take(now, block, header.symbol) else {
            return Err(Ignored::NoBuffer);
        };
        match filled {
            Filled::Duplicate => return Err(Ignored::Duplicate),
            Filled::Stored => {}
            Filled::Whole { needs_parity } => {
                self.counters.restored += u64::from(needs_parity);
                self.events.push_back(ReceiverEvent::BlockReady {
                    block,
                    slot,
                    needs_parity,
                });
            }
        }
        self.counters.stored += 1;
        Ok(Disposition::Store { slot, first })
    }

    fn begin(
        &mut self,
        now: Instant,
        lane: Lane,
        block: BlockKey,
        header: &Header,
    ) -> Result<(), Ignored> {
        if *self.skipping.get(lane) == Some(block) {
            return Err(Ignored::NoBuffer);
        }
        if header.symbol.min(header.k) > MAX_MISSED_AT_BEGIN {
            return Err(if header.is_parity() {
                Ignored::NotBegun
            } else {
                Ignored::TooLate
            });
        }
        if self.slots.free_count() == 0
            && let Some(stale) = self.slots.stalest(now - STALE)
        {
            self.slots.abandon(stale);
            self.counters.abandoned += 1;
        }
        if self.slots.begin(now, block, header.k).is_none() {
            *self.skipping.get_mut(lane) = Some(block);
            self.counters.skipped += 1;
            return Err(Ignored::NoBuffer);
        }
        *self.skipping.get_mut(lane) = None;
        // The sender subtracts every new block from the last reported number of free buffers.
        // Before that estimate reaches zero, it should learn the real number.
        self.begun = self.begun.saturating_add(1);
        if self.begun == self.begun_most && self.slots.free_count() > self.said_free / 2 {
            self.hurry();
        }
        Ok(())
    }

    /// Notes that the sender has moved on to another block. The block before gives its slot back if
    /// it lacks more symbols than parity can repair; it waits for the next pass.
    fn moved_on(&mut self, to: Option<BlockKey>) {
        if self.coming == to {
            return;
        }
        if let Some(block) = self.coming
            && self
                .slots
                .filling(block)
                .is_some_and(|filling| filling.missing() > PARITY_SYMBOLS)
        {
            self.slots.abandon(block);
            self.counters.abandoned += 1;
        }
        self.coming = to;
    }

    fn complete(&mut self, block: BlockKey) {
        self.bad.remove(&block);
        let Some(object) = self.object_mut(block.object) else {
            return;
        };
        object.undecided.remove(block.index);
        if object.complete.insert(block.index) {
            object.unsaid.insert(block.index);
        }
        if self.check_complete(block.object) {
            self.hurry();
        }
    }

    /// Announces an object that has just become complete.
    fn check_complete(&mut self, id: ObjectId) -> bool {
        let Some(object) = self.object_mut(id) else {
            return false;
        };
        if object.announced || !object.complete.is_full() {
            return false;
        }
        object.announced = true;
        self.events.push_back(ReceiverEvent::ObjectComplete(id));
        true
    }

    /// One block's search on the disk is over. After the last one the sender should learn at once
    /// which blocks are wanted.
    fn decided(&mut self, block: BlockKey) {
        if let Some(object) = self.object_mut(block.object)
            && object.undecided.remove(block.index)
            && object.undecided.is_empty()
        {
            self.hurry();
        }
    }
}
