//! Limits of time: targets that are lost, leave a question unanswered, or make no progress, and
//! jobs that exceed their time limit.
//!
//! At most one limit applies to a target at a time: while it was asked to leave, that of its answer
//! and that of its connection; without a connection, that of the connection; else that of its
//! progress.

use super::place::Place;
use super::stall::{STALL_LIMIT, in_words};
use api::DeployRequest;
use facts::target::TargetState;
use std::time::Duration;

/// Limits of time of a job's targets.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time without a connection.
    pub back_within: Duration,
    /// Longest time for the answer of a target that was asked to leave.
    pub answer_within: Duration,
    /// Longest time without progress of its own.
    pub progress_within: Duration,
}

/// A target that has exceeded a limit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Overdue {
    /// It ends as lost, for this reason. What it says later is still recorded.
    Lost(String),
    /// It is sent `cancel` and fails, for this reason.
    Stalled(String),
}

/// Returns the longest time without progress that a request allows.
pub fn stall_limit(request: &DeployRequest) -> Duration {
    let seconds = request.stall_limit_seconds;
    seconds.map_or(STALL_LIMIT, |seconds| Duration::from_secs(seconds.into()))
}

/// Returns the reason to end a job that has run for `running`, if its request limits that.
pub fn time_limit(request: &DeployRequest, running: Duration) -> Option<String> {
    let limit = Duration::from_secs(request.time_limit_seconds?.into());
    let over = running > limit;
    over.then(|| format!("the job's time limit of {} is over", in_words(limit)))
}

/// Returns true if some target that had its order has not ended. A target of the plan that never
/// connected may still come while others work.
pub fn any_works(places: &[Place]) -> bool {
    let mut open = places.iter().filter(|place| !place.is_final());
    open.any(|place| place.row.instance.is_some())
}

impl Place {
    /// Returns the limit that the target has exceeded. `others_work` is the result of
    /// [`any_works`].
    pub fn overdue(&self, now: Duration, limits: &Limits, others_work: bool) -> Option<Overdue> {
        if self.is_final() {
            return None;
        }
        self.unanswered(now, limits.answer_within)
            .or_else(|| self.lost(now, limits.back_within, others_work))
            .map(Overdue::Lost)
            .or_else(|| self.stalled(now, limits.progress_within))
    }

    fn unanswered(&self, now: Duration, limit: Duration) -> Option<String> {
        let leaving = self.leaving.as_ref()?;
        (now.saturating_sub(leaving.since) > limit).then(|| {
            format!(
                "{}; it did not say within {} s what its disk is",
                leaving.reason,
                limit.as_secs()
            )
        })
    }

    fn lost(&self, now: Duration, limit: Duration, others_work: bool) -> Option<String> {
        let never_came = self.row.instance.is_none();
        if now.saturating_sub(self.gone_since?) <= limit || (never_came && others_work) {
            return None;
        }
        Some(if never_came {
            "it did not connect while the job ran".to_owned()
        } else {
            format!(
                "its connection ended and it did not come back within {} s",
                limit.as_secs()
            )
        })
    }

    fn stalled(&self, now: Duration, limit: Duration) -> Option<Overdue> {
        let away = !self.ordered || self.gone_since.is_some();
        if away || self.leaving.is_some() {
            return None;
        }
        let verdict = self.stall.verdict(now, limit)?;
        let state = self.state();
        Some(Overdue::Stalled(format!("{verdict} while {state}")))
    }

