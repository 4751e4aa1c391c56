//! Stored forms of targets, jobs and captures.
//!
//! Values only: `database` reads and writes them. Invariant: the password of a request is never
//! stored.

use api::{CaptureRequest, CaptureView, DeployRequest, JobState, JobTarget, Plan, SessionView};
use facts::target::{DiskFacts, Facts};
use serde::{Deserialize, Serialize};

/// Stored form of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetRow {
    /// Stable identity of the target.
    pub id: String,
    /// Unique name of the target.
    pub name: String,
    /// Instance of the agent that was last connected.
    pub instance: String,
    /// Facts about the machine.
    pub facts: Facts,
    /// True if the target was let in.
    pub approved: bool,
    /// Time when it was last connected, RFC 3339.
    pub last_seen: String,
    /// Time of its last report about its disks, RFC 3339. It is stored with each change of them and
    /// with each end of its connection, so that the facts never look newer than they are after a
    /// console was killed.
    pub facts_time: String,
}

/// Stored form of a job's target.
#[derive(Clone, Debug, PartialEq)]
pub struct JobTargetRow {
    /// API view of the target.
    pub view: JobTarget,
    /// Instance of the agent that holds the job; only that one may continue it.
    pub instance: Option<String>,
    /// Disk that was confirmed.
    pub disk: Option<DiskFacts>,
}

/// A job before it has a number.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// First state of the job.
    pub state: JobState,
    /// Request; its password is never stored.
    pub request: DeployRequest,
    /// Confirmed plan.
    pub plan: Plan,
    /// Root of the image; empty for a capture before its end.
    pub root: String,
    /// True if the image needs a password, which is not stored.
    pub encrypted: bool,
    /// Creation time, RFC 3339.
    pub created: String,
    /// Number of the job that this one repeats.
    pub retry_of: Option<u64>,
    /// Targets of the job.
    pub targets: Vec<JobTargetRow>,
    /// Record of a capture; `request` and `plan` then hold only the image and the target.
    pub capture: Option<CaptureRecord>,
}

/// Stored form of a capture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaptureRecord {
    /// Request; its password is never stored.
    pub request: CaptureRequest,
    /// Hash of the survey that the chunks of the unfinished image belong to.
    #[serde(default)]
    pub survey: Option<String>,
    /// API view of the capture.
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

/// Stored form of a job.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Number of the job.
    pub id: u64,
    /// The job as it was created, except that `state` is the present one.
    pub job: NewJob,
    /// Start of its session, RFC 3339.
    pub started: Option<String>,
    /// End of the job, RFC 3339.
    pub ended: Option<String>,
    /// Counters of the session.
    pub session: SessionView,
}
