//! The choice of the next packet.
//!
//! Always holds: every symbol returned is entered in the ledger with its packet number, and each
//! number of a lane is used once.

use super::{Sender, Transmit, TransmitKind};
use crate::block::layout::{BlockKey, ObjectId, SYMBOL_BYTES};
use crate::packet::wire::{Flags, Lane, PacketNumber};
use crate::sender::ledger::Repair;
use crate::time::{Duration, Instant};

/// Time without a packet after which a lane gets a heartbeat while a receiver is incomplete.
const HEARTBEAT: Duration = Duration::from_millis(20);
/// The same time once all receivers are complete or silent; it only shows that the session is
/// alive.
const IDLE_HEARTBEAT: Duration = Duration::from_secs(1);
/// Largest repair credit, in packets: about one block. Credit is saved while no repair is needed.
const MAX_REPAIR_CREDIT: u64 = 512;
/// Longest time that the image waits for the other receivers after the first one is ready for it.
/// Blocks sent earlier would have to be sent to them again.
const START_GRACE: Duration = Duration::from_millis(400);
/// Proactive parity of a manifest block: one symbol for every 16 source symbols, and 4 more. The
/// manifest is small, every receiver waits for it, and the loss is not known yet.
const MANIFEST_PARITY: (u16, u16) = (16, 4);

impl Sender {
    fn number(&mut self, lane: Lane) -> PacketNumber {
        let next = self.next_number.get_mut(lane);
        let number = PacketNumber::new(lane, *next);
        *next = next.saturating_add(1);
        number
    }

    pub(super) fn next_manifest(&mut self) -> Option<Transmit> {
        if self.manifest.run.is_none() {
            let block = self.manifest.carousel.next(self.manifest.wants.wanted())?;
            let (share, least) = MANIFEST_PARITY;
            let proactive = self.manifest.ledger.k(block) / share + least;
            self.manifest.start(block, proactive, Lane::Second);
        }
        let transmit = self.continue_run(ObjectId::Manifest)?;
        self.counters.manifest += 1;
        Some(transmit)
    }

    pub(super) fn next_source(&mut self, now: Instant) -> Option<Transmit> {
        if self.image.run.is_none() {
            if self.room.is_held(now) || self.image.wants.wanted().is_empty() {
                return None;
            }
            if !self.may_start(now) {
                return None;
            }
            // The room is judged again for each block, because blocks started since the last report
            // take buffers too.
            self.judge_room(now);
            if self.room.is_held(now) {
                return None;
            }
            self.room.let_through(now);
            let block = self.image.carousel.next(self.image.wants.wanted())?;
            let healthy = self.peers.values().filter(|peer| peer.is_healthy()).count();
            let proactive = self.proactive.symbols(healthy);
            // A block that was sent before is for slow and late receivers. The others may have left
            // the main lane by now.
            let lane = if self.image.ledger.goes(block) == 0 {
                Lane::Main
            } else {
                Lane::Second
            };
            self.image.start(block, proactive, lane);
            self.most_goes = self.most_goes.max(self.image.ledger.goes(block));
            self.room.started(lane, *self.next_number.get(lane));
            self.sent.blocks = self.sent.blocks.saturating_add(1);
        }
        let transmit = self.continue_run(ObjectId::Image)?;
        if transmit.kind == TransmitKind::Source {
            self.counters.source += 1;
            self.counters.slow_lane += u64::from(transmit.lane == Lane::Second);
            self.sent.bytes = self.sent.bytes.saturating_add(SYMBOL_BYTES as u64);
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

    /// True if the image may begin: all receivers are ready or silent, or [`START_GRACE`] is over.
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

    /// The next symbol of the block being sent: source symbols first, then proactive parity.
    fn continue_run(&mut self, id: ObjectId) -> Option<Transmit> {
        let lane = self.object_mut(id).run?.lane;
        let number = self.number(lane);
        let object = self.object_mut(id);
        let run = object.run.as_mut()?;
        let (symbol, kind) = if run.next < run.k {
            run.next += 1;
            (run.next - 1, TransmitKind::Source)
        } else {
            run.proactive = run.proactive.saturating_sub(1);
            // A go begins with 256 unused indexes, and proactive parity is limited to fewer.
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
        if id == ObjectId::Image && lane == Lane::Second {
            flags = flags.with(Flags::SLOW_LANE);
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

    pub(super) fn next_repair(&mut self, now: Instant) -> Option<Transmit> {
        let id = if self.manifest.ledger.has_repair() {
            ObjectId::Manifest
        } else if self.image.ledger.has_repair() {
            // While source symbols can be sent, repair gets only its share.
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

    pub(super) fn next_heartbeat(&mut self, now: Instant) -> Option<Transmit> {
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

    pub(super) fn heartbeat_period(&self) -> Duration {
        if self.waiting > 0 {
            HEARTBEAT
        } else {
            IDLE_HEARTBEAT
        }
    }
}
