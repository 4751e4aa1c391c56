//! The course of a deployment: when it begins, and the state that it ends in.

use super::place::Place;
use crate::schedule::{Due, judge, late_by, window_of};
use api::{DeployRequest, JobState, StartRule};
use facts::target::TargetState;
use jiff::Timestamp;
use std::time::Duration;

/// Decision about the start of a job that has not begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Start {
    /// It waits.
    Wait,
    /// It begins; `late` is the delay of a scheduled job that begins after its time.
    Begin {
        /// Delay, if there is one.
        late: Option<Duration>,
    },
    /// Its start window has passed: it is missed, and starts by hand only.
    Miss,
    /// It was missed, and the clock was then put back to before its time: it waits again.
    WaitAgain,
}

/// Decides about the start of a job in state `waiting` or `missed`. `asked` is true if its start
/// was due before and waits for the image check; `now` is the time of the console's clock.
pub fn start(
    request: &DeployRequest,
    state: JobState,
    places: &[Place],
    asked: bool,
    now: Timestamp,
) -> Start {
    let open = places.iter().filter(|place| !place.is_final()).count();
    let ready = |place: &&Place| place.state() == TargetState::Ready;
    let ready = places.iter().filter(ready).count();
    let begin_if = |due| match due {
        true => Start::Begin { late: None },
        false => Start::Wait,
    };
    match &request.start {
        StartRule::All => begin_if(ready == open),
        StartRule::Now => begin_if(true),
        StartRule::Count(count) => begin_if(ready >= usize::try_from(*count).unwrap_or(usize::MAX)),
        StartRule::At(_) if asked => begin_if(true),
        StartRule::At(at) => scheduled(at.parse().ok(), window_of(request), state, now),
        StartRule::Manual => Start::Wait,
    }
}

fn scheduled(at: Option<Timestamp>, window: Duration, state: JobState, now: Timestamp) -> Start {
    // An unreadable time is never stored; if there is one, the job waits for a technician.
    let due = at.map_or(Due::Missed, |at| judge(now, at, window));
    match (due, state) {
        (Due::Now, JobState::Waiting) => Start::Begin {
            late: at.and_then(|at| late_by(now, at)),
        },
        (Due::Missed, JobState::Waiting) => Start::Miss,
        (Due::Early, JobState::Missed) => Start::WaitAgain,
        _ => Start::Wait,
    }
}

/// Returns true if a job that waits for a number of targets has none left and may still get some.
pub fn awaits_more(request: &DeployRequest, state: JobState) -> bool {
    state == JobState::Waiting && matches!(request.start, StartRule::Count(_))
}

/// Returns the state of a job whose places have all ended.
pub fn end(places: &[Place], cancelled: bool) -> JobState {
    let all_done = places
        .iter()
        .all(|place| place.state() == TargetState::Done);
    match (cancelled, all_done) {
        (_, true) => JobState::Done,
        (true, false) => JobState::Cancelled,
        (false, false) => JobState::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::place;
    use TargetState::{Discovered, Done, Failed, Ready};

    const AT: &str = "2026-11-30T22:00:00Z";

    fn now(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn places(states: &[TargetState]) -> Vec<Place> {
        states.iter().copied().map(place).collect()
    }

    fn begins(rule: StartRule, states: &[TargetState]) -> bool {
        let request = DeployRequest {
            start: rule,
            ..DeployRequest::default()
        };
        let state = JobState::Waiting;
        let decided = start(&request, state, &places(states), false, now(AT));
        decided == Start::Begin { late: None }
    }

    #[test]
    fn each_rule_has_its_start() {
        let room = [Ready, Discovered, Failed];
        assert!(!begins(StartRule::All, &room));
        assert!(begins(StartRule::All, &[Ready, Failed]));
        assert!(begins(StartRule::Now, &room));
        assert!(begins(StartRule::Count(1), &room));
        assert!(!begins(StartRule::Count(2), &room));
        assert!(!begins(StartRule::Manual, &[Ready, Ready]));
        assert!(begins(StartRule::At(AT.to_owned()), &[Discovered]));
    }

    #[test]
    fn a_scheduled_job_follows_a_wrong_clock_nowhere() {
        let request = DeployRequest {
            start: StartRule::At(AT.to_owned()),
            ..DeployRequest::default()
        };
        let decide = |state, asked, time| start(&request, state, &[], asked, now(time));
        use JobState::{Missed, Waiting};
        let late = |seconds| Start::Begin {
            late: Some(Duration::from_secs(seconds)),
        };
        for (state, time, expected) in [
            (Waiting, "2026-11-30T21:59:59Z", Start::Wait),
            (Waiting, "2026-11-30T22:00:01Z", Start::Begin { late: None }),
            (Waiting, "2026-11-30T22:03:20Z", late(200)),
            (Waiting, "2026-12-01T08:00:00Z", Start::Miss),
            (Missed, "2026-12-01T08:00:00Z", Start::Wait),
            // Inside the window again, a missed job still needs a technician.
            (Missed, "2026-11-30T22:03:20Z", Start::Wait),
            (Missed, "2026-11-30T21:00:00Z", Start::WaitAgain),
        ] {
            assert_eq!(decide(state, false, time), expected, "{state:?} at {time}");
        }
        // Its start was due; the check of the image took longer than the window.
        let begun = decide(Waiting, true, "2026-12-01T08:00:00Z");
        assert_eq!(begun, Start::Begin { late: None });
    }

    #[test]
    fn a_job_is_done_only_if_all_are() {
        let end = |states: &[TargetState], cancelled| end(&places(states), cancelled);
        assert_eq!(end(&[Done, Done], false), JobState::Done);
        // Every target had proved its disk before it heard of the cancel.
        assert_eq!(end(&[Done], true), JobState::Done);
        assert_eq!(end(&[Done, Failed], false), JobState::Failed);
        assert_eq!(end(&[Done, Failed], true), JobState::Cancelled);
    }
}
