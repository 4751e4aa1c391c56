//! Stall detection: targets without progress for too long.
//!
//! A connected agent that hangs would keep its job running for ever. Each target therefore has a
//! limit of its own: it has failed after a time without progress of its own, whatever the others
//! do. Pure: time is an argument.
//!
//! Progress is the target's own work: a new state, bytes written or read back, blocks taken,
//! another step of the template, and its beat (see `agent::pulse`), which changes while the working
//! thread computes or its disk completes a request. Received packets do not count: they also arrive
//! at a machine that hangs. The limit does not apply while the connection is down, because the
//! limit for lost targets applies then.

use facts::target::TargetState;
use protocol::control::Progress;
use std::time::Duration;

/// Longest time without progress, if the request gives no other. A disk that takes longer for one
/// chunk is broken; the longest known pauses are a drive that retries a sector (minutes at most)
/// and the reset of a controller.
pub const STALL_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Progress values of a target; a change in any of them means that the target is not stalled.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Mark {
    state: Option<TargetState>,
    done_bytes: u64,
    blocks: u64,
    beat: u64,
    step: Option<String>,
}

/// Time and values of a target's last progress.
#[derive(Clone, Debug, Default)]
pub struct Stall {
    mark: Mark,
    since: Duration,
}

impl Stall {
    /// Restarts the clock when the target is ordered to begin or to go on.
    pub fn begin(&mut self, now: Duration) {
        self.since = now;
    }

    /// Records a progress report.
    pub fn heard(&mut self, now: Duration, progress: &Progress) {
        let counters = &progress.counters;
        let blocks = [
            counters.blocks_bulk,
            counters.blocks_kept,
            counters.blocks_repaired,
        ];
        let applying = progress.state == TargetState::Applying;
        self.moved(
            now,
            Mark {
                state: Some(progress.state),
                done_bytes: progress.done_bytes,
                blocks: blocks.into_iter().fold(0, u64::wrapping_add),
                beat: progress.beat,
                step: progress.note.clone().filter(|_| applying),
            },
        );
    }

    /// Records progress that the console itself sees: the bytes that have arrived.
    pub fn took(&mut self, now: Duration, state: TargetState, bytes: u64) {
        self.moved(
            now,
            Mark {
                state: Some(state),
                done_bytes: bytes,
                ..self.mark.clone()
            },
        );
    }

    fn moved(&mut self, now: Duration, mark: Mark) {
        if mark != self.mark {
            self.mark = mark;
            self.since = now;
        }
    }

    /// Returns the reason for failure if there was no progress for longer than `limit`.
    pub fn verdict(&self, now: Duration, limit: Duration) -> Option<String> {
        (now.saturating_sub(self.since) > limit)
            .then(|| format!("no progress for {}", in_words(limit)))
    }
}

/// Formats a duration for people: `10 minutes`, `90 s`, `2 h`.
pub fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 7200 && seconds.is_multiple_of(3600) => {
            format!("{} h", seconds / 3600)
        }
        seconds if seconds >= 120 && seconds.is_multiple_of(60) => {
            format!("{} minutes", seconds / 60)
        }
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn progress(state: TargetState, done_bytes: u64) -> Progress {
        Progress {
            job: "1".to_owned(),
            state,
            deaf: false,
            done_bytes,
            total_bytes: 100,
            counters: Default::default(),
            note: None,
            bottleneck: None,
            beat: 0,
        }
    }

    #[test]
    fn saying_the_same_again_is_no_progress() {
        let mut stall = Stall::default();
        stall.begin(at(100));
        for second in 100..800 {
            let mut said = progress(TargetState::Receiving, 0);
            // The session goes on, so its packets also arrive here.
            said.counters.packets_received = second * 1000;
            said.note = Some(format!("remark {second}"));
            stall.heard(at(second), &said);
        }
        assert_eq!(stall.verdict(at(700), STALL_LIMIT), None);
        assert_eq!(
            stall.verdict(at(701), STALL_LIMIT).as_deref(),
            Some("no progress for 10 minutes")
        );
    }

    #[test]
    fn whatever_moves_counts() {
        type Change = fn(&mut Progress);
        let changes: [Change; 6] = [
            |p| p.state = TargetState::Verifying,
            |p| p.done_bytes += 1,
            |p| p.counters.blocks_bulk += 1,
            |p| p.counters.blocks_kept += 1,
            |p| p.counters.blocks_repaired += 1,
            |p| p.beat += 1,
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut stall = Stall::default();
            stall.heard(at(0), &progress(TargetState::Receiving, 1));
            let mut said = progress(TargetState::Receiving, 1);
            change(&mut said);
            stall.heard(at(599), &said);
            assert_eq!(stall.verdict(at(1199), STALL_LIMIT), None, "{n}");
            assert!(stall.verdict(at(1200), STALL_LIMIT).is_some(), "{n}");
        }
    }

    #[test]
    fn a_step_of_a_template_counts_and_a_remark_elsewhere_does_not() {
        for (state, counts) in [
            (TargetState::Applying, true),
            (TargetState::Receiving, false),
        ] {
            let mut stall = Stall::default();
            stall.heard(at(0), &progress(state, 1));
            let mut said = progress(state, 1);
            said.note = Some("step 2 of 9".to_owned());
            stall.heard(at(500), &said);
            assert_eq!(stall.verdict(at(700), STALL_LIMIT).is_none(), counts);
        }
    }

    #[test]
    fn an_order_begins_the_clock_anew() {
        let mut stall = Stall::default();
        stall.heard(at(0), &progress(TargetState::Receiving, 1));
        stall.begin(at(5000));
        assert_eq!(stall.verdict(at(5600), STALL_LIMIT), None);
        assert!(stall.verdict(at(5601), STALL_LIMIT).is_some());
    }

    #[test]
    fn words() {
        let words = [
            (600, "10 minutes"),
            (90, "90 s"),
            (7200, "2 h"),
            (5400, "90 minutes"),
        ];
        for (seconds, word) in words {
            assert_eq!(in_words(at(seconds)), word);
        }
    }
}
