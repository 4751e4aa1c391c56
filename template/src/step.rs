//! Steps that configure one machine.
//!
//! Values only: a plan shows them, the console stores them with a job, and an agent carries them
//! out. A step never holds a secret: it names one, and the values are sent beside the plan.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The plan of one machine: its steps in order, or the reasons to refuse it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct MachinePlan {
    /// Name the machine gets, when the template gives one.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Address the machine gets, when the template gives one.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// Steps in the order they are applied, offline ones first.
    pub steps: Vec<Step>,
    /// Reasons why this machine is refused, each with its place and advice. No step is carried out
    /// then.
    #[serde(default)]
    pub refused: Vec<String>,
    /// Notes for the technician: warnings, and settings that do not apply.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Further addresses of the console, `address:port`, to which the report of the first start is
    /// sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consoles: Vec<String>,
    /// Action after the agent's part: a restart when first boot has steps left.
    #[serde(default)]
    pub after: AfterApply,
}

impl MachinePlan {
    /// True when the machine reports its first start.
    pub fn reports_first_start(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(&step.action, Action::FirstBoot { job, .. } if job.report))
    }
}

/// Action of the agent when every step is applied.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterApply {
    /// The end action of the deployment.
    #[default]
    EndAction,
    /// Restart from the disk: first boot has steps left, and runs the end action after them.
    RestartForFirstBoot,
}

/// One step.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Short, stable id: `linux.hostname`, `windows.tcpip.1`, `copy.2`.
    pub id: String,
    /// Description in one line, without secrets.
    pub what: String,
    /// Time at which it takes effect.
    pub when: When,
    /// The action.
    pub action: Action,
}

/// Time at which a step takes effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Before the disk can boot; applied by the agent.
    Offline,
    /// During Windows Setup, from the answer file.
    AnswerFile,
    /// After the first start, by the machine itself.
    FirstBoot,
}

