//! The sender's record of one receiver.
//!
//! Owns the last status of a receiver and its health. All values are claims of the receiver; packet
//! counters above what was ever sent are reduced to the highest one sent.

use crate::block::layout::{BlockKey, ObjectId};
use crate::packet::status::{BlockRange, MAX_DEFICITS, MAX_RANGES, Status};
use crate::packet::wire::{Lane, PerLane};
use crate::sender::ledger::Seen;
use crate::sender::standing::Standing;
use crate::time::{Duration, Instant};
use std::collections::BTreeMap;

/// Time without a status after which a receiver counts as silent: nothing is sent for it until it
/// reports again.
pub(crate) const SILENT: Duration = Duration::from_secs(3);
/// Time without a new packet number after which a receiver that still reports counts as having no
/// multicast. Heartbeats go out fifty times a second meanwhile.
const DEAF: Duration = Duration::from_secs(2);
/// Largest number of failed blocks that are sent to one receiver by bulk.
pub(crate) const MAX_BAD_BLOCKS: u32 = 100_000;

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) last_status_at: Instant,
    pub(crate) sequence: Option<u64>,
    pub(crate) image_open: bool,
    /// The shell reported that multicast does not reach this receiver.
    pub(crate) bulk_only: bool,
    heard_at: Instant,
    pub(crate) seen: Seen,
    pub(crate) free_buffers: u32,
    pub(crate) skipped: u64,
    pub(crate) deficits: BTreeMap<BlockKey, u16>,
    pub(crate) held: Vec<BlockRange>,
    pub(crate) silent: bool,
    pub(crate) standing: Standing,
    pub(crate) complete: bool,
    /// Time since which the receiver has had no free buffer; `None` if it has one.
    pub(crate) full_since: Option<Instant>,
    pub(crate) bad_blocks: u32,
    received: u64,
    lost: u64,
    kernel_drops: u64,
}

/// Increase of the receiver's counters since its previous status.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progressed {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) kernel: u64,
    pub(crate) skipped: u64,
}

impl Peer {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            last_status_at: now,
            sequence: None,
            image_open: false,
            bulk_only: false,
            heard_at: now,
            seen: PerLane::default(),
            free_buffers: 0,
            skipped: 0,
            deficits: BTreeMap::new(),
            held: Vec::new(),
            silent: false,
            standing: Standing::default(),
            complete: false,
            full_since: None,
            bad_blocks: 0,
            received: 0,
            lost: 0,
            kernel_drops: 0,
        }
    }

    /// Stores a status and returns the increase of its counters; `sent` is one past the highest
    /// counter of each lane.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        status: &Status,
        sent: &PerLane<u64>,
    ) -> Progressed {
        let was_deaf = self.is_deaf(now);
        self.last_status_at = now;
        self.sequence = Some(status.sequence);
        let before = self.seen;
        for lane in Lane::ALL {
            let highest = sent.get(lane).checked_sub(1);
            *self.seen.get_mut(lane) = status.lane(lane).seen.min(highest);
        }
        if self.seen != before {
            self.heard_at = now;
        }
        self.free_buffers = status.free_buffers;
        self.deficits = status
            .deficits
            .iter()
            .take(MAX_DEFICITS)
            .filter_map(|deficit| Some((deficit.block()?, deficit.missing())))
            .collect();
        self.held = status.held.iter().take(MAX_RANGES).copied().collect();
        let received = status.main.received.saturating_add(status.second.received);
        let lost = status.main.lost.saturating_add(status.second.lost);
        // Counters that went back mean that the receiver restarted: there is no increase to report.
        let progressed = if received >= self.received {
            Progressed {
                received: received - self.received,
                // Packets lost while multicast did not work say nothing about the rate or about the
                // machine.
                lost: if was_deaf {
                    0
                } else {
                    lost.saturating_sub(self.lost)
                },
                kernel: status.kernel_drops.saturating_sub(self.kernel_drops),
                skipped: status.skipped.saturating_sub(self.skipped),
            }
        } else {
            Progressed::default()
        };
        self.received = received;
        self.lost = lost;
        self.skipped = status.skipped;
        self.kernel_drops = status.kernel_drops;
        progressed
    }

    /// True if multicast does not reach the receiver.
    pub(crate) fn is_deaf(&self, now: Instant) -> bool {
        self.bulk_only || now.saturating_since(self.heard_at) >= DEAF
    }

    /// True if the sender waits for this receiver's reports and counts its losses.
    pub(crate) fn is_healthy(&self) -> bool {
        !self.silent && self.standing.aside().is_none() && !self.complete
    }

    /// True if the receiver has all symbols of the block and is checking or writing it.
    pub(crate) fn holds(&self, block: BlockKey) -> bool {
        self.held.iter().any(|range| {
            range.object() == Some(block.object) && range.blocks().contains(&block.index)
        })
    }

    /// True if the receiver is ready for blocks of the object.
    pub(crate) fn wants(&self, object: ObjectId) -> bool {
        match object {
            ObjectId::Manifest => self.sequence.is_some(),
            ObjectId::Image => self.image_open,
        }
    }
}
