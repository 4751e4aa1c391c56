//! A target's place in a job.
//!
//! Owns the job's knowledge of one target, and decides which of an agent's claims change it.
//! Invariant: only an outcome whose root equals the image's makes a place `done`; no progress
//! report does.

use super::meter::Meter;
use super::stall::Stall;
use crate::naming::clean_line;
use crate::row::JobTargetRow;
use facts::target::{DiskNow, TargetState};
use protocol::control::{Counters, Outcome, Progress};
use std::time::Duration;

/// Longest reason or note kept, in characters.
const MAX_TEXT: usize = 500;

/// State of a target in a job.
pub struct Place {
    /// Row that is stored and shown.
    pub row: JobTargetRow,
    /// True if an order was sent to the agent that is connected now.
    pub ordered: bool,
    /// End of its connection by the job's clock; `None` while it is connected.
    pub gone_since: Option<Duration>,
    /// True if an earlier console ran the job, which may have sent an order that was never stored.
    pub recovered: bool,
    /// Time of its first order, by the job's clock.
    pub began: Option<Duration>,
    /// True if it has reported packets of the session.
    pub hears: bool,
    /// True if it reports that no packet of the session reaches it.
    pub deaf: bool,
    /// Number of restarts of its machine in the middle of the job.
    pub restarts: u32,
    /// Reason why the session does not wait for it; `None` while it does.
    pub aside: Option<String>,
    /// Present while the agent was asked to leave and has not answered.
    pub leaving: Option<Leaving>,
    /// True if its outcome is not stored yet, so its agent has not been sent `recorded`.
    pub owed: bool,
    /// Bytes written, as last reported.
    written: u64,
    /// Time without progress of its own.
    pub stall: Stall,
    meter: Meter,
}

/// Consequence of the decision that a target leaves its job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leave {
    /// The place has ended, or was asked before.
    Nothing,
    /// No agent works on it: it ends at once.
    End,
    /// Its agent is sent `cancel`, and reports the state of its disk.
    Ask,
}

/// News value of an outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard {
    /// It changed the place: it has to be stored before the agent is sent `recorded`.
    News,
    /// An outcome is stored already: the agent is sent `recorded` again.
    Again,
    /// An outcome is known and not stored yet: the agent is sent nothing.
    Owed,
}

/// Request to a target to leave its job.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// State that the target ends in, unless it proves its disk before.
    pub state: TargetState,
    /// Reason for a person to read.
    pub reason: String,
    /// Time of the request, by the job's clock.
    pub since: Duration,
}

impl Place {
    /// Makes a place from its stored row; no order was sent yet.
    pub fn new(row: JobTargetRow) -> Self {
        Self {
            row,
            ordered: false,
            gone_since: None,
            recovered: false,
            began: None,
            hears: false,
            deaf: false,
            restarts: 0,
            aside: None,
            leaving: None,
            owed: false,
            written: 0,
            stall: Stall::default(),
            meter: Meter::default(),
        }
    }

    /// Returns the row for the store. A target that was asked to leave is stored as out of the job,
    /// in case the console ends before the agent answers.
    pub fn stored(&self) -> JobTargetRow {
        let mut row = self.row.clone();
        if let Some(leaving) = &self.leaving {
            row.view.state = leaving.state;
            row.view.reason = Some(leaving.reason.clone());
            row.view.note = None;
        }
        row
    }

    /// Returns the present state of the target.
    pub fn state(&self) -> TargetState {
        self.row.view.state
    }

    /// Returns true if the place has ended.
    pub fn is_final(&self) -> bool {
        self.state().is_final()
    }

    /// Returns the name of the target.
    pub fn name(&self) -> &str {
        &self.row.view.name
    }

    /// Returns the id of the target.
    pub fn id(&self) -> &str {
        &self.row.view.id
    }