/// The action of a step. Partitions are given by their number in the partition table.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Grows a file system to the size of its partition.
    GrowFileSystem {
        /// Partition of the file system.
        partition: u32,
        /// Kind of the file system.
        file_system: FileSystem,
    },
    /// Copies a file of the console to the machine.
    CopyFile {
        /// Volume of the system.
        partition: u32,
        /// The file.
        payload: Payload,
        /// Path as the system writes it: `C:\Deploy\app.msi`, `/opt/app.deb`.
        to: String,
    },
    /// Sets the name: `/etc/hostname`, hosts, and other files that carry it.
    LinuxHostname {
        /// Root of the system.
        partition: u32,
        /// First label of the name.
        name: String,
        /// Full name with the domain.
        fqdn: Option<String>,
    },
    /// Makes `/etc/machine-id` and the seeds beside it anew at the next start.
    LinuxMachineId {
        /// Root of the system.
        partition: u32,
    },
    /// Sets other ids by which storage and management servers identify machines.
    LinuxHostIds {
        /// Root of the system.
        partition: u32,
        /// UUID from which they are derived.
        id: String,
    },
    /// Removes the SSH host keys; new ones are made before the server starts for the first time.
    LinuxSshHostKeys {
        /// Root of the system.
        partition: u32,
    },
    /// Configures network cards by MAC address.
    LinuxNetwork {
        /// Root of the system.
        partition: u32,
        /// Software that configures the network.
        renderer: crate::findings::Renderer,
        /// Cards and their settings.
        nics: Vec<Nic>,
    },
    /// Makes or updates an account.
    LinuxUser {
        /// Root of the system.
        partition: u32,
        /// The account; groups have the system's own names.
        user: User,
    },
    /// Keeps cloud-init from changing what other steps write.
    LinuxCloudInitKeeps {
        /// Root of the system.
        partition: u32,
        /// Parts that cloud-init leaves alone.
        keeps: Vec<Kept>,
    },
    /// Writes a NoCloud seed: cloud-init itself sets name and addresses.
    LinuxCloudInit {
        /// Root of the system.
        partition: u32,
        /// First label of the name.
        hostname: Option<String>,
        /// Full name with the domain.
        fqdn: Option<String>,
        /// Cards and their settings.
        nics: Vec<Nic>,
        /// Instance id, new for each machine.
        instance_id: String,
        /// The template sets the accounts: cloud-init makes none.
        accounts: bool,
    },
    /// Sets computer name and DNS host name in SYSTEM, in every control set that may start.
    WindowsName {
        /// Volume of Windows.
        partition: u32,
        /// NetBIOS name, at most 15 characters.
        name: String,
        /// DNS host name.
        dns_name: String,
        /// DNS suffix, when the template gives one.
        suffix: Option<String>,
    },
    /// Sets the workgroup of a machine without a domain in SECURITY.
    WindowsWorkgroup {
        /// Volume of Windows.
        partition: u32,
        /// Name of the workgroup.
        name: String,
    },
    /// Sets addresses of a card the master knew in SYSTEM.
    WindowsTcpip {
        /// Volume of Windows.
        partition: u32,
        /// `{GUID}` of the interface.
        interface: String,
        /// Settings of the card.
        config: NicConfig,
    },
    /// Removes or replaces MachineGuid, update and telemetry identities, and the DUID.
    WindowsIdentifiers {
        /// Volume of Windows.
        partition: u32,
        /// New MachineGuid.
        machine_guid: String,
    },
    /// Makes services of disk controllers start at boot.
    WindowsStorage {
        /// Volume of Windows.
        partition: u32,
        /// Names of the services.
        services: Vec<String>,
        /// Entries of the CriticalDeviceDatabase, for Windows XP to 7.
        critical_devices: Vec<CriticalDevice>,
    },
    /// Installs a driver that the master lacks and the machine needs to start.
    WindowsBootDriver {
        /// Volume of Windows.
        partition: u32,
        /// Name of the package's `.inf`, without folder.
        inf: String,
        /// Service that the `.inf` installs.
        service: String,
        /// File name of its `.sys` on the machine.
        binary: String,
        /// The file of the package with that driver.
        program: DriverFile,
        /// Hardware ids of the `.inf` for that service.
        hardware_ids: Vec<String>,
    },
    /// Copies a driver package to the machine; first boot installs it.
    WindowsStageDriver {
        /// Volume of Windows.
        partition: u32,
        /// Name of its folder.
        name: String,
        /// Files of the package.
        files: Vec<DriverFile>,
    },
    /// Replaces the machine SID in every place.
    WindowsSid {
        /// Volume of Windows.
        partition: u32,
        /// SID of the master: `S-1-5-21-a-b-c`.
        old: String,
        /// New SID.
        new: String,
    },
    /// Removes `hiberfil.sys`: its session is lost.
    WindowsDiscardHibernation {
        /// Volume of Windows.
        partition: u32,
    },
    /// Writes `Windows\Panther\Unattend\Unattend.xml`, merged with the master's answer file.
    WindowsAnswerFile {
        /// Volume of Windows.
        partition: u32,
        /// Settings for Windows Setup.
        answers: Box<Answers>,
    },
    /// Prepares first boot: the machine itself does the remaining work.
    FirstBoot {
        /// Volume of Windows, or root of Linux.
        partition: u32,
        /// Work of first boot.
        job: FirstBootJob,
        /// Program of first boot on Windows, `diskcast-firstboot.exe`.
        #[serde(default)]
        executable: Option<Payload>,
    },
}

/// A part of the configuration that cloud-init leaves alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// Host name and `/etc/hosts`.
    Name,
    /// Addresses.
    Network,
    /// Accounts.
    Accounts,
    /// SSH host keys.
    HostKeys,
}

/// A file system that diskcast can grow or change.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSystem {
    /// ext2, ext3, ext4.
    Ext,
    /// NTFS.
    Ntfs,
    /// FAT12, FAT16, FAT32.
    Fat,
    /// exFAT.
    Exfat,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

/// A file the agent fetches from the console.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// Name for messages.
    pub name: String,
    /// BLAKE3 hash of the content, 64 hex digits; the agent requests the file by it.
    pub blake3: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// A file of a driver package.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct DriverFile {
    /// Name inside the package, `/` between folders.
    pub name: String,
    /// Content of the file.
    pub payload: Payload,
}

/// An entry of the CriticalDeviceDatabase.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct CriticalDevice {
    /// `PCI#VEN_8086&DEV_2922` or `PCI#CC_0106`.
    pub id: String,
    /// Name of the service.
    pub service: String,
    /// Setup class GUID, with braces.
    pub class_guid: String,
}

/// A network card and its settings.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    /// MAC address, `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// Settings of the card.
    pub config: NicConfig,
}

