//! One job: from its start rule to its report.
//!
//! ```text
//! control connections --+                       +--> store, job folder
//! local API ------------+--> Input --> JobRun --+--> orders, cancel, recorded to agents
//! multicast thread -----+   (one task)          +--> events to watchers, view to the API
//! ```
//!
//! One task owns everything about a job, so nothing in it needs a lock; what others may look at is [`JobShared`].

pub(super) mod core;
pub mod events;
pub mod folder;
pub mod meter;
mod order;
mod place;
mod run;
pub mod session;
pub mod stall;
mod unstored;

pub use run::{JobRun, Recovery};
pub use unstored::Unstored;

use super::capture::Upload;
use super::master::MasterImage;
use super::personal::JobSecrets;
use super::schedule;
use super::store::{JobRow, JobTargetRow};
use super::time;
use api::{
    ApiError, CancelRequest, Event, FirstStart, JobView, Plan, PlannedFile, PlannedTarget,
    SCHEMA_VERSION, SessionView, StartRequest, Summary,
};
use events::EventHub;
use facts::target::TargetState;
use protocol::control::{Outcome, Progress, Unfinished};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Messages waiting for a job: five seconds of reports of 200 targets. Beyond that connections wait, and with them agents.
pub const INPUT_QUEUE: usize = 4096;

/// What a job hears.
pub enum Input {
    /// A target of the job, or one that says it holds the job, is connected.
    Connected {
        /// Target.
        target: String,
        /// Instance of its agent.
        instance: String,
        /// What the agent says it holds of this job.
        unfinished: Option<Unfinished>,
    },
    /// A target's connection ended.
    Disconnected {
        /// Target.
        target: String,
    },
    /// Report of a multicast receiver.
    Status {
        /// Target.
        target: String,
        /// Session it is about.
        session: u32,
        /// Report.
        status: Box<multicast::Status>,
    },
    /// Where a target stands.
    Progress {
        /// Target.
        target: String,
        /// Where.
        progress: Progress,
    },
    /// How a target ended.
    Outcome {
        /// Target.
        target: String,
        /// How.
        outcome: Box<Outcome>,
    },
    /// A line for the log.
    Log {
        /// Target.
        target: String,
        /// Line, cleaned.
        text: String,
    },
    /// A machine reported its first start, and that is stored.
    FirstStart {
        /// Target.
        target: String,
        /// What it reported.
        report: Box<FirstStart>,
    },
    /// Start now whatever the rule says.
    Start(StartRequest, oneshot::Sender<Result<(), ApiError>>),
    /// Further targets were confirmed.
    Add(Box<Addition>, oneshot::Sender<Result<(), ApiError>>),
    /// A machine that `--also-new` means could not be taken in.
    NotAdded {
        /// Target.
        target: String,
        /// Why.
        reason: String,
    },
    /// Drop some targets or all.
    Cancel(CancelRequest, oneshot::Sender<Result<(), ApiError>>),
    /// The image cannot be read, or is not what was stored.
    Unreadable(String),
    /// The console ends; the job goes on with the next one.
    Shutdown,
}

/// Targets that join a job that was made, planned like those it began with.
pub struct Addition {
    /// Who let them in.
    pub by: ConfirmedBy,
    /// Plan of each of them.
    pub targets: Vec<PlannedTarget>,
    /// Files that their plans name.
    pub files: Vec<PlannedFile>,
    /// Secrets that their plans name.
    pub(super) secrets: JobSecrets,
}

/// Origin of a confirmation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConfirmedBy {
    /// A technician saw the disk and confirmed it.
    Technician,
    /// `--also-new` was confirmed with the job, and the disk is blank.
    Rule,
}

/// What others may see of a job while its task runs.
pub struct JobShared {
    /// Number.
    pub id: u64,
    /// What it works with on TCP 5003.
    pub work: Work,
    /// What happened so far, and what happens.
    pub events: EventHub,
    /// Payload bytes served over TCP 5003.
    pub bulk_bytes: AtomicU64,
    confirmed: Mutex<Confirmed>,
    view: Mutex<JobView>,
    tokens: Mutex<BTreeMap<usize, blake3::Hash>>,
    answers: Mutex<BTreeMap<usize, u32>>,
}

/// What was confirmed, and what its targets may need to know; both grow with the targets that are added.
#[derive(Clone)]
struct Confirmed {
    plan: Arc<Plan>,
    secrets: Arc<JobSecrets>,
}

/// What a job works with.
pub enum Work {
    /// It sends this image.
    Deploy(Arc<MasterImage>),
    /// It takes in this one.
    Capture(Arc<Upload>),
}

/// An answer of the bulk service under way to one target; ends when dropped.
pub struct Turn {
    job: Arc<JobShared>,
    place: usize,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut answers = self
            .job
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = answers.get_mut(&self.place) {
            *count = count.saturating_sub(1);
        }
    }
}

impl JobShared {
    /// A job as it stands in the store.
    pub fn new(row: &JobRow, work: Work, secrets: JobSecrets) -> Self {
        Self {
            id: row.id,
            confirmed: Mutex::new(Confirmed {
                plan: Arc::new(row.job.plan.clone()),
                secrets: Arc::new(secrets),
            }),
            work,
            events: EventHub::default(),
            bulk_bytes: AtomicU64::new(0),
            view: Mutex::new(view_of(row)),
            tokens: Mutex::new(BTreeMap::new()),
            answers: Mutex::new(BTreeMap::new()),
        }
    }

