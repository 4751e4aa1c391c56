//! Limits of time: targets without progress of their own, and jobs that exceed their time limit.

use super::JobRun;
use crate::job::stall::{STALL_LIMIT, in_words};
use facts::target::TargetState;
use std::time::Duration;

impl JobRun {
    /// Ends targets that have stalled and jobs that have exceeded their time limit. Targets without
    /// a connection are left to the rule for lost ones.
    pub(super) async fn look_for_stalled(&mut self) {
        let now = self.core.now();
        let seconds = self.core.row.request.stall_limit_seconds;
        let limit = seconds.map_or(STALL_LIMIT, |seconds| Duration::from_secs(seconds.into()));
        for i in 0..self.places.len() {
            let place = &self.places[i];
            let away = !place.ordered || place.gone_since.is_some();
            if place.is_final() || away || place.leaving.is_some() {
                continue;
            }
            if let Some(verdict) = place.stall.verdict(now, limit) {
                let state = place.state();
                self.give_up_on(i, &format!("{verdict} while {state}"))
                    .await;
            }
        }
        self.look_at_time_limit().await;
    }

    async fn look_at_time_limit(&mut self) {
        let limit = self.core.row.request.time_limit_seconds;
        let limit = limit.map(|seconds| Duration::from_secs(seconds.into()));
        let over = |limit: &Duration| self.core.now().saturating_sub(self.begun_at) > *limit;
        let Some(limit) = limit.filter(over) else {
            return;
        };
        let reason = format!("the job's time limit of {} is over", in_words(limit));
        for i in 0..self.places.len() {
            let place = &self.places[i];
            // A commit takes seconds, and an interrupted one would leave the state of the disk
            // unknown.
            if !place.is_final() && place.state() != TargetState::Committing {
                self.ask_to_leave(i, TargetState::Failed, &reason).await;
            }
        }
    }

    /// Fails a place at once. Its agent is sent `cancel`: if it recovers, it leaves the job, and
    /// its outcome is recorded then.
    async fn give_up_on(&mut self, i: usize, reason: &str) {
        self.core.refuse(self.places[i].id(), reason);
        self.end(i, TargetState::Failed, reason).await;
    }
}
