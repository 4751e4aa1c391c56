//! One target of the room: its link, its receiver, its disk and its lives (from a start to a
//! crash).

use crate::check::{self, SlotWatch, Wrong};
use crate::events::{Event, Queue, Row};
use crate::link::{Fate, Link, Tables};
use crate::report::TargetReport;
use crate::rng::Rng;
use crate::room::Target;
use multicast::{
    BlockKey, BlockOutcome, BlockSet, Disposition, Duration, Epoch, Header, ImageBlocks, Instant,
    ObjectId, Receiver, ReceiverConfig, ReceiverEvent, ReplayWindow, SYMBOL_BYTES, SessionId,
    Stored, Transmit,
};

/// Time from the complete manifest to the opened image, in microseconds.
const OPEN_US: u64 = 1_000;
/// Time from sending to receiving a status, in microseconds.
const CONTROL_LATENCY_US: u64 = 300;
/// Time to read a block back after a reboot, in microseconds.
const REREAD_US: u64 = 2_000;

/// The data shared by all targets.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) session: SessionId,
    pub(crate) epoch: Epoch,
    pub(crate) manifest: Vec<u16>,
    pub(crate) image: Vec<u16>,
    pub(crate) buffers: u16,
    pub(crate) status_interval: Duration,
}

impl Shared {
    fn k(&self, block: BlockKey) -> u16 {
        let counts = match block.object {
            ObjectId::Manifest => &self.manifest,
            ObjectId::Image => &self.image,
        };
        counts.get(block.index as usize).copied().unwrap_or(0)
    }

    fn blocks(&self) -> u32 {
        u32::try_from(self.image.len()).unwrap_or(u32::MAX)
    }
}

/// A point in time, the shared data, and the queue for events that follow.
pub(crate) struct Moment<'a> {
    pub(crate) now_us: u64,
    pub(crate) shared: &'a Shared,
    pub(crate) queue: &'a mut Queue,
}

impl Moment<'_> {
    fn now(&self) -> Instant {
        Instant::from_micros(self.now_us)
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.queue.push(self.now_us.saturating_add(delay_us), event);
    }
}

pub(crate) struct Node {
    index: u32,
    target: Target,
    /// Number of the current life; events of an earlier life are ignored.
    life: u32,
    receiver: Option<Receiver>,
    replay: ReplayWindow,
    link: Link,
    slots: Vec<SlotWatch>,
    disk_free_us: u64,
    /// Blocks of the image on the disk, which survive a crash.
    disk: BlockSet,
    failed: BlockSet,
    /// Blocks that are still searched for on the disk; `None` before the image is open.
    looking: Option<BlockSet>,
    wake_us: u64,
    rng: Rng,
    done_at_us: Option<u64>,
    pub(crate) report: TargetReport,
}

impl Node {
    pub(crate) fn new(
        index: u32,
        target: Target,
        shared: &Shared,
        tables: &mut Tables,
        rng: &mut Rng,
    ) -> Self {
        Self {
            index,
            life: 0,
            receiver: None,
            replay: ReplayWindow::new(),
            link: Link::new(target.faults, tables, rng.draw()),
            slots: vec![SlotWatch::default(); usize::from(shared.buffers)],
            disk_free_us: 0,
            disk: BlockSet::empty(shared.blocks()),
            failed: BlockSet::empty(shared.blocks()),
            looking: None,
            wake_us: u64::MAX,
            rng: Rng::new(rng.draw()),
            done_at_us: None,
            report: TargetReport::default(),
            target,
        }
    }

    pub(crate) fn life(&self) -> u32 {
        self.life
    }

    pub(crate) fn is_up(&self) -> bool {
        self.receiver.is_some()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.receiver
            .as_ref()
            .is_some_and(Receiver::is_all_complete)
    }

    /// Time at which the target was complete, in the room's time.
    pub(crate) fn done_at_us(&self) -> Option<u64> {
        self.done_at_us
    }

    /// Number of blocks of the image that are missing, and the first of them.
    pub(crate) fn lacks(&self) -> (usize, Option<u32>) {
        let missing = self
            .receiver
            .as_ref()
            .map_or_else(Vec::new, |receiver| receiver.missing(ObjectId::Image));
        (missing.len(), missing.first().copied())
    }

