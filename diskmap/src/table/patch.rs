//! The plan of writes that puts a table on a target of a given size.
//!
//! Owns every change of table bytes. It starts from the raw sectors and changes single fields, so
//! numbers, GUIDs, names, attributes, revisions and reserved bytes are kept. Crates that rebuild a
//! table from a model renumber sparse entries, misplace EBRs beyond 4 GiB, and write past the end
//! of a smaller disk.
//!
//! ```text
//!   wipe      old and new places of every table sector, before any data
//!   (data is written, read back and matched by the caller)
//!   stage 0   EBRs, backup array, backup header     flush
//!   stage 1   primary array, primary header         flush
//!   stage 2   LBA 0                                 flush: from here on it boots
//! ```
//!
//! Always holds: a plan was parsed again as the resulting disk and gave the promised partitions; no
//! write leaves the target; before the last write there is no table that Linux or UEFI would
//! accept, because both need LBA 0. No function panics.

mod gpt;
mod mbr;

use std::ops::Range;

use facts::order::Grow;

use super::device::SparseDisk;
use super::mbr::TYPE_LDM;
use super::{Layout, Partition, PartitionTable, Region, Role, TableKind, TypeId, read_table};
use crate::ExtentSet;
use crate::guid::Guid;

/// Alignment in bytes of the end of a grown partition, as in every partitioning tool.
const GROW_ALIGN: u64 = 1 << 20;

/// Least number of bytes that UEFI reserves for an entry array, on any sector size.
const MIN_ARRAY_BYTES: u64 = 16 << 10;

/// Partition types of the Windows logical disk manager, whose layout is in a database that only
/// Windows edits.
const LDM_GUIDS: [&str; 2] = [
    "5808C8AA-7E8F-42E0-85D2-E1E90434CFB3",
    "AF9B60A0-1431-4F62-BC68-3311714A69AD",
];

/// The writes that give a target the table of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPlan {
    /// Byte ranges to set to zero before any data is written: ascending, disjoint, inside the
    /// target.
    pub wipe: Vec<Range<u64>>,
    /// The writes in order, each with its byte position and whole sectors. A flush follows each
    /// stage.
    pub stages: Vec<Vec<(u64, Vec<u8>)>>,
    /// The resulting partitions.
    pub partitions: Vec<Partition>,
    /// Differences from the master, in sentences.
    pub notes: Vec<String>,
}

/// The reason why the table cannot be put on this target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// The sector sizes differ, so an LBA means other bytes on this target.
    #[error("the image has {image}-byte sectors, the target {target}-byte sectors")]
    SectorSize {
        /// Sector size of the image in bytes.
        image: u32,
        /// Sector size of the target in bytes.
        target: u32,
    },
    /// A partition ends beyond the end of the target. This holds even if its last bytes are unused,
    /// because the file system's own size includes them.
    #[error(
        "the target has {target} bytes, partition {partition} ends at byte {end} and needs a disk of {needed}"
    )]
    TooSmall {
        /// Number of the partition that ends last.
        partition: u32,
        /// First byte behind that partition.
        end: u64,
        /// Size in bytes of the smallest disk for this table.
        needed: u64,
        /// Size of the target in bytes.
        target: u64,
    },
    /// The table itself or a file system without a table does not fit, although all partitions
    /// would.
    #[error("the target has {target} bytes, the image needs a disk of {needed}")]
    DiskTooSmall {
        /// Size in bytes of the smallest disk for the image.
        needed: u64,
        /// Size of the target in bytes.
        target: u64,
    },
    /// The partition that should grow does not exist.
    #[error("there is no partition {number} to grow")]
    NoSuchPartition {
        /// The requested number.
        number: u32,
    },
    /// The partition must keep its size.
    #[error("partition {number} cannot grow: {reason}")]
    CannotGrow {
        /// Number of the partition.
        number: u32,
        /// The reason.
        reason: &'static str,
    },
    /// The table has no partition that could grow.
    #[error("there is no partition to grow")]
    NothingToGrow,
    /// The primary array must be rebuilt from the backup, but there is no room for it before the
    /// first partition.
    #[error("rebuilding the primary GPT needs LBA {first}..={last}, which are not free")]
    NoRoomForPrimary {
        /// First LBA of the array.
        first: u64,
        /// Last LBA of the array.
        last: u64,
    },
    /// The plan does not read back as promised. This is an internal error, found before any write.
    #[error("the planned table does not read back as planned: {detail}")]
    SelfCheck {
        /// Description of the difference.
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
    /// Byte position of a sector. It saturates, so an unchecked position cannot wrap to the front.
    fn offset(self, lba: u64) -> u64 {
        lba.saturating_mul(u64::from(self.sector_size))
    }
}

