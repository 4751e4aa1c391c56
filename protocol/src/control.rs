//! The control channel between agent and console on TCP 5001.
//!
//! Length-delimited JSON frames over TLS 1.3 (`docs/protocol.md`, Control). Owns: message types,
//! frame limits, and parsing of frames from hostile bytes. Never touches a socket. JSON lets an
//! agent that was exported long ago understand a newer console: unknown fields are ignored, and an
//! unknown `type` becomes `Unknown` instead of an error.

pub use crate::apply::ApplyOrder;
pub use crate::capture::{
    BackupRequest, CaptureBegin, CaptureBegun, CaptureOrder, CaptureWishes, ChoiceAnswer, Menu,
    MenuDisk, MenuOffer, TableSectors, TakeOffer,
};
pub use crate::doctor::{
    DiskSpeed, DoctorAnswer, DoctorRequest, LaneCounts, OtherConsole, QuerierFacts,
};
use facts::look::Look;
use facts::order::{EndAction, Grow, Reuse, Verify};
use facts::same_disk::DiskName;
use facts::target::{Bottleneck, Choice, DiskFacts, DiskNow, Facts, TargetState};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::net::SocketAddrV4;

/// Version of the protocol, raised when a message changes its meaning (never for an added field).
pub const CONTROL_VERSION: u32 = 1;

/// Size limit of a frame in bytes. A status with 512 deficits is about 12 KiB; facts of a machine
/// with a hundred disks about 60 KiB.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// A message from an agent to the console.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum AgentMessage {
    /// First message of a connection.
    Hello(Box<Hello>),
    /// Report of the multicast receiver for the job's session: this is the NAK.
    Status {
        /// Job the report belongs to.
        job: String,
        /// Session the report belongs to; reports for another session are ignored.
        session: u32,
        /// The report.
        status: multicast::Status,
    },
    /// Progress of the target, about twice a second and at each change of state.
    Progress(Progress),
    /// Result of the target's part in the job.
    Outcome(Box<Outcome>),
    /// A line for the job's log.
    Log {
        /// Id of the job, when the line belongs to one.
        #[serde(default)]
        job: Option<String>,
        /// One line of text.
        text: String,
    },
    /// A beacon of the console arrived by multicast after the hello was sent.
    BeaconHeard,
    /// Both groups of a doctor's probe are joined: the stream may begin.
    DoctorReady {
        /// Id of the run, from the request.
        id: String,
        /// The agent's clock, in microseconds since 1970.
        time_us: i64,
    },
    /// Findings of the agent.
    DoctorAnswer(Box<DoctorAnswer>),
    /// Facts of this machine and the present contents of its disks: the answer to `AskFacts`, also
    /// sent after each job.
    Facts(Box<Facts>),
    /// A person at the target opens the menu; answered by `Menu`.
    MenuRequest,
    /// A person at the target requests a backup; answered by `ChoiceAnswer`.
    BackupRequest(Box<BackupRequest>),
    /// A person at the target takes an offer; answered by `ChoiceAnswer`.
    TakeOffer(Box<TakeOffer>),
    /// Answer to `Ping`.
    Pong,
    /// A type this version does not know; it is ignored.
    #[serde(other)]
    Unknown,
}

/// Introduction of an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// `CONTROL_VERSION` of the agent.
    pub version: u32,
    /// Product version of the agent.
    pub agent_version: String,
    /// Instance id, 32 hex digits drawn when the agent starts. A reconnect uses the same, so that
    /// no other machine can take a target's place in a running job.
    pub instance: String,
    /// Name given with `--name`.
    #[serde(default)]
    pub name: Option<String>,
    /// Facts of the machine.
    pub facts: Facts,
    /// A beacon of the console arrived by multicast.
    #[serde(default)]
    pub beacon_heard: bool,
    /// The agent's unfinished job, when this is a reconnect.
    #[serde(default)]
    pub job: Option<Unfinished>,
}