    /// Adds the receiver's counters of this life to the report.
    pub(crate) fn account(&mut self) {
        if let Some(counters) = self.receiver.as_ref().map(Receiver::counters) {
            self.report.stored += counters.stored;
            self.report.restored += counters.restored;
            self.report.kept += counters.kept;
            self.report.skipped += counters.skipped;
        }
    }

    // ---- lives ---------------------------------------------------------------------------

    /// Starts the target, for the first time or after a crash.
    pub(crate) fn boot(&mut self, moment: &mut Moment<'_>) -> Result<(), Wrong> {
        self.account();
        self.disk_free_us = 0;
        self.looking = None;
        self.listen(moment, None)
    }

    /// Joins the session of a restarted console with the blocks on the disk.
    pub(crate) fn rejoin(&mut self, moment: &mut Moment<'_>) -> Result<(), Wrong> {
        if !self.is_up() {
            return Ok(());
        }
        self.account();
        let image = self.looking.take().map(|mut looking| {
            looking.subtract(&self.disk);
            let image = ImageBlocks {
                symbol_counts: moment.shared.image.clone(),
                have: self.disk.clone(),
                undecided: looking.clone(),
            };
            self.looking = Some(looking);
            image
        });
        let opened = image.is_some();
        self.listen(moment, image)?;
        if opened {
            self.look_on(moment, 0);
        }
        Ok(())
    }

    pub(crate) fn crash(&mut self) {
        self.account();
        self.receiver = None;
        self.life += 1;
        self.done_at_us = None;
    }

    fn listen(&mut self, moment: &mut Moment<'_>, image: Option<ImageBlocks>) -> Result<(), Wrong> {
        self.life += 1;
        self.replay = ReplayWindow::new();
        self.wake_us = u64::MAX;
        self.done_at_us = None;
        self.receiver = Some(Receiver::new(
            ReceiverConfig {
                session: moment.shared.session,
                manifest: moment.shared.manifest.clone(),
                image,
                buffers: moment.shared.buffers,
                status_interval: moment.shared.status_interval,
                seed: self.rng.draw(),
            },
            moment.now(),
        ));
        self.drive(moment)
    }

    /// Opens the image after the manifest was read.
    pub(crate) fn open(&mut self, moment: &mut Moment<'_>) -> Result<(), Wrong> {
        let len = moment.shared.blocks();
        if self.looking.is_none() {
            // Blocks written in an earlier life are read again before they count.
            let looking = match &self.target.look {
                Some(_) => BlockSet::full(len),
                None => self.disk.clone(),
            };
            if let Some(receiver) = &mut self.receiver {
                receiver.open_image(ImageBlocks {
                    symbol_counts: moment.shared.image.clone(),
                    have: BlockSet::empty(len),
                    undecided: looking.clone(),
                });
            }
            self.looking = Some(looking);
            self.look_on(moment, 0);
        }
        self.drive(moment)
    }

    // ---- the disk ------------------------------------------------------------------------

    /// Searches for the next block from `from` on that has not arrived meanwhile.
    fn look_on(&mut self, moment: &mut Moment<'_>, from: u32) {
        let Some(looking) = &mut self.looking else {
            return;
        };
        let mut from = from;
        while let Some(index) = looking.next(from) {
            let block = BlockKey::image(index);
            if self
                .receiver
                .as_ref()
                .is_some_and(|receiver| !receiver.is_complete(block))
            {
                let look_us = self
                    .target
                    .look
                    .as_ref()
                    .map_or(REREAD_US, |look| look.block_us);
                let event = Event::Looked {
                    target: self.index,
                    life: self.life,
                    block,
                };
                moment.after(look_us, event);
                return;
            }
            looking.remove(index);
            from = index + 1;
        }
    }

    pub(crate) fn looked(&mut self, moment: &mut Moment<'_>, block: BlockKey) -> Result<(), Wrong> {
        let found = self.disk.contains(block.index)
            || self
                .target
                .look
                .as_ref()
                .is_some_and(|look| !look.differs.contains(block.index));
        if let Some(looking) = &mut self.looking {
            looking.remove(block.index);
        }
        if let Some(receiver) = &mut self.receiver {
            if found {
                self.disk.insert(block.index);
                receiver.handle_kept_block(moment.now(), block);
            } else {
                receiver.handle_wanted_block(moment.now(), block);
            }
        }
        self.look_on(moment, block.index + 1);
        self.drive(moment)
    }

