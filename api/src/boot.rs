//! Network boot: policy, booting machines, and messages between `pxe serve` and the console.

use facts::boot::Stage;
use facts::identity::{Record, Shared};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Policy of network boot: `console run --boot`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootPolicy {
    /// Serve machines the console has never seen, and those that a job waits for.
    #[default]
    Unknown,
    /// Serve machines that a job waits for.
    Wanted,
    /// Serve all machines.
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

/// Progress of a machine that boots over the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineView {
    /// MAC address of the card that boots.
    pub mac: String,
    /// SMBIOS UUID, when the firmware sends it.
    #[serde(default)]
    pub uuid: Option<String>,
    /// `BIOS`, `UEFI` or `UEFI HTTP`.
    #[serde(default)]
    pub firmware: Option<String>,
    /// IP address of the machine.
    #[serde(default)]
    pub address: Option<String>,
    /// Stage the boot has reached.
    pub stage: Stage,
    /// Time of the last event, RFC 3339.
    pub time: String,
    /// Details of the stage.
    #[serde(default)]
    pub detail: Option<String>,
    /// The last fault, until a boot succeeds.
    #[serde(default)]
    pub error: Option<String>,
    /// Time of that fault, RFC 3339.
    #[serde(default)]
    pub error_time: Option<String>,
}

/// Running services of network boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootService {
    /// Name of the interface.
    pub interface: String,
    /// `address:port` of HTTP boot.
    pub http: String,
    /// Path of the boot folder.
    pub boot_files: String,
    /// Boot files of the contract that are missing in the folder.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Range of addresses handed out, if the service has its own DHCP server.
    #[serde(default)]
    pub dhcp: Option<String>,
    /// Process id.
    pub pid: u32,
}

/// Answer to `GET /v1/boot`, and to `POST /v1/boot/check`, which first searches the network for
/// other servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootReport {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Policy of network boot.
    pub policy: BootPolicy,
    /// The services; absent when none is running.
    #[serde(default)]
    pub service: Option<BootService>,
    /// Machines that requested a boot, the latest first.
    pub machines: Vec<MachineView>,
    /// DHCP servers from which machines got their addresses.
    #[serde(default)]
    pub address_servers: Vec<String>,
    /// Other servers that answered the search, one line each.
    #[serde(default)]
    pub rivals: Vec<String>,
    /// Checks that were not possible, with the reason.
    #[serde(default)]
    pub not_checked: Vec<String>,
}

/// An event of a booting machine, from `pxe serve`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootEvent {
    /// MAC address of the card.
    pub mac: String,
    /// SMBIOS UUID.
    #[serde(default)]
    pub uuid: Option<String>,
    /// Stage the boot has reached.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// Type of the firmware.
    #[serde(default)]
    pub firmware: Option<String>,
    /// IP address of the machine.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// Details.
    #[serde(default)]
    pub detail: Option<String>,
    /// The event is a fault.
    #[serde(default)]
    pub failed: bool,
}

/// Body of `POST /v1/boot/sync`: news from `pxe serve`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BootSync {
    /// Events since the last call.
    #[serde(default)]
    pub events: Vec<BootEvent>,
    /// DHCP servers from which machines got their addresses.
    #[serde(default)]
    pub servers: Vec<Ipv4Addr>,
    /// The running services.
    #[serde(default)]
    pub service: Option<BootService>,
}

/// A target, as far as network boot needs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootKnown {
    /// Id of the target.
    pub id: String,
    /// Identity record of the target.
    pub record: Record,
    /// A job waits for the target and has not ended for it.
    pub wanted: bool,
}

/// Answer to [`BootSync`]: the facts by which boots are decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootOrders {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Policy of network boot.
    pub policy: BootPolicy,
    /// Every target.
    pub known: Vec<BootKnown>,
    /// Identity values that several machines share, so that they decide nothing.
    #[serde(default)]
    pub shared: Shared,
    /// `address:port` that agents connect to.
    pub console: String,
    /// Pin of the console's public key.
    pub pin: String,
    /// Group and port of the second lane, when it is not the default one.
    #[serde(default)]
    pub second: Option<String>,
}