/// A job an agent still has when it connects again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unfinished {
    /// Id of the job.
    pub job: String,
    /// Root of the image it writes, 64 hex digits.
    pub root: String,
    /// State of the target in the job.
    pub state: TargetState,
    /// The outcome, when the job ended while no console was connected.
    #[serde(default)]
    pub outcome: Option<Outcome>,
}

/// Counters of a target in a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Received datagrams of the session.
    #[serde(default)]
    pub packets_received: u64,
    /// Lost datagrams, from gaps in packet numbers.
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
    /// Blocks skipped because the machine had no free buffer.
    #[serde(default)]
    pub blocks_skipped: u64,
}

/// Progress of a target in a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Id of the job.
    pub job: String,
    /// State of the target.
    pub state: TargetState,
    /// Nothing of the session arrives by multicast: the target fetches the image over TCP 5003.
    #[serde(default)]
    pub deaf: bool,
    /// Device bytes written so far (receiving, repairing) or read back so far (verifying).
    pub done_bytes: u64,
    /// Device bytes in the image.
    pub total_bytes: u64,
    /// Counters since the job began.
    #[serde(default)]
    pub counters: Counters,
    /// Short remark for the target's row, for example that no multicast arrives.
    #[serde(default)]
    pub note: Option<String>,
    /// The resource that limits the target's speed.
    #[serde(default)]
    pub bottleneck: Option<Bottleneck>,
    /// Counter that changes while work without a byte count continues.
    #[serde(default)]
    pub beat: u64,
}

/// Result of a target's part in a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Id of the job.
    pub job: String,
    /// `Done`, `Failed`, or `Dropped` when the console removed it in time.
    pub state: TargetState,
    /// The reason for a failure, with advice.
    #[serde(default)]
    pub reason: Option<String>,
    /// State in which it failed.
    #[serde(default)]
    pub step: Option<TargetState>,
    /// The disk that was written, as `DiskFacts::title` names it.
    #[serde(default)]
    pub disk: String,
    /// State of the disk at the end of the job.
    #[serde(default)]
    pub disk_now: Option<DiskNow>,
    /// Bytes written to the disk.
    pub bytes_written: u64,
    /// Seconds from the order to the end.
    pub seconds: f64,
    /// Root computed from the data read back; equal to the image's root when `Done`.
    #[serde(default)]
    pub root: Option<String>,
    /// Counters of the whole job.
    #[serde(default)]
    pub counters: Counters,
}

/// A message from the console to an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ConsoleMessage {
    /// Answer to `Hello`.
    Welcome {
        /// Id of the target.
        target: String,
        /// Name shown to the technician.
        name: String,
        /// False while a technician has to approve it.
        approved: bool,
    },
    /// Order to deploy. Sent again with a new session after a console restart; an agent that
    /// already has the job keeps the data it has written.
    Order(Box<Order>),
    /// Order to leave the job; the disk stays blank. Answered by an `Outcome`: `Dropped`, or `Done`
    /// when the commit had begun.
    Cancel {
        /// Id of the job.
        job: String,
        /// The reason.
        reason: String,
    },
    /// Order to fetch these image blocks over TCP 5003: too few machines lack them for another
    /// pass.
    UseBulk {
        /// Id of the job.
        job: String,
        /// Numbers of image blocks.
        blocks: Vec<u32>,
    },
    /// The console has recorded the outcome; the agent may forget the job and carry out `after`.
    Recorded {
        /// Id of the job.
        job: String,
        /// Action of the machine now.
        after: EndAction,
    },
    /// Order to capture a disk and upload it. Sent again after a reconnect; an agent that is
    /// already reading continues.
    Capture(Box<CaptureOrder>),
    /// Choices of a person at the target.
    Menu(Box<Menu>),
    /// Result of a choice.
    ChoiceAnswer(ChoiceAnswer),
    /// Order to check the machine and a probe; answered by `DoctorReady`, then `DoctorAnswer`.
    Doctor(DoctorRequest),
    /// The whole probe was sent: the agent need not wait for its end on the wire.
    DoctorEnd,
    /// Request for the present contents of the disks. Answered by `Facts`; an agent of an earlier
    /// version does not answer.
    AskFacts,
    /// Keep-alive, sent every few seconds; answered by `Pong`.
    Ping,
    /// A type this version does not know; it is ignored.
    #[serde(other)]
    Unknown,
}