    fn ready(&mut self, moment: &mut Moment<'_>, block: BlockKey, slot: u16) -> Result<(), Wrong> {
        let k = moment.shared.k(block);
        self.slots
            .get(usize::from(slot))
            .ok_or("a slot that is none")?
            .ready(block, k)?;
        // The time for a write varies from half to one and a half of the mean.
        let mean = (u64::from(k) * SYMBOL_BYTES as u64)
            .saturating_mul(1_000_000)
            .checked_div(self.target.disk_bytes_per_s)
            .unwrap_or(0);
        let busy = mean / 2 + self.rng.below(mean.saturating_add(1));
        self.disk_free_us = self.disk_free_us.max(moment.now_us).saturating_add(busy);
        let event = Event::Written {
            target: self.index,
            life: self.life,
            block,
        };
        moment.queue.push(self.disk_free_us, event);
        Ok(())
    }

    pub(crate) fn written(
        &mut self,
        moment: &mut Moment<'_>,
        block: BlockKey,
    ) -> Result<(), Wrong> {
        let image = block.object == ObjectId::Image;
        let bad = image && self.rng.chance(self.target.bad_ppm) && self.failed.insert(block.index);
        let outcome = if bad {
            BlockOutcome::Failed
        } else {
            if image {
                self.disk.insert(block.index);
            }
            BlockOutcome::Ok
        };
        if let Some(receiver) = &mut self.receiver {
            receiver.handle_block_done(moment.now(), block, outcome);
        }
        self.drive(moment)
    }

    pub(crate) fn fetched(
        &mut self,
        moment: &mut Moment<'_>,
        block: BlockKey,
    ) -> Result<(), Wrong> {
        self.report.bulk_blocks += 1;
        if block.object == ObjectId::Image {
            self.disk.insert(block.index);
        }
        if let Some(receiver) = &mut self.receiver {
            receiver.handle_bulk_block(moment.now(), block);
        }
        self.drive(moment)
    }

    // ---- packets -------------------------------------------------------------------------

    /// Delivers a burst through the link. A complete target has left the groups.
    pub(crate) fn burst(
        &mut self,
        moment: &mut Moment<'_>,
        session: SessionId,
        epoch: Epoch,
        rows: &[Row],
    ) -> Result<(), Wrong> {
        let apart = self
            .target
            .partition_us
            .is_some_and(|(from, to)| (from..to).contains(&moment.now_us));
        if apart || !self.is_up() || self.is_complete() {
            return Ok(());
        }
        for row in rows {
            let header = row.first.header(session, epoch);
            let mut at = 0;
            while at < row.count {
                let fate = self.link.next(u64::from(row.count - at));
                let (Fate::Arrive(count) | Fate::Lost(count) | Fate::Dropped(count)) = fate;
                // A fate is never longer than the requested number of packets.
                let count = u16::try_from(count).unwrap_or(row.count - at).max(1);
                match fate {
                    Fate::Arrive(_) if self.link.is_plain() => {
                        self.take(moment.now(), &header, at, count)?;
                    }
                    Fate::Arrive(_) => {
                        for step in at..at + count {
                            self.arrive(moment, &row.first, step, session, epoch)?;
                        }
                    }
                    Fate::Lost(_) => {}
                    Fate::Dropped(dropped) => {
                        if let Some(receiver) = &mut self.receiver {
                            receiver.handle_kernel_drops(dropped);
                        }
                    }
                }
                at += count;
            }
        }
        self.attend(moment)
    }

    /// Delivers packets of a row that arrive in order.
    fn take(&mut self, now: Instant, header: &Header, from: u16, count: u16) -> Result<(), Wrong> {
        let Some(receiver) = &mut self.receiver else {
            return Ok(());
        };
        let first = Header {
            number: header.number.later(u64::from(from)),
            symbol: header.symbol.saturating_add(from),
            ..*header
        };
        let block = header.block_key();
        let slots = &mut self.slots;
        let mut wrong = None;
        receiver.handle_packets(now, &first, count, |stored| {
            let kept = keep(slots, block, &stored);
            wrong = wrong.or(kept.err());
        });
        wrong.map_or(Ok(()), Err)
    }