    fn confirmed(&self) -> Confirmed {
        self.confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The plan that was confirmed, with the targets that were added since.
    pub fn plan(&self) -> Arc<Plan> {
        self.confirmed().plan
    }

    /// Secrets of its targets.
    pub(super) fn secrets(&self) -> Arc<JobSecrets> {
        self.confirmed().secrets
    }

    /// Targets were added: what is confirmed from now on.
    pub(super) fn confirm(&self, plan: Plan, secrets: JobSecrets) {
        let mut confirmed = self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *confirmed = Confirmed {
            plan: Arc::new(plan),
            secrets: Arc::new(secrets),
        };
    }

    /// Why a target waits beside the job, when it came after the confirmation.
    pub fn waits(&self, target: &str) -> Option<String> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let found = view.newcomers.iter().find(|one| one.id == target);
        found.map(|one| format!("job {}: {}", view.id, one.reason))
    }

    /// The image it sends, unless it is a capture.
    pub fn image(&self) -> Option<&Arc<MasterImage>> {
        match &self.work {
            Work::Deploy(image) => Some(image),
            Work::Capture(_) => None,
        }
    }

    /// The image it takes in, when it is a capture.
    pub fn upload(&self) -> Option<&Arc<Upload>> {
        match &self.work {
            Work::Capture(upload) => Some(upload),
            Work::Deploy(_) => None,
        }
    }

    /// Begins an answer to a target, unless `limit` are under way to it already.
    pub fn begin_answer(self: &Arc<Self>, place: usize, limit: u32) -> Option<Turn> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = answers.entry(place).or_insert(0);
        (*count < limit).then(|| {
            *count += 1;
            Turn {
                job: Arc::clone(self),
                place,
            }
        })
    }

    /// The job as the API shows it.
    pub fn view(&self) -> JobView {
        self.view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_view(&self, view: JobView) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// The place in the job that this token belongs to. Compares in constant time: blake3 hashes do.
    pub fn place_of_token(&self, token: &str) -> Option<usize> {
        let (place, secret) = token.split_once('.')?;
        let place = place.parse().ok()?;
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        (*tokens.get(&place)? == blake3::hash(secret.as_bytes())).then_some(place)
    }

    pub(super) fn set_token(&self, place: usize, secret: &str) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(place, blake3::hash(secret.as_bytes()));
    }

    pub(super) fn drop_token(&self, place: usize) {
        self.tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&place);
    }
}

/// The way to a running job.
#[derive(Clone)]
pub struct JobHandle {
    /// What may be seen of it.
    pub shared: Arc<JobShared>,
    /// What it hears.
    pub inputs: mpsc::Sender<Input>,
}

/// A stored job as the API shows it.
pub fn view_of(row: &JobRow) -> JobView {
    let mut targets: Vec<_> = row
        .job
        .targets
        .iter()
        .map(|target| target.view.clone())
        .collect();
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    JobView {
        id: row.id.to_string(),
        state: row.job.state,
        created: row.job.created.clone(),
        started: row.started.clone(),
        ended: row.ended.clone(),
        image: row.job.request.image.clone(),
        root: row.job.root.clone(),
        chosen_root: row.job.plan.image.chosen_root.clone(),
        retry_of: row.job.retry_of.map(|id| id.to_string()),
        targets,
        newcomers: Vec::new(),
        session: row.session.clone(),
        start_note: schedule::note(&row.job.request, row.job.state, row.started.as_deref()),
        unchecked: row.job.plan.unchecked(),
        image_check: None,
        capture: row
            .job
            .capture
            .as_ref()
            .map(|capture| Box::new(capture.view.clone())),
    }
}

/// How a job ended.
pub fn summary_of(view: &JobView, report: &Path) -> Summary {
    let done = view
        .targets
        .iter()
        .filter(|target| target.state == TargetState::Done)
        .count();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let began = view.started.as_ref().unwrap_or(&view.created);
    Summary {
        schema_version: SCHEMA_VERSION,
        job: view.id.clone(),
        state: view.state,
        image: view.image.clone(),
        root: view.root.clone(),
        chosen_root: view.chosen_root.clone(),
        targets: view.targets.clone(),
        unchecked: view.unchecked,
        done: count(done),
        failed: count(view.targets.len() - done),
        seconds: view
            .ended
            .as_ref()
            .map_or(0.0, |ended| time::seconds_between(began, ended)),
        session: SessionView {
            rate_bytes_per_s: 0,
            ..view.session.clone()
        },
        capture: view.capture.clone(),
        report: report.display().to_string(),
    }
}

/// A line for the log of a job.
pub fn log_event(job: &str, text: String) -> Event {
    Event::Log {
        job: job.to_owned(),
        time: time::now_text(),
        text,
    }
}

/// True if a place that ended still takes an outcome: its agent has not reported one.
pub fn awaits_word(row: &JobTargetRow) -> bool {
    place::awaits_word(row)
}

/// A place after an outcome that came when the job's task was gone.
pub fn late_outcome(row: JobTargetRow, outcome: Outcome, image_root: &str) -> JobTargetRow {
    let mut place = place::Place::new(row);
    place.outcome(outcome, image_root);
    place.row
}
