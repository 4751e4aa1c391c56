//! An agent that connects while its job runs: what it holds of the job, against what the job knows
//! of its target.
//!
//! ```text
//! agent brings    place is          answer
//! outcome         any               the outcome is taken; the console's own decision stays
//! the job         open              goes on where it was; after a restart of the console, too
//! the job         done              `recorded` again
//! the job         failed, dropped   `cancel`
//! nothing         open, no agent    its first order
//! nothing         open, same agent  its order again
//! nothing         open, other one   ordered anew: the machine restarted
//! nothing         lost              as if it were open
//! ```
//!
//! Invariants: only the instance that was sent the order may go on or report an outcome; an agent
//! that holds another image is never taken for this job's; no disk is written twice on a guess.

use super::place::Place;
use facts::target::TargetState;
use protocol::control::{Outcome, Unfinished};

/// Maximum number of restarts of a target in one job; a target that exceeds it probably crashes
/// because of the job.
pub const MAX_RESTARTS: u32 = 5;

/// Reason of a target whose place another instance of its agent claims.
const STARTED_AGAIN: &str = "the agent was started again in the middle of the job";

/// Claim of an agent about the job, made when it connects.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Instance of the agent.
    pub instance: String,
    /// The part of the job that it holds and has not finished, or its outcome.
    pub unfinished: Option<Unfinished>,
}

/// Answer of a job to an agent that connects.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Nothing is sent, and nothing changes.
    Nothing,
    /// The outcome that the agent brings is judged and recorded.
    Outcome(Box<Outcome>),
    /// Its outcome is stored, and it is told so again.
    Recorded,
    /// It is sent `cancel` with this reason.
    Refuse(String),
    /// The place ends. With `refuse` the agent is sent `cancel` with that reason first.
    End {
        /// Reason for the agent; `None` if it holds nothing of the job.
        refuse: Option<String>,
        /// State that the place ends in.
        state: TargetState,
        /// Reason for a person to read.
        reason: String,
    },
    /// It is sent its order; it holds nothing of the job.
    Order,
    /// It is sent an order with the present session, and goes on in this state.
    Resume(TargetState),
    /// Its machine restarted and holds nothing of the job: it is ordered anew.
    Restart,
}

impl Claim {
    /// Returns true if the agent brings an outcome.
    pub fn brings_outcome(&self) -> bool {
        let held = self.unfinished.as_ref();
        held.is_some_and(|held| held.outcome.is_some())
    }

    /// Returns true if the answer may be an order, so that the image must have been checked first.
    pub fn may_be_ordered(&self, place: &Place) -> bool {
        !self.brings_outcome() && !place.is_final()
    }
}

