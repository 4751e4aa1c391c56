//! Network boot: the policy, machines that boot, and what `pxe serve` and the console tell each other.

use facts::boot::Stage;
use facts::identity::{Record, Shared};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// `console run --boot`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootPolicy {
    /// Machines the console has never seen, and those that are wanted.
    #[default]
    Unknown,
    /// Those that are wanted.
    Wanted,
    /// Everyone.
    Always,
}

impl BootPolicy {
    /// The word of the option.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Wanted => "wanted",
            Self::Always => "always",
        }
    }
}

/// How far a machine came that boots over the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineView {
    /// The card that boots.
    pub mac: String,
    /// SMBIOS UUID, where its firmware says it.
    #[serde(default)]
    pub uuid: Option<String>,
    /// `BIOS`, `UEFI` or `UEFI HTTP`.
    #[serde(default)]
    pub firmware: Option<String>,
    /// Its address.
    #[serde(default)]
    pub address: Option<String>,
    /// How far it came.
    pub stage: Stage,
    /// When it was heard of last, RFC 3339.
    pub time: String,
    /// More about the stage.
    #[serde(default)]
    pub detail: Option<String>,
    /// What went wrong last, until a boot goes well.
    #[serde(default)]
    pub error: Option<String>,
    /// When, RFC 3339.
    #[serde(default)]
    pub error_time: Option<String>,
}

/// The services of network boot as they run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootService {
    /// Interface.
    pub interface: String,
    /// `address:port` of HTTP boot.
    pub http: String,
    /// Boot folder.
    pub boot_files: String,
    /// Names of the contract that are not in it.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Addresses handed out, when they are.
    #[serde(default)]
    pub dhcp: Option<String>,
    /// Process.
    pub pid: u32,
}

/// `GET /v1/boot`, and `POST /v1/boot/check` which asks the wire for other servers first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootReport {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Who gets the agent.
    pub policy: BootPolicy,
    /// The services; absent when none run.
    #[serde(default)]
    pub service: Option<BootService>,
    /// Who asked, the last first.
    pub machines: Vec<MachineView>,
    /// DHCP servers that machines took their addresses from.
    #[serde(default)]
    pub address_servers: Vec<String>,
    /// Servers that answered when asked, one line each.
    #[serde(default)]
    pub rivals: Vec<String>,
    /// What could not be looked at, and why.
    #[serde(default)]
    pub not_checked: Vec<String>,
}

/// Something that happened to a machine, from `pxe serve`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootEvent {
    /// Card.
    pub mac: String,
    /// Machine.
    #[serde(default)]
    pub uuid: Option<String>,
    /// How far it came.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// Firmware.
    #[serde(default)]
    pub firmware: Option<String>,
    /// Address.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// More.
    #[serde(default)]
    pub detail: Option<String>,
    /// Something went wrong.
    #[serde(default)]
    pub failed: bool,
}

/// `POST /v1/boot/sync`: what `pxe serve` tells.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BootSync {
    /// What happened since.
    #[serde(default)]
    pub events: Vec<BootEvent>,
    /// DHCP servers that machines took their addresses from.
    #[serde(default)]
    pub servers: Vec<Ipv4Addr>,
    /// The services.
    #[serde(default)]
    pub service: Option<BootService>,
}

/// A target, as far as booting goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootKnown {
    /// Target.
    pub id: String,
    /// Identity record of the target.
    pub record: Record,
    /// Something waits for it and is not over for it.
    pub wanted: bool,
}

/// The answer: who is to do what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootOrders {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Who gets the agent.
    pub policy: BootPolicy,
    /// Every target.
    pub known: Vec<BootKnown>,
    /// Identity values that several machines have, so that they decide nothing.
    #[serde(default)]
    pub shared: Shared,
    /// `address:port` agents connect to.
    pub console: String,
    /// What they pin.
    pub pin: String,
    /// Second lane, when it is not the usual one.
    #[serde(default)]
    pub second: Option<String>,
}
