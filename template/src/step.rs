//! The steps that make one machine itself.
//!
//! Values only: what a plan shows, what the console stores with a job and what an agent carries out. Never holds a
//! secret: it names one, and the values travel beside the plan.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// What is to be done to one machine, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct MachinePlan {
    /// Name the machine gets, when the template gives one.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Address the machine gets, when the template gives one.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// Steps; offline ones first, in the order they are applied.
    pub steps: Vec<Step>,
    /// Why this machine is refused; then no step is carried out. What, where, what to do.
    #[serde(default)]
    pub refused: Vec<String>,
    /// What the technician should know: warnings, and what is left as it is.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Further addresses of the console, `address:port`, that its report of the first start is tried at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consoles: Vec<String>,
    /// What the machine does after the agent's part: restart when first boot goes on with the work.
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

/// What the agent does when every step is applied.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterApply {
    /// The end action of the deployment.
    #[default]
    EndAction,
    /// Restart from the disk: first boot has steps left, and does the end action after them.
    RestartForFirstBoot,
}

/// One step.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Short and stable: `linux.hostname`, `windows.tcpip.1`, `copy.2`.
    pub id: String,
    /// One line for people, without secrets.
    pub what: String,
    /// When it takes effect.
    pub when: When,
    /// What is done.
    pub action: Action,
}

/// When a step takes effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// By the agent, before the disk can boot.
    Offline,
    /// By Windows Setup, from the answer file.
    AnswerFile,
    /// By the machine itself after its first start.
    FirstBoot,
}

/// What is done. Partitions are numbers of the table.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// The file system takes the room its partition has.
    GrowFileSystem {
        /// Where.
        partition: u32,
        /// What kind it is.
        file_system: FileSystem,
    },
    /// A file of the console lies on the machine.
    CopyFile {
        /// Volume of the system.
        partition: u32,
        /// Which file.
        payload: Payload,
        /// Path as the system writes it: `C:\Deploy\app.msi`, `/opt/app.deb`.
        to: String,
    },
    /// `/etc/hostname`, hosts, and what else carries the name.
    LinuxHostname {
        /// Root of the system.
        partition: u32,
        /// First label.
        name: String,
        /// With its domain.
        fqdn: Option<String>,
    },
    /// `/etc/machine-id` and the seeds beside it are drawn anew at the next start.
    LinuxMachineId {
        /// Root of the system.
        partition: u32,
    },
    /// Ids beside the machine id that storage and management servers tell machines by.
    LinuxHostIds {
        /// Root of the system.
        partition: u32,
        /// UUID they are drawn from.
        id: String,
    },
    /// The host keys are gone, and made anew before the server starts for the first time.
    LinuxSshHostKeys {
        /// Root of the system.
        partition: u32,
    },
    /// Network cards by MAC address.
    LinuxNetwork {
        /// Root of the system.
        partition: u32,
        /// What configures the network there.
        renderer: crate::findings::Renderer,
        /// Cards.
        nics: Vec<Nic>,
    },
    /// An account.
    LinuxUser {
        /// Root of the system.
        partition: u32,
        /// Account; groups are the system's own names.
        user: User,
    },
    /// cloud-init leaves alone what other steps write.
    LinuxCloudInitKeeps {
        /// Root of the system.
        partition: u32,
        /// Things it leaves alone.
        keeps: Vec<Kept>,
    },
    /// A NoCloud seed: cloud-init itself sets name and addresses.
    LinuxCloudInit {
        /// Root of the system.
        partition: u32,
        /// First label.
        hostname: Option<String>,
        /// With its domain.
        fqdn: Option<String>,
        /// Cards.
        nics: Vec<Nic>,
        /// A new one for each deployment.
        instance_id: String,
        /// Accounts are the template's business: it makes none.
        accounts: bool,
    },
    /// SYSTEM: computer name and DNS host name in every control set that may start.
    WindowsName {
        /// Volume.
        partition: u32,
        /// NetBIOS name, at most 15 characters.
        name: String,
        /// DNS host name.
        dns_name: String,
        /// DNS suffix, when the template gives one.
        suffix: Option<String>,
    },
    /// SECURITY: the workgroup of a machine without a domain.
    WindowsWorkgroup {
        /// Volume.
        partition: u32,
        /// Its name.
        name: String,
    },
    /// SYSTEM: addresses of a card the master knew.
    WindowsTcpip {
        /// Volume.
        partition: u32,
        /// `{GUID}` of the interface.
        interface: String,
        /// Addresses.
        config: NicConfig,
    },
    /// MachineGuid, update and telemetry identities, DUID: gone or drawn anew.
    WindowsIdentifiers {
        /// Volume.
        partition: u32,
        /// New MachineGuid.
        machine_guid: String,
    },
    /// Services of disk controllers start at boot.
    WindowsStorage {
        /// Volume.
        partition: u32,
        /// Services.
        services: Vec<String>,
        /// XP to 7: hardware ids with the service that serves them.
        critical_devices: Vec<CriticalDevice>,
    },
    /// A driver the master lacks, without which the machine does not start.
    WindowsBootDriver {
        /// Volume.
        partition: u32,
        /// Name of the package's `.inf`, without folder.
        inf: String,
        /// Service the `.inf` installs.
        service: String,
        /// Its `.sys` as it is called on the machine.
        binary: String,
        /// The file of the package that it is.
        program: DriverFile,
        /// Hardware ids the `.inf` serves.
        hardware_ids: Vec<String>,
    },
    /// A driver package lies on the machine; first boot installs it.
    WindowsStageDriver {
        /// Volume.
        partition: u32,
        /// Folder name.
        name: String,
        /// Package.
        files: Vec<DriverFile>,
    },
    /// The machine SID, everywhere.
    WindowsSid {
        /// Volume.
        partition: u32,
        /// As the master has it: `S-1-5-21-a-b-c`.
        old: String,
        /// New one.
        new: String,
    },
    /// `hiberfil.sys` is removed: its session is lost.
    WindowsDiscardHibernation {
        /// Volume.
        partition: u32,
    },
    /// `Windows\Panther\Unattend\Unattend.xml`, merged with what is there.
    WindowsAnswerFile {
        /// Volume.
        partition: u32,
        /// What Setup is told.
        answers: Box<Answers>,
    },
    /// The rest, by the machine itself.
    FirstBoot {
        /// Volume or root.
        partition: u32,
        /// What it does.
        job: FirstBootJob,
        /// Windows: the program that does it, `diskcast-firstboot.exe`.
        #[serde(default)]
        executable: Option<Payload>,
    },
}

