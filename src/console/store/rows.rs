//! Targets, jobs and captures as they are kept.
//!
//! Values only: `database` reads and writes them. What always holds: a password that came with a request is not part of what is kept.

use api::{CaptureRequest, CaptureView, DeployRequest, JobState, JobTarget, Plan, SessionView};
use facts::target::{DiskFacts, Facts};
use serde::{Deserialize, Serialize};

/// A target as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetRow {
    /// Stable identity.
    pub id: String,
    /// Unique name.
    pub name: String,
    /// Instance of the agent that was last connected.
    pub instance: String,
    /// The machine.
    pub facts: Facts,
    /// Let in.
    pub approved: bool,
    /// RFC 3339.
    pub last_seen: String,
    /// When it said what is on its disks, RFC 3339; stored with each change of them and with each end of its connection, so that
    /// after a console that was killed the age of the facts is never understated.
    pub facts_time: String,
}

/// A target of a job as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct JobTargetRow {
    /// As shown.
    pub view: JobTarget,
    /// Instance of the agent that holds the job; only the same one may go on with it.
    pub instance: Option<String>,
    /// The disk that was confirmed.
    pub disk: Option<DiskFacts>,
}

/// A job before it has a number.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// State it begins in.
    pub state: JobState,
    /// What was asked for; the password is left out whatever it says.
    pub request: DeployRequest,
    /// What was confirmed.
    pub plan: Plan,
    /// Root of the image.
    pub root: String,
    /// The image needs a password, which is not kept.
    pub encrypted: bool,
    /// RFC 3339.
    pub created: String,
    /// Job it retries.
    pub retry_of: Option<u64>,
    /// Targets.
    pub targets: Vec<JobTargetRow>,
    /// Present when the job is a capture: `request` and `plan` name the image and the target then, and nothing else.
    pub capture: Option<CaptureRecord>,
}

/// What is kept of a capture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaptureRecord {
    /// What was asked for; the password is left out whatever it says.
    pub request: CaptureRequest,
    /// Hash of the survey the chunks in the unfinished image belong to.
    #[serde(default)]
    pub survey: Option<String>,
    /// Where it stands.
    #[serde(default)]
    pub view: CaptureView,
}

impl CaptureRecord {
    pub(super) fn without_password(&self) -> Self {
        let mut record = self.clone();
        record.request.password = None;
        record
    }
}

/// A job as it is kept.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Number.
    pub id: u64,
    /// What was recorded when it was made (`state` is the state now).
    pub job: NewJob,
    /// When its session began.
    pub started: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
    /// Counters of the sending side.
    pub session: SessionView,
}
