//! The control channel: what agent and console say to each other on TCP 5001.
//!
//! Length-delimited JSON frames over TLS 1.3 (`docs/protocol.md`, Control). Owns: message types, frame limits, and
//! reading a frame from hostile bytes. Never touches a socket. JSON because an agent exported long ago must understand
//! a newer console: unknown fields are ignored, and an unknown `type` becomes `Unknown` rather than an error.

pub use crate::apply::ApplyOrder;
pub use crate::capture::{
    BackupRequest, CaptureBegin, CaptureBegun, CaptureOrder, CaptureWishes, ChoiceAnswer, Menu,
    MenuDisk, MenuOffer, TableSectors, TakeOffer,
};
pub use crate::doctor::{
    DiskSpeed, DoctorAnswer, DoctorRequest, LaneCounts, OtherConsole, QuerierFacts,
};
use facts::look::Look;
use facts::order::{EndAction, Reuse, Verify};
use facts::target::{Bottleneck, Choice, DiskFacts, DiskNow, Facts, TargetState};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::net::SocketAddrV4;

/// Raised when a message changes its meaning (never for an added field).
pub const CONTROL_VERSION: u32 = 1;

/// Largest frame either side accepts. A status with 512 deficits is about 12 KiB; facts of a machine with
/// a hundred disks about 60 KiB.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// From an agent to the console.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum AgentMessage {
    /// First message of a connection.
    Hello(Box<Hello>),
    /// The multicast receiver's report for the job's session: this is the NAK.
    Status {
        /// Job the report belongs to.
        job: String,
        /// Session the report belongs to; reports for another session are ignored.
        session: u32,
        /// The report.
        status: multicast::Status,
    },
    /// Where the target stands, about twice a second and at each change of state.
    Progress(Progress),
    /// The target's part in the job is over.
    Outcome(Box<Outcome>),
    /// A line for the job's log.
    Log {
        /// Job, when the line belongs to one.
        #[serde(default)]
        job: Option<String>,
        /// One line.
        text: String,
    },
    /// A beacon of the console came by multicast after the hello was said.
    BeaconHeard,
    /// Both groups of a doctor's probe are joined: the stream may begin.
    DoctorReady {
        /// Run, as in the request.
        id: String,
        /// The agent's clock, microseconds since 1970.
        time_us: i64,
    },
    /// What the agent found.
    DoctorAnswer(Box<DoctorAnswer>),
    /// Facts of this machine and the present contents of its disks: the answer to `AskFacts`, and sent unasked after each job.
    Facts(Box<Facts>),
    /// A person at the target wants to see what may be done; answered by `Menu`.
    MenuRequest,
    /// A person at the target asks for a backup; answered by `ChoiceAnswer`.
    BackupRequest(Box<BackupRequest>),
    /// A person at the target takes an offer; answered by `ChoiceAnswer`.
    TakeOffer(Box<TakeOffer>),
    /// Answer to `Ping`.
    Pong,
    /// A type this version does not know; ignored.
    #[serde(other)]
    Unknown,
}

/// Who the agent is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// `CONTROL_VERSION` of the agent.
    pub version: u32,
    /// Product version of the agent.
    pub agent_version: String,
    /// 32 hex digits drawn when the agent started. A reconnect shows the same, so that nobody else can take a
    /// target's place in a running job.
    pub instance: String,
    /// Name asked for with `--name`.
    #[serde(default)]
    pub name: Option<String>,
    /// The machine.
    pub facts: Facts,
    /// A console beacon was heard by multicast.
    #[serde(default)]
    pub beacon_heard: bool,
    /// The job the agent is in the middle of, when this is a reconnect.
    #[serde(default)]
    pub job: Option<Unfinished>,
}

/// A job an agent still holds when it connects again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unfinished {
    /// Job.
    pub job: String,
    /// Root of the image it is writing, 64 hex digits.
    pub root: String,
    /// State it stands in.
    pub state: TargetState,
    /// The outcome, when it ended while no console was there to hear it.
    #[serde(default)]
    pub outcome: Option<Outcome>,
}

