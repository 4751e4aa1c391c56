//! A receiver: which packet goes where, and what the sender must be told.
//!
//! Owns: which blocks are complete, which are in the making, what was lost. Never sees a
//! payload: the shell opens the seal, refuses replays, asks [`Receiver::handle_packet`] where
//! the payload goes and puts it there ([`crate::Assembly`]).
//!
//! Calling order: `handle_*` as things happen, then [`Receiver::poll_event`] until nothing
//! comes, [`Receiver::poll_status`] (send what it gives), sleep until
//! [`Receiver::poll_timeout`] or the next packet. Time never goes back.
//!
//! ```text
//!  absent ──first symbol, a slot is free──► filling ──k distinct symbols──► whole
//!    ▲  ▲                                      │                             │
//!    │  └── out of reach of parity, stale ─────┘        Ok ──► complete ◄────┤
//!    └────────────────────────────────────────────────────────── Failed ─────┘
//! ```
//!
//! Always holds: a block is complete only after the shell said so, and the shell hears of a
//! block only after `k` distinct symbols of it were stored, or got it by bulk. No call
//! allocates by what a packet claims.

mod object;
mod report;
mod runs;
mod types;

pub use types::{
    BlockOutcome, Disposition, Ignored, ImageBlocks, ReceiverConfig, ReceiverCounters,
    ReceiverEvent, Stored,
};

use crate::layout::{BlockKey, ObjectId, PARITY_SYMBOLS};
use crate::meter::LaneMeter;
use crate::rng::Jitter;
use crate::slots::{Filled, Slots};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Header, Lane, PerLane, SessionId};
use object::Object;
use std::collections::{BTreeSet, VecDeque};

/// A session from which nothing came for so long has no multicast here.
pub const SILENCE: Duration = Duration::from_secs(3);
/// A block already missing so many symbols when it is first seen is not begun: parity has
/// 256, and others lose symbols too.
const MAX_MISSED_AT_BEGIN: u16 = 200;
/// A block without a new symbol for so long gives its slot to a new one.
const STALE: Duration = Duration::from_secs(3);
/// Least time between two statuses, however urgent.
const URGENT_GAP: Duration = Duration::from_millis(5);
/// Status interval once all is complete and said: only to be known alive.
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
    /// The block whose source is going by on the main lane or the slow lane: its symbols are
    /// still coming, so its deficit means nothing yet.
    coming: Option<BlockKey>,
    /// The block being passed over, per lane, so that it is counted once and left alone.
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
    /// Free buffers as last said.
    said_free: u32,
    /// Blocks begun since then, and how many are reason to speak.
    begun: u32,
    begun_most: u32,
}

impl Receiver {
    /// A receiver that starts at `now`; its first status is due at once.
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

    /// The manifest is read: the image's blocks are wanted from now on, except those the disk
    /// has already. A second call is ignored.
    pub fn open_image(&mut self, image: ImageBlocks) {
        if self.image.is_some() {
            return;
        }
        self.image = Some(Object::image(image));
        self.full = true;
        self.check_complete(ObjectId::Image);
        self.hurry();
    }

    /// Decides where the payload of a packet goes. The packet's seal was opened and its number
    /// is new ([`crate::ReplayWindow`]).
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
        // Repair on the second lane says nothing about the source that goes by beside it; a
        // heartbeat is sent only when none does.
        let source = lane == Lane::Main || header.flags.has(Flags::SLOW_LANE);
        if newest && (source || key.is_none()) {
            self.moved_on(key);
        }
        let Some(block) = key else {
            // The image waits for everybody's manifest, too.
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

    /// The shell is through with a block that it heard of by
    /// [`ReceiverEvent::BlockReady`]: its slot is free again.
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
        // A sender that holds back for want of room should hear of room before disks idle.
        let (said, half) = (self.said_free, self.buffers / 2);
        if said <= half && self.slots.free_count() >= half.max(said.saturating_mul(2)) {
            self.hurry();
        }
    }

