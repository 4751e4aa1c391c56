//! Results of inspecting an image: the systems on it, and obstacles to changing them.
//!
//! Values only. `inspect` fills them in from the bytes of partitions; plans are made from them.

mod linux;

pub use linux::{CloudInit, LinuxFindings, Renderer, Setting, Sudo};

use crate::answers::AnswerFileFound;
use crate::inf::Platform;
use crate::step::FileSystem;
use serde::{Deserialize, Serialize};

/// Everything found on the partitions of one disk or image.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// One entry for each partition, in the order of numbers.
    pub partitions: Vec<PartitionFindings>,
    /// Every system found, by partition.
    pub systems: Vec<System>,
}

/// One partition.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct PartitionFindings {
    /// Number in the table.
    pub number: u32,
    /// File system in it; `None` when it is unknown.
    #[serde(default)]
    pub file_system: Option<FileSystem>,
    /// Volume label.
    #[serde(default)]
    pub label: Option<String>,
    /// SIDs of machines and domains (`S-1-5-21-a-b-c`) in the access rights of an NTFS volume.
    #[serde(default)]
    pub sids: Vec<String>,
    /// UUID of its file system, as blkid writes it.
    #[serde(default)]
    pub uuid: Option<String>,
    /// Reasons why nothing may be changed in it.
    #[serde(default)]
    pub obstacles: Vec<Obstacle>,
}

/// A reason why a volume or a system cannot be changed.
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
        /// File name of the hive.
        hive: String,
        /// The reason why the logs do not apply.
        reason: String,
    },
    /// A hive fails its validator.
    DamagedHive {
        /// File name of the hive.
        hive: String,
        /// The first faults found.
        reason: String,
    },
    /// A required file or structure cannot be read.
    Unreadable {
        /// The file or structure.
        what: String,
        /// The reason.
        reason: String,
    },
}

/// An operating system that can be configured.
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

/// Product type of a Windows: `VER_NT_*`.
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
    /// The product type with this `VER_NT_*` number; `None` for other numbers.
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
    /// Partition of the installation.
    pub partition: u32,
    /// Its Windows folder, as the file system spells it: `Windows`.
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
    /// Sysprep has generalised the installation.
    pub generalised: bool,
    /// `Select\Current`.
    pub control_set: u32,
    /// `Select\LastKnownGood`, when it names another control set that exists.
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
    /// Profiles of local accounts that lie on another volume or on a share, as Windows writes them:
    /// `D:\Profiles\pat`.
    #[serde(default)]
    pub profiles_elsewhere: Vec<String>,
    /// Hives that name the machine's SID and that cannot be changed, each by its path: those of
    /// users, and of another Windows.
    #[serde(default)]
    pub unchangeable_hives: Vec<Obstacle>,
    /// Names of local accounts, as SAM has them.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Local groups, as SAM has them; empty when SAM cannot be read.
    #[serde(default)]
    pub groups: Vec<WindowsGroup>,
    /// Network cards the master knew.
    #[serde(default)]
    pub interfaces: Vec<WindowsInterface>,
    /// Installed services of disk controllers.
    #[serde(default)]
    pub storage_services: Vec<StorageService>,
    /// The installation has a DriverDatabase (Windows 8 and later) and no CriticalDeviceDatabase.
    pub driver_database: bool,
    /// The answer file that is in place.
    #[serde(default)]
    pub answer_file: Option<AnswerFileFound>,
    /// Another answer file, which the registry names and Setup reads before all others.
    #[serde(default)]
    pub registered_answer_file: Option<String>,
    /// Reasons why the installation cannot be changed.
    #[serde(default)]
    pub obstacles: Vec<Obstacle>,
}

/// A local group of a Windows master.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct WindowsGroup {
    /// Name, in the language of the master.
    pub name: String,
    /// RID, the last number of the SID: 544 for `S-1-5-32-544`, from 1000 on for groups made on the
    /// master.
    pub id: u32,
}

impl WindowsFindings {
    /// True for a domain controller.
    pub fn is_domain_controller(&self) -> bool {
        self.product_type == ProductType::DomainController
    }

    /// The platform that drivers have to support.
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
    /// MAC address of the instance, `aa:bb:cc:dd:ee:ff`.
    #[serde(default)]
    pub mac: Option<String>,
}

/// A service of a disk controller, which may have to start at boot.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct StorageService {
    /// Key name below `Services`.
    pub name: String,
    /// `Start`: from 0 (boot) to 4 (disabled).
    pub start: u32,
    /// `StartOverride` has a value other than 0.
    #[serde(default)]
    pub overridden: bool,
}
