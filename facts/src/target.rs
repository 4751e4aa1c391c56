//! What is known about a target, in the words the whole product shares.
//!
//! Owns: the facts an agent states about its machine, and the states a target passes through. The same words
//! appear in the CLI, JSON, logs and reports. Values only; nothing here looks anything up.

use crate::units;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where a target stands (DESIGN section 3). The text form is a contract with scripts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetState {
    /// Known from an earlier time; not connected now.
    Discovered,
    /// Connected; a technician has to let it in.
    WaitingApproval,
    /// Connected; a technician has to say which machine it is.
    Unidentified,
    /// Connected and idle.
    Ready,
    /// Accepted a job; has not received anything yet.
    Joined,
    /// Its disk is read into a new image on the console.
    Capturing,
    /// Takes the image from the multicast session.
    Receiving,
    /// Takes what it lacks over TCP 5003.
    Repairing,
    /// Reads its disk back and compares with the manifest.
    Verifying,
    /// Makes the machine itself from the template.
    Applying,
    /// Writes the sectors that make the disk bootable.
    Committing,
    /// Restarts or shuts down after a finished job.
    Rebooting,
    /// What is on its disk was read back and matches the master image.
    Done,
    /// Ended with a reason.
    Failed,
    /// Taken out of the job by a technician.
    Dropped,
    /// Its connection ended before it reported a result.
    Lost,
}

impl TargetState {
    /// True when the target's part in a job is over.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Dropped | Self::Lost)
    }

    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::WaitingApproval => "waiting-approval",
            Self::Unidentified => "unidentified",
            Self::Ready => "ready",
            Self::Joined => "joined",
            Self::Capturing => "capturing",
            Self::Receiving => "receiving",
            Self::Repairing => "repairing",
            Self::Verifying => "verifying",
            Self::Applying => "applying",
            Self::Committing => "committing",
            Self::Rebooting => "rebooting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
            Self::Lost => "lost",
        }
    }
}

impl std::fmt::Display for TargetState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What holds a target back just now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bottleneck {
    /// It takes all that comes.
    Network,
    /// Its processors: restoring, decompressing, checking.
    Decompress,
    /// Its disk.
    Disk,
    /// Nothing comes that it lacks.
    Waiting,
}

impl Bottleneck {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Decompress => "decompress",
            Self::Disk => "disk",
            Self::Waiting => "waiting",
        }
    }
}

/// One disk of a target, as its agent sees it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct DiskFacts {
    /// Path on the target, for example `/dev/nvme0n1`, or a regular file in a rehearsal.
    pub path: String,
    /// Model as the kernel reports it.
    #[serde(default)]
    pub model: Option<String>,
    /// Serial number as the kernel reports it.
    #[serde(default)]
    pub serial: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Bytes of a logical sector.
    pub logical_sector: u32,
    /// Bytes of a physical sector.
    #[serde(default)]
    pub physical_sector: u32,
    /// The kernel calls it removable, or it hangs on USB.
    #[serde(default)]
    pub removable: bool,
    /// Read-only device.
    #[serde(default)]
    pub read_only: bool,
    /// A regular file standing in for a disk.
    #[serde(default)]
    pub file_backed: bool,
    /// PCI functions between the processor and the disk, the nearest to the disk last (`0000:00:17.0`). A disk behind Intel VMD
    /// has two; a file has none.
    #[serde(default)]
    pub controllers: Vec<String>,
    /// Who uses it now (mount points, swap, device-mapper holders); empty when free.
    #[serde(default)]
    pub holders: Vec<String>,
    /// Its partitions that can hold a file system, by number.
    #[serde(default)]
    pub partitions: Vec<PartitionFacts>,
    /// What is on it, one line a partition, for the technician who is about to erase it.
    #[serde(default)]
    pub contents: Vec<String>,
    /// Nothing is on it: zeros at its front, at its end and wherever it was sampled. An agent that cannot tell says nothing.
    #[serde(default)]
    pub blank: bool,
}

