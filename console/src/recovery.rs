//! Recovery of jobs after a restart of the console, and outcomes that come late.
//!
//! Owns the recovery of the last console's jobs, the end of interrupted ones, and outcomes that
//! come when a job's task has ended. Invariants: an agent's proven outcome is recorded, however
//! late it comes; a recorded outcome of an agent never changes.

use super::context::Console;
use super::job::folder::{Folder, Journal};
use super::job::{Input, Recovery};
use super::jobs::{parse_id, store_error};
use super::master::MasterImage;
use super::shares::Wanted;
use super::store::StoreError;
use super::time::now_text;
use api::{ApiError, DeployRequest, ErrorCode, Event, JobState, JobView};
use disk::share::ShareAddress;
use disk::volumes::remove_unfinished_parts;
use facts::order::EndAction;
use facts::target::{DiskNow, TargetState};
use jobs::row::{JobRow, JobTargetRow};
use jobs::run::place;
use protocol::control::{ConsoleMessage, Outcome, Unfinished};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Time for the file servers of all jobs' images together at the start of a console, while agents
/// and technicians wait.
const SHARES_WITHIN: Duration = Duration::from_secs(10);

impl Console {
    /// Recovers the jobs of the last console; called once, before agents can connect.
    ///
    /// # Errors
    /// The store fails. A job that cannot be recovered is only logged, and stays interrupted.
    pub async fn recover_jobs(self: &Arc<Self>) -> Result<(), StoreError> {
        self.store.interrupt_running().await?;
        let shares_until = Instant::now() + SHARES_WITHIN;
        for row in self.store.unfinished_jobs().await? {
            let id = row.id;
            if let Err(reason) = self.recover(row, shares_until).await {
                tracing::warn!(job = id, %reason, "job stays interrupted; diskcast job retry {id} goes on with it");
                let folder = Folder::of(&self.settings.data_dir, id);
                let mut journal = Journal::start(folder);
                let text =
                    format!("interrupted: {reason}; diskcast job retry {id} goes on with it");
                journal.write(&Event::Log {
                    job: id.to_string(),
                    time: now_text(),
                    text,
                });
                journal.close().await;
            }
        }
        Ok(())
    }

    async fn open_again(
        &self,
        request: &DeployRequest,
        shares_until: Instant,
    ) -> Result<Arc<MasterImage>, ApiError> {
        let opening = self.open_image(Wanted::of(request), None);
        if ShareAddress::parse(&request.image).is_none() {
            return opening.await;
        }
        let opened = tokio::time::timeout_at(shares_until, opening).await;
        opened.unwrap_or_else(|_| {
            Err(ApiError::new(
                ErrorCode::Refused,
                format!(
                    "{}: its server does not answer within {} s of the console's start",
                    request.image,
                    SHARES_WITHIN.as_secs()
                ),
            ))
        })
    }

    async fn recover(
        self: &Arc<Self>,
        mut row: JobRow,
        shares_until: Instant,
    ) -> Result<(), String> {
        if row.job.capture.is_some() {
            return self.recover_capture(row).await;
        }
        let id = row.id;
        let secrets = self.secrets_of_job(id).await;
        let mut request = row.job.request.clone();
        if let Ok(secrets) = &secrets {
            request.secrets = secrets.given();
        }
        let opened = if row.job.encrypted {
            Err("the image has a password, which is never stored".to_owned())
        } else {
            match self.open_again(&request, shares_until).await {
                Ok(image) if image.root() == row.job.root => Ok(image),
                Ok(_) => Err(format!("{} is another image now", row.job.request.image)),
                Err(error) => Err(error.message),
            }
        };
        let image = opened.and_then(|image| Ok((image, secrets?)));
        let (image, secrets) = match image {
            Ok(both) => both,
            Err(reason) => {
                let view = row.session.clone();
                if let Err(error) = self
                    .store
                    .update_job(id, JobState::Interrupted, None, None, view)
                    .await
                {
                    tracing::error!(job = id, %error, "state not recorded");
                }
                return Err(reason);
            }
        };
        let unfinished = row
            .job
            .targets
            .iter()
            .filter(|target| !target.view.state.is_final());
        for target in unfinished {
            // A target that was forgotten meanwhile cannot be claimed, and becomes lost.
            let ids = [target.view.id.clone()];
            if let Err(error) = self.roster.claim(&id.to_string(), &ids, target.view.state) {
                tracing::warn!(
                    job = id,
                    target = target.view.name,
                    reason = error.message,
                    "not in the job any more"
                );
            }
        }
        if row.job.state == JobState::Interrupted && row.started.is_none() {
            // An earlier console could not open the image. No target has an order, so the start
            // rule applies as before.
            row.job.state = JobState::Waiting;
            let view = row.session.clone();
            let update = self.store.update_job(id, row.job.state, None, None, view);
            update.await.map_err(|error| error.to_string())?;
        }
        let recovery = if matches!(row.job.state, JobState::Waiting | JobState::Missed) {
            Recovery::New
        } else {
            Recovery::Interrupted
        };
        self.spawn(row, image, secrets, recovery);
        Ok(())
    }

