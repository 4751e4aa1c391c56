//! The ends of a capture: done, without an image, cancelled, or interrupted with the console.
//!
//! Invariants: an unfinished image stays for a retry unless a technician cancelled; the agent is
//! sent `recorded` only after the end is in the store.

use super::super::intake::Finished;
use super::{Busy, CaptureRun, seconds};
use crate::job::core::Ending;
use crate::time::now_text;
use api::{ApiError, CancelRequest, ErrorCode, JobState, SessionView};
use facts::target::TargetState;
use jobs::naming::clean_line;
use std::sync::atomic::Ordering;

impl CaptureRun {
    /// Ends the target's part without an image.
    pub(super) async fn end(
        &mut self,
        state: TargetState,
        reason: &str,
        step: Option<TargetState>,
    ) {
        if self.is_over() {
            return;
        }
        self.read_standing();
        let now = self.core.now();
        let view = &mut self.place.view;
        view.state = state;
        view.reason = Some(reason.to_owned());
        view.step = step.filter(|_| state == TargetState::Failed);
        view.note = None;
        view.seconds = seconds(self.began, now);
        self.changed().await;
    }

    pub(super) async fn cancel(&mut self, request: &CancelRequest) -> Result<(), ApiError> {
        if let Some(text) = &request.targets {
            let own = [(0, self.place.view.id.as_str())];
            self.core.select(text, own.into_iter())?;
        }
        if let Some(finished) = self.stop_checking().await {
            self.done(finished).await;
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("job {} is done", self.core.id),
            ));
        }
        let reason = request.reason.as_deref().map_or_else(
            || "cancelled by a technician".to_owned(),
            |reason| format!("cancelled by a technician: {}", clean_line(reason, 200)),
        );
        self.core.cancelled = true;
        self.core.refuse(&self.place.view.id, &reason);
        self.core.log(reason.clone());
        self.end(TargetState::Dropped, &reason, None).await;
        Ok(())
    }

    /// Stops reading the image back; returns the image if it already has its final name.
    pub(super) async fn stop_checking(&mut self) -> Option<Box<Finished>> {
        self.checking.stop.store(true, Ordering::Relaxed);
        match std::mem::replace(&mut self.busy, Busy::Nothing) {
            Busy::Finishing(handle) => handle.await.ok()?.ok(),
            // Preparing only reads, and ends by itself.
            Busy::Preparing(_) | Busy::Nothing => None,
        }
    }

    /// Stores the capture's state when the console ends; the next console continues it.
    pub(super) async fn interrupt(mut self) {
        if let Some(finished) = self.stop_checking().await {
            self.done(finished).await;
            return self.finish().await;
        }
        if self.core.state != JobState::Waiting {
            self.core.state = JobState::Interrupted;
            self.core
                .log("the console ends; the capture goes on when it is started again".to_owned());
        }
        self.upload.close(false);
        self.core.interrupt(SessionView::default()).await;
    }

    pub(super) async fn finish(mut self) {
        let state = self.place.view.state;
        self.core.state = match (state, self.core.cancelled) {
            (TargetState::Done, _) => JobState::Done,
            (_, true) => JobState::Cancelled,
            (_, false) => JobState::Failed,
        };
        self.core.ended = Some(now_text());
        let record = self.record();
        // Cancelling removes the unfinished image; after any other end the capture can be retried.
        self.upload.close(self.core.cancelled);
        self.core.shared.drop_token(0);
        self.show();
        let mut view = self.core.shared.view();
        view.capture = Some(Box::new(record.view.clone()));
        self.core.shared.set_view(view);
        if state != TargetState::Done {
            // The agent may still read and send, whether the capture failed there or here.
            let reason = self.place.view.reason.clone().unwrap_or_default();
            self.core.refuse(&self.place.view.id, &reason);
        }
        let ending = Ending {
            owed: vec![self.place.view.id.clone()],
            rows: vec![self.place],
            capture: Some(record),
        };
        self.core.finish(ending).await;
    }
}
