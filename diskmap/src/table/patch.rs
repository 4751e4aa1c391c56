//! From a table and a target size to an ordered list of writes.
//!
//! Owns every change of table bytes. It starts from the raw sectors and touches single fields, so that
//! numbers, GUIDs, names, attributes, revisions and reserved bytes survive: crates that rebuild a table
//! from a model renumber sparse entries, misplace EBRs beyond 4 GiB, and write past a smaller disk.
//!
//! ```text
//!   wipe      old and new places of every table sector, before any data
//!   (data is written, read back and matched by the caller)
//!   stage 0   EBRs, backup array, backup header     flush
//!   stage 1   primary array, primary header         flush
//!   stage 2   LBA 0                                 flush: from here on it boots
//! ```
//!
//! Always holds: a plan was parsed again as the disk it makes, and gave the partitions it promises;
//! no write leaves the target; nothing before the last write makes a table that Linux or UEFI accept,
//! because both want LBA 0. No call panics.

mod gpt;
mod mbr;

use std::ops::Range;

use serde::Serialize;

use super::device::SparseDisk;
use super::mbr::TYPE_LDM;
use super::{Layout, Partition, PartitionTable, Region, Role, TableKind, TypeId, read_table};
use crate::ExtentSet;
use crate::guid::Guid;

/// Ends of grown partitions are aligned to this many bytes, as every partitioning tool does.
const GROW_ALIGN: u64 = 1 << 20;

/// Bytes UEFI reserves for an entry array at least, on any sector size.
const MIN_ARRAY_BYTES: u64 = 16 << 10;

/// Windows logical disk manager data: the layout inside is in a database no one else edits.
const LDM_GUIDS: [&str; 2] = [
    "5808C8AA-7E8F-42E0-85D2-E1E90434CFB3",
    "AF9B60A0-1431-4F62-BC68-3311714A69AD",
];

/// Which partition takes the space a larger disk offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grow {
    /// The one that ends last on the disk, whatever its number.
    Last,
    /// The one with this number.
    Number(u32),
}

/// The writes that give a target the table of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPlan {
    /// Bytes to zero before any data: ascending, disjoint, inside the target.
    pub wipe: Vec<Range<u64>>,
    /// Writes in order, each a byte position and whole sectors; flush after each stage.
    pub stages: Vec<Vec<(u64, Vec<u8>)>>,
    /// The partitions as they will be.
    pub partitions: Vec<Partition>,
    /// What differs from the master, in sentences.
    pub notes: Vec<String>,
}

/// The table cannot be put on this target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// LBAs mean other bytes on this target.
    #[error("the image has {image}-byte sectors, the target {target}-byte sectors")]
    SectorSize {
        /// Bytes a sector of the image.
        image: u32,
        /// Bytes a sector of the target.
        target: u32,
    },
    /// A partition reaches beyond what the target can hold. Its used bytes do not matter: the file
    /// system's own size counts the rest.
    #[error(
        "the target has {target} bytes, partition {partition} ends at byte {end} and needs a disk of {needed}"
    )]
    TooSmall {
        /// Number of the partition that ends last.
        partition: u32,
        /// First byte behind it.
        end: u64,
        /// Bytes a disk needs for this table.
        needed: u64,
        /// Bytes of the target.
        target: u64,
    },
    /// No partition is in the way, but the table itself or a whole-disk file system does not fit.
    #[error("the target has {target} bytes, the image needs a disk of {needed}")]
    DiskTooSmall {
        /// Bytes a disk needs.
        needed: u64,
        /// Bytes of the target.
        target: u64,
    },
    /// No partition has the number that should grow.
    #[error("there is no partition {number} to grow")]
    NoSuchPartition {
        /// The number asked for.
        number: u32,
    },
    /// The partition must keep its size.
    #[error("partition {number} cannot grow: {reason}")]
    CannotGrow {
        /// Its number.
        number: u32,
        /// Why.
        reason: &'static str,
    },
    /// There is nothing to grow.
    #[error("there is no partition to grow")]
    NothingToGrow,
    /// The primary array, rebuilt from the backup, has no place before the first partition.
    #[error("rebuilding the primary GPT needs LBA {first}..={last}, which are not free")]
    NoRoomForPrimary {
        /// First LBA of the array.
        first: u64,
        /// Last LBA of the array.
        last: u64,
    },
    /// The plan did not read back as what it promises: a fault of ours, caught before any write.
    #[error("the planned table does not read back as planned: {detail}")]
    SelfCheck {
        /// What differs.
        detail: String,
    },
}

/// A target disk, in sectors.
#[derive(Clone, Copy, Debug)]
struct Target {
    sectors: u64,
    sector_size: u32,
    bytes: u64,
}

