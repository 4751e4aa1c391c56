//! What inspection says of an image: the systems on it, and what keeps them from being changed.
//!
//! Values only. `inspect` fills them in from the bytes of partitions, plans are made from them.

mod linux;

pub use linux::{CloudInit, LinuxFindings, Renderer, Setting, Sudo};

use crate::answers::AnswerFileFound;
use crate::inf::Platform;
use crate::step::FileSystem;
use serde::{Deserialize, Serialize};

/// Everything found on the partitions of one disk or image.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// One a partition, by number.
    pub partitions: Vec<PartitionFindings>,
    /// Every system found, by partition.
    pub systems: Vec<System>,
}

/// One partition.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct PartitionFindings {
    /// Number in the table.
    pub number: u32,
    /// What lies in it; `None` when nobody knows.
    #[serde(default)]
    pub file_system: Option<FileSystem>,
    /// Volume label.
    #[serde(default)]
    pub label: Option<String>,
    /// Machines and domains (`S-1-5-21-a-b-c`) that the rights of files on an NTFS volume name.
    #[serde(default)]
    pub sids: Vec<String>,
    /// UUID of its file system, as blkid writes it.
    #[serde(default)]
    pub uuid: Option<String>,
    /// Why nothing may be changed in it.
    #[serde(default)]
    pub obstacles: Vec<Obstacle>,
}

/// Why a volume or a system cannot be changed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// `-FVE-FS-`: the volume is encrypted by BitLocker.
    BitLocker,
    /// The volume is encrypted by LUKS.
    Luks,
    /// `hiberfil.sys` holds a session.
    Hibernated,
    /// The volume's dirty flag is set.
    DirtyVolume,
    /// A hive is dirty and its logs do not apply.
    DirtyHive {
        /// Its file name.
        hive: String,
        /// Why they do not apply.
        reason: String,
    },
    /// A hive fails its validator.
    DamagedHive {
        /// Its file name.
        hive: String,
        /// The first faults.
        reason: String,
    },
    /// A file or structure that has to be there cannot be read.
    Unreadable {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
}

/// A system that can be made itself.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "kebab-case")]
pub enum System {
    /// Windows.
    Windows(Box<WindowsFindings>),
    /// Linux.
    Linux(Box<LinuxFindings>),
}

/// Processor architecture of a system.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arch {
    /// 32-bit Intel.
    X86,
    /// 64-bit Intel.
    X64,
    /// 64-bit ARM.
    Arm64,
    /// Anything else.
    Other,
}

/// What a Windows is sold as: `VER_NT_*`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProductType {
    /// A client.
    Workstation,
    /// A server that is a domain controller.
    DomainController,
    /// Any other server.
    Server,
}

impl ProductType {
    /// By its number in `VER_NT_*`.
    pub fn of_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Workstation),
            2 => Some(Self::DomainController),
            3 => Some(Self::Server),
            _ => None,
        }
    }
}

/// A Windows installation.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct WindowsFindings {
    /// Partition it lies in.
    pub partition: u32,
    /// Its folder, as the file system spells it: `Windows`.
    pub folder: String,
    /// `ProductName`.
    pub product: String,
    /// `EditionID`.
    #[serde(default)]
    pub edition: Option<String>,
    /// Major and minor version: 5.1 XP, 6.1 Windows 7, 6.3 Windows 8.1, 10.0.
    pub version: (u32, u32),
    /// Build number.
    pub build: u32,
    /// Architecture.
    pub arch: Arch,
    /// Sysprep has generalised it.
    pub generalised: bool,
    /// `Select\Current`.
    pub control_set: u32,
    /// `Select\LastKnownGood`, when it is another set that exists.
    #[serde(default)]
    pub last_known_good: Option<u32>,
    /// NetBIOS name of the master.
    pub computer_name: String,
    /// DNS name of the domain the master is a member of.
    #[serde(default)]
    pub domain: Option<String>,
    /// Workstation or server.
    pub product_type: ProductType,
    /// Product suites: flags `VER_SUITE_*`.
    #[serde(default)]
    pub suites: u32,
    /// `S-1-5-21-a-b-c` of SAM and SECURITY; `None` when they cannot be read or disagree.
    #[serde(default)]
    pub machine_sid: Option<String>,
    /// Profiles of the machine's own accounts that lie on another volume or on a share, as Windows writes them: `D:\Profiles\pat`.
    #[serde(default)]
    pub profiles_elsewhere: Vec<String>,
    /// Hives that name the machine's SID and that could not be changed, each by its path: those of users, and of another Windows.
    #[serde(default)]
    pub unchangeable_hives: Vec<Obstacle>,
    /// Names of local accounts, as SAM has them.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Local groups, as SAM has them; empty when it cannot be read.
    #[serde(default)]
    pub groups: Vec<WindowsGroup>,
    /// Network cards the master knew.
    #[serde(default)]
    pub interfaces: Vec<WindowsInterface>,
    /// Services of disk controllers that are installed: name, `Start`, and whether `StartOverride` demotes it.
    #[serde(default)]
    pub storage_services: Vec<StorageService>,
    /// It has a DriverDatabase (8 and later) rather than a CriticalDeviceDatabase.
    pub driver_database: bool,
    /// Answer file in place already.
    #[serde(default)]
    pub answer_file: Option<AnswerFileFound>,
    /// Another one, which the registry names and Setup reads before all others.
    #[serde(default)]
    pub registered_answer_file: Option<String>,
    /// Why it cannot be changed.
    #[serde(default)]
    pub obstacles: Vec<Obstacle>,
}

/// A local group of a Windows master.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct WindowsGroup {
    /// Its name, in the language of the master.
    pub name: String,
    /// Last number of its SID: 544 for `S-1-5-32-544`, from 1000 on for groups made on the master.
    pub id: u32,
}

impl WindowsFindings {
    /// True for a domain controller.
    pub fn is_domain_controller(&self) -> bool {
        self.product_type == ProductType::DomainController
    }

    /// What drivers have to be for.
    pub fn platform(&self) -> Platform {
        let (major, minor) = self.version;
        Platform {
            arch: self.arch,
            version: (major, minor, self.build),
            product_type: self.product_type,
            suites: self.suites,
        }
    }
}

/// A network card of a Windows master.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct WindowsInterface {
    /// `{GUID}` of the interface, braces included.
    pub guid: String,
    /// Name of the connection.
    #[serde(default)]
    pub name: String,
    /// Plug and play instance.
    #[serde(default)]
    pub instance: Option<String>,
    /// MAC address the instance carries, `aa:bb:cc:dd:ee:ff`.
    #[serde(default)]
    pub mac: Option<String>,
}

/// A boot-start candidate among the services.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct StorageService {
    /// Key name below `Services`.
    pub name: String,
    /// `Start`: 0 boot .. 4 disabled.
    pub start: u32,
    /// `StartOverride` has a value other than 0.
    #[serde(default)]
    pub overridden: bool,
}