/// Decides about an agent that connects; `root` is the root of the job's image.
pub fn connected(place: &mut Place, claim: Claim, root: &str) -> Answer {
    let Claim {
        instance,
        unfinished,
    } = claim;
    // An agent that holds the job was sent an order. If none is stored, the last console ended, or
    // its disk was full, between sending and storing.
    if unfinished.is_some() && place.row.instance.is_none() {
        place.row.instance = Some(instance.clone());
    }
    let known = place.row.instance.as_deref();
    let same = known == Some(instance.as_str());
    if let Some(leaving) = &place.leaving {
        return match unfinished {
            Some(Unfinished {
                outcome: Some(outcome),
                ..
            }) if same => Answer::Outcome(Box::new(outcome)),
            Some(_) if same => Answer::Refuse(leaving.reason.clone()),
            // Its agent no longer holds the job, so it cannot report the state of the disk.
            _ => Answer::End {
                refuse: None,
                state: leaving.state,
                reason: leaving.reason.clone(),
            },
        };
    }
    match unfinished {
        Some(_) if !same => Answer::End {
            refuse: Some("another agent has this target's place in the job".to_owned()),
            state: TargetState::Lost,
            reason: STARTED_AGAIN.to_owned(),
        },
        Some(held) if held.root != root => Answer::End {
            refuse: Some("the job is about another image".to_owned()),
            state: TargetState::Failed,
            reason: "the agent holds another image under this job's number".to_owned(),
        },
        Some(Unfinished {
            outcome: Some(outcome),
            ..
        }) => Answer::Outcome(Box::new(outcome)),
        Some(held) => match place.state() {
            TargetState::Done => Answer::Recorded,
            TargetState::Failed | TargetState::Dropped => {
                Answer::Refuse("the target was taken out of the job".to_owned())
            }
            _ if held.state.is_final() => Answer::Resume(TargetState::Joined),
            _ => Answer::Resume(held.state),
        },
        None if place.is_final() && place.state() != TargetState::Lost => Answer::Nothing,
        // It comes late, or its order was lost with the connection. The last console may have sent
        // `recorded` and ended before the store had the outcome: no disk is written twice on a
        // guess.
        None if same && place.began.is_none() => Answer::End {
            refuse: None,
            state: TargetState::Lost,
            reason: "the console ended before this target's result was stored, and its agent holds the job no more"
                .to_owned(),
        },
        None if known.is_none() || same => Answer::Order,
        None if place.restarts >= MAX_RESTARTS => Answer::End {
            refuse: None,
            state: TargetState::Lost,
            reason: STARTED_AGAIN.to_owned(),
        },
        None => Answer::Restart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::{ROOT, outcome, place};
    use std::time::Duration;

    const NOW: Duration = Duration::from_secs(100);

    fn claim(instance: &str, held: Option<(TargetState, &str)>) -> Claim {
        Claim {
            instance: instance.to_owned(),
            unfinished: held.map(|(state, root)| Unfinished {
                job: "7".to_owned(),
                root: root.to_owned(),
                state,
                outcome: None,
            }),
        }
    }

    fn told(instance: &str, state: TargetState) -> Claim {
        let mut claim = claim(instance, Some((state, ROOT)));
        claim.unfinished.as_mut().unwrap().outcome = Some(outcome(state, Some(ROOT)));
        claim
    }

    /// A place whose agent, instance `one`, works in this state.
    fn working(state: TargetState) -> Place {
        let mut place = place(state);
        place.row.instance = Some("one".to_owned());
        place.began = Some(Duration::ZERO);
        place.ordered = true;
        place
    }

    /// Short form of an answer, for comparison.
    fn word(answer: &Answer) -> String {
        match answer {
            Answer::Nothing => "nothing".to_owned(),
            Answer::Outcome(outcome) => format!("outcome {}", outcome.state),
            Answer::Recorded => "recorded".to_owned(),
            Answer::Refuse(_) => "refuse".to_owned(),
            Answer::End { refuse, state, .. } => match refuse {
                Some(_) => format!("refuse, end {state}"),
                None => format!("end {state}"),
            },
            Answer::Order => "order".to_owned(),
            Answer::Resume(state) => format!("resume {state}"),
            Answer::Restart => "restart".to_owned(),
        }
    }

    /// Decides with a fresh place of each state, and compares the short forms.
    fn table(claim: &Claim, rows: &[(TargetState, &str)]) {
        for (state, expected) in rows {
            let answer = connected(&mut working(*state), claim.clone(), ROOT);
            assert_eq!(word(&answer), *expected, "{state} with {claim:?}");
        }
    }

    use TargetState::{
        Applying, Committing, Done, Dropped, Failed, Joined, Lost, Receiving, Repairing, Verifying,
    };

    #[test]
    fn an_agent_that_holds_the_job_goes_on_where_it_was() {
        table(
            &claim("one", Some((Verifying, ROOT))),
            &[
                (Joined, "resume verifying"),
                (Receiving, "resume verifying"),
                (Committing, "resume verifying"),
                // A lost one comes back while the job runs.
                (Lost, "resume verifying"),
                (Done, "recorded"),
                (Failed, "refuse"),
                (Dropped, "refuse"),
            ],
        );
        // A final state without an outcome says nothing about the disk.
        table(
            &claim("one", Some((Done, ROOT))),
            &[(Receiving, "resume joined"), (Done, "recorded")],
        );
    }

    #[test]
    fn an_outcome_is_taken_in_every_state() {
        for state in [
            Joined, Receiving, Repairing, Applying, Lost, Done, Failed, Dropped,
        ] {
            table(&told("one", Done), &[(state, "outcome done")]);
            table(&told("one", Failed), &[(state, "outcome failed")]);
        }
    }

    #[test]
    fn an_impostor_neither_reports_nor_goes_on() {
        let ends = "refuse, end lost";
        for state in [Joined, Receiving, Committing, Lost] {
            table(&told("two", Done), &[(state, ends)]);
            table(&claim("two", Some((Receiving, ROOT))), &[(state, ends)]);
        }
        // The same agent with the image of another job under this job's number.
        let other = "cd".repeat(32);
        table(
            &claim("one", Some((Receiving, &other))),
            &[
                (Receiving, "refuse, end failed"),
                (Lost, "refuse, end failed"),
            ],
        );
    }

    #[test]
    fn a_restarted_machine_is_ordered_anew_a_few_times() {
        let anew = claim("two", None);
        table(
            &anew,
            &[
                (Joined, "restart"),
                (Receiving, "restart"),
                (Lost, "restart"),
                (Done, "nothing"),
                (Failed, "nothing"),
                (Dropped, "nothing"),
            ],
        );
        let mut place = working(Receiving);
        place.restarts = MAX_RESTARTS;
        assert_eq!(word(&connected(&mut place, anew, ROOT)), "end lost");
    }

    #[test]
    fn one_without_an_order_gets_it() {
        // It comes late.
        let mut late = place(TargetState::Discovered);
        assert_eq!(
            word(&connected(&mut late, claim("one", None), ROOT)),
            "order"
        );
        assert_eq!(late.row.instance, None, "an order names the instance");
        // Its order was lost with the connection.
        table(&claim("one", None), &[(Joined, "order"), (Lost, "order")]);
    }

    #[test]
    fn after_a_restart_of_the_console_no_disk_is_written_on_a_guess() {
        let recovered = |instance: Option<&str>| {
            let mut place = place(Receiving);
            place.row.instance = instance.map(str::to_owned);
            place.recovered = true;
            place.gone_since = Some(Duration::ZERO);
            place
        };
        let holds = claim("one", Some((Receiving, ROOT)));
        let stored = &mut recovered(Some("one"));
        assert_eq!(
            word(&connected(stored, holds.clone(), ROOT)),
            "resume receiving"
        );
        // Its result may have been recorded and not stored.
        let stored = &mut recovered(Some("one"));
        assert_eq!(
            word(&connected(stored, claim("one", None), ROOT)),
            "end lost"
        );
        // Its order was sent and not stored.
        let unknown = &mut recovered(None);
        assert_eq!(word(&connected(unknown, holds, ROOT)), "resume receiving");
        assert_eq!(unknown.row.instance.as_deref(), Some("one"));
        let unknown = &mut recovered(None);
        assert_eq!(
            word(&connected(unknown, told("one", Done), ROOT)),
            "outcome done"
        );
        assert_eq!(
            word(&connected(&mut recovered(None), claim("one", None), ROOT)),
            "order"
        );
    }

    #[test]
    fn one_that_was_asked_to_leave_reports_or_ends() {
        let leaving = || {
            let mut place = working(Receiving);
            let asked = place.leave(NOW, Dropped, "dropped by a technician");
            assert!(matches!(asked, super::super::place::Leave::Ask));
            place
        };
        let answer = |claim| word(&connected(&mut leaving(), claim, ROOT));
        assert_eq!(answer(told("one", Done)), "outcome done");
        assert_eq!(answer(told("one", Dropped)), "outcome dropped");
        assert_eq!(answer(claim("one", Some((Receiving, ROOT)))), "refuse");
        // Only the agent that was asked can tell what its disk is.
        assert_eq!(answer(claim("one", None)), "end dropped");
        assert_eq!(answer(claim("two", None)), "end dropped");
        assert_eq!(answer(told("two", Done)), "end dropped");
    }

    #[test]
    fn orders_wait_for_the_image_and_outcomes_do_not() {
        assert!(claim("one", None).may_be_ordered(&working(Receiving)));
        assert!(claim("one", Some((Receiving, ROOT))).may_be_ordered(&working(Joined)));
        assert!(!told("one", Done).may_be_ordered(&working(Receiving)));
        assert!(!claim("one", None).may_be_ordered(&working(Done)));
    }
}