    /// Ends an interrupted job whose targets another job has taken over.
    pub(super) async fn close_interrupted(&self, row: JobRow, by: &str) {
        for (position, mut target) in row.job.targets.into_iter().enumerate() {
            if !target.view.state.is_final() {
                target.view.state = TargetState::Lost;
                target.view.disk_now = untouched(&target);
                target.view.reason = Some(format!("the job was interrupted; job {by} took over"));
                self.store.post_job_target(row.id, position, target).await;
            }
        }
        let ended = Some(now_text());
        if let Err(error) = self
            .store
            .update_job(row.id, JobState::Failed, None, ended, row.session)
            .await
        {
            tracing::error!(job = row.id, %error, "state not recorded");
        }
    }

    /// Cancels an interrupted job that has no task.
    ///
    /// # Errors
    /// `Refused` for a job in another state; those of the store.
    pub async fn cancel_interrupted(&self, id: u64, reason: &str) -> Result<JobView, ApiError> {
        let row = self.job_row(id).await?;
        if row.job.state != JobState::Interrupted {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("job {id} is over"),
            ));
        }
        for (position, mut target) in row.job.targets.into_iter().enumerate() {
            if !target.view.state.is_final() {
                let message = ConsoleMessage::Cancel {
                    job: id.to_string(),
                    reason: reason.to_owned(),
                };
                self.roster.send(&target.view.id, message);
                target.view.state = TargetState::Dropped;
                target.view.disk_now = untouched(&target);
                target.view.reason = Some(reason.to_owned());
                self.store.post_job_target(id, position, target).await;
            }
        }
        if row.job.capture.is_some() {
            // Cancelling removes the unfinished image.
            if let Err(error) = remove_unfinished_parts(Path::new(&row.job.request.image)) {
                tracing::warn!(job = id, error = %error.full(), "no unfinished image removed");
            }
        }
        let ended = Some(now_text());
        let update = self
            .store
            .update_job(id, JobState::Cancelled, None, ended, row.session)
            .await;
        update.map_err(|error| store_error(&error))?;
        self.job_view(id).await
    }

    /// Handles an agent that still holds a job without a task: records its outcome, or sends
    /// `cancel`.
    pub async fn late(&self, target: &str, instance: &str, held: Unfinished) {
        let row = match parse_id(&held.job) {
            Ok(id) => match self.job_row(id).await {
                Ok(row) => Some(row),
                Err(error) if error.code == ErrorCode::NothingMatched => None,
                Err(error) => {
                    tracing::error!(job = held.job, %error, "cannot look the job up");
                    None
                }
            },
            Err(_) => None,
        };
        let captured = row.as_ref().is_some_and(|row| {
            let mut places = row.job.targets.iter();
            let done = |place: &&JobTargetRow| {
                place.view.id == target && place.view.state == TargetState::Done
            };
            row.job.capture.is_some() && places.any(|place| done(&place))
        });
        if let (true, Some(row)) = (captured, &row) {
            // The image is stored; the agent only missed `recorded`.
            if self.owe_word(row.id, target).await {
                return;
            }
            let after = row.job.request.end;
            let job = held.job;
            self.roster
                .send(target, ConsoleMessage::Recorded { job, after });
            return;
        }
        let place = row.as_ref().and_then(|row| {
            row.job.targets.iter().position(|place| {
                place.view.id == target
                    && place.instance.as_deref() == Some(instance)
                    && row.job.root == held.root
            })
        });
        let (Some(row), Some(position)) = (row, place) else {
            let reason = "the console does not know this job".to_owned();
            self.roster.send(
                target,
                ConsoleMessage::Cancel {
                    job: held.job,
                    reason,
                },
            );
            return;
        };
        if let Some(outcome) = held.outcome {
            self.late_outcome(row, position, outcome).await;
        } else if row.job.state != JobState::Interrupted {
            let reason = format!("job {} is over", row.id);
            self.roster.send(
                target,
                ConsoleMessage::Cancel {
                    job: held.job,
                    reason,
                },
            );
        }
        // An interrupted job may still be retried, so its agents keep their state.
    }

    /// Handles a message of an agent to a job that has just ended: records and answers an outcome.
    /// Returns true for an outcome.
    pub async fn after_the_end(self: &Arc<Self>, id: u64, input: Input) -> bool {
        match input {
            Input::Outcome { target, outcome } => {
                self.outcome_after_end(id, &target, *outcome).await;
                true
            }
            Input::Connected {
                target,
                instance,
                unfinished: Some(held),
            } => {
                let told = held.outcome.is_some();
                self.late(&target, &instance, held).await;
                told
            }
            Input::FirstStart { target, report } => {
                Arc::clone(self).show_first_start(id, target, *report).await;
                true
            }
            _ => false,
        }
    }

    /// Records the outcome of an agent that still holds its place in a job that has just ended.
    pub async fn outcome_after_end(&self, id: u64, target: &str, outcome: Outcome) {
        let Ok(row) = self.job_row(id).await else {
            return;
        };
        let Some((_, instance, _)) = self.roster.connection(target) else {
            return;
        };
        let mut places = row.job.targets.iter();
        let own = places.position(|place| {
            place.view.id == target && place.instance.as_ref() == Some(&instance)
        });
        if let Some(position) = own {
            self.late_outcome(row, position, outcome).await;
        }
    }

    /// Records an outcome for a job without a task: the job has ended, or is interrupted.
    pub async fn late_outcome(&self, row: JobRow, position: usize, outcome: Outcome) {
        let Some(target) = row.job.targets.get(position) else {
            return;
        };
        let id = row.id;
        if row.job.capture.is_some() && outcome.state == TargetState::Done {
            // Only the console knows when the image of a capture is done, so an agent's claim is
            // refused.
            let reason = format!("job {id} is over, and its image is not done");
            let job = id.to_string();
            self.roster
                .send(&target.view.id, ConsoleMessage::Cancel { job, reason });
            return;
        }
        if self.late_for_unstored(id, &target.view.id, &outcome).await {
            return;
        }
        let (state, end) = (target.view.state, row.job.request.end);
        let name = target.view.name.clone();
        let heard = place::late_outcome(target.clone(), outcome, row.job.plan.image.proof_root());
        let proven = heard.view.state == TargetState::Done;
        // A recorded outcome of the agent stays; an assumed state (lost, dropped) is replaced.
        let takes = place::awaits_word(target);
        if takes {
            tracing::info!(job = id, target = name, state = %heard.view.state, "outcome reported late");
            if let Err(error) = self
                .store
                .save_job_target(id, position, heard.clone())
                .await
            {
                tracing::error!(job = id, target = name, %error, "late outcome not recorded");
                return;
            }
            self.rewrite(id).await;
        }
        let after = if takes && proven || state == TargetState::Done {
            row.job.plan.after(&heard.view.id, end)
        } else {
            EndAction::None
        };
        let message = ConsoleMessage::Recorded {
            job: id.to_string(),
            after,
        };
        self.roster.send(&heard.view.id, message);
    }

    /// Updates the state and the report of a job after a late outcome.
    async fn rewrite(&self, id: u64) {
        let Ok(row) = self.job_row(id).await else {
            return;
        };
        let over = row
            .job
            .targets
            .iter()
            .all(|target| target.view.state.is_final());
        let done = row
            .job
            .targets
            .iter()
            .all(|target| target.view.state == TargetState::Done);
        let state = match (over, done, row.job.state) {
            (true, true, _) => JobState::Done,
            (true, false, JobState::Interrupted) => JobState::Failed,
            (_, _, state) => state,
        };
        let ended = Some(now_text()).filter(|_| over && row.ended.is_none());
        if let Err(error) = self
            .store
            .update_job(id, state, None, ended, row.session)
            .await
        {
            tracing::error!(job = id, %error, "state not recorded");
        }
        if let Ok(report) = self.report(id).await.map(Box::new)
            && report.summary.is_some()
            && let Err(error) = Folder::of(&self.settings.data_dir, id)
                .write_report(&report)
                .await
        {
            tracing::error!(job = id, %error, "report not written");
        }
    }
}

/// Returns `Untouched` for a target that never got an order; only its agent knows the disk of any
/// other.
fn untouched(target: &JobTargetRow) -> Option<DiskNow> {
    target.instance.is_none().then_some(DiskNow::Untouched)
}
