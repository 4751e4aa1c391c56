//! The hold: new blocks wait while receivers have no free buffers.
//!
//! A receiver *has room* if at least one of its block buffers is free. At the [`Pace`] `Balanced`,
//! new source blocks are held back while more than half of the active receivers have no room; the
//! sender never waits for a minority, which skips blocks and gets them later. At `Fastest`, blocks
//! are held only while no receiver has room, and at `Everyone` as soon as one receiver has none.
//!
//! A block that some receivers store and others skip must be sent twice. So a hold at `Balanced`
//! lasts until nearly all receivers have room again, or until the others were given [`PATIENCE`].
//! If it ended with nearly all having room, the receivers are in step, and a quarter without room
//! is enough for the next hold. Receivers slower than the majority cost it at most one patience in
//! a cycle; the pool of buffers covers that time, so disks do not become idle.
//!
//! Room is an estimate: the free buffers last reported, minus the blocks started since the newest
//! packet that the report had seen. A hold is judged again with each status. It lets one block
//! through after [`HOLD_LIMIT`] in any case, so missing reports cannot stop the session.

use crate::packet::wire::{Lane, PerLane};
use crate::sender::Pace;
use crate::sender::ledger::Seen;
use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// Longest time without a new block in a hold: one block in two seconds is less than 1 % of a
/// gigabit link.
pub(crate) const HOLD_LIMIT: Duration = Duration::from_secs(2);
/// Longest time that a majority with room waits for the others after a hold.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);
/// At or below this share of receivers without room a hold ends, in percent.
const FEW_PERCENT: u32 = 10;
/// Above this share of receivers without room a hold begins if the receivers are in step, in
/// percent.
const IN_STEP_PERCENT: u32 = 25;
/// Largest number of block starts remembered: more than are ever in flight between two statuses.
const MAX_STARTS: usize = 8192;

#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    pace: Pace,
    /// Packet counters at which blocks were started, ascending.
    starts: PerLane<VecDeque<u64>>,
    held_since: Option<Instant>,
    /// True if nearly all receivers had room at the end of the last hold.
    in_step: bool,
    held_micros: u64,
}

impl Room {
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            pace,
            ..Self::default()
        }
    }

    /// Records that a new block starts with packet `counter` of a lane.
    pub(crate) fn started(&mut self, lane: Lane, counter: u64) {
        let starts = self.starts.get_mut(lane);
        if starts.len() >= MAX_STARTS {
            starts.pop_front();
        }
        starts.push_back(counter);
    }

    /// Estimate of the free buffers at a receiver that reported `free` after it had seen `seen`.
    pub(crate) fn estimate(&self, free: u32, seen: &Seen) -> u32 {
        let since = |lane| {
            let starts = self.starts.get(lane);
            let known = seen
                .get(lane)
                .map_or(0, |seen| starts.partition_point(|start| *start <= seen));
            u32::try_from(starts.len() - known).unwrap_or(u32::MAX)
        };
        free.saturating_sub(since(Lane::Main))
            .saturating_sub(since(Lane::Second))
    }

    /// Judges the estimates of all active receivers; true while blocks are held back.
    pub(crate) fn judge(&mut self, now: Instant, estimates: impl Iterator<Item = u32>) -> bool {
        let (mut active, mut without) = (0_u32, 0_u32);
        for room in estimates {
            active += 1;
            without += u32::from(room == 0);
        }
        let above =
            |percent: u32| u64::from(without) * 100 > u64::from(active) * u64::from(percent);
        let nobody_has = active > 0 && without == active;
        match (self.pace, self.held_since) {
            (Pace::Fastest, None) if nobody_has => self.held_since = Some(now),
            (Pace::Fastest, Some(_)) if !nobody_has => self.release(now),
            (Pace::Everyone, None) if without > 0 => self.held_since = Some(now),
            (Pace::Everyone, Some(_)) if without == 0 => self.release(now),
            (Pace::Balanced, None) => {
                if above(if self.in_step { IN_STEP_PERCENT } else { 50 }) {
                    self.held_since = Some(now);
                }
            }
            (Pace::Balanced, Some(since)) => {
                let patient = now.saturating_since(since) < PATIENCE;
                if !above(FEW_PERCENT) || (!above(50) && !patient) {
                    self.in_step = !above(FEW_PERCENT);
                    self.release(now);
                }
            }
            (Pace::Fastest | Pace::Everyone, _) => {}
        }
        self.held_since.is_some()
    }

    /// True if blocks are held back now.
    pub(crate) fn is_held(&self, now: Instant) -> bool {
        self.held_since
            .is_some_and(|since| now.saturating_since(since) < HOLD_LIMIT)
    }

    /// The latest time at which the current hold lets a block through.
    pub(crate) fn hold_end(&self) -> Option<Instant> {
        self.held_since.map(|since| since + HOLD_LIMIT)
    }

    /// Restarts the hold's time limit, after a block was sent in spite of the hold.
    pub(crate) fn let_through(&mut self, now: Instant) {
        if self.held_since.is_some() {
            self.release(now);
            self.held_since = Some(now);
        }
    }

    /// Total time of all holds that have ended, in microseconds.
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
            room.started(Lane::Main, start);
        }
        let seen = |main, second| PerLane { main, second };
        assert_eq!(room.estimate(10, &seen(None, None)), 7);
        assert_eq!(room.estimate(10, &seen(Some(0), None)), 8);
        assert_eq!(room.estimate(10, &seen(Some(1489), None)), 9);
        assert_eq!(room.estimate(10, &seen(Some(1490), None)), 10);
        assert_eq!(room.estimate(1, &seen(None, None)), 0);
        room.started(Lane::Second, 5);
        assert_eq!(room.estimate(10, &seen(Some(1490), Some(4))), 9);
        assert_eq!(room.estimate(10, &seen(Some(1490), Some(5))), 10);
    }

    #[test]
    fn the_pace_says_whose_room_counts() {
        let now = Instant::ZERO;
        let held = |pace, estimates: &[u32]| {
            let mut room = Room::new(pace);
            room.judge(now, estimates.iter().copied())
        };
        for (estimates, fastest, balanced, everyone) in [
            (&[0, 0, 0, 0][..], true, true, true),
            (&[0, 0, 0, 1], false, true, true),
            (&[0, 0, 1, 1], false, false, true),
            (&[0, 1, 1, 1], false, false, true),
            (&[1, 1, 1, 1], false, false, false),
            (&[], false, false, false),
        ] {
            assert_eq!(held(Pace::Fastest, estimates), fastest, "{estimates:?}");
            assert_eq!(held(Pace::Balanced, estimates), balanced, "{estimates:?}");
            assert_eq!(held(Pace::Everyone, estimates), everyone, "{estimates:?}");
        }
        // A hold ends as soon as its condition is gone, and lets a block through at the limit.
        for pace in [Pace::Fastest, Pace::Everyone] {
            let mut room = Room::new(pace);
            assert!(room.judge(now, [0, 0].into_iter()));
            assert!(!room.is_held(now + HOLD_LIMIT));
            assert!(!room.judge(now, [1, 1].into_iter()));
        }
    }

    #[test]
    fn a_minority_is_not_waited_for_and_a_hold_ends() {
        let mut room = Room::default();
        let now = Instant::ZERO;
        assert!(!room.judge(now, [0, 0, 1, 1].into_iter()));
        assert!(!room.judge(now, std::iter::empty()));
        assert!(room.judge(now, [0, 0, 0, 1].into_iter()));
        assert!(room.judge(now, [0].into_iter()));
        // A majority with room waits for the others for a limited time.
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