impl Target {
    /// Byte position of a sector; saturates, so a position nobody checked cannot wrap to the front.
    fn offset(self, lba: u64) -> u64 {
        lba.saturating_mul(u64::from(self.sector_size))
    }
}

/// A plan before its wipe list and its check.
#[derive(Debug)]
struct Draft {
    stages: [Vec<(u64, Vec<u8>)>; 3],
    partitions: Vec<Partition>,
    notes: Vec<String>,
}

/// Plans the writes that put `table` on a disk of `target_size` bytes.
///
/// On a disk of the same size the bytes are those of the master, unless one GPT copy was damaged
/// there (it is rebuilt, and a note says so) or a partition grows. No room to grow is a note, not an
/// error: the same template serves targets of several sizes.
///
/// # Errors
/// The sector size differs, the target is too small, or the partition to grow is missing or must not.
pub fn plan_commit(
    table: &PartitionTable,
    target_size: u64,
    target_sector_size: u32,
    grow: Option<Grow>,
) -> Result<CommitPlan, PatchError> {
    if target_sector_size != table.sector_size || target_sector_size == 0 {
        return Err(PatchError::SectorSize {
            image: table.sector_size,
            target: target_sector_size,
        });
    }
    let target = Target {
        sectors: target_size / u64::from(target_sector_size),
        sector_size: target_sector_size,
        bytes: target_size,
    };
    if target.sectors == 0 {
        return Err(PatchError::DiskTooSmall {
            needed: u64::from(target_sector_size),
            target: target_size,
        });
    }
    let draft = match &table.layout {
        Layout::None => plan_none(table, target, grow)?,
        Layout::Mbr(layout) => mbr::plan(table, layout, target, grow)?,
        Layout::Gpt(layout) => gpt::plan(table, layout, target, grow)?,
    };
    let wipe = wipe(table, target, &draft);
    check(table.kind, target, &draft)?;
    Ok(CommitPlan {
        wipe,
        stages: draft.stages.into_iter().collect(),
        partitions: draft.partitions,
        notes: draft.notes,
    })
}

/// A disk without a table: LBA 0 as it was, on a disk that holds all of it.
fn plan_none(
    table: &PartitionTable,
    target: Target,
    grow: Option<Grow>,
) -> Result<Draft, PatchError> {
    if grow.is_some() {
        return Err(PatchError::NothingToGrow);
    }
    if target.sectors < table.sectors() {
        return Err(PatchError::DiskTooSmall {
            needed: table.disk_size,
            target: target.bytes,
        });
    }
    let mut notes = Vec::new();
    if target.sectors > table.sectors() {
        notes.push(format!(
            "the disk has no partition table: its content keeps the master's size of {} bytes",
            table.disk_size
        ));
    }
    Ok(Draft {
        stages: raw_stages(&table.regions, target),
        partitions: Vec::new(),
        notes,
    })
}

/// The regions as they were read, in the stage their role belongs to; those outside the target are left out.
fn raw_stages(regions: &[Region], target: Target) -> [Vec<(u64, Vec<u8>)>; 3] {
    let mut stages: [Vec<(u64, Vec<u8>)>; 3] = Default::default();
    let [first, second, last] = &mut stages;
    // Arrays before the headers that make them valid; by position otherwise.
    let order = |region: &&Region| {
        let header = matches!(region.role, Role::GptPrimaryHeader | Role::GptBackupHeader);
        (header, region.offset)
    };
    let mut regions: Vec<&Region> = regions.iter().collect();
    regions.sort_by_key(order);
    for region in regions {
        if region.range().end > target.offset(target.sectors) {
            continue;
        }
        let stage = match region.role {
            Role::GptBackupArray | Role::GptBackupHeader | Role::Ebr | Role::Other => &mut *first,
            Role::GptPrimaryArray | Role::GptPrimaryHeader => &mut *second,
            Role::Lba0 => &mut *last,
        };
        stage.push((region.offset, region.bytes.clone()));
    }
    stages
}

/// What must be blank before data is written: the front and the tail, where an old GPT of the target may
/// be, and every place the image's table has, had before partitions were left out, or will have.
fn wipe(table: &PartitionTable, target: Target, draft: &Draft) -> Vec<Range<u64>> {
    let sector = u64::from(target.sector_size);
    let longest_array = table
        .regions
        .iter()
        .filter(|region| matches!(region.role, Role::GptPrimaryArray | Role::GptBackupArray))
        .map(|region| region.bytes.len() as u64)
        .fold(MIN_ARRAY_BYTES, u64::max);
    let end = target.offset(target.sectors);
    // LBA 0, header and array: 34 sectors of 512 or 6 of 4096, or what the image's array needs.
    let front = (2 * sector).saturating_add(longest_array).min(end);
    let tail = end.saturating_sub(sector.saturating_add(longest_array));
    let old = table.table_extents().union(&table.vacated);
    let mut places: ExtentSet = old.within(0..end);
    places.insert(0..front);
    places.insert(tail..end);
    for (offset, bytes) in draft.stages.iter().flatten() {
        places.insert(*offset..offset.saturating_add(bytes.len() as u64).min(end));
    }
    places.into_vec()
}