/// A plan that has no wipe list yet and is not checked.
#[derive(Debug)]
struct Draft {
    stages: [Vec<(u64, Vec<u8>)>; 3],
    partitions: Vec<Partition>,
    notes: Vec<String>,
}

/// Plans the writes that put `table` on a disk of `target_size` bytes.
///
/// On a disk of the same size the bytes are those of the master, unless one GPT copy was damaged
/// there (it is rebuilt, and a note says so) or a partition grows. If there is no room to grow, a
/// note says so; this is not an error, because the same template serves targets of several sizes.
///
/// # Errors
/// [`PatchError`] if the sector size differs, the target is too small, or the partition to grow is
/// missing or must not grow.
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

/// Plans a disk without a table: LBA 0 unchanged, on a disk that is large enough.
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

/// The unchanged regions in the stages of their roles; regions outside the target are left out.
fn raw_stages(regions: &[Region], target: Target) -> [Vec<(u64, Vec<u8>)>; 3] {
    let mut stages: [Vec<(u64, Vec<u8>)>; 3] = Default::default();
    let [first, second, last] = &mut stages;
    // Arrays come before the headers that make them valid; otherwise the order is by position.
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

/// The ranges that must be blank before data is written: the front and the end, where an old GPT of
/// the target may be, and all present, former (before partitions were left out) and future
/// positions of the image's table.
fn wipe(table: &PartitionTable, target: Target, draft: &Draft) -> Vec<Range<u64>> {
    let sector = u64::from(target.sector_size);
    let longest_array = table
        .regions
        .iter()
        .filter(|region| matches!(region.role, Role::GptPrimaryArray | Role::GptBackupArray))
        .map(|region| region.bytes.len() as u64)
        .fold(MIN_ARRAY_BYTES, u64::max);
    let end = target.offset(target.sectors);
    // LBA 0, header and array: 34 sectors of 512 bytes or 6 of 4096, or more if the image's array
    // needs it.
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

/// Reads the planned table back as the resulting disk and checks it.
fn check(kind: TableKind, target: Target, draft: &Draft) -> Result<(), PatchError> {
    let failed = |detail: String| PatchError::SelfCheck { detail };
    let mut disk = SparseDisk::new(target.offset(target.sectors));
    for (offset, bytes) in draft.stages.iter().flatten() {
        disk.insert(*offset, bytes.clone())
            .map_err(|error| failed(error.to_string()))?;
    }
    // Bytes of a file system in the place of the entries of LBA 0 are not interpreted.
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

/// Refuses a target that ends before the last partition and `overhead` sectors behind it.
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

/// Selects the partition to grow, or returns the reason why it must not grow.
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
    // The database of a dynamic disk contains the sizes and is at the end of the disk.
    if table.partitions.iter().any(is_dynamic) {
        return refuse("the disk is a Windows dynamic disk");
    }
    Ok(partition)
}

/// True if a partition belongs to a Windows dynamic disk.
#[must_use]
pub fn is_dynamic(partition: &Partition) -> bool {
    match partition.type_id {
        TypeId::Mbr(id) => id == TYPE_LDM,
        TypeId::Gpt(guid) => LDM_GUIDS
            .iter()
            .any(|text| text.parse::<Guid>() == Ok(guid)),
    }
}

/// New end, in bytes, of a partition that may grow up to `limit`; a note says if it grows or not.
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

/// Sets the end of partition `number` in the list of resulting partitions.
fn set_end(partitions: &mut [Partition], number: u32, end: u64) {
    for partition in partitions.iter_mut().filter(|p| p.number == number) {
        partition.length = end.saturating_sub(partition.start);
    }
}
