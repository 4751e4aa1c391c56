//! The end of a job: cancelled, interrupted with its console, or over.

use super::JobRun;
use crate::console::job::{Input, Unstored, summary_of};
use crate::console::naming::clean_line;
use crate::console::time::now_text;
use api::select::Selector;
use api::{ApiError, CancelRequest, ErrorCode, Event, JobState, Plan, Report, SCHEMA_VERSION};
use facts::target::TargetState;
use std::sync::Arc;

impl JobRun {
    pub(super) async fn cancel(&mut self, request: &CancelRequest) -> Result<(), ApiError> {
        let reason = request.reason.as_deref().map_or_else(
            || "dropped by a technician".to_owned(),
            |reason| format!("dropped by a technician: {}", clean_line(reason, 200)),
        );
        let chosen: Vec<usize> = match &request.targets {
            None => (0..self.places.len())
                .filter(|i| !self.places[*i].is_final())
                .collect(),
            Some(text) => self.select(text)?,
        };
        if request.targets.is_none() {
            self.cancelled = true;
            self.log("cancelled by a technician".to_owned());
        }
        for i in chosen {
            self.ask_to_leave(i, TargetState::Dropped, &reason).await;
        }
        Ok(())
    }

    /// Unfinished places of this job that a selector means, connected or not.
    pub(super) fn select(&self, text: &str) -> Result<Vec<usize>, ApiError> {
        let selector: Selector = text
            .parse()
            .map_err(|error| ApiError::new(ErrorCode::Usage, format!("--targets: {error}")))?;
        let chosen: Vec<usize> = (0..self.places.len())
            .filter(|i| !self.places[*i].is_final())
            .filter(|i| {
                // Everyone in the job counts as there: a dead machine is what one wants to drop.
                let view = self.console.roster.view(self.places[*i].id());
                view.is_ok_and(|mut view| {
                    view.connected = true;
                    selector.matches(&view)
                })
            })
            .collect();
        if chosen.is_empty() {
            let message = format!("no unfinished target of job {} matches {text:?}", self.id);
            return Err(ApiError::new(ErrorCode::NothingMatched, message));
        }
        Ok(chosen)
    }

    /// The console ends; the store says what the next one finds.
    pub(super) async fn interrupt(mut self) {
        if !self.is_before_start() {
            self.state = JobState::Interrupted;
            self.log("the console ends; the job goes on when it is started again".to_owned());
        }
        self.store_job().await;
        if let Some(session) = self.session.take() {
            session.close(&self.console);
        }
        self.journal.close().await;
    }

    /// Outcomes that came while the last place ended.
    async fn hear_last_words(&mut self) {
        while let Ok(input) = self.inputs.try_recv() {
            if let Input::Outcome { target, outcome } = input
                && let Some(&i) = self.index.get(&target)
            {
                self.outcome(i, *outcome).await;
            }
        }
    }

    /// From here on whoever speaks to this job is told that it is over; what was said before is not lost. True when it
    /// changed anything.
    async fn hear_late_words(&mut self) -> bool {
        self.inputs.close();
        let mut any = false;
        while let Some(input) = self.inputs.recv().await {
            any |= self.console.after_the_end(self.id, input).await;
        }
        any
    }

    pub(super) async fn finish(mut self) {
        self.hear_last_words().await;
        self.read_counters();
        if let Some(session) = self.session.take() {
            session.close(&self.console);
        }
        self.console.throttle.clear(self.id);
        let all_done = self
            .places
            .iter()
            .all(|place| place.state() == TargetState::Done);
        self.state = match (self.cancelled, all_done) {
            (_, true) => JobState::Done,
            (true, false) => JobState::Cancelled,
            (false, false) => JobState::Failed,
        };
        self.ended = Some(now_text());
        self.session_view.rate_bytes_per_s = 0;
        let now = self.now();
        self.places.iter_mut().for_each(|place| place.refresh(now));
        self.show();
        let view = self.shared.view();
        let rows: Vec<_> = self.places.iter().map(|place| place.row.clone()).collect();
        let unstored = match self
            .console
            .store
            .save_job(view.clone(), self.id, rows.clone(), None)
            .await
        {
            Ok(()) => {
                for i in 0..self.places.len() {
                    if std::mem::take(&mut self.places[i].owed) {
                        self.recorded(i);
                    }
                }
                None
            }
            Err(error) => {
                self.log(format!(
                    "the result could not be stored and is kept until it can: {error}"
                ));
                Some(rows)
            }
        };
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
        if let Some(rows) = unstored {
            let owed = self.places.iter().filter(|place| place.owed);
            let owed = owed.map(|place| place.id().to_owned()).collect();
            let result = Unstored::new(Arc::clone(&self.shared), rows, None, owed);
            self.console.keep_result(result);
        }
        if self.state != JobState::Failed {
            // Of a job that failed they are kept: a retry must not ask again.
            self.console.store.forget_job_secrets(self.id).await;
        }
        self.console.jobs.remove(self.id);
        let summary = match self.hear_late_words().await {
            // The store and the report were put right with it.
            true => match self.console.job_view(self.id).await {
                Ok(view) => summary_of(&view, &self.folder.report()),
                Err(_) => summary,
            },
            false => summary,
        };
        let event = Event::Summary(Box::new(summary));
        self.journal.write(&event);
        self.journal.close().await;
        tracing::info!(job = self.id, state = ?self.state, "job over");
        self.shared.events.publish(event);
    }
}
