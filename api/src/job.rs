//! Deployments and jobs: what a technician asks for, a job as it stands, its events, and how it ended.

use crate::{CaptureView, FirstStart, GivenSecrets, ImageCheck, Plan, ShareAccount, TemplateUse};
use facts::order::{EndAction, Reuse};
use facts::target::{Bottleneck, Choice, DiskNow, TargetState};
use protocol::control::Counters;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// When a session starts.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "when", content = "value")]
pub enum StartRule {
    /// When every selected target is connected and idle.
    #[default]
    All,
    /// At once, with those that are there.
    Now,
    /// When this many matching targets are ready.
    Count(u32),
    /// At this time, RFC 3339.
    At(String),
    /// When someone says `job start`.
    Manual,
}

/// What a technician asks for with `deploy`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeployRequest {
    /// Absolute path of the image on the console's machine, or `//server/share/folder/name.dcimg`.
    pub image: String,
    /// Who asks the server, where the image lies on a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<ShareAccount>,
    /// Password of an encrypted image. Never stored, never logged.
    #[serde(default)]
    pub password: Option<String>,
    /// Selector: `all`, names with `*` and `?`, `name:`, `id:`, `mac:`, `ip:CIDR`, `state:`; comma is union, `!` takes away.
    pub targets: String,
    /// `first` (first internal disk), `path:P`, `serial:S`, `largest`, `smallest`.
    #[serde(default)]
    pub disk: Option<String>,
    /// `last` or a partition number.
    #[serde(default)]
    pub grow: Option<String>,
    /// Which part of the image, and where to; all of it onto the whole disk by default.
    #[serde(default)]
    pub choice: Choice,
    /// Whether targets look for the image on their disks first.
    #[serde(default)]
    pub reuse: Reuse,
    /// Whom the session waits for when disks differ.
    #[serde(default)]
    pub pace: multicast::Pace,
    /// When to start.
    #[serde(default)]
    pub start: StartRule,
    /// Seconds after the time of `at` in which the job may still begin; 15 minutes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_window_seconds: Option<u32>,
    /// Machines that match and come before the start join too, when their disk is blank.
    #[serde(default)]
    pub also_new: bool,
    /// Seconds in which a target must get on by itself; 10 minutes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_limit_seconds: Option<u32>,
    /// Seconds the job may take, from the start of its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_seconds: Option<u32>,
    /// Cap on the wire, bits per second.
    #[serde(default)]
    pub rate_bits_per_s: Option<u64>,
    /// What the machines do afterwards.
    #[serde(default)]
    pub end: EndAction,
    /// Takes an image whose master could not be read everywhere.
    #[serde(default)]
    pub accept_holes: bool,
    /// What makes each machine itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateUse>,
    /// The image is sent without a look at its stored hashes before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_check: bool,
    /// Values of secrets the template or the share refers to and the command knows. Never stored in the clear, never logged.
    #[serde(default)]
    pub secrets: GivenSecrets,
}

impl DeployRequest {
    /// The same without the password and without secrets: for everything that is kept or shown.
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
    /// Target.
    pub id: String,
    /// Name.
    pub name: String,
    /// State.
    pub state: TargetState,
    /// Why it failed, was dropped or lost.
    #[serde(default)]
    pub reason: Option<String>,
    /// Disk, one line.
    #[serde(default)]
    pub disk: String,
    /// Bytes written (or read back while verifying).
    #[serde(default)]
    pub done_bytes: u64,
    /// Bytes to write.
    #[serde(default)]
    pub total_bytes: u64,
    /// Bytes written to the disk in the end.
    #[serde(default)]
    pub bytes_written: u64,
    /// State of its disk; absent while it works, and when no agent reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_now: Option<DiskNow>,
    /// First start of the machine, where a report of it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_start: Option<FirstStart>,
    /// Seconds from order to end.
    #[serde(default)]
    pub seconds: f64,
    /// Bytes per second over the last few seconds.
    #[serde(default)]
    pub rate_bytes_per_s: u64,
    /// Share of session packets lost, 0..1.
    #[serde(default)]
    pub loss: f64,
    /// Seconds left, when known.
    #[serde(default)]
    pub eta_seconds: Option<f64>,
    /// Root read back.
    #[serde(default)]
    pub root: Option<String>,
    /// State it was in when it failed.
    #[serde(default)]
    pub step: Option<TargetState>,
    /// Remark.
    #[serde(default)]
    pub note: Option<String>,
    /// What holds it back just now.
    #[serde(default)]
    pub bottleneck: Option<Bottleneck>,
    /// Counters.
    #[serde(default)]
    pub counters: Counters,
}

