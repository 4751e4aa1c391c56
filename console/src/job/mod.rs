//! One job: from its start rule to its report.
//!
//! ```text
//! control connections --+                       +--> store, job folder
//! local API ------------+--> Input --> JobRun --+--> orders, cancel, recorded to agents
//! multicast thread -----+   (one task)          +--> events to watchers, view to the API
//! ```
//!
//! One task owns the whole state of a job, so no part of it needs a lock. [`JobShared`] is the part
//! that others may read.

pub(super) mod core;
pub mod events;
pub mod folder;
mod order;
mod run;
mod unstored;

pub use run::{JobRun, Recovery};
pub use unstored::Unstored;

use super::capture::Upload;
use super::master::MasterImage;
use super::personal::JobSecrets;
use super::time;
use api::{
    ApiError, CancelRequest, Event, FirstStart, JobView, Plan, PlannedFile, PlannedTarget,
    StartRequest,
};
use events::EventHub;
use jobs::row::JobRow;
use jobs::view::view_of;
use protocol::control::{Outcome, Progress, Unfinished};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Maximum number of messages that wait for a job: five seconds of reports from 200 targets. A full
/// queue makes connections, and so agents, wait.
pub const INPUT_QUEUE: usize = 4096;

/// A message to a job's task.
pub enum Input {
    /// A target of the job, or one whose agent reports that it holds the job, is connected.
    Connected {
        /// Id of the target.
        target: String,
        /// Instance of its agent.
        instance: String,
        /// The part of this job that the agent reports as unfinished.
        unfinished: Option<Unfinished>,
    },
    /// The connection of a target ended.
    Disconnected {
        /// Id of the target.
        target: String,
    },
    /// Status report of a multicast receiver.
    Status {
        /// Id of the target.
        target: String,
        /// Id of the session that the report is about.
        session: u32,
        /// Counts and deficits of the receiver.
        status: Box<multicast::Status>,
    },
    /// Progress report of a target.
    Progress {
        /// Id of the target.
        target: String,
        /// State and counters of the target.
        progress: Progress,
    },
    /// Outcome that a target's agent reports.
    Outcome {
        /// Id of the target.
        target: String,
        /// Outcome, not judged yet.
        outcome: Box<Outcome>,
    },
    /// Line of a target for the job's log.
    Log {
        /// Id of the target.
        target: String,
        /// Cleaned text of the line.
        text: String,
    },
    /// First start that a machine reported; it is already stored.
    FirstStart {
        /// Id of the target.
        target: String,
        /// Content of the report.
        report: Box<FirstStart>,
    },
    /// Request to start now, whatever the start rule says.
    Start(StartRequest, oneshot::Sender<Result<(), ApiError>>),
    /// Further targets that were confirmed.
    Add(Box<Addition>, oneshot::Sender<Result<(), ApiError>>),
    /// Failure to add a machine that `--also-new` matched.
    NotAdded {
        /// Id of the target.
        target: String,
        /// Reason for a person to read.
        reason: String,
    },
    /// Request to drop some targets or all.
    Cancel(CancelRequest, oneshot::Sender<Result<(), ApiError>>),
    /// Fault of the image: it cannot be read, or its content differs from its hashes.
    Unreadable(String),
    /// End of the console; the next console continues the job.
    Shutdown,
}

/// Targets that join an existing job, planned like its first ones.
pub struct Addition {
    /// Origin of their confirmation.
    pub by: ConfirmedBy,
    /// Plan of each target.
    pub targets: Vec<PlannedTarget>,
    /// Files that the plans name.
    pub files: Vec<PlannedFile>,
    /// Secrets that the plans name.
    pub(super) secrets: JobSecrets,
}

/// Origin of a confirmation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConfirmedBy {
    /// A technician saw the disk and confirmed it.
    Technician,
    /// The job was confirmed with `--also-new`, and the disk is blank.
    Rule,
}

/// The part of a job that others may read while its task runs.
pub struct JobShared {
    /// Number of the job.
    pub id: u64,
    /// Image that TCP 5003 serves, or upload that it takes.
    pub work: Work,
    /// Events of the job, past and live.
    pub events: EventHub,
    /// Payload bytes served over TCP 5003.
    pub bulk_bytes: AtomicU64,
    confirmed: Mutex<Confirmed>,
    view: Mutex<JobView>,
    tokens: Mutex<BTreeMap<usize, blake3::Hash>>,
    answers: Mutex<BTreeMap<usize, u32>>,
}

/// The confirmed plan and the secrets of its targets; both grow when targets are added.
#[derive(Clone)]
struct Confirmed {
    plan: Arc<Plan>,
    secrets: Arc<JobSecrets>,
}

/// Image that a job sends, or upload that it receives.
pub enum Work {
    /// The image of a deployment.
    Deploy(Arc<MasterImage>),
    /// The upload of a capture.
    Capture(Arc<Upload>),
}

/// A request of one target that the bulk service is answering; dropping it ends the count.
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
    /// Makes the shared part of a job from its stored row.
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

    /// Returns the confirmed plan, with the targets added since.
    pub fn plan(&self) -> Arc<Plan> {
        self.confirmed().plan
    }

    /// Returns the secrets of the job's targets.
    pub(super) fn secrets(&self) -> Arc<JobSecrets> {
        self.confirmed().secrets
    }

    /// Replaces the plan and the secrets after targets were added.
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

    /// Returns the reason why a newcomer waits, or `None` if the target is not a newcomer.
    pub fn waits(&self, target: &str) -> Option<String> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let found = view.newcomers.iter().find(|one| one.id == target);
        found.map(|one| format!("job {}: {}", view.id, one.reason))
    }

    /// Returns the image of a deployment; `None` for a capture.
    pub fn image(&self) -> Option<&Arc<MasterImage>> {
        match &self.work {
            Work::Deploy(image) => Some(image),
            Work::Capture(_) => None,
        }
    }

    /// Returns the upload of a capture; `None` for a deployment.
    pub fn upload(&self) -> Option<&Arc<Upload>> {
        match &self.work {
            Work::Capture(upload) => Some(upload),
            Work::Deploy(_) => None,
        }
    }

    /// Begins an answer to a target; `None` if `limit` answers to it are under way.
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

    /// Returns the job as the API shows it.
    pub fn view(&self) -> JobView {
        self.view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_view(&self, view: JobView) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// Returns the place in the job that this token belongs to. The comparison takes constant time,
    /// as for all blake3 hashes.
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

/// Handle of a running job.
#[derive(Clone)]
pub struct JobHandle {
    /// The readable part of the job.
    pub shared: Arc<JobShared>,
    /// Queue of the job's messages.
    pub inputs: mpsc::Sender<Input>,
}

/// Makes the event of one log line.
pub fn log_event(job: &str, text: String) -> Event {
    Event::Log {
        job: job.to_owned(),
        time: time::now_text(),
        text,
    }
}
