//! Planning, creation, display and retry of jobs.
//!
//! Owns the list of jobs whose task runs, and the groups of sessions. Invariants: a job is made
//! only for confirmed targets; its targets are in no other job; a retry sends the same image or
//! nothing, and needs its password again, because passwords are never stored.

use super::context::Console;
use super::interface::interface_speed;
use super::job::folder::Folder;
use super::job::{self, Input, JobHandle, JobRun, JobShared, Recovery, Unstored, Work};
use super::master::MasterImage;
use super::personal::{JobSecrets, Personalised};
use super::shares::{Wanted, keep_given};
use super::store::StoreError;
use super::time::{now, now_text};
use api::select::Selector;
use api::{
    ApiError, CreateJob, DeployRequest, ErrorCode, JobState, JobView, Plan, Report, RetryRequest,
    SCHEMA_VERSION, StartRule,
};
use disk::missing;
use facts::target::TargetState;
use jobs::confirm;
use jobs::plan;
use jobs::rate;
use jobs::row::{JobRow, JobTargetRow, NewJob};
use jobs::schedule::until;
use jobs::view;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Maximum number of jobs in `job list`.
const MAX_LISTED: u32 = 500;

#[derive(Default)]
struct Inner {
    running: BTreeMap<u64, (JobHandle, Option<JoinHandle<()>>)>,
    /// Ended jobs whose result is not stored yet.
    unstored: BTreeMap<u64, Arc<Unstored>>,
    slots: BTreeSet<u8>,
    /// Number of temporary claim ids given so far.
    drafts: u64,
}

/// Jobs that have not ended, and results that are not stored.
#[derive(Default)]
pub struct Jobs {
    inner: Mutex<Inner>,
}

impl Jobs {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Every change below is one insert or remove, so a poisoned map is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the handle of a job whose task runs.
    pub fn handle(&self, id: u64) -> Option<JobHandle> {
        self.lock()
            .running
            .get(&id)
            .map(|(handle, _)| handle.clone())
    }

    /// Returns the running job in which a target is lost, so that the target can resume it.
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

    /// Returns the reason why a target waits beside a job as a newcomer.
    pub fn waits(&self, target: &str) -> Option<String> {
        let inner = self.lock();
        let mut running = inner.running.values();
        running.find_map(|(handle, _)| handle.shared.waits(target))
    }

    /// Returns a job that is shown from memory: its task runs, or its result is not stored yet.
    pub fn shared(&self, id: u64) -> Option<Arc<JobShared>> {
        let inner = self.lock();
        let running = inner.running.get(&id).map(|(handle, _)| &handle.shared);
        let unstored = || inner.unstored.get(&id).map(|result| result.shared());
        running.or_else(unstored).cloned()
    }

    /// Keeps a result in memory until it is stored.
    pub fn keep(&self, result: Arc<Unstored>) {
        self.lock().unstored.insert(result.shared().id, result);
    }

    /// Returns the result of an ended job that waits for the store.
    pub fn unstored(&self, id: u64) -> Option<Arc<Unstored>> {
        self.lock().unstored.get(&id).cloned()
    }

    /// Forgets a result after it was stored.
    pub fn forget(&self, id: u64) {
        self.lock().unstored.remove(&id);
    }

    /// Removes a job whose task is about to end.
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
        // Listed before it runs, because a job that ends at once removes itself.
        self.lock().running.insert(id, (handle, None));
        let task = tokio::spawn(task);
        if let Some((_, place)) = self.lock().running.get_mut(&id) {
            *place = Some(task);
        }
    }

    /// Returns every job whose task runs.
    pub fn running(&self) -> Vec<JobHandle> {
        let inner = self.lock();
        inner
            .running
            .values()
            .map(|(handle, _)| handle.clone())
            .collect()
    }

    /// Returns a temporary claim id, used until the store has numbered the job.
    pub(super) fn draft(&self) -> String {
        let mut inner = self.lock();
        inner.drafts += 1;
        format!("draft-{}", inner.drafts)
    }

    /// Takes the slot, and so the groups, of another session.
    pub fn take_slot(&self) -> Option<u8> {
        rate::take_slot(&mut self.lock().slots)
    }

    /// Returns the slot of a session that has ended.
    pub fn return_slot(&self, slot: u8) {
        self.lock().slots.remove(&slot);
    }

    /// Tells every job that the console ends, and waits until each has stored its state.
    pub async fn shutdown(&self) {
        let running = std::mem::take(&mut self.lock().running);
        let mut tasks = Vec::new();
        for (_, (handle, task)) in running {
            // The job may have ended meanwhile.
            let _ = handle.inputs.send(Input::Shutdown).await;
            tasks.extend(task);
        }
        for task in tasks {
            let _ = task.await;
        }
    }
}

/// Parses a job's id.
///
/// # Errors
/// `NothingMatched` if the text is not a number.
pub fn parse_id(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| no_such_job(text))
}

