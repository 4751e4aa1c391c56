//! Jobs: planning them, making them, showing them, trying again.
//!
//! Owns: the list of jobs whose task runs, and the groups sessions take. What always holds: a job is made only for the
//! targets that were confirmed; its targets are in no other job; a retry sends the same image or nothing, and asks for
//! its password again, because that was never stored.

use super::confirm;
use super::context::Console;
use super::job::folder::Folder;
use super::job::{self, Input, JobHandle, JobRun, JobShared, Recovery, Unstored, Work, session};
use super::master::MasterImage;
use super::personal::{JobSecrets, Personalised};
use super::plan;
use super::shares::{Wanted, keep_given};
use super::store::{JobRow, JobTargetRow, NewJob, StoreError};
use super::time::{now_text, until};
use api::select::Selector;
use api::{
    ApiError, CreateJob, DeployRequest, ErrorCode, FirstStart, JobState, JobTarget, JobView, Plan,
    PlannedTarget, Report, RetryRequest, SCHEMA_VERSION, StartRule,
};
use disk::missing;
use facts::target::{DiskFacts, DiskNow, TargetState};
use protocol::control::Counters;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Jobs in `job list`.
const MAX_LISTED: u32 = 500;

#[derive(Default)]
struct Inner {
    running: BTreeMap<u64, (JobHandle, Option<JoinHandle<()>>)>,
    /// Jobs that are over and whose result the disk did not take yet.
    unstored: BTreeMap<u64, Arc<Unstored>>,
    slots: BTreeSet<u8>,
    /// Numbers the claims of jobs that have no number yet.
    drafts: u64,
}

/// Jobs that are not over.
#[derive(Default)]
pub struct Jobs {
    inner: Mutex<Inner>,
}

impl Jobs {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Every change below is one insert or remove: a poisoned map is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job whose task runs.
    pub fn handle(&self, id: u64) -> Option<JobHandle> {
        self.lock()
            .running
            .get(&id)
            .map(|(handle, _)| handle.clone())
    }

    /// A running job that gave a target up as lost: when it comes back, it goes on.
    pub fn missing(&self, target: &str) -> Option<String> {
        let is_missing = |shared: &JobShared| {
            shared
                .view()
                .targets
                .iter()
                .any(|place| place.id == target && place.state == TargetState::Lost)
        };
        self.lock()
            .running
            .iter()
            .find(|(_, (handle, _))| is_missing(&handle.shared))
            .map(|(id, _)| id.to_string())
    }

    /// Why a target waits beside a job, when it came after the confirmation.
    pub fn waits(&self, target: &str) -> Option<String> {
        let inner = self.lock();
        let mut running = inner.running.values();
        running.find_map(|(handle, _)| handle.shared.waits(target))
    }

    /// A job that is shown from memory: its task runs, or its result is not stored yet.
    pub fn shared(&self, id: u64) -> Option<Arc<JobShared>> {
        let inner = self.lock();
        let running = inner.running.get(&id).map(|(handle, _)| &handle.shared);
        let unstored = || inner.unstored.get(&id).map(|result| result.shared());
        running.or_else(unstored).cloned()
    }

    /// Shows a job from memory until its result is stored.
    pub fn keep(&self, result: Arc<Unstored>) {
        self.lock().unstored.insert(result.shared().id, result);
    }

    /// The result of a job that is over, while it waits for the store.
    pub fn unstored(&self, id: u64) -> Option<Arc<Unstored>> {
        self.lock().unstored.get(&id).cloned()
    }

    /// The result of a job is stored.
    pub fn forget(&self, id: u64) {
        self.lock().unstored.remove(&id);
    }

    /// The task of a job is about to end.
    pub fn remove(&self, id: u64) {
        self.lock().running.remove(&id);
    }

    /// Lists a job and starts its task.
    pub(super) fn start(
        &self,
        id: u64,
        handle: JobHandle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        // Listed before it runs: a job that ends at once takes itself off the list.
        self.lock().running.insert(id, (handle, None));
        let task = tokio::spawn(task);
        if let Some((_, place)) = self.lock().running.get_mut(&id) {
            *place = Some(task);
        }
    }

    /// Every job whose task runs.
    pub fn running(&self) -> Vec<JobHandle> {
        let inner = self.lock();
        inner
            .running
            .values()
            .map(|(handle, _)| handle.clone())
            .collect()
    }

