//! The status reports of a receiver: their times and their contents.

use super::object::Object;
use super::{IDLE_INTERVAL, Receiver, URGENT_GAP};
use crate::packet::status::{BlockRange, Deficit, MAX_BAD, MAX_DEFICITS, MAX_RANGES, Status};
use crate::time::{Duration, Instant};

impl Receiver {
    /// Makes the next status a full one, due now. Called when the control connection is new.
    pub fn full_status(&mut self, now: Instant) {
        self.full = true;
        self.next_status_at = now;
    }

    /// Returns the status to send now, if one is due.
    pub fn poll_status(&mut self, now: Instant) -> Option<Status> {
        if self.poll_timeout()? > now {
            return None;
        }
        let status = self.status();
        let rest = status.full || self.has_unsaid();
        let interval = if self.is_all_complete() && !rest {
            IDLE_INTERVAL
        } else {
            self.interval
        };
        // The interval varies between 50 % and 150 %, so that the reports of many receivers do not
        // arrive together.
        let half = interval.as_micros() / 2;
        self.next_status_at =
            now + Duration::from_micros(half + self.jitter.below(half.saturating_mul(2)));
        self.urgent = self.has_unsaid();
        self.last_status_at = Some(now);
        self.said_free = status.free_buffers;
        self.begun = 0;
        // The limit lies between a third and two thirds of the free buffers, so that the receivers
        // of a large room do not all report at once.
        let third = u64::from(status.free_buffers) / 3;
        self.begun_most = u32::try_from(third + self.jitter.below(third))
            .unwrap_or(u32::MAX)
            .max(1);
        self.sequence += 1;
        Some(status)
    }

    /// The time of the next call of [`Receiver::poll_status`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let urgent_at = self.urgent.then(|| {
            self.last_status_at
                .map_or(Instant::ZERO, |at| at + URGENT_GAP)
        });
        Some(urgent_at.map_or(self.next_status_at, |at| at.min(self.next_status_at)))
    }

    /// Brings the next status forward, because the sender is idle and waits for reports. A receiver
    /// that still needs blocks and has news reports soon, spread over a tenth of the interval.
    pub(super) fn speak_up(&mut self, now: Instant) {
        if self.is_all_complete() || self.last_symbol_at <= self.last_status_at {
            return;
        }
        let spread = self.interval.as_micros() / 10;
        let soon = now + Duration::from_micros(self.jitter.below(spread));
        let earliest = self.last_status_at.map_or(Instant::ZERO, |at| {
            at + Duration::from_micros(self.interval.as_micros() / 10)
        });
        self.next_status_at = self.next_status_at.min(soon.max(earliest));
    }

    pub(super) fn hurry(&mut self) {
        self.urgent = true;
    }

    fn has_unsaid(&self) -> bool {
        let unsaid = |object: &Object| object.complete.is_full() && !object.unsaid.is_empty();
        unsaid(&self.manifest) || self.image.as_ref().is_some_and(unsaid) || !self.bad.is_empty()
    }

    fn status(&mut self) -> Status {
        let full = std::mem::take(&mut self.full);
        let mut completed = Vec::new();
        for object in [Some(&mut self.manifest), self.image.as_mut()]
            .into_iter()
            .flatten()
        {
            if full {
                object.unsaid = object.complete.clone();
            }
            let room = MAX_RANGES.saturating_sub(completed.len());
            let runs: Vec<_> = object.unsaid.runs().take(room).collect();
            for run in runs {
                for index in run.clone() {
                    object.unsaid.remove(index);
                }
                completed.push(BlockRange::new(object.id, run));
            }
        }
        let undecided = self.image.as_ref().map_or_else(Vec::new, |image| {
            // Blocks that are complete and do not fit into this status are not wanted either.
            let mut open = image.undecided.clone();
            open.unite(&image.unsaid);
            open.runs()
                .take(MAX_RANGES)
                .map(|run| BlockRange::new(image.id, run))
                .collect()
        });
        let coming = self.coming;
        let deficits = self
            .slots
            .oldest_first()
            .into_iter()
            .filter(|(block, _)| Some(*block) != coming)
            .take(MAX_DEFICITS)
            .map(|(block, filling)| Deficit::new(block, filling.missing()))
            .collect();
        let mut held: Vec<BlockRange> = Vec::new();
        for block in self.slots.whole().take(MAX_RANGES) {
            match held.last_mut() {
                Some(last)
                    if last.object() == Some(block.object) && last.blocks().end == block.index =>
                {
                    last.2 = last.2.saturating_add(1);
                }
                _ => held.push(BlockRange::new(
                    block.object,
                    block.index..block.index.saturating_add(1),
                )),
            }
        }
        let mut bad = Vec::new();
        while bad.len() < MAX_BAD {
            let Some(block) = self.bad.pop_first() else {
                break;
            };
            bad.push(BlockRange::new(
                block.object,
                block.index..block.index.saturating_add(1),
            ));
        }
        Status {
            sequence: self.sequence,
            full,
            image_open: self.image.is_some(),
            main: self.meters.main.status(),
            second: self.meters.second.status(),
            kernel_drops: self.kernel_drops,
            free_buffers: self.slots.free_count(),
            disk_bytes_per_s: self.disk_bytes_per_s,
            deficits,
            held,
            undecided,
            completed,
            bad,
            skipped: self.counters.skipped,
        }
    }
}
