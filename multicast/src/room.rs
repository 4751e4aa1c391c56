//! Whether receivers have room for another block.
//!
//! Bytes that nobody can take should not be sent: while more than half of the active
//! receivers have no free buffer, new source blocks are held back. A minority without room is
//! never waited for; it skips blocks and gets them later.
//!
//! A block that some take and others skip must be sent twice, so once blocks are held they
//! stay held until nearly everybody has room again, or the rest was given [`PATIENCE`]; and
//! after such a full stop, all being in step, a quarter without room is enough to hold again.
//! Those who are slower than the majority cost it one patience in a cycle at most, which the
//! pool of buffers covers: disks do not idle.
//!
//! Room is an estimate: free buffers as last reported, less the blocks started since the
//! newest packet that the report had seen. A hold is looked at again with each status and
//! ends after [`HOLD_LIMIT`] in any case, for one block, so that reports that stopped coming
//! cannot stop the session.

use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// Longest hold: one block in two seconds is less than 1 % of a gigabit link.
pub(crate) const HOLD_LIMIT: Duration = Duration::from_secs(2);
/// How long a majority with room waits for the others after a hold.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);
/// So few without room are nobody, in percent.
const FEW_PERCENT: u32 = 10;
/// So many without room hold a room that is in step, in percent.
const IN_STEP_PERCENT: u32 = 25;
/// Starts remembered: more blocks than are ever in flight between two statuses.
const MAX_STARTS: usize = 8192;

#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    /// Main-lane counters at which blocks were started, ascending.
    starts: VecDeque<u64>,
    held_since: Option<Instant>,
    /// The last hold ended with nearly everybody having room.
    in_step: bool,
    held_micros: u64,
}

impl Room {
    /// A new block starts with packet `counter` of the main lane.
    pub(crate) fn started(&mut self, counter: u64) {
        if self.starts.len() >= MAX_STARTS {
            self.starts.pop_front();
        }
        self.starts.push_back(counter);
    }

    /// Free buffers left at a receiver that reported `free` having seen `seen`.
    pub(crate) fn estimate(&self, free: u32, seen: Option<u64>) -> u32 {
        let known = seen.map_or(0, |seen| {
            self.starts.partition_point(|start| *start <= seen)
        });
        let since = u32::try_from(self.starts.len() - known).unwrap_or(u32::MAX);
        free.saturating_sub(since)
    }

    /// Looks at the estimates of all active receivers; true while blocks are held back.
    pub(crate) fn judge(&mut self, now: Instant, estimates: impl Iterator<Item = u32>) -> bool {
        let (mut active, mut without) = (0_u32, 0_u32);
        for room in estimates {
            active += 1;
            without += u32::from(room == 0);
        }
        let above =
            |percent: u32| u64::from(without) * 100 > u64::from(active) * u64::from(percent);
        match self.held_since {
            None => {
                if above(if self.in_step { IN_STEP_PERCENT } else { 50 }) {
                    self.held_since = Some(now);
                }
            }
            Some(since) => {
                let patient = now.saturating_since(since) < PATIENCE;
                if !above(FEW_PERCENT) || (!above(50) && !patient) {
                    self.in_step = !above(FEW_PERCENT);
                    self.release(now);
                }
            }
        }
        self.held_since.is_some()
    }

    /// Whether blocks are held back now.
    pub(crate) fn is_held(&self, now: Instant) -> bool {
        self.held_since
            .is_some_and(|since| now.saturating_since(since) < HOLD_LIMIT)
    }

    /// When the current hold ends at the latest.
    pub(crate) fn hold_end(&self) -> Option<Instant> {
        self.held_since.map(|since| since + HOLD_LIMIT)
    }

    /// A block went out although blocks are held: the hold begins anew.
    pub(crate) fn let_through(&mut self, now: Instant) {
        if self.held_since.is_some() {
            self.release(now);
            self.held_since = Some(now);
        }
    }

    /// Microseconds spent holding back.
    pub(crate) fn held_micros(&self) -> u64 {
        self.held_micros
    }

    fn release(&mut self, now: Instant) {
        if let Some(since) = self.held_since.take() {
            self.held_micros = self
                .held_micros
                .saturating_add(now.saturating_since(since).as_micros());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_started_since_take_room() {
        let mut room = Room::default();
        for start in [0, 745, 1490] {
            room.started(start);
        }
        assert_eq!(room.estimate(10, None), 7);
        assert_eq!(room.estimate(10, Some(0)), 8);
        assert_eq!(room.estimate(10, Some(1489)), 9);
        assert_eq!(room.estimate(10, Some(1490)), 10);
        assert_eq!(room.estimate(1, None), 0);
    }

    #[test]
    fn a_minority_is_not_waited_for_and_a_hold_ends() {
        let mut room = Room::default();
        let now = Instant::ZERO;
        assert!(!room.judge(now, [0, 0, 1, 1].into_iter()));
        assert!(!room.judge(now, std::iter::empty()));
        assert!(room.judge(now, [0, 0, 0, 1].into_iter()));
        assert!(room.judge(now, [0].into_iter()));
        // A majority with room waits for the others, but not for long.
        assert!(room.judge(now, [0, 0, 1, 1].into_iter()));
        let later = now + PATIENCE;
        assert!(!room.clone().judge(later, [0, 0, 1, 1].into_iter()));
        assert!(room.is_held(now));
        assert!(!room.is_held(now + HOLD_LIMIT));
        room.let_through(now + HOLD_LIMIT);
        assert!(room.is_held(now + HOLD_LIMIT));
        room.judge(now + HOLD_LIMIT, [5].into_iter());
        assert!(!room.is_held(now + HOLD_LIMIT));
        assert_eq!(room.held_micros(), HOLD_LIMIT.as_micros());
    }
}