    /// A block came whole by bulk, checked and written.
    pub fn handle_bulk_block(&mut self, _now: Instant, block: BlockKey) {
        self.slots.abandon(block);
        self.counters.bulk += 1;
        self.complete(block);
    }

    /// A block was found on the disk and proven: it is complete. What came of it is given up.
    pub fn handle_kept_block(&mut self, _now: Instant, block: BlockKey) {
        if self.is_complete(block) {
            return;
        }
        self.slots.abandon(block);
        self.decided(block);
        self.complete(block);
        self.counters.kept += u64::from(self.is_complete(block));
    }

    /// A block was looked for on the disk and is not there: it is wanted from now on.
    pub fn handle_wanted_block(&mut self, _now: Instant, block: BlockKey) {
        self.decided(block);
    }

    /// The kernel dropped `count` more datagrams because nobody read them in time.
    pub fn handle_kernel_drops(&mut self, count: u64) {
        self.kernel_drops = self.kernel_drops.saturating_add(count);
    }

    /// What the disk takes, in bytes a second, as the shell measured it.
    pub fn set_disk_rate(&mut self, bytes_per_s: u64) {
        self.disk_bytes_per_s = bytes_per_s;
    }

    /// Changes the mean time between statuses, when the number of receivers changed.
    pub fn set_status_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Whether [`Receiver::poll_event`] has something to give.
    #[must_use]
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// What the shell must do next.
    pub fn poll_event(&mut self) -> Option<ReceiverEvent> {
        self.events.pop_front()
    }

    /// Whether any packet of the session came within the last three seconds.
    #[must_use]
    pub fn heard(&self, now: Instant) -> bool {
        self.last_heard
            .is_some_and(|at| now.saturating_since(at) < SILENCE)
    }

    /// Whether a block is complete.
    #[must_use]
    pub fn is_complete(&self, block: BlockKey) -> bool {
        self.object(block.object)
            .is_some_and(|object| object.complete.contains(block.index))
    }

    /// Complete blocks of an object, and how many it has; nothing while the image is closed.
    #[must_use]
    pub fn progress(&self, object: ObjectId) -> Option<(u32, u32)> {
        self.object(object)
            .map(|object| (object.complete.count(), object.complete.len()))
    }

    /// Whether manifest and image are complete.
    #[must_use]
    pub fn is_all_complete(&self) -> bool {
        self.manifest.complete.is_full()
            && self
                .image
                .as_ref()
                .is_some_and(|image| image.complete.is_full())
    }

    /// Blocks of the image that the agent still looks for on its disk.
    #[must_use]
    pub fn undecided(&self) -> u32 {
        self.image
            .as_ref()
            .map_or(0, |image| image.undecided.count())
    }

    /// Blocks of an object that are not complete, ascending.
    #[must_use]
    pub fn missing(&self, object: ObjectId) -> Vec<u32> {
        self.object(object)
            .map(|object| object.complete.complement().iter().collect())
            .unwrap_or_default()
    }

    /// What went through so far.
    #[must_use]
    pub fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    /// Free block buffers.
    #[must_use]
    pub fn free_buffers(&self) -> u32 {
        self.slots.free_count()
    }

    /// What a lane brought and lost.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> crate::status::LaneStatus {
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
        // The sender counts every block against the room last told: before that looks used up,
        // it should hear of what is free.
        self.begun = self.begun.saturating_add(1);
        if self.begun == self.begun_most && self.slots.free_count() > self.said_free / 2 {
            self.hurry();
        }
        Ok(())
    }

    /// Other source goes by now: a block that parity cannot mend any more
    /// gives its slot back and waits for the next pass.
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

    /// A look is over; after the last one the sender should hear at once what is wanted.
    fn decided(&mut self, block: BlockKey) {
        if let Some(object) = self.object_mut(block.object)
            && object.undecided.remove(block.index)
            && object.undecided.is_empty()
        {
            self.hurry();
        }
    }
}