    /// Applies a progress report; returns true if the state changed. States that only the console
    /// gives are ignored.
    pub fn progress(&mut self, now: Duration, progress: Progress) -> bool {
        let believable = matches!(
            progress.state,
            TargetState::Joined
                | TargetState::Receiving
                | TargetState::Repairing
                | TargetState::Verifying
                | TargetState::Applying
                | TargetState::Committing
                | TargetState::Rebooting
        );
        if !believable || self.is_final() {
            return false;
        }
        self.stall.heard(now, &progress);
        let changed = self.state() != progress.state;
        // Repair continues the writing; every other phase counts from zero.
        if changed && progress.state != TargetState::Repairing {
            self.meter.reset();
        }
        self.meter.record(now, progress.done_bytes);
        if matches!(
            progress.state,
            TargetState::Receiving | TargetState::Repairing
        ) {
            self.written = progress.done_bytes.min(i64::MAX as u64);
        }
        let view = &mut self.row.view;
        view.state = progress.state;
        view.done_bytes = progress.done_bytes.min(i64::MAX as u64);
        view.total_bytes = progress.total_bytes.min(i64::MAX as u64);
        view.counters = bounded(progress.counters);
        // A target that was asked to leave keeps that note, whatever it reports.
        if self.leaving.is_none() {
            let said = progress.note.map(|note| clean_line(&note, MAX_TEXT));
            view.note = said.or_else(|| self.aside.clone());
        }
        view.bottleneck = progress.bottleneck;
        view.loss = loss(&view.counters);
        changed
    }

    /// Takes an outcome of its agent. A recorded one stays; a state that the console assumed is
    /// replaced.
    pub fn hear(&mut self, outcome: Outcome, image_root: &str) -> Heard {
        if awaits_word(&self.row) {
            self.outcome(outcome, image_root);
            Heard::News
        } else if self.owed {
            Heard::Owed
        } else {
            Heard::Again
        }
    }

    /// Takes the target out of the job, as far as the job can without its agent.
    pub fn leave(&mut self, now: Duration, state: TargetState, reason: &str) -> Leave {
        if self.is_final() || self.leaving.is_some() {
            return Leave::Nothing;
        }
        if !self.ordered {
            return Leave::End;
        }
        self.leaving = Some(Leaving {
            state,
            reason: reason.to_owned(),
            since: now,
        });
        self.row.view.note = Some("asked to leave; waiting for what its disk is".to_owned());
        Leave::Ask
    }

    /// Records the end of its connection.
    pub fn gone(&mut self, now: Duration) {
        self.ordered = false;
        self.gone_since.get_or_insert(now);
        self.row.view.note = Some("connection lost".to_owned());
    }

    /// Returns true if it still needs the image. One that has every block proves and commits it
    /// without the console.
    pub fn needs_image(&self) -> bool {
        let has_all = matches!(
            self.state(),
            TargetState::Verifying | TargetState::Applying | TargetState::Committing
        );
        !self.is_final() && !has_all
    }

    /// Applies an outcome: sets the final state, the reason and the results.
    fn outcome(&mut self, outcome: Outcome, image_root: &str) {
        let leaving = self.leaving.take();
        let view = &mut self.row.view;
        let (state, reason) = match (judge(&outcome, image_root), leaving, view.state) {
            ((TargetState::Done, _), ..) => (TargetState::Done, None),
            // The console's decision stays; the outcome only tells the state of the disk.
            (_, Some(leaving), _) => (leaving.state, Some(leaving.reason)),
            (_, None, decided @ (TargetState::Dropped | TargetState::Failed)) => {
                (decided, view.reason.take())
            }
            (own, None, _) => own,
        };
        view.state = state;
        view.disk_now = Some(match state {
            TargetState::Done => DiskNow::Whole,
            _ => outcome.disk_now.unwrap_or(DiskNow::Unknown),
        });
        view.reason = reason;
        view.step = outcome.step.filter(|_| state == TargetState::Failed);
        view.bytes_written = outcome.bytes_written.min(i64::MAX as u64);
        view.seconds = if outcome.seconds.is_finite() {
            outcome.seconds.max(0.0)
        } else {
            0.0
        };
        view.root = outcome.root.map(|root| clean_line(&root, 64));
        view.counters = bounded(outcome.counters);
        view.loss = loss(&view.counters);
        view.note = (view.counters.blocks_kept > 0).then(|| {
            let kept = view.counters.blocks_kept;
            format!("{kept} blocks were on the disk already")
        });
        view.bottleneck = None;
        if state == TargetState::Done {
            view.done_bytes = view.total_bytes;
        }
        // The plan names the disk by model, serial and size, and the agent writes to no other.
        if view.disk.is_empty() {
            view.disk = clean_line(&outcome.disk, MAX_TEXT);
        }
    }

