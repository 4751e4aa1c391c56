//! Leftovers of an earlier use of a disk, behind its last partition.
//!
//! A GPT backup beside an MBR, or the boot sector of a volume before it was shrunk: bytes in the
//! last mebibyte that no program uses any more would limit an image to disks of the master's size.
//! Owns the choice of those bytes, and the GPT headers that must not come back. Pure.

use diskmap::{ExtentSet, PartitionTable, ReadAt, TableKind, is_dynamic};
use facts::units;
use imagefmt::Meta;
use std::ops::Range;

/// Bytes at the end of a disk that may be leftovers: ends of tables, boot sectors and arrays are
/// within them.
const TAIL_BYTES: u64 = 1 << 20;

/// First bytes of a GPT header.
const GPT_MAGIC: &[u8] = b"EFI PART";

/// Bytes among `used` that may be left out on a smaller disk. None of a Windows dynamic disk, whose
/// database is there, and none of a disk without a table.
pub(super) fn droppable(table: &PartitionTable, used: &ExtentSet) -> Vec<Range<u64>> {
    if table.kind == TableKind::None || table.partitions.iter().any(is_dynamic) {
        return Vec::new();
    }
    let last = table.partitions.iter().map(|p| p.end()).max().unwrap_or(0);
    let start = table.disk_size.saturating_sub(TAIL_BYTES).max(last);
    if start >= table.disk_size {
        return Vec::new();
    }
    used.within(start..table.disk_size).into_vec()
}

/// One line about the leftovers of an image; `None` for an image without any.
pub fn line(meta: &Meta) -> Option<String> {
    let first = meta.droppable.iter().map(|range| range.start).min()?;
    let bytes = meta.droppable.iter().map(|range| range.length).sum();
    Some(format!(
        "{} at the end of the disk, from byte {first} on, belong to no partition; a disk that is too small for them goes without",
        units::bytes(bytes)
    ))
}

/// Sectors of GPT headers on a disk whose table is an MBR, outside its partitions: a repair program
/// may take them for the real table.
pub(super) fn stale_gpt(dev: &dyn ReadAt, table: &PartitionTable) -> Vec<Range<u64>> {
    if table.kind != TableKind::Mbr {
        return Vec::new();
    }
    let sector = u64::from(table.sector_size);
    let last = table.sectors().saturating_sub(1);
    [1, last]
        .into_iter()
        .map(|lba| lba.saturating_mul(sector)..lba.saturating_add(1).saturating_mul(sector))
        .filter(|range| {
            let mut magic = [0; 8];
            let owned = table
                .partitions
                .iter()
                .any(|p| p.start < range.end && range.start < p.end());
            !owned && dev.read_exact_at(range.start, &mut magic).is_ok() && magic == GPT_MAGIC
        })
        .collect()
}