    /// A word to claim targets under, for a job that has no number yet.
    pub(super) fn draft(&self) -> String {
        let mut inner = self.lock();
        inner.drafts += 1;
        format!("draft-{}", inner.drafts)
    }

    /// Groups for another session.
    pub fn take_slot(&self) -> Option<u8> {
        session::take_slot(&mut self.lock().slots)
    }

    /// The session is over.
    pub fn return_slot(&self, slot: u8) {
        self.lock().slots.remove(&slot);
    }

    /// Tells every job that the console ends, and waits until each has said so to the store.
    pub async fn shutdown(&self) {
        let running = std::mem::take(&mut self.lock().running);
        let mut tasks = Vec::new();
        for (_, (handle, task)) in running {
            // A job that ended meanwhile hears nothing more.
            let _ = handle.inputs.send(Input::Shutdown).await;
            tasks.extend(task);
        }
        for task in tasks {
            let _ = task.await;
        }
    }
}

/// The number in a job's text id.
pub fn parse_id(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| no_such_job(text))
}

fn no_such_job(id: &str) -> ApiError {
    ApiError::new(ErrorCode::NothingMatched, format!("there is no job {id}"))
        .hint("diskcast job list shows them")
}

/// A place for a planned target; one that was refused has failed before it began.
pub fn place_row(target: &PlannedTarget, total_bytes: u64) -> JobTargetRow {
    let refused = target.refused.as_ref();
    JobTargetRow {
        view: JobTarget {
            id: target.id.clone(),
            name: target.name.clone(),
            state: if refused.is_some() {
                TargetState::Failed
            } else {
                TargetState::Discovered
            },
            reason: refused.map(|reason| format!("refused: {reason}")),
            disk: target
                .disk
                .as_ref()
                .map(DiskFacts::title)
                .unwrap_or_default(),
            done_bytes: 0,
            total_bytes,
            bytes_written: 0,
            disk_now: refused.map(|_| DiskNow::Untouched),
            first_start: target.reports_first_start().then(FirstStart::default),
            seconds: 0.0,
            rate_bytes_per_s: 0,
            loss: 0.0,
            eta_seconds: None,
            root: None,
            step: None,
            note: None,
            bottleneck: None,
            counters: Counters::default(),
        },
        instance: None,
        disk: target.disk.clone(),
    }
}

pub(super) fn store_error(error: &StoreError) -> ApiError {
    ApiError::new(ErrorCode::Unexpected, error.to_string())
        .hint("is the disk of the data directory full?")
}

impl Console {
    fn make_plan(&self, request: &DeployRequest, image: &MasterImage) -> Result<Plan, ApiError> {
        match &request.start {
            StartRule::Count(0) => {
                return Err(ApiError::new(
                    ErrorCode::Usage,
                    "a session of 0 targets never starts",
                ));
            }
            StartRule::All | StartRule::Now if request.also_new => {
                return Err(ApiError::new(
                    ErrorCode::Usage,
                    "--also-new is for machines that come before the start, and this starts at once",
                )
                .hint("say with --start when it starts: a number of targets, at=TIME or manual"));
            }
            StartRule::At(time) if until(time).is_none() => {
                return Err(
                    ApiError::new(ErrorCode::Usage, format!("{time:?} is no date"))
                        .hint("for example 2026-05-04T22:00:00+02:00"),
                );
            }
            StartRule::At(time) if until(time).is_none_or(|left| left.is_zero()) => {
                return Err(ApiError::new(
                    ErrorCode::Usage,
                    format!("{time} is past: the console's clock says {}", now_text()),
                )
                .hint("name a time to come, or start it at once with --start now"));
            }
            _ => {}
        }
        let candidates = self.roster.candidates();
        let own_speed = session::interface_speed(&self.settings.interface);
        let facts = candidates
            .iter()
            .filter(|c| c.view.connected)
            .map(|candidate| &candidate.view.facts);
        let cap = session::known_rate_cap(request, facts, own_speed);
        let mut plan = plan::make(request, &image.chosen(&request.choice)?, &candidates, cap)?;
        let holes = missing::lines(&image.image().manifest().meta);
        if !holes.is_empty() && !request.accept_holes {
            for target in &mut plan.targets {
                let reason = format!("the image has holes, {}: --accept-holes", missing::SHORT);
                target.refused.get_or_insert(reason);
            }
        }
        plan.notes.extend(holes);
        self.refuse_untrusted(image, &mut plan);
        Ok(plan)
    }

