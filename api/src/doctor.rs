//! Request and report of `diskcast doctor`: types shared by the console (server) and the CLI
//! (client).
//!
//! `POST /v1/doctor`, `DoctorRequest` -> `DoctorReport`. Values only.

use protocol::control::{DoctorAnswer, QuerierFacts};
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/doctor`. `{}` checks every connected target for three seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DoctorOptions {
    /// Selector of the targets; all connected ones when absent.
    pub targets: Option<String>,
    /// Rate of the probe on the wire in bits per second; the start rate of a session when absent.
    pub rate_bits_per_s: Option<u64>,
    /// Duration of the probe in seconds; three when absent.
    pub seconds: Option<f64>,
}

/// Severity of findings, the worst last.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No fault was found.
    #[default]
    Ok,
    /// A deployment works, perhaps slower or later than it could.
    Warn,
    /// A deployment fails here, or is served over TCP 5003, or far slower than the others.
    Bad,
}

impl Verdict {
    /// The word in output and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// A fault, with advice.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Severity of the fault.
    pub verdict: Verdict,
    /// Name of the check: `multicast`, `loss`, `mtu`, `receive-buffer`, `kernel-drops`, `link`,
    /// `clock`, `disk`, `memory`, `querier`, `port`, `busy`, `answer`, `console`, `dhcp`, `space`,
    /// `rate`, `duplicates`, `reordering`.
    pub check: String,
    /// The fault with numbers, and its effect.
    pub text: String,
    /// Advice: a setting or an action.
    pub advice: String,
}

/// The worst verdict of some findings; `Ok` when there are none.
pub fn worst(findings: &[Finding]) -> Verdict {
    findings
        .iter()
        .map(|finding| finding.verdict)
        .max()
        .unwrap_or_default()
}

/// Report of all checks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoctorReport {
    /// The word `doctor`, so that a `--json` stream can be read by type.
    pub r#type: String,
    /// `SCHEMA_VERSION` of the API.
    pub schema_version: u32,
    /// Time of the check, RFC 3339, by the console's clock.
    pub time: String,
    /// Checks of the console's own machine.
    pub console: ConsoleHealth,
    /// The probe; absent when none was sent.
    #[serde(default)]
    pub probe: Option<ProbeView>,
    /// Findings about the room as a whole.
    pub room: Vec<Finding>,
    /// Checks of the targets, sorted by name.
    pub targets: Vec<TargetHealth>,
    /// Checks that were not possible, with the reason.
    pub not_checked: Vec<String>,
}

/// Checks of the console's own machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsoleHealth {
    /// The worst of its findings.
    pub verdict: Verdict,
    /// Interface and address.
    pub interface: String,
    /// MTU of the interface.
    pub mtu: Option<u32>,
    /// Link speed in Mbit/s, when the kernel knows it.
    pub speed_mbit_per_s: Option<u32>,
    /// Free bytes in the file system of the data directory.
    pub free_bytes: Option<u64>,
    /// The IGMP querier, as seen by the console.
    pub querier: QuerierFacts,
    /// Ports of the console with their owners.
    pub ports: Vec<PortView>,
    /// DHCP and ProxyDHCP servers that answered.
    pub dhcp_servers: Vec<String>,
    /// Faults of the console's machine.
    pub findings: Vec<Finding>,
}

/// A port of the console.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortView {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Port number.
    pub port: u16,
    /// Purpose of the port.
    pub carries: String,
    /// Process that holds it, when the kernel shows it.
    pub owner: Option<String>,
}

/// The probe as it was sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeView {
    /// Group and port of the main lane.
    pub main: String,
    /// Group and port of the second lane.
    pub second: String,
    /// Intended rate on the wire, in bits per second.
    pub rate_bits_per_s: u64,
    /// Reached rate on the wire, in bits per second.
    pub reached_bits_per_s: u64,
    /// Duration in seconds.
    pub seconds: f64,
    /// Packets on the main lane.
    pub main_packets: u64,
    /// Packets on the second lane.
    pub second_packets: u64,
    /// Jumbo packets were sent, too.
    pub jumbo: bool,
}

/// Checks of one target.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetHealth {
    /// Id of the target.
    pub id: String,
    /// Name of the target.
    pub name: String,
    /// The worst of its findings.
    pub verdict: Verdict,
    /// Faults of the target.
    pub findings: Vec<Finding>,
    /// Share of main-lane packets that were lost, 0..1; absent when none were sent or the target
    /// did not listen.
    pub main_loss: Option<f64>,
    /// Share of second-lane packets that were lost, 0..1.
    pub second_loss: Option<f64>,
    /// Round-trip time of a control message, in seconds.
    pub round_trip_s: Option<f64>,
    /// The target's clock minus the console's, in seconds, with an error of up to half the round
    /// trip.
    pub clock_offset_s: Option<f64>,
    /// Answer of the agent.
    pub answer: Option<DoctorAnswer>,
}
