//! The end of captures that make no progress or exceed their time limit.

use super::{Busy, CaptureRun};
use facts::target::TargetState;
use jobs::run::stall::{STALL_LIMIT, in_words};
use std::time::Duration;

impl CaptureRun {
    /// Ends a capture that has stalled or exceeded its time limit. Neither limit applies while the
    /// console's own disk is at work.
    pub(super) async fn look_for_stall(&mut self) {
        if self.is_over() || !matches!(self.busy, Busy::Nothing) {
            return;
        }
        let now = self.core.now();
        let state = self.place.view.state;
        let request = &self.upload.wanted().request;
        let seconds = |seconds: Option<u32>| seconds.map(|n| Duration::from_secs(n.into()));
        let (stall, time) = (
            seconds(request.stall_limit_seconds).unwrap_or(STALL_LIMIT),
            seconds(request.time_limit_seconds),
        );
        let too_long = time.filter(|time| {
            self.began
                .is_some_and(|began| now.saturating_sub(began) > *time)
        });
        if let Some(time) = too_long {
            let reason = format!("the time limit of {} is over", in_words(time));
            return self.give_up(state, &reason).await;
        }
        if !self.ordered {
            return;
        }
        let held = self.upload.standing().held.1;
        self.arrived.took(now, state, held);
        if let (Some(_), Some(verdict)) = (
            self.arrived.verdict(now, stall),
            self.said.verdict(now, stall),
        ) {
            self.give_up(state, &format!("{verdict} while {state}"))
                .await;
        }
    }

    async fn give_up(&mut self, state: TargetState, reason: &str) {
        self.core.refuse(&self.place.view.id, reason);
        self.end(TargetState::Failed, reason, Some(state)).await;
    }
}