    /// Returns true if the end of the job's time ends this place. A commit takes seconds, and an
    /// interrupted one would leave the state of the disk unknown.
    pub fn ends_with_time(&self) -> bool {
        !self.is_final() && self.state() != TargetState::Committing
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Leave;
    use super::*;
    use crate::run::tests::{place, progress};

    const LIMITS: Limits = Limits {
        back_within: Duration::from_secs(20),
        answer_within: Duration::from_secs(30),
        progress_within: Duration::from_secs(600),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A place that was ordered at 0 s and works.
    fn working(state: TargetState) -> Place {
        let mut place = place(state);
        place.row.instance = Some("one".to_owned());
        place.ordered = true;
        place.began = Some(at(0));
        place.stall.begin(at(0));
        place
    }

    fn lost(place: &Place, seconds: u64, others: bool) -> Option<String> {
        match place.overdue(at(seconds), &LIMITS, others) {
            Some(Overdue::Lost(reason)) => Some(reason),
            Some(Overdue::Stalled(reason)) => panic!("stalled: {reason}"),
            None => None,
        }
    }

    #[test]
    fn a_target_without_a_connection_is_lost_after_a_while() {
        let mut place = working(TargetState::Receiving);
        place.gone(at(100));
        // A second end of a connection does not begin the time anew.
        place.gone(at(110));
        assert_eq!(lost(&place, 120, true), None);
        let reason = lost(&place, 121, true).unwrap();
        assert!(reason.ends_with("come back within 20 s"), "{reason}");
        // Nothing else is held against it meanwhile.
        assert_eq!(lost(&place, 119, true), None);
        place.gone_since = None;
        assert_eq!(lost(&place, 121, true), None);
    }

    #[test]
    fn one_that_never_came_may_come_while_others_work() {
        let mut never = place(TargetState::Discovered);
        never.gone_since = Some(at(0));
        assert_eq!(lost(&never, 500, true), None);
        assert_eq!(
            lost(&never, 500, false).as_deref(),
            Some("it did not connect while the job ran")
        );
        assert!(!any_works(&[never, place(TargetState::Done)]));
        assert!(any_works(&[working(TargetState::Receiving)]));
        assert!(!any_works(&[working(TargetState::Lost)]));
    }

    #[test]
    fn one_that_was_asked_to_leave_has_a_time_to_answer_and_is_not_stalled() {
        let mut place = working(TargetState::Receiving);
        let asked = place.leave(at(1000), TargetState::Dropped, "dropped");
        assert_eq!(asked, Leave::Ask);
        assert_eq!(place.overdue(at(1030), &LIMITS, true), None);
        let reason = lost(&place, 1031, true).unwrap();
        assert!(reason.starts_with("dropped; it did not say within 30 s"));
        // Its connection ends meanwhile, and that limit is the shorter one.
        place.gone(at(1001));
        assert!(lost(&place, 1022, true).is_some());
    }

    #[test]
    fn a_target_without_progress_of_its_own_stalls() {
        let mut place = working(TargetState::Joined);
        assert!(place.progress(at(50), progress(TargetState::Receiving, 10)));
        assert!(!place.progress(at(600), progress(TargetState::Receiving, 10)));
        assert_eq!(place.overdue(at(650), &LIMITS, true), None);
        let stalled = Overdue::Stalled("no progress for 10 minutes while receiving".to_owned());
        assert_eq!(place.overdue(at(651), &LIMITS, true), Some(stalled));
        // No other rule applies to one that has ended.
        place.end(at(652), TargetState::Failed, "no progress");
        assert_eq!(place.overdue(at(9999), &LIMITS, false), None);
    }

    #[test]
    fn the_time_limit_spares_what_commits() {
        let limited = DeployRequest {
            time_limit_seconds: Some(60),
            ..DeployRequest::default()
        };
        assert_eq!(time_limit(&limited, at(60)), None);
        assert_eq!(
            time_limit(&limited, at(61)).as_deref(),
            Some("the job's time limit of 60 s is over")
        );
        assert_eq!(time_limit(&DeployRequest::default(), at(u64::MAX)), None);
        for (state, ends) in [
            (TargetState::Discovered, true),
            (TargetState::Receiving, true),
            (TargetState::Applying, true),
            (TargetState::Committing, false),
            (TargetState::Done, false),
        ] {
            assert_eq!(working(state).ends_with_time(), ends, "{state}");
        }
    }
}