    /// Ends the place without an outcome from its agent.
    pub fn end(&mut self, now: Duration, state: TargetState, reason: &str) {
        self.leaving = None;
        let never_ordered = self.row.instance.is_none() && !self.recovered;
        let view = &mut self.row.view;
        view.step = Some(view.state).filter(|_| state == TargetState::Failed);
        view.state = state;
        view.reason = Some(reason.to_owned());
        view.disk_now = never_ordered.then_some(DiskNow::Untouched);
        view.bytes_written = view.bytes_written.max(self.written);
        view.note = None;
        view.bottleneck = None;
        view.seconds = self
            .began
            .map_or(0.0, |began| now.saturating_sub(began).as_secs_f64());
    }

    /// Updates the rate and the remaining time.
    pub fn refresh(&mut self, now: Duration) {
        let view = &mut self.row.view;
        let active = !view.state.is_final();
        view.rate_bytes_per_s = if active {
            self.meter.rate_bytes_per_s(now)
        } else {
            0
        };
        view.eta_seconds = if active {
            self.meter.eta_seconds(now, view.total_bytes)
        } else {
            None
        };
    }
}

/// Returns true if an outcome is news: the place is not `done`, and no outcome of its agent is
/// recorded.
pub fn awaits_word(row: &JobTargetRow) -> bool {
    row.view.state != TargetState::Done && row.view.disk_now.is_none()
}

/// Returns the row after an outcome that came when the job's task had ended.
pub fn late_outcome(row: JobTargetRow, outcome: Outcome, image_root: &str) -> JobTargetRow {
    let mut place = Place::new(row);
    place.outcome(outcome, image_root);
    place.row
}

/// Turns an agent's outcome into the final state and reason; `done` only if the root of the data
/// that was read back matches the image's.
pub fn judge(outcome: &Outcome, image_root: &str) -> (TargetState, Option<String>) {
    let said = outcome
        .reason
        .as_deref()
        .map(|reason| clean_line(reason, MAX_TEXT))
        .filter(|reason| !reason.is_empty());
    match (outcome.state, outcome.root.as_deref()) {
        (TargetState::Done, Some(root)) if root == image_root => (TargetState::Done, None),
        (TargetState::Done, Some(root)) => {
            let root = clean_line(root, 64);
            (
                TargetState::Failed,
                Some(format!(
                    "the agent said done, but read back root {root}, the image has {image_root}"
                )),
            )
        }
        (TargetState::Done, None) => (
            TargetState::Failed,
            Some("the agent said done without the root of what it read back".to_owned()),
        ),
        (TargetState::Dropped, _) => (
            TargetState::Dropped,
            Some(said.unwrap_or_else(|| "it left the job".to_owned())),
        ),
        _ => (
            TargetState::Failed,
            Some(said.unwrap_or_else(|| "the agent gave no reason".to_owned())),
        ),
    }
}

fn loss(counters: &Counters) -> f64 {
    let all = counters
        .packets_received
        .saturating_add(counters.packets_lost);
    if all == 0 {
        0.0
    } else {
        counters.packets_lost as f64 / all as f64
    }
}