/// Counters of a target in a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Datagrams of the session received.
    #[serde(default)]
    pub packets_received: u64,
    /// Datagrams missed, from gaps in packet numbers.
    #[serde(default)]
    pub packets_lost: u64,
    /// Datagrams that failed authentication.
    #[serde(default)]
    pub packets_forged: u64,
    /// Datagrams the kernel dropped because the agent was busy.
    #[serde(default)]
    pub kernel_drops: u64,
    /// Blocks completed by parity.
    #[serde(default)]
    pub blocks_repaired: u64,
    /// Blocks fetched over TCP 5003.
    #[serde(default)]
    pub blocks_bulk: u64,
    /// Blocks that authenticated but did not match the manifest.
    #[serde(default)]
    pub blocks_corrupt: u64,
    /// Blocks that were on the disk already.
    #[serde(default)]
    pub blocks_kept: u64,
    /// Blocks passed over because the machine had no buffer free.
    #[serde(default)]
    pub blocks_skipped: u64,
}

/// Where a target stands in a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Job.
    pub job: String,
    /// State.
    pub state: TargetState,
    /// Nothing of the session arrives by multicast: what is sent is not for this target.
    #[serde(default)]
    pub deaf: bool,
    /// Device bytes written so far (receiving, repairing) or read back so far (verifying).
    pub done_bytes: u64,
    /// Device bytes the image holds.
    pub total_bytes: u64,
    /// Counters since the job began.
    #[serde(default)]
    pub counters: Counters,
    /// A short remark for the row, for example that no multicast arrives.
    #[serde(default)]
    pub note: Option<String>,
    /// What holds the target back.
    #[serde(default)]
    pub bottleneck: Option<Bottleneck>,
    /// Moves while work goes on that has no bytes to count.
    #[serde(default)]
    pub beat: u64,
}

/// How a target ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Job.
    pub job: String,
    /// `Done`, `Failed`, or `Dropped` when the console asked it to leave in time.
    pub state: TargetState,
    /// Why it failed; what to try is part of the sentence.
    #[serde(default)]
    pub reason: Option<String>,
    /// State it was in when it failed.
    #[serde(default)]
    pub step: Option<TargetState>,
    /// Disk that was written, as `DiskFacts::title` names it.
    #[serde(default)]
    pub disk: String,
    /// State of the disk at the end of the job.
    #[serde(default)]
    pub disk_now: Option<DiskNow>,
    /// Bytes written to the disk.
    pub bytes_written: u64,
    /// Seconds from the order to the end.
    pub seconds: f64,
    /// Root computed from what was read back; equal to the image's root when `Done`.
    #[serde(default)]
    pub root: Option<String>,
    /// Counters of the whole job.
    #[serde(default)]
    pub counters: Counters,
}

/// From the console to an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ConsoleMessage {
    /// Answer to `Hello`.
    Welcome {
        /// Identity of the target in every list.
        target: String,
        /// Name shown to the technician.
        name: String,
        /// False while a technician has to approve it.
        approved: bool,
    },
    /// Deploy this. Sent again with a new session after a console restart; an agent that already holds the
    /// job keeps what it has written.
    Order(Box<Order>),
    /// Leave the job; the disk stays plainly blank. Answered by an `Outcome`: `Dropped`, or `Done` when the commit had begun.
    Cancel {
        /// Job.
        job: String,
        /// Why.
        reason: String,
    },
    /// Fetch these image blocks over TCP 5003: too few machines lack them for another pass.
    UseBulk {
        /// Job.
        job: String,
        /// Image blocks.
        blocks: Vec<u32>,
    },
    /// The console recorded the outcome; the agent may forget the job and act on `after`.
    Recorded {
        /// Job.
        job: String,
        /// What to do with the machine now.
        after: EndAction,
    },
    /// Capture a disk and upload it. Sent again after a reconnect; an agent that already reads goes on.
    Capture(Box<CaptureOrder>),
    /// What a person at the target may choose from.
    Menu(Box<Menu>),
    /// What became of a choice.
    ChoiceAnswer(ChoiceAnswer),
    /// Look at yourself and at what arrives; answered by `DoctorReady`, then `DoctorAnswer`.
    Doctor(DoctorRequest),
    /// The whole probe is sent: no need to wait for its end on the wire.
    DoctorEnd,
    /// Request for the present contents of the disks. Answered by `Facts`; an agent of an earlier version does not answer.
    AskFacts,
    /// Are you there? Sent every few seconds; the agent answers `Pong`.
    Ping,
    /// A type this version does not know; ignored.
    #[serde(other)]
    Unknown,
}

