//! Deployments and jobs: requests, job views, events, and summaries.

use crate::{CaptureView, FirstStart, GivenSecrets, ImageCheck, Plan, ShareAccount, TemplateUse};
use facts::disk_rule::DiskRule;
use facts::order::{EndAction, Grow, Reuse};
use facts::target::{Bottleneck, Choice, DiskNow, TargetState};
use protocol::control::Counters;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Condition for a session to start.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "when", content = "value")]
pub enum StartRule {
    /// Start when every selected target is connected and idle.
    #[default]
    All,
    /// Start at once, with the targets that are connected.
    Now,
    /// Start when this many matching targets are ready.
    Count(u32),
    /// Start at this time, RFC 3339.
    At(String),
    /// Start on `job start`.
    Manual,
}

/// Request of `deploy`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeployRequest {
    /// Absolute path of the image on the console's machine, or `//server/share/folder/name.dcimg`.
    pub image: String,
    /// Account for the server, when the image lies on a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<ShareAccount>,
    /// Password of an encrypted image. Never stored, never logged.
    #[serde(default)]
    pub password: Option<String>,
    /// Selector: `all`, names with `*` and `?`, `name:`, `id:`, `mac:`, `ip:CIDR`, `state:`; a
    /// comma means union, `!` excludes.
    pub targets: String,
    /// Disk to write; the first internal one when absent.
    #[serde(default)]
    pub disk: Option<DiskRule>,
    /// Partition that grows; none when absent.
    #[serde(default)]
    pub grow: Option<Grow>,
    /// Part of the image and its destination; all of it onto the whole disk by default.
    #[serde(default)]
    pub choice: Choice,
    /// Search for the image on the targets' disks first.
    #[serde(default)]
    pub reuse: Reuse,
    /// Machines that the session waits for when their disks differ in speed.
    #[serde(default)]
    pub pace: multicast::Pace,
    /// Condition for the session to start.
    #[serde(default)]
    pub start: StartRule,
    /// Seconds after the time of `at` in which the job may still start; 15 minutes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_window_seconds: Option<u32>,
    /// Matching machines that come before the start join, too, when their disk is blank.
    #[serde(default)]
    pub also_new: bool,
    /// Limit of seconds in which a target makes no progress; 10 minutes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_limit_seconds: Option<u32>,
    /// Limit of seconds for the job, from the start of its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_seconds: Option<u32>,
    /// Rate limit on the wire, in bits per second.
    #[serde(default)]
    pub rate_bits_per_s: Option<u64>,
    /// Action of the machines afterwards.
    #[serde(default)]
    pub end: EndAction,
    /// Accepts an image whose master could not be read completely.
    #[serde(default)]
    pub accept_holes: bool,
    /// Template that configures each machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateUse>,
    /// The image is sent without a check of its stored hashes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_check: bool,
    /// Values of secrets that the template or the share refers to and the command knows. Never
    /// stored unencrypted, never logged.
    #[serde(default)]
    pub secrets: GivenSecrets,
}

impl DeployRequest {
    /// A copy without the password and without secrets, for storage and output.
    pub fn without_secrets(&self) -> Self {
        Self {
            password: None,
            secrets: GivenSecrets::default(),
            ..self.clone()
        }
    }
}

/// A target in a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobTarget {
    /// Id of the target.
    pub id: String,
    /// Name of the target.
    pub name: String,
    /// State of the target.
    pub state: TargetState,
    /// Reason why it failed, was dropped or lost.
    #[serde(default)]
    pub reason: Option<String>,
    /// The disk in one line.
    #[serde(default)]
    pub disk: String,
    /// Bytes written so far (read back so far while verifying).
    #[serde(default)]
    pub done_bytes: u64,
    /// Bytes to write.
    #[serde(default)]
    pub total_bytes: u64,
    /// Bytes written to the disk by the end.
    #[serde(default)]
    pub bytes_written: u64,
    /// State of its disk; absent while the target works, and when no agent reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_now: Option<DiskNow>,
    /// First start of the machine, when a report is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_start: Option<FirstStart>,
    /// Seconds from the order to the end.
    #[serde(default)]
    pub seconds: f64,
    /// Bytes per second over the last few seconds.
    #[serde(default)]
    pub rate_bytes_per_s: u64,
    /// Share of session packets that were lost, 0..1.
    #[serde(default)]
    pub loss: f64,
    /// Estimated seconds left, when known.
    #[serde(default)]
    pub eta_seconds: Option<f64>,
    /// Root computed from the data read back.
    #[serde(default)]
    pub root: Option<String>,
    /// State in which it failed.
    #[serde(default)]
    pub step: Option<TargetState>,
    /// Short remark.
    #[serde(default)]
    pub note: Option<String>,
    /// The resource that limits its speed now.
    #[serde(default)]
    pub bottleneck: Option<Bottleneck>,
    /// Counters of the target.
    #[serde(default)]
    pub counters: Counters,
}