/// Network settings of one card.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct NicConfig {
    /// Source of the IPv4 address.
    pub ipv4: Ipv4Config,
    /// Name servers; empty leaves them to DHCP.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// DNS suffix of the connection.
    #[serde(default)]
    pub suffix: Option<String>,
    /// DNS search list.
    #[serde(default)]
    pub search: Vec<String>,
}

/// Source of an IPv4 address.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum Ipv4Config {
    /// A DHCP server.
    Dhcp,
    /// The template.
    Static {
        /// Address of the card.
        address: Ipv4Addr,
        /// Prefix length of the network in bits, 1..=32.
        prefix: u8,
        /// Default gateway.
        #[serde(default)]
        gateway: Option<Ipv4Addr>,
    },
}

/// A local account.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Full name.
    #[serde(default)]
    pub full_name: Option<String>,
    /// Groups of the account.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Name of the secret: for Linux its value is a crypt hash, for Windows the password. `None`
    /// means no login by password.
    #[serde(default)]
    pub password: Option<SecretName>,
    /// Action when the account exists already.
    #[serde(default)]
    pub on_exists: OnExists,
}

/// A group of an account.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// S-1-5-32-544 on Windows; sudo or wheel on Linux.
    Administrators,
    /// S-1-5-32-545.
    Users,
    /// S-1-5-32-547.
    PowerUsers,
    /// S-1-5-32-555.
    RemoteDesktop,
    /// A group by its name in the image.
    Named(String),
}

/// Action for an account that exists already.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OnExists {
    /// Set its password and groups.
    #[default]
    Update,
    /// Leave it unchanged.
    Skip,
    /// Fail.
    Fail,
}

/// Name of a secret, whose value is sent beside the plan.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretName(pub String);

/// Settings of an answer file for Windows Setup.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// `processorArchitecture` of the components: `amd64`, `x86`, `arm64`.
    pub architecture: String,
    /// ComputerName.
    #[serde(default)]
    pub computer_name: Option<String>,
    /// Workgroup to join.
    #[serde(default)]
    pub workgroup: Option<String>,
    /// Cards by MAC address, with their settings.
    #[serde(default)]
    pub nics: Vec<Nic>,
    /// Local accounts.
    #[serde(default)]
    pub users: Vec<User>,
    /// Name of the secret with the offline-join blob of this machine.
    #[serde(default)]
    pub join_blob: Option<SecretName>,
    /// Locale for every language setting: `en-US`.
    #[serde(default)]
    pub locale: Option<String>,
}

/// Work of a machine after its first start.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct FirstBootJob {
    /// Steps in their order.
    pub steps: Vec<FirstBootStep>,
    /// Action at the end.
    pub end: FirstBootEnd,
    /// The machine reports the result to the console.
    #[serde(default)]
    pub report: bool,
}

/// A step of first boot.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FirstBootStep {
    /// Short, stable id, `[a-z0-9.-]`.
    pub id: String,
    /// The action.
    pub action: FirstBootAction,
}

/// The action of a first-boot step.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum FirstBootAction {
    /// Windows: sets addresses of the card with this MAC address.
    Network(Nic),
    /// Windows: makes or updates an account; groups are given by well-known SID.
    User(User),
    /// Windows: joins the domain by an offline-join blob (`djoin /requestODJ`), then restarts.
    Join {
        /// Name of the secret with the blob.
        blob: SecretName,
    },
    /// Windows: runs `pnputil` on every staged package.
    InstallDrivers,
    /// Runs a program.
    Run {
        /// Command line: `cmd.exe /c` on Windows, `/bin/sh -c` on Linux.
        command: String,
        /// Time limit in seconds; after it the program is ended and has failed.
        timeout_seconds: u32,
        /// Exit codes that mean success.
        ok_codes: Vec<i32>,
        /// Exit codes after which the machine restarts and continues with the next step.
        reboot_codes: Vec<i32>,
        /// Effect of a failure.
        on_error: OnError,
    },
}

/// Effect of a failed program on the steps after it.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// Skip them, and the end action.
    #[default]
    Stop,
    /// Continue with them.
    Continue,
}

/// Action of the machine after first boot.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstBootEnd {
    /// Stay up.
    #[default]
    None,
    /// Restart.
    Restart,
    /// Power off.
    Shutdown,
}
