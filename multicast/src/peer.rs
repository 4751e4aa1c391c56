//! What the sender knows of one receiver.
//!
//! Owns: the last status of a receiver, and whether it counts. Everything here is a claim of
//! the receiver; numbers beyond what was ever sent are cut down to it.

use crate::layout::{BlockKey, ObjectId};
use crate::ledger::Seen;
use crate::standing::Standing;
use crate::status::{BlockRange, MAX_DEFICITS, MAX_RANGES, Status};
use crate::time::{Duration, Instant};
use crate::wire::{Lane, PerLane};
use std::collections::BTreeMap;

/// A receiver that said nothing for so long is not sent to until it speaks again.
pub(crate) const SILENT: Duration = Duration::from_secs(3);
/// A receiver that speaks but has seen nothing new for so long, while heartbeats went out
/// fifty times a second, has no multicast.
const DEAF: Duration = Duration::from_secs(2);
/// Failed blocks for which a receiver is given bulk without further thought.
pub(crate) const MAX_BAD_BLOCKS: u32 = 100_000;

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) last_status_at: Instant,
    pub(crate) sequence: Option<u64>,
    pub(crate) image_open: bool,
    /// The shell says that multicast does not reach it.
    pub(crate) bulk_only: bool,
    heard_at: Instant,
    pub(crate) seen: Seen,
    pub(crate) free_buffers: u32,
    pub(crate) disk_bytes_per_s: u64,
    pub(crate) skipped: u64,
    pub(crate) deficits: BTreeMap<BlockKey, u16>,
    pub(crate) held: Vec<BlockRange>,
    pub(crate) silent: bool,
    pub(crate) standing: Standing,
    pub(crate) complete: bool,
    /// Since when it has had no room for another block.
    pub(crate) full_since: Option<Instant>,
    pub(crate) bad_blocks: u32,
    received: u64,
    lost: u64,
    kernel_drops: u64,
}

/// What was counted since the status before.
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
            disk_bytes_per_s: 0,
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

    /// Takes over a status; `sent` is one past the highest counter of each lane.
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
        self.disk_bytes_per_s = status.disk_bytes_per_s;
        self.deficits = status
            .deficits
            .iter()
            .take(MAX_DEFICITS)
            .filter_map(|deficit| Some((deficit.block()?, deficit.missing())))
            .collect();
        self.held = status.held.iter().take(MAX_RANGES).copied().collect();
        let received = status.main.received.saturating_add(status.second.received);
        let lost = status.main.lost.saturating_add(status.second.lost);
        // Counters that went back are a new life of the receiver: nothing is known of it yet.
        let progressed = if received >= self.received {
            Progressed {
                received: received - self.received,
                // The gap behind a time without multicast says nothing about the rate, nor about the machine.
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

    /// Whether multicast does not reach it.
    pub(crate) fn is_deaf(&self, now: Instant) -> bool {
        self.bulk_only || now.saturating_since(self.heard_at) >= DEAF
    }

    /// Whether its reports are waited for and its losses count.
    pub(crate) fn is_healthy(&self) -> bool {
        !self.silent && self.standing.aside().is_none() && !self.complete
    }

    /// Whether it holds all symbols of the block and is busy with it.
    pub(crate) fn holds(&self, block: BlockKey) -> bool {
        self.held.iter().any(|range| {
            range.object() == Some(block.object) && range.blocks().contains(&block.index)
        })
    }

    /// Whether it wants blocks of the object yet.
    pub(crate) fn wants(&self, object: ObjectId) -> bool {
        match object {
            ObjectId::Manifest => self.sequence.is_some(),
            ObjectId::Image => self.image_open,
        }
    }
}