/// State of a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Waits for its start condition.
    Waiting,
    /// Its start time has passed: waits until a technician starts it.
    Missed,
    /// Its session runs.
    Running,
    /// The console ended while it ran. It continues by itself for targets that come back, or with
    /// `job retry`.
    Interrupted,
    /// Every target is done.
    Done,
    /// Ended; at least one target is not done.
    Failed,
    /// Ended by a technician.
    Cancelled,
}

impl JobState {
    /// True when the job has ended.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// The word in output and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Missed => "missed",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A machine that came after a job was confirmed. It is not written to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Newcomer {
    /// Id of the target.
    pub id: String,
    /// Name of the target.
    pub name: String,
    /// The disk that would be written, in one line.
    pub disk: String,
    /// Contents of that disk.
    pub contents: String,
    /// The reason why it waits, and how to add it.
    pub reason: String,
}

/// Answer to `job show`, and each entry of `job list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobView {
    /// Number of the job as text.
    pub id: String,
    /// State of the job.
    pub state: JobState,
    /// Time when it was made, RFC 3339.
    pub created: String,
    /// Time when its session started, RFC 3339.
    #[serde(default)]
    pub started: Option<String>,
    /// Time when it ended, RFC 3339.
    #[serde(default)]
    pub ended: Option<String>,
    /// Path of the image.
    pub image: String,
    /// Root of the image.
    pub root: String,
    /// Root of the chosen partitions, when only a part of the image is deployed; the targets must
    /// prove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_root: Option<String>,
    /// Id of the job that it retries.
    #[serde(default)]
    pub retry_of: Option<String>,
    /// Targets, sorted by name.
    pub targets: Vec<JobTarget>,
    /// Matching machines that came after the confirmation, and wait until a technician confirms
    /// them, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newcomers: Vec<Newcomer>,
    /// Counters of the session.
    #[serde(default)]
    pub session: SessionView,
    /// Difference between its start and the plan: missed, or late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_note: Option<String>,
    /// The image was not checked before it was sent: `--no-check`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchecked: bool,
    /// Progress of the image check that the job waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_check: Option<ImageCheck>,
    /// The capture, when the job is one; `image` is its destination then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Box<CaptureView>>,
}

impl JobView {
    /// Root hash that a target must read back to be done.
    pub fn proof_root(&self) -> &str {
        self.chosen_root.as_deref().unwrap_or(&self.root)
    }
}

/// Counters of the sending side.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SessionView {
    /// Payload bytes of source symbols, sent by multicast.
    pub source_bytes: u64,
    /// Payload bytes of parity, sent by multicast.
    pub parity_bytes: u64,
    /// Bytes sent on the wire.
    pub wire_bytes: u64,
    /// Payload bytes served over TCP 5003.
    pub bulk_bytes: u64,
    /// Present rate on the wire, in bytes per second.
    pub rate_bytes_per_s: u64,
    /// Number of passes started.
    pub passes: u32,
    /// Damage of the image, which stops the transmission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// A line of `GET /v1/jobs/ID/events` and of `deploy --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// A target changed its state.
    State {
        /// Id of the job.
        job: String,
        /// Time of the change, RFC 3339.
        time: String,
        /// Target after the change.
        target: Box<JobTarget>,
    },
    /// Progress of the job, about twice a second.
    Progress {
        /// Id of the job.
        job: String,
        /// The whole job.
        view: Box<JobView>,
    },
    /// A line of the job's log.
    Log {
        /// Id of the job.
        job: String,
        /// Time of the line, RFC 3339.
        time: String,
        /// One line of text.
        text: String,
    },
    /// The job has ended; this is the last line of the stream.
    Summary(Box<Summary>),
}

