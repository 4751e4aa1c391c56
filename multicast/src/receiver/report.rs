//! When a receiver speaks, and what it says.

use super::object::Object;
use super::{IDLE_INTERVAL, Receiver, URGENT_GAP};
use crate::status::{BlockRange, Deficit, MAX_BAD, MAX_DEFICITS, MAX_RANGES, Status};
use crate::time::{Duration, Instant};

impl Receiver {
    /// The control connection is new: the next status, due now, holds the whole picture.
    pub fn full_status(&mut self, now: Instant) {
        self.full = true;
        self.next_status_at = now;
    }

    /// The status to send now, if one is due.
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
        // 50 % to 150 % of the interval, so that reports of many do not come together.
        let half = interval.as_micros() / 2;
        self.next_status_at =
            now + Duration::from_micros(half + self.jitter.below(half.saturating_mul(2)));
        self.urgent = self.has_unsaid();
        self.last_status_at = Some(now);
        self.said_free = status.free_buffers;
        self.begun = 0;
        // A third to two thirds, so that a large room does not speak all at once.
        let third = u64::from(status.free_buffers) / 3;
        self.begun_most = u32::try_from(third + self.jitter.below(third))
            .unwrap_or(u32::MAX)
            .max(1);
        self.sequence += 1;
        Some(status)
    }

    /// When to ask for a status again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let urgent_at = self.urgent.then(|| {
            self.last_status_at
                .map_or(Instant::ZERO, |at| at + URGENT_GAP)
        });
        Some(urgent_at.map_or(self.next_status_at, |at| at.min(self.next_status_at)))
    }

    /// The wire is free and waits for reports: whoever still needs something and has news
    /// speaks soon, spread over a tenth of the interval, rather than in its turn.
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
            // What is complete and does not fit into this status is not wanted either.
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
