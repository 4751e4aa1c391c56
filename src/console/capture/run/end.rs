//! How a capture ends: done, without an image, cancelled, or interrupted with the console.
//!
//! What always holds: what was taken in stays for a retry unless a technician cancelled; the agent is told
//! that the end is recorded only when it is in the store.

use super::super::intake::Finished;
use super::{Busy, CaptureRun, seconds};
use crate::console::job::{Unstored, summary_of};
use crate::console::naming::clean_line;
use crate::console::time::now_text;
use api::select::Selector;
use api::{ApiError, CancelRequest, ErrorCode, Event, JobState, Plan, Report, SCHEMA_VERSION};
use facts::order::EndAction;
use facts::target::TargetState;
use protocol::control::ConsoleMessage;
use std::sync::Arc;
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
        let now = self.now();
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
            let selector: Selector = text
                .parse()
                .map_err(|error| ApiError::new(ErrorCode::Usage, format!("--targets: {error}")))?;
            let view = self.console.roster.view(&self.place.view.id);
            if !view.is_ok_and(|mut view| {
                view.connected = true;
                selector.matches(&view)
            }) {
                let message = format!("no unfinished target of job {} matches {text:?}", self.id);
                return Err(ApiError::new(ErrorCode::NothingMatched, message));
            }
        }
        if let Some(finished) = self.stop_checking().await {
            self.done(finished).await;
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("job {} is done", self.id),
            ));
        }
        let reason = request.reason.as_deref().map_or_else(
            || "cancelled by a technician".to_owned(),
            |reason| format!("cancelled by a technician: {}", clean_line(reason, 200)),
        );
        self.cancelled = true;
        self.refuse(&self.place.view.id, &reason);
        self.log(reason.clone());
        self.end(TargetState::Dropped, &reason, None).await;
        Ok(())
    }

    /// Stops reading the image back; answers the image when it has its name already.
    pub(super) async fn stop_checking(&mut self) -> Option<Box<Finished>> {
        self.checking.stop.store(true, Ordering::Relaxed);
        match std::mem::replace(&mut self.busy, Busy::Nothing) {
            Busy::Finishing(handle) => handle.await.ok()?.ok(),
            // Reads only, and ends by itself.
            Busy::Preparing(_) | Busy::Nothing => None,
        }
    }

    /// The console ends; the store says what the next one finds.
    pub(super) async fn interrupt(mut self) {
        if let Some(finished) = self.stop_checking().await {
            self.done(finished).await;
            return self.finish().await;
        }
        if self.state != JobState::Waiting {
            self.state = JobState::Interrupted;
            self.log("the console ends; the capture goes on when it is started again".to_owned());
        }
        self.upload.close(false);
        self.store_job().await;
        self.journal.close().await;
    }

    pub(super) async fn finish(mut self) {
        let state = self.place.view.state;
        self.state = match (state, self.cancelled) {
            (TargetState::Done, _) => JobState::Done,
            (_, true) => JobState::Cancelled,
            (_, false) => JobState::Failed,
        };
        self.ended = Some(now_text());
        let record = self.record();
        // A technician who cancels wants nothing left; what else ended may be tried again.
        self.upload.close(self.cancelled);
        self.shared.drop_token(0);
        self.show();
        let mut view = self.shared.view();
        view.capture = Some(Box::new(record.view.clone()));
        self.shared.set_view(view.clone());
        let rows = vec![self.place.clone()];
        let stored = self
            .console
            .store
            .save_job(view.clone(), self.id, rows.clone(), Some(record.clone()))
            .await;
        if let Err(error) = &stored {
            self.log(format!(
                "the result could not be stored and is kept until it can: {error}"
            ));
        }
        let summary = summary_of(&view, &self.folder.report());
        let report = Report {
            schema_version: SCHEMA_VERSION,
            job: view,
            plan: Plan::clone(&self.shared.plan()),
            summary: Some(summary.clone()),
        };
        if let Err(error) = self.folder.write_report(&report).await {
            self.log(format!(
                "the report could not be written to {}: {error}",
                self.folder.report().display()
            ));
        }
        self.end_agent(state);
        match stored {
            Ok(()) => self.recorded(state),
            Err(_) => {
                let owed = vec![self.place.view.id.clone()];
                let shared = Arc::clone(&self.shared);
                let result = Unstored::new(shared, rows, Some(record), owed);
                self.console.keep_result(result);
            }
        }
        self.console
            .roster
            .release(&self.place.view.id, &self.id_text);
        let event = Event::Summary(Box::new(summary));
        self.journal.write(&event);
        self.journal.close().await;
        tracing::info!(job = self.id, state = ?self.state, "capture over");
        self.console.jobs.remove(self.id);
        self.shared.events.publish(event);
    }

    /// What the agent still does for a capture without an image ends, whether it failed there or here.
    fn end_agent(&self, state: TargetState) {
        if state != TargetState::Done {
            let reason = self.place.view.reason.clone().unwrap_or_default();
            self.refuse(&self.place.view.id, &reason);
        }
    }

    /// The agent hears that the end is in the store.
    fn recorded(&self, state: TargetState) {
        let id = &self.place.view.id;
        let after = if state == TargetState::Done {
            self.row.request.end
        } else {
            EndAction::None
        };
        let job = self.id_text.clone();
        self.console
            .roster
            .send(id, ConsoleMessage::Recorded { job, after });
    }
}
