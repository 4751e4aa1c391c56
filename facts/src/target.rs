//! Facts of a target and its states, in the words of the whole product.
//!
//! Owns: the facts an agent reports about its machine, and the states a target passes through. The
//! same words appear in the CLI, JSON, logs and reports. Values only; this module looks nothing up.

use crate::same_disk::DiskName;
use crate::units;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// State of a target. The text form is a contract with scripts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetState {
    /// Known from an earlier time; not connected now.
    Discovered,
    /// Connected; a technician has to approve it.
    WaitingApproval,
    /// Connected; a technician has to identify it.
    Unidentified,
    /// Connected and idle.
    Ready,
    /// Has accepted a job; has not received anything yet.
    Joined,
    /// Its disk is read into a new image on the console.
    Capturing,
    /// Receives the image from the multicast session.
    Receiving,
    /// Fetches missing data over TCP 5003.
    Repairing,
    /// Reads its disk back and compares it with the manifest.
    Verifying,
    /// Applies the template's steps to the disk.
    Applying,
    /// Writes the sectors that make the disk bootable.
    Committing,
    /// Restarts or shuts down after a finished job.
    Rebooting,
    /// Its disk was read back and matches the master image.
    Done,
    /// Ended with a reason.
    Failed,
    /// Removed from the job by a technician.
    Dropped,
    /// Its connection ended before it reported a result.
    Lost,
}

impl TargetState {
    /// True when the target's part in a job is over.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Dropped | Self::Lost)
    }

    /// The word in output and in the API.
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

/// The resource that limits a target's speed now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bottleneck {
    /// The network: the target takes everything that arrives.
    Network,
    /// Its processors: repair, decompression, hashing.
    Decompress,
    /// Its disk.
    Disk,
    /// Nothing arrives that it needs.
    Waiting,
}

impl Bottleneck {
    /// The word in output and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Decompress => "decompress",
            Self::Disk => "disk",
            Self::Waiting => "waiting",
        }
    }
}

/// A disk of a target, as its agent sees it.
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
    /// Size in bytes.
    pub size: u64,
    /// Bytes of a logical sector.
    pub logical_sector: u32,
    /// Bytes of a physical sector.
    #[serde(default)]
    pub physical_sector: u32,
    /// The kernel reports it as removable, or it is attached by USB.
    #[serde(default)]
    pub removable: bool,
    /// The device is read-only.
    #[serde(default)]
    pub read_only: bool,
    /// A regular file stands for the disk.
    #[serde(default)]
    pub file_backed: bool,
    /// PCI functions between the processor and the disk, the nearest to the disk last
    /// (`0000:00:17.0`). A disk behind Intel VMD has two; a file has none.
    #[serde(default)]
    pub controllers: Vec<String>,
    /// Current users of the disk (mount points, swap, device-mapper holders); empty when it is
    /// free.
    #[serde(default)]
    pub holders: Vec<String>,
    /// Partitions that can hold a file system, by number.
    #[serde(default)]
    pub partitions: Vec<PartitionFacts>,
    /// Contents of the disk, one line for each partition, for the technician who is about to erase
    /// it.
    #[serde(default)]
    pub contents: Vec<String>,
    /// The disk is blank: zeros at its start, at its end and at every sample. An agent that cannot
    /// tell leaves it false.
    #[serde(default)]
    pub blank: bool,
}

impl DiskFacts {
    /// True for the same hardware under the same path ([`DiskName::is`]). Contents are not compared.
    pub fn is_same(&self, other: &Self) -> bool {
        DiskName::from(self).is(&other.into())
    }

    /// One line that identifies the disk: path, model, serial number, size.
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

/// A partition on a target's disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PartitionFacts {
    /// Number, as Linux counts.
    pub number: u32,
    /// Offset of its first byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

/// Part of an image to deploy, and its destination. The default is all of it, onto the whole disk.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Numbers of the image's partitions; empty means all. Other partitions are left out of the
    /// table.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub partitions: BTreeSet<u32>,
    /// Partition of the target that the single chosen one overwrites; everything else on the disk
    /// stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onto: Option<u32>,
}

impl Choice {
    /// True for all of the image, onto the whole disk.
    pub fn is_whole(&self) -> bool {
        self.partitions.is_empty() && self.onto.is_none()
    }
}

/// State of a target's disk after its part in a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskNow {
    /// Nothing was written.
    Untouched,
    /// The disk has no partition table.
    Blank,
    /// One partition has no file system; everything else is unchanged.
    PartitionBlank,
    /// Committed: everything was read back, and the disk boots.
    Whole,
    /// Unknown: the last writes failed, or their result was not reported.
    #[serde(other)]
    Unknown,
}

impl DiskNow {
    /// Description for a technician.
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

/// A network interface of a target.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct NicFacts {
    /// Name in the kernel.
    pub name: String,
    /// MAC address, `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// IPv4 and IPv6 addresses as text.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Link speed in Mbit/s, when the kernel knows it.
    #[serde(default)]
    pub speed_mbit_per_s: Option<u32>,
}

/// A PCI device for which a template may need a driver.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PciFacts {
    /// Domain, bus, device and function: `0000:00:17.0`.
    #[serde(default)]
    pub address: String,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Class, subclass and programming interface: 0x010802 is an NVMe controller.
    pub class: u32,
    /// Vendor id and device id of the board (subsystem).
    #[serde(default)]
    pub subsystem: Option<(u16, u16)>,
}

/// Facts that an agent reports about its machine.
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
    /// SMBIOS manufacturer and product name.
    #[serde(default)]
    pub model: Option<String>,
    /// `uefi` or `bios`.
    #[serde(default)]
    pub firmware: String,
    /// Memory in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Number of processor threads.
    #[serde(default)]
    pub cpus: u32,
    /// The processor has AES instructions, so AES-GCM is cheap.
    #[serde(default)]
    pub aes: bool,
    /// Network interfaces, without loopback unless it is the only one.
    #[serde(default)]
    pub nics: Vec<NicFacts>,
    /// Disks that the agent offers.
    #[serde(default)]
    pub disks: Vec<DiskFacts>,
    /// Disk controllers, network cards and displays on the PCI bus.
    #[serde(default)]
    pub pci: Vec<PciFacts>,
}