/// Everything an agent needs to take part in a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Job.
    pub job: String,
    /// Image name for the target's screen.
    pub image: String,
    /// Root of the image, 64 hex digits.
    pub root: String,
    /// BLAKE3 of the encoded manifest, 64 hex digits.
    pub manifest_digest: String,
    /// Bytes of the encoded manifest.
    pub manifest_bytes: u64,
    /// FEC blocks of the image object.
    pub image_blocks: u32,
    /// The multicast session.
    pub session: SessionOrder,
    /// Where TCP 5003 is and what opens it.
    pub bulk: BulkOrder,
    /// Key of content ids when the image is encrypted, 64 hex digits.
    #[serde(default)]
    pub id_key: Option<String>,
    /// The disk to write: exactly this one, as the plan named it.
    pub disk: DiskOrder,
    /// `last` or a partition number: grow its entry into the free space.
    #[serde(default)]
    pub grow: Option<String>,
    /// Which part of the image goes onto the disk; all of it, unless it says otherwise.
    #[serde(default)]
    pub choice: Choice,
    /// Read-back policy.
    #[serde(default)]
    pub verify: Verify,
    /// Whether what the disk holds already is looked for.
    #[serde(default)]
    pub reuse: Reuse,
    /// What makes the machine itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply: Option<Box<ApplyOrder>>,
}

/// Keys and groups of one session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionOrder {
    /// Session number in every packet.
    pub id: u32,
    /// Key epoch (0..=3).
    pub epoch: u8,
    /// Session secret, 64 hex digits. Only ever inside this TLS connection.
    pub secret: String,
    /// `aes-128-gcm` or `chacha20-poly1305`.
    pub suite: multicast::Suite,
    /// Group and port of the main lane.
    pub main: SocketAddrV4,
    /// Group and port of the second lane.
    pub second: SocketAddrV4,
    /// Receivers in the session: sets the report interval.
    pub receivers: u32,
}

/// Access to TCP 5003 for one target and job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BulkOrder {
    /// Port on the console's control address.
    pub port: u16,
    /// Bearer token.
    pub token: String,
}

/// The disk a plan chose. The agent refuses when any of it no longer matches.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiskOrder {
    /// Path on the target.
    pub path: String,
    /// Serial number at planning time.
    #[serde(default)]
    pub serial: Option<String>,
    /// Bytes at planning time.
    pub size: u64,
    /// Model at planning time.
    #[serde(default)]
    pub model: Option<String>,
    /// Contents the disk may have; any others are refused before the first write.
    #[serde(default)]
    pub look: Look,
}

impl DiskOrder {
    /// This very disk, whatever is on it: to be read, or to be named.
    pub fn naming(disk: &DiskFacts) -> Self {
        Self {
            path: disk.path.clone(),
            serial: disk.serial.clone(),
            size: disk.size,
            model: disk.model.clone(),
            look: Look::Any,
        }
    }

    /// True if this is the disk the order names, by path, serial number, size and model. Contents are not compared.
    pub fn names(&self, disk: &DiskFacts) -> bool {
        // A console or agent of an earlier version says no model.
        let model = self.model.is_none() || self.model == disk.model;
        self.path == disk.path && self.serial == disk.serial && self.size == disk.size && model
    }
}

/// Why a frame was not understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Larger than `MAX_FRAME_BYTES`.
    #[error("control frame of {0} bytes, limit {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// Not JSON, or not of the expected form.
    #[error("control frame is not a message: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// A message as frame bytes.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

/// The message in a frame. Never panics, whatever the bytes.
pub fn decode<M: DeserializeOwned>(frame: &[u8]) -> Result<M, FrameError> {
    if frame.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(frame.len()));
    }
    Ok(serde_json::from_slice(frame)?)
}
