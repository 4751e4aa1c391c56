//! Stored forms of jobs, their targets, and captures.
//!
//! Values; the console's store reads and writes them. Invariant: the password of a request is never
//! stored.

use api::{
    CaptureRequest, CaptureView, DeployRequest, FirstStart, JobState, JobTarget, Plan,
    PlannedTarget, SessionView,
};
use facts::target::{DiskFacts, DiskNow, TargetState};
use protocol::control::Counters;
use serde::{Deserialize, Serialize};

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

impl JobTargetRow {
    /// Makes the row of a planned target; a refused one is `failed` from the start.
    pub fn planned(target: &PlannedTarget, total_bytes: u64) -> Self {
        let refused = target.refused.as_ref();
        Self {
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
    /// Returns the record as it may be stored.
    pub fn without_password(&self) -> Self {
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