/// A thing that cloud-init leaves alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// Name and `/etc/hosts`.
    Name,
    /// Addresses.
    Network,
    /// Accounts.
    Accounts,
    /// SSH host keys.
    HostKeys,
}

/// A file system that can be changed.
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
    /// Name for people.
    pub name: String,
    /// BLAKE3 of its content, 64 hex digits; also what it is asked for by.
    pub blake3: String,
    /// Bytes.
    pub bytes: u64,
}

/// A file of a driver package.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct DriverFile {
    /// Name inside the package, `/` between folders.
    pub name: String,
    /// Content.
    pub payload: Payload,
}

/// An entry of the CriticalDeviceDatabase.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct CriticalDevice {
    /// `PCI#VEN_8086&DEV_2922` or `PCI#CC_0106`.
    pub id: String,
    /// Service.
    pub service: String,
    /// Setup class, braces included.
    pub class_guid: String,
}

/// One network card.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    /// `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// Addresses.
    pub config: NicConfig,
}

/// Addresses of one card.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct NicConfig {
    /// Where they come from.
    pub ipv4: Ipv4Config,
    /// Name servers; empty leaves them to DHCP.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// DNS suffix of the connection.
    #[serde(default)]
    pub suffix: Option<String>,
    /// Search list.
    #[serde(default)]
    pub search: Vec<String>,
}

/// Where the address comes from.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum Ipv4Config {
    /// From a DHCP server.
    Dhcp,
    /// From the template.
    Static {
        /// Address.
        address: Ipv4Addr,
        /// Bits of the network, 1..=32.
        prefix: u8,
        /// Router.
        #[serde(default)]
        gateway: Option<Ipv4Addr>,
    },
}

/// A local account.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Name for people.
    #[serde(default)]
    pub full_name: Option<String>,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Name of the secret: for Linux its value is a crypt hash, for Windows the password. `None`: no login by password.
    #[serde(default)]
    pub password: Option<SecretName>,
    /// What happens when the account is there already.
    #[serde(default)]
    pub on_exists: OnExists,
}

/// A group of an account.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// S-1-5-32-544; sudo or wheel.
    Administrators,
    /// S-1-5-32-545.
    Users,
    /// S-1-5-32-547.
    PowerUsers,
    /// S-1-5-32-555.
    RemoteDesktop,
    /// By the image's own name.
    Named(String),
}

/// What happens to an account that is there already.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OnExists {
    /// Its password and groups are set.
    #[default]
    Update,
    /// Left as it is.
    Skip,
    /// The step fails.
    Fail,
}

/// Name of a secret whose value travels beside the plan.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretName(pub String);

/// What Windows Setup is told.
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
    /// Cards by MAC address.
    #[serde(default)]
    pub nics: Vec<Nic>,
    /// Accounts.
    #[serde(default)]
    pub users: Vec<User>,
    /// Secret that holds the offline-join blob of this machine.
    #[serde(default)]
    pub join_blob: Option<SecretName>,
    /// Locale for every language setting: `en-US`.
    #[serde(default)]
    pub locale: Option<String>,
}

/// What a machine does by itself after its first start.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct FirstBootJob {
    /// In this order.
    pub steps: Vec<FirstBootStep>,
    /// At the very end.
    pub end: FirstBootEnd,
    /// The machine reports to the console what came of it.
    #[serde(default)]
    pub report: bool,
}

/// A step of first boot.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FirstBootStep {
    /// Short and stable, `[a-z0-9.-]`.
    pub id: String,
    /// What.
    pub action: FirstBootAction,
}

/// What first boot does.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum FirstBootAction {
    /// Windows: addresses of the card with this MAC.
    Network(Nic),
    /// Windows: an account; groups by well-known SID.
    User(User),
    /// Windows: the offline-join blob, by `djoin /requestODJ`, then a restart.
    Join {
        /// Secret that holds the blob.
        blob: SecretName,
    },
    /// Windows: `pnputil` on every staged package.
    InstallDrivers,
    /// A program.
    Run {
        /// Command line: `cmd.exe /c` on Windows, `/bin/sh -c` on Linux.
        command: String,
        /// Seconds after which it is ended and has failed.
        timeout_seconds: u32,
        /// Exit codes that are success.
        ok_codes: Vec<i32>,
        /// Exit codes after which the machine restarts and goes on with the next step.
        reboot_codes: Vec<i32>,
        /// What a failure does.
        on_error: OnError,
    },
}

/// What a failed program does to the steps after it.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// They are left, and so is the end action.
    #[default]
    Stop,
    /// They go on.
    Continue,
}

/// What the machine does when first boot is over.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstBootEnd {
    /// Stays up.
    #[default]
    None,
    /// Restarts.
    Restart,
    /// Powers off.
    Shutdown,
}
