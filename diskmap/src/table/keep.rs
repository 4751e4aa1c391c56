//! The partition table of a disk that keeps only some of its partitions.
//!
//! Owns the check of the choice (some partitions cannot be left out without a change to the others)
//! and the edit of the raw sectors. Like the patcher it clears single entries and never rebuilds a
//! table: a kept partition keeps its entry with number, GUIDs, name and attributes, and the disk
//! keeps its GUID, signature and boot code.
//!
//! ```text
//!   GPT   array  [1][2][3]..[128]   --keep {1, 128}-->   [1][0][0]..[128]   in each whole copy, new CRCs
//!   MBR   LBA 0  [1][2][E][4]       --keep {1}------->   [1][0][0][0]       and the EBRs of E are no table
//!                     +-> EBR -> EBR                                        any more: places to blank
//! ```
//!
//! Always holds: the resulting table was parsed again and has exactly the chosen partitions, each
//! unchanged. The records of an extended partition that was left out are never written again, but
//! their positions are remembered, so [`plan_commit`](super::plan_commit) still blanks the "old and
//! new places of every table sector" without the older table. No function panics.

use std::collections::BTreeSet;
use std::ops::Range;

use super::bytes::{put, zero};
use super::device::SparseDisk;
use super::gpt::GptLayout;
use super::gpt_copy::{ARRAY_CRC, GptCopy, HEADER_CRC, header_crc};
use super::mbr::{ENTRY_SIZE, MbrLayout, TYPE_PROTECTIVE, entries, entry_offset, sectors_offset};
use super::patch::is_dynamic;
use super::{
    Layout, Partition, PartitionKind, PartitionTable, Region, Role, TableKind, add_spares,
    read_table,
};

/// Largest number of partition numbers listed in an error; a disk may have thousands.
const NAMED: usize = 16;

/// The choice of partitions is not possible on this disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The disk is blank or holds a file system without a table.
    #[error("the disk has no partition table: it is deployed whole or not at all")]
    NoTable,
    /// The set of numbers is empty.
    #[error("no partition was chosen")]
    NothingChosen,
    /// The table does not have all of the numbers.
    #[error(
        "there is no partition {}; the table has {}",
        list(missing),
        list(existing)
    )]
    NoSuchPartition {
        /// Requested numbers that do not exist.
        missing: Vec<u32>,
        /// Numbers of the existing partitions.
        existing: Vec<u32>,
    },
    /// Logical partitions are numbered by their place in the chain. If one is left out, those
    /// behind it get other numbers, and systems that name them by number no longer start.
    #[error(
        "logical partition {} cannot be kept without {}, its number would change: choose {1} too, or leave out {0}",
        list(chosen),
        list(others)
    )]
    LogicalTogether {
        /// Chosen partitions that depend on the others.
        chosen: Vec<u32>,
        /// Partitions to be chosen too.
        others: Vec<u32>,
    },
    /// The database of a Windows dynamic disk lists every partition, and only Windows edits it.
    #[error(
        "the disk is a Windows dynamic disk, whose partitions go together: choose {} too",
        list(left_out)
    )]
    Dynamic {
        /// Partitions that were not chosen.
        left_out: Vec<u32>,
    },
    /// The edited table does not read back as chosen. This is an internal error, found before any
    /// write.
    #[error("the table without the other partitions does not read back as chosen: {detail}")]
    SelfCheck {
        /// Description of the difference.
        detail: String,
    },
}

