//! Finds the bottleneck of a target: the network, decompression, its disk, or none.
//!
//! Owns counters that the workers of a job keep, and the judgement over the time between two
//! samples. A queue before busy workers means that the machine itself is the slow part; the time
//! that workers spend on the disk tells which part of it.

#![expect(clippy::disallowed_methods, reason = "load is measured in real time")]

use facts::target::Bottleneck;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Number of waiting blocks from which the workers count as too slow.
const BACKLOG: u64 = 4;

/// Interval between two samples.
const EVERY: Duration = Duration::from_millis(500);

/// Counters of a job's workers.
#[derive(Default)]
pub(super) struct Load {
    busy_ns: AtomicU64,
    disk_ns: AtomicU64,
    stored_bytes: AtomicU64,
    queued: AtomicU64,
}

/// A worker busy with a block.
pub(super) struct Busy<'l> {
    load: &'l Load,
    began: Instant,
}

/// The counters at one moment.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark {
    busy_ns: u64,
    disk_ns: u64,
    stored_bytes: u64,
    packets: u64,
    at: Option<Instant>,
}

/// The judgement over the time since the last sample.
pub(super) struct Judgement {
    pub(super) bottleneck: Bottleneck,
    /// Rate of image bytes that the machine accepts, in bytes a second, when it is the slow part; 0
    /// when not known.
    pub(super) takes_bytes_per_s: u64,
}

impl Mark {
    /// True when the next sample is due.
    pub(super) fn is_due(&self) -> bool {
        self.at.is_none_or(|at| at.elapsed() >= EVERY)
    }
}

impl Load {
    /// Sets the number of blocks that wait for a worker.
    pub(super) fn queued(&self, blocks: usize) {
        self.queued.store(blocks as u64, Relaxed);
    }

    /// Records that a worker starts a block.
    pub(super) fn begin(&self) -> Busy<'_> {
        Busy {
            load: self,
            began: Instant::now(),
        }
    }

    /// Judges the time since `last`, in which the session's packet count rose to `packets`.
    pub(super) fn judge(&self, last: &mut Mark, packets: u64) -> Judgement {
        let now = Mark {
            busy_ns: self.busy_ns.load(Relaxed),
            disk_ns: self.disk_ns.load(Relaxed),
            stored_bytes: self.stored_bytes.load(Relaxed),
            packets,
            at: Some(Instant::now()),
        };
        let seen = std::mem::replace(last, now);
        let judgement = judge(&seen, &now, self.queued.load(Relaxed));
        Judgement {
            bottleneck: judgement.0,
            takes_bytes_per_s: judgement.1,
        }
    }
}

impl Busy<'_> {
    /// Records that a block of `stored` bytes is done; `on_disk` of the time was spent on the disk.
    pub(super) fn end(self, stored: u64, on_disk: Duration) {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.load
            .busy_ns
            .fetch_add(ns(self.began.elapsed()), Relaxed);
        self.load.disk_ns.fetch_add(ns(on_disk), Relaxed);
        self.load.stored_bytes.fetch_add(stored, Relaxed);
    }
}

fn judge(last: &Mark, now: &Mark, queued: u64) -> (Bottleneck, u64) {
    let busy = now.busy_ns.saturating_sub(last.busy_ns);
    let disk = now.disk_ns.saturating_sub(last.disk_ns);
    if queued < BACKLOG {
        let bottleneck = if now.packets > last.packets {
            Bottleneck::Network
        } else {
            Bottleneck::Waiting
        };
        return (bottleneck, 0);
    }
    let micros = match (last.at, now.at) {
        (Some(last), Some(now)) => now.saturating_duration_since(last).as_micros(),
        _ => 0,
    };
    let stored = u128::from(now.stored_bytes.saturating_sub(last.stored_bytes));
    let rate = (stored * 1_000_000).checked_div(micros).unwrap_or(0);
    let bottleneck = if disk >= busy / 2 {
        Bottleneck::Disk
    } else {
        Bottleneck::Decompress
    };
    (bottleneck, u64::try_from(rate).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(busy_ns: u64, disk_ns: u64, stored_bytes: u64, packets: u64) -> Mark {
        Mark {
            busy_ns,
            disk_ns,
            stored_bytes,
            packets,
            at: None,
        }
    }

    #[test]
    fn a_backlog_is_the_machine_and_none_is_the_network() {
        let began = Instant::now();
        let mut last = mark(0, 0, 0, 0);
        let mut now = mark(1000, 900, 50_000_000, 10);
        (last.at, now.at) = (Some(began), Some(began + Duration::from_millis(500)));
        assert_eq!(judge(&last, &now, 9), (Bottleneck::Disk, 100_000_000));
        now.disk_ns = 100;
        assert_eq!(judge(&last, &now, 9).0, Bottleneck::Decompress);
        assert_eq!(judge(&last, &now, 0), (Bottleneck::Network, 0));
        assert_eq!(judge(&now, &now, 0), (Bottleneck::Waiting, 0));
        assert_eq!(judge(&mark(0, 0, 0, 0), &mark(0, 0, 0, 0), 9).1, 0);
    }
}