    /// A plan from what the machines say of their disks now.
    async fn fresh_plan(
        &self,
        request: &DeployRequest,
        image: &MasterImage,
    ) -> Result<Plan, ApiError> {
        let fresh = self.refresh_facts(&request.targets).await;
        let mut plan = self.make_plan(request, image)?;
        self.date_facts(&mut plan, &fresh);
        Ok(plan)
    }

    /// What a request would do.
    pub async fn plan(&self, mut request: DeployRequest) -> Result<Plan, ApiError> {
        let password = request.password.take();
        let image = self.open_image(Wanted::of(&request), password).await?;
        let mut plan = self.fresh_plan(&request, &image).await?;
        plan.image.checked = self.recorded_check(&image).await;
        self.personalise(&request, &image, &mut plan).await?;
        Ok(plan)
    }

    /// Makes and starts a job, when the plan still comes to the targets that were confirmed.
    pub async fn create_job(self: &Arc<Self>, create: CreateJob) -> Result<JobView, ApiError> {
        let mut request = create.request;
        let password = request.password.take();
        let image = self.open_image(Wanted::of(&request), password).await?;
        let _turn = self.personal.binding.lock().await;
        let mut plan = self.fresh_plan(&request, &image).await?;
        plan.image.checked = self.recorded_check(&image).await;
        let personal = self.personalise(&request, &image, &mut plan).await?;
        confirm::check(&plan, &create.expect_targets, &create.expect_disks)?;
        self.make_job(request, plan, image, personal, None).await
    }

    async fn make_job(
        self: &Arc<Self>,
        request: DeployRequest,
        plan: Plan,
        image: Arc<MasterImage>,
        personal: Option<Personalised>,
        retry_of: Option<u64>,
    ) -> Result<JobView, ApiError> {
        // Names are handed out and secrets looked up before anything is claimed: what is missing is said now.
        let mut secrets = match personal {
            Some(personal) => self.settle(&request, &plan, personal).await?,
            None => JobSecrets::default(),
        };
        keep_given(&request, &mut secrets);
        // They are looked up: nothing that is kept or shown holds them.
        let request = request.without_secrets();
        let ids: Vec<String> = plan
            .targets
            .iter()
            .filter(|t| t.refused.is_none())
            .map(|t| t.id.clone())
            .collect();
        let draft = self.jobs.draft();
        // From here on no other job can take them.
        self.roster.claim(&draft, &ids, TargetState::Ready)?;
        let total = plan.image.used_bytes;
        let job = NewJob {
            state: JobState::Waiting,
            targets: plan
                .targets
                .iter()
                .map(|target| place_row(target, total))
                .collect(),
            request,
            plan,
            root: image.root().to_owned(),
            encrypted: image.encrypted(),
            created: now_text(),
            retry_of,
            capture: None,
        };
        let created = self.store.create_job(job.clone()).await;
        let id = match created {
            Ok(id) => id,
            Err(error) => {
                ids.iter().for_each(|id| self.roster.release(id, &draft));
                return Err(store_error(&error));
            }
        };
        self.roster.rename_claim(&draft, &id.to_string());
        if let Err(error) = self.keep_secrets(id, &secrets).await {
            tracing::warn!(
                job = id,
                reason = error.message,
                "secrets not kept: after a restart of the console the job has to be started anew"
            );
        }
        let row = JobRow {
            id,
            job,
            started: None,
            ended: None,
            session: Default::default(),
        };
        let shared = self.spawn(row, image, secrets, Recovery::New);
        Ok(shared.view())
    }

    pub(super) fn spawn(
        self: &Arc<Self>,
        row: JobRow,
        image: Arc<MasterImage>,
        secrets: JobSecrets,
        recovery: Recovery,
    ) -> Arc<JobShared> {
        let id = row.id;
        let work = Work::Deploy(Arc::clone(&image));
        let shared = Arc::new(JobShared::new(&row, work, secrets));
        let (inputs, inbox) = mpsc::channel(job::INPUT_QUEUE);
        let handle = JobHandle {
            shared: Arc::clone(&shared),
            inputs,
        };
        let (console, seen) = (Arc::clone(self), Arc::clone(&shared));
        let run = JobRun::new(console, row, seen, image, inbox, recovery);
        self.jobs.start(id, handle, run.run());
        shared
    }

    /// Every job, newest first.
    pub async fn job_views(&self) -> Result<Vec<JobView>, ApiError> {
        let rows = self
            .store
            .jobs(MAX_LISTED)
            .await
            .map_err(|error| store_error(&error))?;
        let live = |row: &JobRow| self.jobs.shared(row.id).map(|shared| shared.view());
        Ok(rows
            .iter()
            .map(|row| live(row).unwrap_or_else(|| job::view_of(row)))
            .collect())
    }