impl DiskFacts {
    /// True if this is the same piece of hardware, by path, model, serial number and size. Contents are not compared.
    pub fn is_same(&self, other: &Self) -> bool {
        self.path == other.path
            && self.model == other.model
            && self.serial == other.serial
            && self.size == other.size
    }

    /// One line that names the disk so that nobody takes it for another: path, model, serial, size.
    pub fn title(&self) -> String {
        let mut line = self.path.clone();
        for part in [
            self.model.as_deref(),
            self.serial.as_deref().map(|s| s.trim()),
        ] {
            if let Some(part) = part.filter(|p| !p.is_empty()) {
                line.push_str(", ");
                line.push_str(part);
            }
        }
        line.push_str(&format!(", {}", units::bytes(self.size)));
        line
    }
}

/// A partition that is on a target's disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PartitionFacts {
    /// As Linux numbers it.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// Which part of an image goes where. The default is all of it, onto the whole disk.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Numbers of the image's partitions; none means all. The others are left out of the table.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub partitions: BTreeSet<u32>,
    /// A partition of the target: the one that was chosen goes there, and everything else on the disk stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onto: Option<u32>,
}

impl Choice {
    /// All of the image, onto the whole disk.
    pub fn is_whole(&self) -> bool {
        self.partitions.is_empty() && self.onto.is_none()
    }
}

/// State of a target's disk after its part in a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskNow {
    /// The disk is as it was: nothing was written.
    Untouched,
    /// Without a partition table.
    Blank,
    /// One partition has no file system, and everything else is as it was.
    PartitionBlank,
    /// Committed: all of it was read back, and it starts.
    Whole,
    /// Nobody can say: the last writes failed, or their end was not heard.
    #[serde(other)]
    Unknown,
}

impl DiskNow {
    /// Words for a technician.
    pub fn words(self) -> &'static str {
        match self {
            Self::Untouched => "its disk is as it was",
            Self::Blank => "its disk is blank",
            Self::PartitionBlank => "the partition is blank, the rest of its disk as it was",
            Self::Whole => "its disk is whole",
            Self::Unknown => "what its disk is now is unknown",
        }
    }
}

/// One network interface of a target.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct NicFacts {
    /// Kernel name.
    pub name: String,
    /// `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// IPv4 and IPv6 addresses as text.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Link speed where the kernel knows it, Mbit/s.
    #[serde(default)]
    pub speed_mbit_per_s: Option<u32>,
}

/// A device on the PCI bus that templates may need a driver for.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PciFacts {
    /// Domain, bus, device and function: `0000:00:17.0`.
    #[serde(default)]
    pub address: String,
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Class, subclass and programming interface: 0x010802 is an NVMe controller.
    pub class: u32,
    /// Vendor and device of the board it sits on.
    #[serde(default)]
    pub subsystem: Option<(u16, u16)>,
}

/// What an agent says about its machine.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Host name of the pre-OS or the rehearsal machine.
    #[serde(default)]
    pub hostname: String,
    /// SMBIOS system UUID.
    #[serde(default)]
    pub uuid: Option<String>,
    /// SMBIOS system serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// SMBIOS asset tag of the chassis.
    #[serde(default)]
    pub asset: Option<String>,
    /// SMBIOS vendor and product.
    #[serde(default)]
    pub model: Option<String>,
    /// `uefi` or `bios`.
    #[serde(default)]
    pub firmware: String,
    /// Bytes of memory.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Processor threads.
    #[serde(default)]
    pub cpus: u32,
    /// The processor has AES instructions, so AES-GCM is cheap for it.
    #[serde(default)]
    pub aes: bool,
    /// Interfaces, loopback left out unless it is the only one.
    #[serde(default)]
    pub nics: Vec<NicFacts>,
    /// Disks the agent offers.
    #[serde(default)]
    pub disks: Vec<DiskFacts>,
    /// Disk controllers, network cards and displays on the PCI bus.
    #[serde(default)]
    pub pci: Vec<PciFacts>,
}
