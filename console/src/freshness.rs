//! Fresh disk contents: agents report their disks again before each plan.
//!
//! The facts of an agent are as old as its last report. Before each plan every target that the plan
//! may contain is asked for a new report; the plan shows the age of the facts of a target that does
//! not answer in time.

use super::context::Console;
use super::time::now_text;
use api::select::Selector;
use api::{Plan, TargetView};
use jobs::schedule::seconds_between;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest time to wait for reports. An agent reads its disks within a second, unless one of them
/// has a fault.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

impl Console {
    /// Asks every idle, connected target that matches for a new report about its disks, and waits a
    /// moment. Returns the ids of those that answered.
    pub(super) async fn refresh_facts(&self, targets: &str) -> BTreeSet<String> {
        let Ok(selector) = targets.parse::<Selector>() else {
            return BTreeSet::new();
        };
        let idle = |view: &TargetView| view.job.is_none() && selector.matches(view);
        self.ask_facts(idle).await
    }

    /// Asks the targets of a job that is about to begin for new reports. Returns the ids of those
    /// that answered.
    pub(super) async fn renew_facts(&self, ids: &[String]) -> BTreeSet<String> {
        self.ask_facts(|view| ids.contains(&view.id)).await
    }

    async fn ask_facts(&self, wanted: impl Fn(&TargetView) -> bool) -> BTreeSet<String> {
        let asked = self.roster.ask_facts(wanted);
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            let renewed = self.roster.renewed();
            tokio::pin!(renewed);
            // Enabled before the look, so that an answer between the look and the wait is not
            // missed.
            renewed.as_mut().enable();
            let fresh = self.roster.answered(&asked);
            if fresh.len() == asked.len() || timeout_at(deadline, renewed).await.is_err() {
                return fresh;
            }
        }
    }

    /// Adds to a plan the age of the facts of targets that did not just answer.
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