/// Everything an agent needs to take part in a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Id of the job.
    pub job: String,
    /// Name of the image, for the target's screen.
    pub image: String,
    /// Root of the image, 64 hex digits.
    pub root: String,
    /// BLAKE3 hash of the encoded manifest, 64 hex digits.
    pub manifest_digest: String,
    /// Length of the encoded manifest in bytes.
    pub manifest_bytes: u64,
    /// Number of FEC blocks of the image object.
    pub image_blocks: u32,
    /// The multicast session.
    pub session: SessionOrder,
    /// Access to TCP 5003.
    pub bulk: BulkOrder,
    /// Key of content ids when the image is encrypted, 64 hex digits.
    #[serde(default)]
    pub id_key: Option<String>,
    /// The disk to write, as the plan named it.
    pub disk: DiskOrder,
    /// Partition that grows into the free space.
    #[serde(default)]
    pub grow: Option<Grow>,
    /// Part of the image that is deployed; all of it by default.
    #[serde(default)]
    pub choice: Choice,
    /// Part of the disk that is read back.
    #[serde(default)]
    pub verify: Verify,
    /// Search for data that the disk holds already.
    #[serde(default)]
    pub reuse: Reuse,
    /// Steps that configure the machine by a template.
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
    /// Session secret, 64 hex digits. Sent only inside this TLS connection.
    pub secret: String,
    /// Cipher suite: `aes-128-gcm` or `chacha20-poly1305`.
    pub suite: multicast::Suite,
    /// Group and port of the main lane.
    pub main: SocketAddrV4,
    /// Group and port of the second lane.
    pub second: SocketAddrV4,
    /// Number of receivers in the session; it sets the report interval.
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

/// The disk that a plan chose. The agent refuses the order when a value no longer matches.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiskOrder {
    /// Path on the target.
    pub path: String,
    /// Serial number when the plan was made.
    #[serde(default)]
    pub serial: Option<String>,
    /// Size in bytes when the plan was made.
    pub size: u64,
    /// Model when the plan was made.
    #[serde(default)]
    pub model: Option<String>,
    /// Contents the disk may have; others are refused before the first write.
    #[serde(default)]
    pub look: Look,
}

impl DiskOrder {
    /// An order for this disk with any contents: to read it, or to name it.
    pub fn naming(disk: &DiskFacts) -> Self {
        Self {
            path: disk.path.clone(),
            serial: disk.serial.clone(),
            size: disk.size,
            model: disk.model.clone(),
            look: Look::Any,
        }
    }

    /// The name of the disk, by which it is found again.
    pub fn name(&self) -> DiskName<'_> {
        DiskName {
            path: &self.path,
            model: self.model.as_deref(),
            serial: self.serial.as_deref(),
            size: self.size,
        }
    }

    /// True when the order names this disk, by path, serial number, size and model. Contents are
    /// not compared.
    pub fn names(&self, disk: &DiskFacts) -> bool {
        self.name().is(&disk.into())
    }
}

/// The reason why a frame was not understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is larger than `MAX_FRAME_BYTES`; its size in bytes.
    #[error("control frame of {0} bytes, limit {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// The frame is not JSON, or not of the expected form.
    #[error("control frame is not a message: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Encodes a message as a frame.
///
/// # Errors
/// The message cannot be encoded, or is larger than [`MAX_FRAME_BYTES`].
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

/// Decodes the message of a frame. Never panics, whatever the bytes.
///
/// # Errors
/// The frame is larger than [`MAX_FRAME_BYTES`], or not a message of this type.
pub fn decode<M: DeserializeOwned>(frame: &[u8]) -> Result<M, FrameError> {
    if frame.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(frame.len()));
    }
    Ok(serde_json::from_slice(frame)?)
}