/// Result of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Id of the job.
    pub job: String,
    /// Final state of the job.
    pub state: JobState,
    /// Path of the image.
    pub image: String,
    /// Root of the image.
    pub root: String,
    /// Root of the chosen partitions, when only a part of the image was deployed; the targets must
    /// prove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_root: Option<String>,
    /// Targets with `id`, `state`, `reason`, `bytes_written`, `seconds`, `root` and more.
    pub targets: Vec<JobTarget>,
    /// The image was not checked before it was sent: `--no-check`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchecked: bool,
    /// Number of targets that are `done`.
    pub done: u32,
    /// Number of targets that are not.
    pub failed: u32,
    /// Seconds from the start to the end of the last target.
    pub seconds: f64,
    /// Counters of the session.
    pub session: SessionView,
    /// The capture, when the job was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Box<CaptureView>>,
    /// Path of the folder with log and report.
    pub report: String,
}

impl Summary {
    /// Root hash that a target must read back to be done.
    pub fn proof_root(&self) -> &str {
        self.chosen_root.as_deref().unwrap_or(&self.root)
    }
}

/// Body of `POST /v1/jobs`; the answer is the `JobView`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateJob {
    /// The deployment.
    pub request: DeployRequest,
    /// Ids of the targets that the technician confirmed: those of the `Plan` without a refusal. The
    /// console plans again and refuses (exit code 5) when the result has other targets.
    pub expect_targets: Vec<String>,
    /// Disk of each of these targets as the plan showed it (`confirm::shown`), by target id. The
    /// console refuses when a disk or its contents have changed since.
    #[serde(default)]
    pub expect_disks: BTreeMap<String, String>,
}

/// Body of `POST /v1/jobs/{id}/add-plan`; the answer is the `Plan` of the targets that would join
/// the job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddPlan {
    /// Selector of targets that are not in the job.
    pub targets: String,
}

/// Body of `POST /v1/jobs/{id}/add`; the answer is the `JobView`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddRequest {
    /// Selector, like in the plan.
    pub targets: String,
    /// Ids of the targets that the technician confirmed.
    pub expect_targets: Vec<String>,
    /// Disk of each of these targets as the plan showed it, by target id.
    #[serde(default)]
    pub expect_disks: BTreeMap<String, String>,
}

/// Answer to `GET /v1/jobs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobList {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Jobs, the newest first.
    pub jobs: Vec<JobView>,
}

/// Body of `POST /v1/jobs/{id}/start`; the answer is the `JobView`. `{}` starts a waiting job; a
/// missed one needs a new confirmation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StartRequest {
    /// Ids of the targets that the technician confirmed: those of the job that have not ended.
    #[serde(default)]
    pub expect_targets: Vec<String>,
    /// Disk of each of these targets as the job's plan shows it, by target id.
    #[serde(default)]
    pub expect_disks: BTreeMap<String, String>,
}

/// Body of `POST /v1/jobs/{id}/cancel`; the answer is the `JobView`. `{}` cancels the whole job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CancelRequest {
    /// Selector of the targets to drop; the job continues for the others. Without it the whole job
    /// ends.
    #[serde(default)]
    pub targets: Option<String>,
    /// Reason for the log and the targets' screens.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Body of `POST /v1/jobs/{id}/retry`; the answer is the new job's `JobView`. `{}` is enough for an
/// image without a password.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RetryRequest {
    /// Password of an encrypted image, which must be given again because it is never stored.
    #[serde(default)]
    pub password: Option<String>,
    /// Selector that restricts the failed, lost and dropped targets.
    #[serde(default)]
    pub targets: Option<String>,
    /// Value of the secret that the image's share refers to, when the command knows it.
    #[serde(default)]
    pub secrets: GivenSecrets,
}

/// Answer to `GET /v1/jobs/{id}/report`, and content of `report.json` in the job's folder.
///
/// The log of the job is plain text: `GET /v1/jobs/{id}/log`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// The job with its present state.
    pub job: JobView,
    /// The plan, including refusals.
    pub plan: Plan,
    /// Result of the job; absent while it runs.
    #[serde(default)]
    pub summary: Option<Summary>,
}