/// State of a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Waits for its start rule.
    Waiting,
    /// Its time passed without it having begun: waits until a technician starts it.
    Missed,
    /// Session runs.
    Running,
    /// The console ended while it ran; goes on by itself for targets that come back, or with `job retry`.
    Interrupted,
    /// Every target is done.
    Done,
    /// Over; at least one target is not done.
    Failed,
    /// Ended by a technician.
    Cancelled,
}

impl JobState {
    /// True when nothing more happens by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// The word for a state in all output.
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

/// A machine that came after a job was confirmed: nothing on it is touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Newcomer {
    /// Target.
    pub id: String,
    /// Name.
    pub name: String,
    /// The disk that would be written, one line.
    pub disk: String,
    /// Contents of that disk.
    pub contents: String,
    /// Why it waits, and what lets it in.
    pub reason: String,
}

/// `job show`, and each entry of `job list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobView {
    /// Number as text.
    pub id: String,
    /// State.
    pub state: JobState,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When its session began.
    #[serde(default)]
    pub started: Option<String>,
    /// When it ended.
    #[serde(default)]
    pub ended: Option<String>,
    /// Image path.
    pub image: String,
    /// Image root.
    pub root: String,
    /// Root of the chosen partitions, when it is not all of the image that is deployed: what its targets prove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_root: Option<String>,
    /// Job it retries.
    #[serde(default)]
    pub retry_of: Option<String>,
    /// Targets, by name.
    pub targets: Vec<JobTarget>,
    /// Machines that match, came after the confirmation, and wait until a technician confirms them too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newcomers: Vec<Newcomer>,
    /// Session counters.
    #[serde(default)]
    pub session: SessionView,
    /// How its start differs from what was planned: missed, or late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_note: Option<String>,
    /// The image was not held against its stored hashes before it was sent: `--no-check`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchecked: bool,
    /// How far the check of the image is that the job waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_check: Option<ImageCheck>,
    /// What is captured, when the job is a capture; `image` is where it goes then.
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
    /// Payload bytes sent by multicast, source symbols.
    pub source_bytes: u64,
    /// Payload bytes sent as parity.
    pub parity_bytes: u64,
    /// Bytes on the wire.
    pub wire_bytes: u64,
    /// Payload bytes served over TCP 5003.
    pub bulk_bytes: u64,
    /// Rate now, wire bytes per second.
    pub rate_bytes_per_s: u64,
    /// Passes begun.
    pub passes: u32,
    /// Why nothing can be sent any more: what of the image is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// One line of `GET /v1/jobs/ID/events` and of `deploy --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// A target changed its state.
    State {
        /// Job.
        job: String,
        /// When, RFC 3339.
        time: String,
        /// Target after the change.
        target: Box<JobTarget>,
    },
    /// Where everyone stands, about twice a second.
    Progress {
        /// Job.
        job: String,
        /// Whole picture.
        view: Box<JobView>,
    },
    /// A line of the job's log.
    Log {
        /// Job.
        job: String,
        /// When, RFC 3339.
        time: String,
        /// One line.
        text: String,
    },
    /// The job is over; last line of the stream.
    Summary(Box<Summary>),
}

