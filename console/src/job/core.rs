//! The part of a job's task that deployments and captures share: log, events, state, and end.
//!
//! Owns the job's row and state, its files, its clock, and the messages that wait for it.
//! Invariants: a change of a target's state is stored, written and published together; an agent is
//! sent `recorded` only after its result is in the store; from [`Core::finish`] on, messages to the
//! job are answered as messages to a job that is over.

use super::folder::{Folder, Journal};
use super::{Input, JobShared, Unstored, log_event};
use crate::context::Console;
use crate::time::now_text;
use api::select::Selector;
use api::{
    ApiError, ErrorCode, Event, JobState, JobTarget, Plan, Report, SCHEMA_VERSION, SessionView,
};
use facts::order::EndAction;
use facts::target::TargetState;
use jobs::row::{CaptureRecord, JobRow, JobTargetRow, NewJob};
use jobs::view::summary_of;
use protocol::control::ConsoleMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// Period of a job's clock.
const TICK: Duration = Duration::from_millis(250);
/// Maximum number of lines that one target may put into the log of a job.
const MAX_LOG_LINES: u32 = 2000;

/// State that every job's task has.
pub(crate) struct Core {
    pub console: Arc<Console>,
    pub shared: Arc<JobShared>,
    pub inputs: mpsc::Receiver<Input>,
    /// Messages taken from the queue that came after the last target had ended.
    pub late: Vec<Input>,
    pub row: NewJob,
    pub id: u64,
    pub id_text: String,
    pub state: JobState,
    /// Start of the job, RFC 3339.
    pub started: Option<String>,
    /// End of the job, RFC 3339; `None` while it runs.
    pub ended: Option<String>,
    /// True after a technician cancelled the whole job.
    pub cancelled: bool,
    /// Ticks of the job's clock since the task began.
    pub ticks: u64,
    journal: Journal,
    folder: Folder,
    epoch: Instant,
    /// Number of log lines per target, by the target's id.
    lines: BTreeMap<String, u32>,
}

/// Result of a job that is over.
pub(crate) struct Ending {
    /// Rows of all targets.
    pub rows: Vec<JobTargetRow>,
    /// Record of the capture; `None` for a deployment.
    pub capture: Option<CaptureRecord>,
    /// Ids of the targets whose agents wait for `recorded`.
    pub owed: Vec<String>,
}

impl Core {
    /// Makes the shared state from a job's stored row, and starts its journal.
    pub(crate) fn new(
        console: Arc<Console>,
        row: JobRow,
        shared: Arc<JobShared>,
        inputs: mpsc::Receiver<Input>,
    ) -> Self {
        let folder = Folder::of(&console.settings.data_dir, row.id);
        Self {
            journal: Journal::start(folder.clone()),
            folder,
            id: row.id,
            id_text: row.id.to_string(),
            state: row.job.state,
            started: row.started,
            ended: None,
            cancelled: false,
            ticks: 0,
            row: row.job,
            epoch: Instant::now(),
            lines: BTreeMap::new(),
            late: Vec::new(),
            console,
            shared,
            inputs,
        }
    }

    /// Returns the interval of the job's clock; missed ticks are delayed.
    pub(crate) fn ticker() -> Interval {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick
    }

    /// Time since the task began.
    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Writes a line to the log and sends it to watchers.
    pub(crate) fn log(&mut self, text: String) {
        tracing::info!(job = self.id, "{text}");
        let event = log_event(&self.id_text, text);
        self.journal.write(&event);
        self.shared.events.publish(event);
    }

    /// Writes a target's line to the log. At [`MAX_LOG_LINES`] the log says that further lines are
    /// left out.
    pub(crate) fn log_of(&mut self, target: &str, name: &str, text: &str) {
        let lines = self.lines.entry(target.to_owned()).or_insert(0);
        *lines = lines.saturating_add(1);
        match *lines {
            n if n < MAX_LOG_LINES => self.log(format!("{name}: {text}")),
            MAX_LOG_LINES => self.log(format!(
                "{name}: more than {MAX_LOG_LINES} lines; the rest is left out"
            )),
            _ => {}
        }
    }

    /// Publishes the state of a target whose row is already stored.
    pub(crate) fn announce(&mut self, target: JobTarget) {
        self.console
            .roster
            .set_job_state(&target.id, &self.id_text, target.state);
        let event = Event::State {
            job: self.id_text.clone(),
            time: now_text(),
            target: Box::new(target),
        };
        self.journal.write(&event);
        self.shared.events.publish(event);
    }

