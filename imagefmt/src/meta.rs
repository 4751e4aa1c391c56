//! META: what a person wants to know about an image. JSON, so that a text editor can read a rescued record.
//!
//! Nothing here decides where a byte of the disk goes; chunks and TABLE do. Unknown fields are ignored on reading,
//! and the original bytes are kept for hashing, so a newer capture can say more without changing the format.

use serde::{Deserialize, Serialize};

use crate::Geometry;
use crate::error::{FormatError, Result, at_most};

/// Most bytes of META: 16 MiB.
pub const META_MAX: u64 = 16 << 20;
/// Most partitions META may list.
pub const PARTITIONS_MAX: u64 = 4096;
/// Most holes META may list.
pub const HOLES_MAX: u64 = 65_536;

/// Version of the description's fields, as `docs/image-meta.schema.json` lists them.
pub const META_SCHEMA: u32 = 1;

/// Description of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Version of these fields: 1. A later one says more and keeps what is here.
    pub schema: u32,
    /// Program and version that made the image.
    pub tool: String,
    /// When, as RFC 3339.
    pub created: String,
    /// The operator's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The disk it was taken from.
    pub source: SourceDisk,
    /// `gpt`, `mbr` or `none`.
    pub table_kind: String,
    /// How the master booted, when known: `bios` or `uefi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// Partitions, by number.
    pub partitions: Vec<PartitionMeta>,
    /// Captured bytes behind the last partition that belong to nothing the image knows. They are dropped on a disk
    /// that is too small for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub droppable: Vec<Droppable>,
    /// What the technician should know before deploying.
    pub warnings: Vec<String>,
    /// Bytes that may be data and are not in the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Device bytes that could not be read and are zeros in the image, ascending; none in a usual image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holes: Vec<Hole>,
    /// Images this one was made from, the oldest first; none for a capture.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Origin>,
    /// Its place among the disks of one machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<DiskSet>,
}

/// An image that another was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// Operation that made this image of it: `rebuild`; later versions have further words.
    pub by: String,
    /// Its root, 64 hexadecimal digits, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Program and version that did it.
    pub tool: String,
    /// When, as RFC 3339, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

/// Images of several disks of one machine, taken together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskSet {
    /// Name that all images of the set share.
    pub id: String,
    /// Number of this disk, from 1.
    pub disk: u32,
}

/// Device bytes of the master that could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hole {
    /// First device byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// The disk an image was taken from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceDisk {
    /// Device or file as it was named.
    pub path: String,
    /// Model as the disk reports it.
    pub model: String,
    /// Serial number as the disk reports it.
    pub serial: String,
    /// Bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub logical_sector: u32,
    /// Physical sector size in bytes.
    pub physical_sector: u32,
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionMeta {
    /// Number as Linux gives it.
    pub number: u32,
    /// First device byte.
    pub start: u64,
    /// Bytes.
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
    /// MBR logical partition.
    pub logical: bool,
    /// The file system found, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs: Option<FsMeta>,
    /// Bytes captured.
    pub used_bytes: u64,
    /// `used` (used blocks of a file system) or `raw` (everything).
    pub capture: String,
    /// Why it was captured raw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was left out on purpose.
    pub excluded: Vec<ExcludedRange>,
}

/// Device bytes that are dropped where a disk is too small for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Droppable {
    /// First device byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// A file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FsMeta {
    /// `ext4`, `ntfs`, `fat32` ...
    pub kind: String,
    /// Volume label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Identity as blkid prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Allocation unit in bytes.
    pub block_size: u32,
}

/// Device bytes that hold data which is left out on purpose (page file, hibernation file).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExcludedRange {
    /// Name of what lies there.
    pub what: String,
    /// First device byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// A stretch of the disk of which something was left out because nobody asked for it: a gap between partitions, or what lies behind
/// a file system in its partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftOut {
    /// Place of the stretch in words, such as `behind partition 2`.
    pub place: String,
    /// First device byte of the stretch.
    pub start: u64,
    /// Bytes of the stretch.
    pub length: u64,
    /// First device byte left out that is not zero; the end of the stretch when none is known.
    pub first: u64,
    /// Bytes left out in blocks that are not zero.
    pub bytes: u64,
    /// Bytes left out that were not read.
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
    /// The JSON bytes META stores.
    ///
    /// # Errors
    /// [`FormatError::LimitExceeded`] when it breaks a limit that reading would enforce.
    pub fn to_json(&self, geometry: &Geometry) -> Result<Vec<u8>> {
        self.validate(geometry)?;
        let json = serde_json::to_vec(self).map_err(FormatError::Meta)?;
        at_most("description (META) size", json.len() as u64, META_MAX)?;
        Ok(json)
    }

    /// Reads META bytes.
    ///
    /// # Errors
    /// [`FormatError::Meta`] when it is not the JSON expected, [`FormatError::LimitExceeded`] beyond a limit.
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
        // One gap before and one behind each partition, and what lies in it behind its file system.
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

/// A range of device bytes must not wrap and must end inside the disk.
pub(crate) fn inside(
    what: &'static str,
    start: u64,
    length: u64,
    geometry: &Geometry,
) -> Result<()> {
    let end = start.saturating_add(length);
    at_most(what, end, geometry.disk_size)
}
