//! Fresh disk contents: agents are asked again before each plan.
//!
//! Facts of an agent are as old as its connection, or as the last time it was asked. Before each plan everyone whom the plan may
//! be about is asked again; who does not answer in time is shown with the age of what is known.

use super::context::Console;
use super::time::{now_text, seconds_between};
use api::select::Selector;
use api::{Plan, TargetView};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// An agent looks at its disks within a second; one that needs longer has trouble with one of them.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

impl Console {
    /// Asks every idle target that is connected and matches to look at its disks again, and waits a moment for the answers. The
    /// ids of those that answered.
    pub(super) async fn refresh_facts(&self, targets: &str) -> BTreeSet<String> {
        let Ok(selector) = targets.parse::<Selector>() else {
            return BTreeSet::new();
        };
        let idle = |view: &TargetView| view.job.is_none() && selector.matches(view);
        self.ask_facts(idle).await
    }

    /// The same for targets of a job that is about to begin.
    pub(super) async fn renew_facts(&self, ids: &[String]) -> BTreeSet<String> {
        self.ask_facts(|view| ids.contains(&view.id)).await
    }

    async fn ask_facts(&self, wanted: impl Fn(&TargetView) -> bool) -> BTreeSet<String> {
        let asked = self.roster.ask_facts(wanted);
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            let renewed = self.roster.renewed();
            tokio::pin!(renewed);
            // From here on no answer is missed between the look and the wait.
            renewed.as_mut().enable();
            let fresh = self.roster.answered(&asked);
            if fresh.len() == asked.len() || timeout_at(deadline, renewed).await.is_err() {
                return fresh;
            }
        }
    }

    /// Says in a plan how old the facts are of those that did not answer just now.
    pub(super) fn date_facts(&self, plan: &mut Plan, fresh: &BTreeSet<String>) {
        let now = now_text();
        for target in &mut plan.targets {
            let view = self.roster.view(&target.id).ok();
            target.facts_age_seconds = view
                .filter(|view| !fresh.contains(&view.id))
                .map(|view| seconds_between(&view.facts_time, &now));
        }
    }
}
