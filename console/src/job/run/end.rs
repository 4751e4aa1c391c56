//! The end of a job: cancelled, interrupted with its console, or over.

use super::JobRun;
use crate::job::Input;
use crate::job::core::Ending;
use crate::time::now_text;
use api::{ApiError, CancelRequest, JobState};
use facts::target::TargetState;
use jobs::naming::clean_line;
use jobs::run::course;

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
            self.core.cancelled = true;
            self.core.log("cancelled by a technician".to_owned());
        }
        for i in chosen {
            self.ask_to_leave(i, TargetState::Dropped, &reason).await;
        }
        Ok(())
    }

    /// Returns the positions of this job's unfinished places that the selector matches, connected
    /// or not.
    pub(super) fn select(&self, text: &str) -> Result<Vec<usize>, ApiError> {
        let places = self.places.iter().enumerate();
        let unfinished = places.filter(|(_, place)| !place.is_final());
        self.core
            .select(text, unfinished.map(|(i, place)| (i, place.id())))
    }

    /// Stores the job's state when the console ends; the next console recovers the job from it.
    pub(super) async fn interrupt(mut self) {
        if !self.is_before_start() {
            self.core.state = JobState::Interrupted;
            self.core
                .log("the console ends; the job goes on when it is started again".to_owned());
        }
        if let Some(session) = self.session.take() {
            session.close(&self.core.console);
        }
        self.core.interrupt(self.session_view).await;
    }

    /// Handles the outcomes that arrived while the last place ended. Everything else in the queue
    /// came too late for this task.
    async fn hear_last_words(&mut self) {
        while let Ok(input) = self.core.inputs.try_recv() {
            match input {
                Input::Outcome { target, outcome } => {
                    if let Some(&i) = self.index.get(&target) {
                        self.outcome(i, *outcome).await;
                    }
                }
                input => self.core.late.push(input),
            }
        }
    }

    pub(super) async fn finish(mut self) {
        self.hear_last_words().await;
        self.read_counters();
        if let Some(session) = self.session.take() {
            session.close(&self.core.console);
        }
        self.core.console.throttle.clear(self.core.id);
        self.core.state = course::end(&self.places, self.core.cancelled);
        self.core.ended = Some(now_text());
        self.session_view.rate_bytes_per_s = 0;
        let now = self.core.now();
        self.places.iter_mut().for_each(|place| place.refresh(now));
        self.show();
        let rows = self.places.iter().map(|place| place.row.clone()).collect();
        let owed = self.places.iter().filter(|place| place.owed);
        let owed = owed.map(|place| place.id().to_owned()).collect();
        let ending = Ending {
            rows,
            capture: None,
            owed,
        };
        self.core.finish(ending).await;
    }
}