    /// Sends the view of the whole job to watchers.
    pub(crate) fn publish_progress(&self) {
        self.shared.events.publish(Event::Progress {
            job: self.id_text.clone(),
            view: Box::new(self.shared.view()),
        });
    }

    /// Stores the state of the job. A failure is logged; the next change stores the state again.
    pub(crate) async fn store_state(&mut self, session: SessionView) {
        let (started, ended) = (self.started.clone(), self.ended.clone());
        if let Err(error) = self
            .console
            .store
            .update_job(self.id, self.state, started, ended, session)
            .await
        {
            self.log(format!(
                "the state of job {} could not be stored: {error}",
                self.id
            ));
        }
    }

    /// Sends an agent `cancel` for this job, with the reason.
    pub(crate) fn refuse(&self, target: &str, reason: &str) {
        let message = ConsoleMessage::Cancel {
            job: self.id_text.clone(),
            reason: reason.to_owned(),
        };
        self.console.roster.send(target, message);
    }

    /// Sends an agent `recorded`: its result, `state`, is stored.
    pub(crate) fn recorded(&self, target: &str, state: TargetState) {
        // Only a proven machine restarts by itself: a technician may want to look at the others.
        let after = if state == TargetState::Done {
            self.shared.plan().after(target, self.row.request.end)
        } else {
            EndAction::None
        };
        let job = self.id_text.clone();
        self.console
            .roster
            .send(target, ConsoleMessage::Recorded { job, after });
    }

    /// Returns the positions of those `unfinished` targets that the selector matches, connected or
    /// not.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if `text` is not a selector; [`ErrorCode::NothingMatched`] if no target
    /// matches.
    pub(crate) fn select<'a>(
        &self,
        text: &str,
        unfinished: impl Iterator<Item = (usize, &'a str)>,
    ) -> Result<Vec<usize>, ApiError> {
        let selector: Selector = text
            .parse()
            .map_err(|error| ApiError::new(ErrorCode::Usage, format!("--targets: {error}")))?;
        let chosen: Vec<usize> = unfinished
            .filter(|(_, target)| {
                // Every target counts as connected, so that a dead machine can be dropped.
                let view = self.console.roster.view(target);
                view.is_ok_and(|mut view| {
                    view.connected = true;
                    selector.matches(&view)
                })
            })
            .map(|(position, _)| position)
            .collect();
        if chosen.is_empty() {
            let message = format!("no unfinished target of job {} matches {text:?}", self.id);
            return Err(ApiError::new(ErrorCode::NothingMatched, message));
        }
        Ok(chosen)
    }

    /// Stores the job's state when the console ends; the next console recovers the job from it.
    pub(crate) async fn interrupt(mut self, session: SessionView) {
        self.store_state(session).await;
        self.journal.close().await;
    }

    /// Ends the job: stores the result, writes the report, answers waiting agents, and publishes
    /// the summary.
    ///
    /// The shared view must already be the final one. A result that cannot be stored is kept and
    /// stored later.
    pub(crate) async fn finish(mut self, ending: Ending) {
        let view = self.shared.view();
        let Ending {
            rows,
            capture,
            owed,
        } = ending;
        let stored = self
            .console
            .store
            .save_job(view.clone(), self.id, rows.clone(), capture.clone())
            .await;
        match &stored {
            Ok(()) => {
                for row in rows.iter().filter(|row| owed.contains(&row.view.id)) {
                    self.recorded(&row.view.id, row.view.state);
                }
            }
            Err(error) => self.log(format!(
                "the result could not be stored and is kept until it can: {error}"
            )),
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
        for row in &rows {
            self.console.roster.release(&row.view.id, &self.id_text);
        }
        if stored.is_err() {
            let result = Unstored::new(Arc::clone(&self.shared), rows, capture, owed);
            self.console.keep_result(result);
        }
        if self.state != JobState::Failed {
            // The secrets of a failed job are kept, so that a retry need not ask for them again.
            self.console.store.forget_job_secrets(self.id).await;
        }
        self.console.jobs.remove(self.id);
        let summary = match self.answer_late_messages().await {
            // A late message changed the result in the store and in the report.
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

    /// Closes the queue of messages and handles those left in it as messages to a job that is over.
    ///
    /// Returns true if one of them changed the result.
    async fn answer_late_messages(&mut self) -> bool {
        self.inputs.close();
        let mut any = false;
        for input in std::mem::take(&mut self.late) {
            any |= self.console.after_the_end(self.id, input).await;
        }
        while let Some(input) = self.inputs.recv().await {
            any |= self.console.after_the_end(self.id, input).await;
        }
        any
    }
}
