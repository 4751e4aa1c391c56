//! META: the description of an image for people. It is JSON, so a text editor can read a rescued
//! record.
//!
//! Nothing here determines the position of a byte on the disk; only chunks and TABLE do. Unknown
//! fields are ignored on reading, and the original bytes are kept for hashing, so a newer capture
//! can add fields without a change of the format.

use serde::{Deserialize, Serialize};

use crate::Geometry;
use crate::error::{FormatError, Result, at_most};

/// Largest META in bytes: 16 MiB.
pub const META_MAX: u64 = 16 << 20;
/// Largest number of partitions in META.
pub const PARTITIONS_MAX: u64 = 4096;
/// Largest number of holes in META.
pub const HOLES_MAX: u64 = 65_536;

/// Version of the description's fields, which are listed in `docs/image-meta.schema.json`.
pub const META_SCHEMA: u32 = 1;

/// Description of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Version of these fields: 1. A later version adds fields and keeps the present ones.
    pub schema: u32,
    /// Program and version that made the image.
    pub tool: String,
    /// Time at which the image was made, as RFC 3339.
    pub created: String,
    /// A note by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The disk that was captured.
    pub source: SourceDisk,
    /// Kind of partition table: `gpt`, `mbr` or `none`.
    pub table_kind: String,
    /// Firmware mode in which the master booted, if known: `bios` or `uefi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// The partitions, sorted by number.
    pub partitions: Vec<PartitionMeta>,
    /// Captured bytes behind the last partition that do not belong to anything described in the
    /// image. They are dropped if a disk is too small for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub droppable: Vec<Droppable>,
    /// Warnings for the technician before a deployment.
    pub warnings: Vec<String>,
    /// Ranges that may hold data and are not in the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Device bytes that could not be read and are zeros in the image, ascending; usually none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holes: Vec<Hole>,
    /// Images that this one was made from, the oldest first; empty for a capture.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Origin>,
    /// Position of this image among the disks of one machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<DiskSet>,
}

/// An image from which another one was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// Operation that made the new image: `rebuild`; later versions have further words.
    pub by: String,
    /// Root of the original image, 64 hexadecimal digits, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Program and version that made the new image.
    pub tool: String,
    /// Time of the operation, as RFC 3339, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

/// A set of images of several disks of one machine, captured together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskSet {
    /// Name shared by all images of the set.
    pub id: String,
    /// Number of this disk, from 1.
    pub disk: u32,
}

/// A range of device bytes of the master that could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hole {
    /// First device byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

/// The disk an image was taken from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceDisk {
    /// Path of the device or file, as it was given.
    pub path: String,
    /// Model reported by the disk.
    pub model: String,
    /// Serial number reported by the disk.
    pub serial: String,
    /// Size in bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub logical_sector: u32,
    /// Physical sector size in bytes.
    pub physical_sector: u32,
}

/// The description of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionMeta {
    /// Partition number as in Linux.
    pub number: u32,
    /// First device byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// GPT type GUID, or MBR type as two hex digits.
    pub type_id: String,
    /// GPT partition GUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_id: Option<String>,
    /// GPT name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// GPT attribute bits.
    pub attributes: u64,
    /// MBR active flag or GPT legacy boot bit.
    pub bootable: bool,
    /// True for an MBR logical partition.
    pub logical: bool,
    /// File system that was found, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs: Option<FsMeta>,
    /// Number of captured bytes.
    pub used_bytes: u64,
    /// Kind of capture: `used` (used blocks of a file system) or `raw` (everything).
    pub capture: String,
    /// Reason for a raw capture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Ranges left out on purpose.
    pub excluded: Vec<ExcludedRange>,
}

/// A range of device bytes that is dropped if a disk is too small for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Droppable {
    /// First device byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

/// The description of a file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FsMeta {
    /// Kind of file system: `ext4`, `ntfs`, `fat32` ...
    pub kind: String,
    /// Volume label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// UUID or serial number as printed by blkid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Allocation unit in bytes.
    pub block_size: u32,
}

/// A range of device bytes with data that is left out on purpose (page file, hibernation file).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExcludedRange {
    /// Name of the content.
    pub what: String,
    /// First device byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

/// A range of the disk that was partly left out because it was not requested: a gap between
/// partitions, or the bytes behind a file system in its partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftOut {
    /// Position of the range in words, such as `behind partition 2`.
    pub place: String,
    /// First device byte of the range.
    pub start: u64,
    /// Length of the range in bytes.
    pub length: u64,
    /// First non-zero device byte that was left out; the end of the range if none is known.
    pub first: u64,
    /// Number of bytes left out in non-zero blocks.
    pub bytes: u64,
    /// Number of bytes left out without being read.
    pub unread: u64,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            schema: META_SCHEMA,
            tool: String::new(),
            created: String::new(),
            note: None,
            source: SourceDisk::default(),
            table_kind: String::new(),
            firmware: None,
            partitions: Vec::new(),
            droppable: Vec::new(),
            warnings: Vec::new(),
            left_out: Vec::new(),
            holes: Vec::new(),
            lineage: Vec::new(),
            set: None,
        }
    }
}

impl Meta {
    /// Encodes the description as the JSON bytes of META.
    ///
    /// # Errors
    /// [`FormatError::LimitExceeded`] if the description exceeds a limit that applies on reading.
    pub fn to_json(&self, geometry: &Geometry) -> Result<Vec<u8>> {
        self.validate(geometry)?;
        let json = serde_json::to_vec(self).map_err(FormatError::Meta)?;
        at_most("description (META) size", json.len() as u64, META_MAX)?;
        Ok(json)
    }

    /// Decodes META bytes.
    ///
    /// # Errors
    /// [`FormatError::Meta`] if the bytes are not the expected JSON, [`FormatError::LimitExceeded`]
    /// beyond a limit.
    pub fn from_json(json: &[u8], geometry: &Geometry) -> Result<Self> {
        at_most("description (META) size", json.len() as u64, META_MAX)?;
        let meta: Self = serde_json::from_slice(json).map_err(FormatError::Meta)?;
        meta.validate(geometry)?;
        Ok(meta)
    }

    fn validate(&self, geometry: &Geometry) -> Result<()> {
        at_most(
            "number of partitions",
            self.partitions.len() as u64,
            PARTITIONS_MAX,
        )?;
        // For each partition there may be a gap before it, one behind it, and the bytes behind its
        // file system.
        at_most(
            "number of stretches left out",
            self.left_out.len() as u64,
            3 * PARTITIONS_MAX,
        )?;
        for stretch in &self.left_out {
            inside(
                "end of a stretch left out",
                stretch.start,
                stretch.length,
                geometry,
            )?;
        }
        for range in &self.droppable {
            inside(
                "end of droppable bytes",
                range.start,
                range.length,
                geometry,
            )?;
        }
        at_most("number of holes", self.holes.len() as u64, HOLES_MAX)?;
        for hole in &self.holes {
            inside("end of a hole", hole.start, hole.length, geometry)?;
        }
        for partition in &self.partitions {
            inside(
                "end of a partition",
                partition.start,
                partition.length,
                geometry,
            )?;
            for range in &partition.excluded {
                inside(
                    "end of an excluded range",
                    range.start,
                    range.length,
                    geometry,
                )?;
            }
        }
        Ok(())
    }
}

/// Checks that a range of device bytes does not overflow and ends inside the disk.
pub(crate) fn inside(
    what: &'static str,
    start: u64,
    length: u64,
    geometry: &Geometry,
) -> Result<()> {
    let end = start.saturating_add(length);
    at_most(what, end, geometry.disk_size)
}