/// Reads the planned table as the disk it makes.
fn check(kind: TableKind, target: Target, draft: &Draft) -> Result<(), PatchError> {
    let failed = |detail: String| PatchError::SelfCheck { detail };
    let mut disk = SparseDisk::new(target.offset(target.sectors));
    for (offset, bytes) in draft.stages.iter().flatten() {
        disk.insert(*offset, bytes.clone())
            .map_err(|error| failed(error.to_string()))?;
    }
    // What a file system keeps in the entries of LBA 0 is not ours to interpret.
    if kind == TableKind::None {
        return Ok(());
    }
    let made = read_table(&disk, target.bytes, target.sector_size)
        .map_err(|error| failed(error.to_string()))?;
    if made.kind != kind {
        return Err(failed(format!("{} instead of {kind}", made.kind)));
    }
    if made.partitions != draft.partitions {
        let wrong = draft
            .partitions
            .iter()
            .find(|planned| made.partition(planned.number) != Some(*planned));
        return Err(failed(match wrong {
            Some(planned) => format!("partition {} differs", planned.number),
            None => "there are more partitions than planned".to_owned(),
        }));
    }
    match &made.layout {
        Layout::Gpt(layout) if !layout.primary_whole || layout.backup.is_none() => {
            Err(failed("one GPT copy is damaged".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Refuses a target that ends before the last partition does. `overhead` sectors must follow it.
fn check_fit(table: &PartitionTable, target: Target, overhead: u64) -> Result<(), PatchError> {
    let last = table
        .partitions
        .iter()
        .max_by_key(|partition| (partition.end(), partition.is_extended()));
    let Some(last) = last else {
        return Ok(());
    };
    let needed = last.end().saturating_add(target.offset(overhead));
    if needed > target.offset(target.sectors) {
        return Err(PatchError::TooSmall {
            partition: last.number,
            end: last.end(),
            needed,
            target: target.bytes,
        });
    }
    Ok(())
}

/// The partition that should grow, if any may.
fn pick(table: &PartitionTable, grow: Grow) -> Result<&Partition, PatchError> {
    let partition = match grow {
        Grow::Number(number) => table
            .partition(number)
            .ok_or(PatchError::NoSuchPartition { number })?,
        Grow::Last => table
            .partitions
            .iter()
            .filter(|partition| !partition.is_extended())
            .max_by_key(|partition| partition.end())
            .ok_or(PatchError::NothingToGrow)?,
    };
    let number = partition.number;
    let refuse = |reason| Err(PatchError::CannotGrow { number, reason });
    if partition.is_extended() {
        return refuse("an extended partition grows with the logical partition in it");
    }
    // A dynamic disk's database names the sizes, and sits at the end of the disk.
    if table.partitions.iter().any(is_dynamic) {
        return refuse("the disk is a Windows dynamic disk");
    }
    Ok(partition)
}

/// Whether a partition belongs to a Windows dynamic disk.
#[must_use]
pub fn is_dynamic(partition: &Partition) -> bool {
    match partition.type_id {
        TypeId::Mbr(id) => id == TYPE_LDM,
        TypeId::Gpt(guid) => LDM_GUIDS
            .iter()
            .any(|text| text.parse::<Guid>() == Ok(guid)),
    }
}

/// New end, in bytes, of a partition that may reach up to `limit`; says so in `notes` either way.
fn grown_end(partition: &Partition, limit: u64, notes: &mut Vec<String>) -> Option<u64> {
    let end = limit - limit % GROW_ALIGN;
    if end <= partition.end() {
        notes.push(format!(
            "partition {} keeps its {} bytes: there is no free space behind it",
            partition.number, partition.length
        ));
        return None;
    }
    notes.push(format!(
        "partition {} grows from {} to {} bytes",
        partition.number,
        partition.length,
        end - partition.start
    ));
    Some(end)
}

/// Sets the end of partition `number` in the list of what will be.
fn set_end(partitions: &mut [Partition], number: u32, end: u64) {
    for partition in partitions.iter_mut().filter(|p| p.number == number) {
        partition.length = end.saturating_sub(partition.start);
    }
}