/// Partition numbers as text for a message.
fn list(numbers: &[u32]) -> String {
    let mut text: Vec<String> = numbers.iter().take(NAMED).map(u32::to_string).collect();
    if let Some(more) = numbers.len().checked_sub(NAMED).filter(|more| *more > 0) {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}

impl PartitionTable {
    /// The table with only the partitions of these numbers left.
    ///
    /// The number of an extended partition includes all its logical partitions; a logical partition
    /// includes its extended partition. If every partition is chosen, the bytes do not change. An
    /// entry of a hybrid MBR is cleared if it shares sectors with a partition that is left out.
    ///
    /// The result is an ordinary table for [`plan_commit`](super::plan_commit): it fits any disk
    /// with room for the kept partitions, and these may grow into the space of the others.
    ///
    /// # Errors
    /// [`KeepError`] if there is no table, nothing was chosen, a number does not exist, logical
    /// partitions or those of a dynamic disk cannot be separated, or the result failed its check.
    pub fn keep(&self, numbers: &BTreeSet<u32>) -> Result<Self, KeepError> {
        let kept = choose(self, numbers)?;
        let (kept, left_out): (Vec<&Partition>, Vec<&Partition>) = self
            .partitions
            .iter()
            .partition(|partition| kept.contains(&partition.number));
        if left_out.is_empty() {
            return Ok(self.clone());
        }
        let mut regions = self.regions.clone();
        match &self.layout {
            Layout::None => return Err(KeepError::NoTable),
            Layout::Mbr(layout) => keep_mbr(self, layout, &left_out, &mut regions),
            Layout::Gpt(layout) => keep_gpt(self, layout, &left_out, &mut regions),
        }
        let mut table = read_again(self, regions).map_err(|error| KeepError::SelfCheck {
            detail: error.to_string(),
        })?;
        table.vacated = self
            .table_extents()
            .subtract(&table.table_extents())
            .union(&self.vacated);
        check(self, &kept, &table)?;
        Ok(table)
    }
}

/// Checks the chosen numbers and adds the partitions that belong to them.
fn choose(table: &PartitionTable, numbers: &BTreeSet<u32>) -> Result<BTreeSet<u32>, KeepError> {
    if table.kind == TableKind::None {
        return Err(KeepError::NoTable);
    }
    if numbers.is_empty() {
        return Err(KeepError::NothingChosen);
    }
    let existing: Vec<u32> = table.partitions.iter().map(|p| p.number).collect();
    let missing: Vec<u32> = numbers
        .iter()
        .copied()
        .filter(|number| table.partition(*number).is_none())
        .collect();
    if !missing.is_empty() {
        return Err(KeepError::NoSuchPartition { missing, existing });
    }
    let mut kept = numbers.clone();
    let homes = homes(table);
    for (logical, container) in &homes {
        if numbers.contains(container) {
            kept.insert(*logical);
        }
        if numbers.contains(logical) {
            kept.insert(*container);
        }
    }
    let left_out: Vec<u32> = existing
        .iter()
        .copied()
        .filter(|number| !kept.contains(number))
        .collect();
    if !left_out.is_empty() && table.partitions.iter().any(is_dynamic) {
        return Err(KeepError::Dynamic { left_out });
    }
    go_together(&homes, &kept)?;
    Ok(kept)
}

/// Pairs of the numbers of a logical partition and its extended partition.
fn homes(table: &PartitionTable) -> Vec<(u32, u32)> {
    let Layout::Mbr(layout) = &table.layout else {
        return Vec::new();
    };
    let logical = table
        .partitions
        .iter()
        .filter(|partition| partition.kind == PartitionKind::Logical);
    logical
        .filter_map(|partition| {
            let place = layout
                .places
                .iter()
                .find(|p| p.number == partition.number)?;
            let ebr = layout.ebrs.iter().find(|ebr| ebr.lba == place.lba)?;
            Some((partition.number, ebr.container))
        })
        .collect()
}

/// Refuses to leave out a logical partition if a kept one is in the same chain or in a later
/// extended partition: a disk may have several, and the numbers run through all of them.
fn go_together(homes: &[(u32, u32)], kept: &BTreeSet<u32>) -> Result<(), KeepError> {
    let bound = |one: &(u32, u32), other: &(u32, u32)| {
        // `one` stays and `other` goes: true if they share a container, or if `one` would get
        // another number.
        one.1 == other.1 || other.0 < one.0
    };
    let (stay, go): (Vec<_>, Vec<_>) = homes
        .iter()
        .copied()
        .partition(|(logical, _)| kept.contains(logical));
    let chosen: Vec<u32> = stay
        .iter()
        .filter(|one| go.iter().any(|other| bound(one, other)))
        .map(|(number, _)| *number)
        .collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let others = go
        .iter()
        .filter(|other| stay.iter().any(|one| bound(one, other)))
        .map(|(number, _)| *number)
        .collect();
    Err(KeepError::LogicalTogether { chosen, others })
}

/// Clears slots of LBA 0 and drops the boot records they led to.
fn keep_mbr(
    table: &PartitionTable,
    layout: &MbrLayout,
    left_out: &[&Partition],
    regions: &mut Vec<Region>,
) {
    let gone = |number: u32| left_out.iter().any(|partition| partition.number == number);
    if let Some(lba0) = regions.iter_mut().find(|region| region.role == Role::Lba0) {
        let slots = layout.places.iter().filter(|place| place.lba == 0);
        for place in slots.filter(|place| gone(place.number)) {
            zero(&mut lba0.bytes, entry_offset(place.slot), ENTRY_SIZE);
        }
    }
    let records: BTreeSet<u64> = layout
        .ebrs
        .iter()
        .filter(|ebr| gone(ebr.container))
        .map(|ebr| offset(table, ebr.lba))
        .collect();
    regions.retain(|region| region.role != Role::Ebr || !records.contains(&region.offset));
}

/// Clears entries of every intact copy, and their mirrors in a hybrid MBR.
fn keep_gpt(
    table: &PartitionTable,
    layout: &GptLayout,
    left_out: &[&Partition],
    regions: &mut [Region],
) {
    let primary = layout.primary_whole.then_some(&layout.active);
    for copy in primary.into_iter().chain(&layout.backup) {
        clear_entries(table, copy, left_out, regions);
    }
    let hybrid = regions
        .iter_mut()
        .find(|region| layout.hybrid && region.role == Role::Lba0);
    if let Some(lba0) = hybrid {
        clear_mirrors(table, left_out, &mut lba0.bytes);
    }
}

/// Clears entries of one copy. A copy that was not intact is not edited, because its bytes prove
/// nothing.
fn clear_entries(
    table: &PartitionTable,
    copy: &GptCopy,
    left_out: &[&Partition],
    regions: &mut [Region],
) {
    let header = &copy.header;
    // The copy's own bytes are used: behind the last entry, up to the end of the sector, the copies
    // may differ.
    let mut array = copy.array.clone();
    for partition in left_out {
        let index = usize::try_from(partition.number.saturating_sub(1)).unwrap_or(usize::MAX);
        let at = index.saturating_mul(header.entry_size);
        zero(&mut array, at, header.entry_size);
    }
    let mut sector = header.sector.clone();
    put(&mut sector, ARRAY_CRC, &header.crc_of(&array).to_le_bytes());
    let crc = header_crc(&sector, header.header_size);
    put(&mut sector, HEADER_CRC, &crc.to_le_bytes());
    for (lba, bytes) in [(header.array_lba, array), (header.lba, sector)] {
        let place = offset(table, lba);
        if let Some(region) = regions.iter_mut().find(|region| region.offset == place) {
            region.bytes = bytes;
        }
    }
}

/// Clears the entries of LBA 0 that mirror partitions left out.
///
/// If no mirror remains, the MBR becomes a protective one, and its entry must cover the disk (UEFI
/// 2.10, 5.2.3); beside mirrors it often ends earlier.
fn clear_mirrors(table: &PartitionTable, left_out: &[&Partition], lba0: &mut [u8]) {
    let shares = |range: &Range<u64>| {
        left_out
            .iter()
            .any(|partition| partition.start < range.end && range.start < partition.end())
    };
    let mut cleared = false;
    for (slot, entry) in entries(lba0).into_iter().enumerate() {
        let first = u64::from(entry.start);
        let end = first.saturating_add(u64::from(entry.sectors));
        let range = offset(table, first)..offset(table, end);
        if entry.type_id != TYPE_PROTECTIVE && entry.is_used() && shares(&range) {
            zero(lba0, entry_offset(slot), ENTRY_SIZE);
            cleared = true;
        }
    }
    let used = entries(lba0);
    let mut used = used.iter().enumerate().filter(|(_, entry)| entry.is_used());
    if let (true, Some((slot, entry)), None) = (cleared, used.next(), used.next())
        && entry.type_id == TYPE_PROTECTIVE
        && entry.start == 1
    {
        let sectors = u32::try_from(table.sectors().saturating_sub(1)).unwrap_or(u32::MAX);
        put(lba0, sectors_offset(slot), &sectors.to_le_bytes());
    }
}

/// Byte position of a sector. It saturates, so an unchecked position cannot wrap to the front.
fn offset(table: &PartitionTable, lba: u64) -> u64 {
    lba.saturating_mul(u64::from(table.sector_size))
}

/// Parses the edited regions as a disk that is zero elsewhere.
///
/// Unlike [`table_from_regions`](super::table_from_regions) this accepts a needed sector that no
/// region holds. The older table needed nothing beyond its regions, so it can only be the place of
/// a damaged GPT copy that was covered by a partition which is left out now. It belongs to the
/// table again, as zeros.
fn read_again(
    table: &PartitionTable,
    regions: Vec<Region>,
) -> Result<PartitionTable, super::TableError> {
    let mut known = SparseDisk::new(table.disk_size);
    for region in regions {
        known.insert(region.offset, region.bytes)?;
    }
    let mut read = read_table(&known, table.disk_size, table.sector_size)?;
    add_spares(&mut read, &known)?;
    Ok(read)
}

/// Compares the new table with the old one.
fn check(old: &PartitionTable, kept: &[&Partition], new: &PartitionTable) -> Result<(), KeepError> {
    let failed = |detail: String| Err(KeepError::SelfCheck { detail });
    if new.kind != old.kind {
        return failed(format!("{} instead of {}", new.kind, old.kind));
    }
    if (new.disk_guid, new.disk_signature) != (old.disk_guid, old.disk_signature) {
        return failed("the disk's identity differs".to_owned());
    }
    if let Some(wrong) = kept
        .iter()
        .find(|partition| new.partition(partition.number) != Some(*partition))
    {
        return failed(format!("partition {} differs", wrong.number));
    }
    if new.partitions.len() != kept.len() {
        return failed(format!(
            "{} partitions instead of {}",
            new.partitions.len(),
            kept.len()
        ));
    }
    match (&old.layout, &new.layout) {
        (Layout::Gpt(old), Layout::Gpt(new))
            if old.primary_whole != new.primary_whole
                || (old.backup.is_some() && new.backup.is_none()) =>
        {
            failed("a GPT copy that was whole is damaged".to_owned())
        }
        _ => Ok(()),
    }
}