    /// A job as it is known: stored, or with the result that waits for the store.
    pub async fn job_row(&self, id: u64) -> Result<JobRow, ApiError> {
        let row = self
            .store
            .job(id)
            .await
            .map_err(|error| store_error(&error))?;
        let mut row = row.ok_or_else(|| no_such_job(&id.to_string()))?;
        if let Some(result) = self.jobs.unstored(id) {
            result.overlay(&mut row).await;
        }
        Ok(row)
    }

    /// One job as it stands.
    pub async fn job_view(&self, id: u64) -> Result<JobView, ApiError> {
        match self.jobs.shared(id) {
            Some(shared) => Ok(shared.view()),
            None => Ok(job::view_of(&self.job_row(id).await?)),
        }
    }

    /// The report of a job, finished or not.
    pub async fn report(&self, id: u64) -> Result<Report, ApiError> {
        let row = self.job_row(id).await?;
        let view = self.job_view(id).await?;
        let folder = Folder::of(&self.settings.data_dir, id);
        let summary = view
            .state
            .is_final()
            .then(|| job::summary_of(&view, &folder.report()));
        Ok(Report {
            schema_version: SCHEMA_VERSION,
            job: view,
            plan: row.job.plan,
            summary,
        })
    }

    /// A new job for the targets of an ended one that are not done and are connected now.
    pub async fn retry_job(
        self: &Arc<Self>,
        id: u64,
        retry: RetryRequest,
    ) -> Result<JobView, ApiError> {
        if self
            .jobs
            .shared(id)
            .is_some_and(|shared| shared.view().state.is_final())
        {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("the result of job {id} is not stored yet"),
            )
            .hint("is the disk of the data directory full?"));
        }
        if self.jobs.handle(id).is_some() {
            return Err(
                ApiError::new(ErrorCode::Refused, format!("job {id} is not over")).hint(format!(
                    "diskcast job watch {id}, or diskcast job cancel {id}"
                )),
            );
        }
        let row = self.job_row(id).await?;
        if let Some(capture) = &row.job.capture {
            let request = capture.request.clone();
            return self.retry_capture(row, request, retry.password).await;
        }
        let narrow: Option<Selector> = retry
            .targets
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error| ApiError::new(ErrorCode::Usage, format!("--targets: {error}")))?;
        let again: Vec<String> = row
            .job
            .targets
            .iter()
            .filter(|target| target.view.state != TargetState::Done)
            .filter_map(|target| self.roster.view(&target.view.id).ok())
            .filter(|view| {
                view.connected
                    && narrow
                        .as_ref()
                        .is_none_or(|selector| selector.matches(view))
            })
            .map(|view| format!("id:{}", view.id))
            .collect();
        if again.is_empty() {
            return Err(ApiError::new(
                ErrorCode::NothingMatched,
                format!("no target of job {id} that is not done is connected now"),
            )
            .hint("diskcast target list shows who is connected"));
        }
        let mut request = row.job.request.clone();
        request.targets = again.join(",");
        request.start = StartRule::Now;
        // Said by hand for one job, not for the next.
        request.no_check = false;
        request.secrets = self.given_to_job(id).await;
        request.secrets.0.extend(retry.secrets.0);
        let image = self
            .open_image(Wanted::of(&request), retry.password)
            .await?;
        if image.root() != row.job.root {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!(
                    "{} is another image now: root {}, the job's was {}",
                    request.image,
                    image.root(),
                    row.job.root
                ),
            )
            .hint("deploy it anew if that is what you want"));
        }
        let _turn = self.personal.binding.lock().await;
        let mut plan = self.fresh_plan(&request, &image).await?;
        plan.image.checked = self.recorded_check(&image).await;
        confirm::hold_to(&row.job.targets, &image.partitions(), &mut plan);
        let personal = self.personalise(&request, &image, &mut plan).await?;
        if plan.targets.iter().all(|target| target.refused.is_some()) {
            return Err(confirm::all_refused(&plan));
        }
        let view = self
            .make_job(request, plan, image, personal, Some(id))
            .await?;
        self.store.forget_job_secrets(id).await;
        if row.job.state == JobState::Interrupted {
            self.close_interrupted(row, &view.id).await;
        }
        Ok(view)
    }
}