/// How a job ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Job.
    pub job: String,
    /// State.
    pub state: JobState,
    /// Image path.
    pub image: String,
    /// Root of the image.
    pub root: String,
    /// Root of the chosen partitions, when it is not all of the image that is deployed: what its targets prove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_root: Option<String>,
    /// One entry a target: `id`, `state`, `reason`, `bytes_written`, `seconds`, `root` and more.
    pub targets: Vec<JobTarget>,
    /// The image was not held against its stored hashes before it was sent: `--no-check`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchecked: bool,
    /// How many ended `done`.
    pub done: u32,
    /// How many did not.
    pub failed: u32,
    /// Seconds from start to the last target's end.
    pub seconds: f64,
    /// Session counters.
    pub session: SessionView,
    /// What was captured, when the job was a capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Box<CaptureView>>,
    /// Where the log and the report are.
    pub report: String,
}

impl Summary {
    /// Root hash that a target must read back to be done.
    pub fn proof_root(&self) -> &str {
        self.chosen_root.as_deref().unwrap_or(&self.root)
    }
}

/// `POST /v1/jobs`; the answer is the `JobView`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateJob {
    /// What to do.
    pub request: DeployRequest,
    /// Ids of the targets the technician confirmed: those of the `Plan` without a refusal. The console plans again and
    /// refuses (exit code 5) when it now comes to other targets.
    pub expect_targets: Vec<String>,
    /// Disk of each of these targets as the plan showed it, in the words of `confirm::shown`, by target id. The console refuses
    /// when a disk or its contents have changed since.
    #[serde(default)]
    pub expect_disks: BTreeMap<String, String>,
}

/// `POST /v1/jobs/{id}/add-plan`; the answer is the `Plan` of the targets that would join the job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddPlan {
    /// Selector of targets that are not in the job.
    pub targets: String,
}

/// `POST /v1/jobs/{id}/add`; the answer is the `JobView`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddRequest {
    /// Selector, as in the plan.
    pub targets: String,
    /// Ids of the targets the technician confirmed.
    pub expect_targets: Vec<String>,
    /// Disk of each of these targets as the plan showed it, by target id.
    #[serde(default)]
    pub expect_disks: BTreeMap<String, String>,
}

/// `GET /v1/jobs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobList {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Newest first.
    pub jobs: Vec<JobView>,
}

/// `POST /v1/jobs/{id}/start`; the answer is the `JobView`. `{}` starts a job that waits; one that was missed is confirmed again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StartRequest {
    /// Ids of the targets the technician confirmed: those of the job that have not ended.
    #[serde(default)]
    pub expect_targets: Vec<String>,
    /// Disk of each of these targets as the job's plan shows it, by target id.
    #[serde(default)]
    pub expect_disks: BTreeMap<String, String>,
}

/// `POST /v1/jobs/{id}/cancel`; the answer is the `JobView`. `{}` cancels the whole job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CancelRequest {
    /// Selector of the targets to drop; the job goes on for the others. Without it the whole job ends.
    #[serde(default)]
    pub targets: Option<String>,
    /// For the log and the targets' screens.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `POST /v1/jobs/{id}/retry`; the answer is the new job's `JobView`. `{}` is enough for a plain image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RetryRequest {
    /// Password of an encrypted image: it is never stored, so it has to be given again.
    #[serde(default)]
    pub password: Option<String>,
    /// Narrows the failed, lost and dropped targets further.
    #[serde(default)]
    pub targets: Option<String>,
    /// Value of the secret the image's share refers to, when the command knows it.
    #[serde(default)]
    pub secrets: GivenSecrets,
}

/// `GET /v1/jobs/{id}/report`, and `report.json` in the job's folder. (`GET /v1/jobs/{id}/log` is plain text.)
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// The job as it stands.
    pub job: JobView,
    /// What was planned, and what was refused.
    pub plan: Plan,
    /// How it ended; absent while it runs.
    #[serde(default)]
    pub summary: Option<Summary>,
}
