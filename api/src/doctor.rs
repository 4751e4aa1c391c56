//! What `diskcast doctor` is asked and what it says: types shared by the console (server) and the CLI (client).
//!
//! `POST /v1/doctor`, `DoctorRequest` -> `DoctorReport`. Values only.

use protocol::control::{DoctorAnswer, QuerierFacts};
use serde::{Deserialize, Serialize};

/// `POST /v1/doctor`. `{}` checks every connected target for three seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DoctorOptions {
    /// Selector of the targets; all that are connected when absent.
    pub targets: Option<String>,
    /// Rate of the probe on the wire, bits per second; what a session would start with when absent.
    pub rate_bits_per_s: Option<u64>,
    /// Seconds the probe lasts; three when absent.
    pub seconds: Option<f64>,
}

/// How well something is.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing was found.
    #[default]
    Ok,
    /// A deployment works, perhaps slower or later than it could.
    Warn,
    /// A deployment fails here, or is served over TCP 5003, or far slower than the others.
    Bad,
}

impl Verdict {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// Which check: `multicast`, `loss`, `mtu`, `receive-buffer`, `kernel-drops`, `link`, `clock`, `disk`, `memory`, `querier`, `port`, `busy`,
    /// `answer`, `console`, `dhcp`, `space`, `rate`, `duplicates`, `reordering`.
    pub check: String,
    /// What it is, with numbers, and what it means.
    pub text: String,
    /// What to set or to do.
    pub advice: String,
}

/// The worst of some findings.
pub fn worst(findings: &[Finding]) -> Verdict {
    findings
        .iter()
        .map(|finding| finding.verdict)
        .max()
        .unwrap_or_default()
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoctorReport {
    /// `doctor`, so that a `--json` stream can be read by type.
    pub r#type: String,
    /// `SCHEMA_VERSION` of the API.
    pub schema_version: u32,
    /// When, RFC 3339, by the console's clock.
    pub time: String,
    /// The console's own machine.
    pub console: ConsoleHealth,
    /// The probe; absent when none was sent.
    #[serde(default)]
    pub probe: Option<ProbeView>,
    /// Findings about the room as a whole.
    pub room: Vec<Finding>,
    /// By name.
    pub targets: Vec<TargetHealth>,
    /// What could not be checked, and why.
    pub not_checked: Vec<String>,
}

/// The console's own machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsoleHealth {
    /// The worst of its findings.
    pub verdict: Verdict,
    /// Interface and address.
    pub interface: String,
    /// MTU of the interface.
    pub mtu: Option<u32>,
    /// Speed of the interface where the kernel knows it.
    pub speed_mbit_per_s: Option<u32>,
    /// Free bytes where the data directory is.
    pub free_bytes: Option<u64>,
    /// Who asks for memberships.
    pub querier: QuerierFacts,
    /// Each port and who holds it.
    pub ports: Vec<PortView>,
    /// DHCP and ProxyDHCP servers that answered.
    pub dhcp_servers: Vec<String>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

/// A port of the console.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortView {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Number.
    pub port: u16,
    /// What it is for.
    pub carries: String,
    /// Process that holds it, where the kernel lets us see it.
    pub owner: Option<String>,
}

/// The probe as it was sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeView {
    /// Main lane.
    pub main: String,
    /// Second lane.
    pub second: String,
    /// What was aimed at, bits per second on the wire.
    pub rate_bits_per_s: u64,
    /// What was reached.
    pub reached_bits_per_s: u64,
    /// Seconds.
    pub seconds: f64,
    /// Packets on the main lane.
    pub main_packets: u64,
    /// Packets on the second lane.
    pub second_packets: u64,
    /// Jumbo packets were sent as well.
    pub jumbo: bool,
}

/// One target.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetHealth {
    /// Target.
    pub id: String,
    /// Name.
    pub name: String,
    /// The worst of its findings.
    pub verdict: Verdict,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// Share of the main lane that was lost, 0..1; absent when nothing was sent or it did not listen.
    pub main_loss: Option<f64>,
    /// Share of the second lane that was lost.
    pub second_loss: Option<f64>,
    /// Round trip of a control message, seconds.
    pub round_trip_s: Option<f64>,
    /// Its clock less the console's, seconds; known to half the round trip.
    pub clock_offset_s: Option<f64>,
    /// What it said.
    pub answer: Option<DoctorAnswer>,
}