    fn arrive(
        &mut self,
        moment: &mut Moment<'_>,
        first: &Transmit,
        step: u16,
        session: SessionId,
        epoch: Epoch,
    ) -> Result<(), Wrong> {
        let packet = Transmit {
            packet_number: first.packet_number.later(u64::from(step)),
            symbol: first.symbol.saturating_add(step),
            ..*first
        };
        for delay in self.link.arrivals().into_iter().flatten() {
            if delay == 0 {
                self.packet(moment.now(), &packet, session, epoch)?;
            } else {
                let event = Event::Packet {
                    target: self.index,
                    life: self.life,
                    packet,
                };
                moment.after(delay, event);
            }
        }
        Ok(())
    }

    /// Delivers one packet, late or for the second time.
    pub(crate) fn late(&mut self, moment: &mut Moment<'_>, packet: &Transmit) -> Result<(), Wrong> {
        let (session, epoch) = (moment.shared.session, moment.shared.epoch);
        self.packet(moment.now(), packet, session, epoch)?;
        self.attend(moment)
    }

    fn packet(
        &mut self,
        now: Instant,
        packet: &Transmit,
        session: SessionId,
        epoch: Epoch,
    ) -> Result<(), Wrong> {
        let Some(receiver) = &mut self.receiver else {
            return Ok(());
        };
        if self.replay.take(packet.packet_number).is_err() {
            return Ok(());
        }
        let header = packet.header(session, epoch);
        if let Disposition::Store { slot, first } = receiver.handle_packet(now, &header) {
            let symbols = header.symbol..header.symbol.saturating_add(1);
            let stored = Stored {
                slot,
                first,
                symbols,
            };
            keep(&mut self.slots, header.block_key(), &stored)?;
        }
        Ok(())
    }

    // ---- what the receiver wants ---------------------------------------------------------

    /// Drives the receiver if packets have given it something to do.
    fn attend(&mut self, moment: &mut Moment<'_>) -> Result<(), Wrong> {
        let asks = self.receiver.as_ref().is_some_and(|receiver| {
            receiver.has_event()
                || receiver
                    .poll_timeout()
                    .is_some_and(|at| at.as_micros() < self.wake_us)
        });
        if asks { self.drive(moment) } else { Ok(()) }
    }

    pub(crate) fn wake(&mut self, moment: &mut Moment<'_>) -> Result<(), Wrong> {
        self.wake_us = u64::MAX;
        self.drive(moment)
    }

    fn drive(&mut self, moment: &mut Moment<'_>) -> Result<(), Wrong> {
        let (target, life) = (self.index, self.life);
        while let Some(event) = self.receiver.as_mut().and_then(Receiver::poll_event) {
            match event {
                ReceiverEvent::BlockReady { block, slot, .. } => self.ready(moment, block, slot)?,
                ReceiverEvent::ObjectComplete(ObjectId::Manifest) => {
                    moment.after(OPEN_US, Event::Open { target, life });
                }
                _ => {}
            }
        }
        if self.done_at_us.is_none() && self.is_complete() {
            self.done_at_us = Some(moment.now_us);
        }
        let Some(receiver) = &mut self.receiver else {
            return Ok(());
        };
        let said = receiver.poll_status(moment.now());
        if let Some(at) = receiver.poll_timeout()
            && at.as_micros() < self.wake_us
        {
            self.wake_us = at.as_micros().max(moment.now_us + 1);
            moment
                .queue
                .push(self.wake_us, Event::Wake { target, life });
        }
        if let Some(status) = said {
            check::status(&status, moment.shared.buffers)?;
            let status = Box::new(status);
            moment.after(
                CONTROL_LATENCY_US,
                Event::Status {
                    target,
                    life,
                    status,
                },
            );
        }
        Ok(())
    }
}

fn keep(slots: &mut [SlotWatch], block: Option<BlockKey>, stored: &Stored) -> Result<(), Wrong> {
    let block = block.ok_or("a heartbeat stored")?;
    slots
        .get_mut(usize::from(stored.slot))
        .ok_or("a slot that is none")?
        .store(block, stored)
}