/// Limits an agent's counters to values that fit the store's columns.
fn bounded(counters: Counters) -> Counters {
    let fit = |n: u64| n.min(i64::MAX as u64);
    Counters {
        packets_received: fit(counters.packets_received),
        packets_lost: fit(counters.packets_lost),
        packets_forged: fit(counters.packets_forged),
        kernel_drops: fit(counters.kernel_drops),
        blocks_repaired: fit(counters.blocks_repaired),
        blocks_bulk: fit(counters.blocks_bulk),
        blocks_corrupt: fit(counters.blocks_corrupt),
        blocks_kept: fit(counters.blocks_kept),
        blocks_skipped: fit(counters.blocks_skipped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::{ROOT, outcome, place};

    #[test]
    fn done_needs_the_root_of_the_image() {
        let image = "ab".repeat(32);
        let state = |state, root: Option<&str>| judge(&outcome(state, root), &image).0;
        assert_eq!(state(TargetState::Done, Some(&image)), TargetState::Done);
        assert_eq!(state(TargetState::Done, Some("cd")), TargetState::Failed);
        assert_eq!(state(TargetState::Done, None), TargetState::Failed);
        assert_eq!(
            state(TargetState::Failed, Some(&image)),
            TargetState::Failed
        );
        assert_eq!(
            state(TargetState::Receiving, Some(&image)),
            TargetState::Failed
        );
        let (_, reason) = judge(&outcome(TargetState::Failed, None), &image);
        assert_eq!(reason.as_deref(), Some("the agent gave no reason"));
    }

    #[test]
    fn only_the_first_outcome_counts_and_the_decision_of_the_console_stays() {
        let mut place = place(TargetState::Receiving);
        let failed = outcome(TargetState::Failed, None);
        assert_eq!(place.hear(failed.clone(), ROOT), Heard::News);
        assert_eq!(place.state(), TargetState::Failed);
        // It is not stored yet.
        place.owed = true;
        let done = outcome(TargetState::Done, Some(ROOT));
        assert_eq!(place.hear(done.clone(), ROOT), Heard::Owed);
        place.owed = false;
        assert_eq!(place.hear(done.clone(), ROOT), Heard::Again);
        assert_eq!(place.state(), TargetState::Failed);

        // What was only assumed gives way: a lost target turns out to be done.
        let assumed = |state| {
            let mut place = super::super::tests::place(TargetState::Receiving);
            place.row.instance = Some("one".to_owned());
            place.end(Duration::ZERO, state, "assumed");
            place
        };
        for state in [TargetState::Lost, TargetState::Dropped, TargetState::Failed] {
            let mut place = assumed(state);
            assert_eq!(place.hear(done.clone(), ROOT), Heard::News);
            assert_eq!(place.state(), TargetState::Done, "{state}");
            // A decision stays; the outcome only tells the state of the disk.
            let mut place = assumed(state);
            assert_eq!(place.hear(failed.clone(), ROOT), Heard::News);
            let expected = match state {
                TargetState::Lost => TargetState::Failed,
                decided => decided,
            };
            assert_eq!(place.state(), expected);
            assert_eq!(place.row.view.disk_now, Some(DiskNow::Unknown));
        }
    }

    #[test]
    fn one_without_an_order_leaves_at_once() {
        let mut place = place(TargetState::Receiving);
        let leave = |place: &mut Place| place.leave(Duration::ZERO, TargetState::Dropped, "why");
        assert_eq!(leave(&mut place), Leave::End);
        place.ordered = true;
        assert_eq!(leave(&mut place), Leave::Ask);
        assert_eq!(leave(&mut place), Leave::Nothing);
        // It is stored as out of the job, in case the console ends before it answers.
        assert_eq!(place.stored().view.state, TargetState::Dropped);
        assert_eq!(place.state(), TargetState::Receiving);
        // One that has begun to commit ends that, and is done.
        let done = outcome(TargetState::Done, Some(ROOT));
        assert_eq!(place.hear(done, ROOT), Heard::News);
        assert_eq!(place.state(), TargetState::Done);
        assert_eq!(leave(&mut place), Leave::Nothing);
    }

    #[test]
    fn no_report_makes_a_place_done() {
        let mut place = place(TargetState::Committing);
        place.ordered = true;
        let said = |state| crate::run::tests::progress(state, 100);
        for state in [
            TargetState::Done,
            TargetState::Failed,
            TargetState::Lost,
            TargetState::Ready,
        ] {
            assert!(!place.progress(Duration::ZERO, said(state)), "{state}");
        }
        assert_eq!(place.state(), TargetState::Committing);
    }
}