fn no_such_job(id: &str) -> ApiError {
    ApiError::new(ErrorCode::NothingMatched, format!("there is no job {id}"))
        .hint("diskcast job list shows them")
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
            StartRule::At(time) if until(now(), time).is_none() => {
                return Err(
                    ApiError::new(ErrorCode::Usage, format!("{time:?} is no date"))
                        .hint("for example 2026-05-04T22:00:00+02:00"),
                );
            }
            StartRule::At(time) if until(now(), time).is_none_or(|left| left.is_zero()) => {
                return Err(ApiError::new(
                    ErrorCode::Usage,
                    format!("{time} is past: the console's clock says {}", now_text()),
                )
                .hint("name a time to come, or start it at once with --start now"));
            }
            _ => {}
        }
        let candidates = self.roster.candidates();
        let own_speed = interface_speed(&self.settings.interface);
        let facts = candidates
            .iter()
            .filter(|c| c.view.connected)
            .map(|candidate| &candidate.view.facts);
        let cap = rate::known_rate_cap(request, facts, own_speed);
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

    /// Makes a plan from fresh reports about the disks.
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

    /// Makes the plan of a request; changes nothing.
    ///
    /// # Errors
    /// `Usage` for an invalid request, `NothingMatched` if no target matches; those of opening the
    /// image, and faults of the template.
    pub async fn plan(&self, mut request: DeployRequest) -> Result<Plan, ApiError> {
        let password = request.password.take();
        let image = self.open_image(Wanted::of(&request), password).await?;
        let mut plan = self.fresh_plan(&request, &image).await?;
        plan.image.checked = self.recorded_check(&image).await;
        self.personalise(&request, &image, &mut plan).await?;
        Ok(plan)
    }

    /// Creates and starts a job if the plan still has the confirmed targets and disks.
    ///
    /// # Errors
    /// The errors of [`Self::plan`]; `Refused` if the plan differs from the confirmation or a target is
    /// in another job; `Unexpected` if the store fails.
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
        // Names are handed out and secrets looked up before any claim, so that a missing one is
        // reported now.
        let mut secrets = match personal {
            Some(personal) => self.settle(&request, &plan, personal).await?,
            None => JobSecrets::default(),
        };
        keep_given(&request, &mut secrets);
        // The secrets are looked up by now; no stored or shown request holds them.
        let request = request.without_secrets();
        let ids: Vec<String> = plan
            .targets
            .iter()
            .filter(|t| t.refused.is_none())
            .map(|t| t.id.clone())
            .collect();
        let draft = self.jobs.draft();
        // After the claim no other job can take these targets.
        self.roster.claim(&draft, &ids, TargetState::Ready)?;
        let total = plan.image.used_bytes;
        let job = NewJob {
            state: JobState::Waiting,
            targets: plan
                .targets
                .iter()
                .map(|target| JobTargetRow::planned(target, total))
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

    /// Returns the newest jobs, newest first, at most [`MAX_LISTED`].
    ///
    /// # Errors
    /// `Unexpected` if the store fails.
    pub async fn job_views(&self) -> Result<Vec<JobView>, ApiError> {
        let rows = self
            .store
            .jobs(MAX_LISTED)
            .await
            .map_err(|error| store_error(&error))?;
        let live = |row: &JobRow| self.jobs.shared(row.id).map(|shared| shared.view());
        Ok(rows
            .iter()
            .map(|row| live(row).unwrap_or_else(|| view::view_of(row)))
            .collect())
    }

    /// Returns a job's row, with the result that waits for the store if there is one.
    ///
    /// # Errors
    /// `NothingMatched` for an unknown job, `Unexpected` if the store fails.
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

    /// Returns the present view of one job.
    ///
    /// # Errors
    /// The errors of [`Self::job_row`].
    pub async fn job_view(&self, id: u64) -> Result<JobView, ApiError> {
        match self.jobs.shared(id) {
            Some(shared) => Ok(shared.view()),
            None => Ok(view::view_of(&self.job_row(id).await?)),
        }
    }

    /// Returns the report of a job, ended or not.
    ///
    /// # Errors
    /// The errors of [`Self::job_row`].
    pub async fn report(&self, id: u64) -> Result<Report, ApiError> {
        let row = self.job_row(id).await?;
        let view = self.job_view(id).await?;
        let folder = Folder::of(&self.settings.data_dir, id);
        let summary = view
            .state
            .is_final()
            .then(|| view::summary_of(&view, &folder.report()));
        Ok(Report {
            schema_version: SCHEMA_VERSION,
            job: view,
            plan: row.job.plan,
            summary,
        })
    }

    /// Makes a new job for the targets of an ended one that are not done and are connected now.
    ///
    /// # Errors
    /// `NothingMatched` for an unknown job, or if no such target is connected; `Refused` if the job
    /// still runs, its result is not stored, its image has changed, or no target may be written;
    /// `Usage` for an invalid selector or a missing password.
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
        // `--no-check` was given for one job only.
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
