//! MBR on a target: unchanged bytes, except the sizes that change when a partition grows.
//!
//! The size of a grown logical partition appears in up to three places: its own entry in its EBR,
//! the link to that EBR, and the container's entry in LBA 0.

use std::collections::BTreeMap;

use super::super::bytes::put;
use super::super::mbr::{Ebr, MbrLayout, Place, chs_end_offset, sectors_offset};
use super::super::{Partition, PartitionKind, PartitionTable};
use super::{
    Draft, PatchError, Target, check_fit, grown_end, is_dynamic, pick, raw_stages, set_end,
};
use facts::order::Grow;

/// First LBA that an MBR cannot use: tools and Windows keep a partition's last LBA in 32 bits,
/// whatever the sector size.
const LBA_LIMIT: u64 = 1 << 32;

/// The CHS value that means "too large for CHS, use the LBA".
const CHS_MAX: [u8; 3] = [0xfe, 0xff, 0xff];

/// Plans an MBR and its EBRs.
pub(super) fn plan(
    table: &PartitionTable,
    layout: &MbrLayout,
    target: Target,
    grow: Option<Grow>,
) -> Result<Draft, PatchError> {
    check_fit(table, target, 0)?;
    let dynamic = table.partitions.iter().any(is_dynamic);
    if dynamic && target.sectors < table.sectors() {
        // The database in the disk's last mebibyte is outside every partition.
        return Err(PatchError::DiskTooSmall {
            needed: table.disk_size,
            target: target.bytes,
        });
    }
    let mut draft = Draft {
        stages: raw_stages(&table.regions, target),
        partitions: table.partitions.clone(),
        notes: Vec::new(),
    };
    if dynamic && target.sectors > table.sectors() {
        draft.notes.push(
            "the disk is a Windows dynamic disk: its database stays where the master's disk ended"
                .to_owned(),
        );
    }
    if let Some(grow) = grow {
        apply_growth(table, layout, target, grow, &mut draft)?;
    }
    Ok(draft)
}

/// Applies the growth of a partition to all size fields that depend on it.
fn apply_growth(
    table: &PartitionTable,
    layout: &MbrLayout,
    target: Target,
    grow: Grow,
    draft: &mut Draft,
) -> Result<(), PatchError> {
    let partition = pick(table, grow)?;
    let number = partition.number;
    let unknown = PatchError::NoSuchPartition { number };
    let Some(place) = layout.places.iter().find(|place| place.number == number) else {
        return Err(unknown);
    };
    let disk_end = target.offset(target.sectors.min(LBA_LIMIT));
    let home = layout.ebrs.iter().find(|ebr| ebr.lba == place.lba);
    let (limit, container) = match (partition.kind, home) {
        (PartitionKind::Logical, Some(ebr)) => {
            let container = table
                .partition(ebr.container)
                .ok_or(PatchError::NoSuchPartition {
                    number: ebr.container,
                })?;
            (
                logical_limit(table, layout, partition, ebr, container, disk_end, target)?,
                Some(container),
            )
        }
        _ => (next_start(table, partition).min(disk_end), None),
    };
    let Some(end) = grown_end(partition, limit, &mut draft.notes) else {
        return Ok(());
    };
    let mut fields = Fields::default();
    fields.set_end(place, end, target);
    set_end(&mut draft.partitions, number, end);
    if let (Some(container), Some(ebr)) = (container, home) {
        if end > container.end() {
            let entry = layout
                .places
                .iter()
                .find(|place| place.number == container.number)
                .ok_or(unknown)?;
            fields.set_end(entry, end, target);
            set_end(&mut draft.partitions, container.number, end);
            draft.notes.push(format!(
                "extended partition {} grows with it",
                container.number
            ));
        }
        if let Some((lba, slot)) = ebr.link {
            // The link covers the EBR and its partition, as in every tool.
            fields.set(lba, slot, end / u64::from(target.sector_size) - ebr.lba);
        }
    }
    fields.write(target, draft);
    Ok(())
}

/// The limit of a logical partition's growth in bytes: the next boot record or logical partition of
/// its container, and for the last of them the end of the free space behind the container.
fn logical_limit(
    table: &PartitionTable,
    layout: &MbrLayout,
    partition: &Partition,
    home: &Ebr,
    container: &Partition,
    disk_end: u64,
    target: Target,
) -> Result<u64, PatchError> {
    let number = partition.number;
    let refuse = |reason| Err(PatchError::CannotGrow { number, reason });
    if partition.end() > container.end() {
        return refuse("it already leaves its extended partition");
    }
    if layout.garbage {
        return refuse(
            "a boot record of the chain has stray entries that growing could bring to life",
        );
    }
    let next_record = layout
        .ebrs
        .iter()
        .filter(|ebr| ebr.container == home.container)
        .map(|ebr| target.offset(ebr.lba));
    let next_logical = table
        .partitions
        .iter()
        .filter(|other| other.kind == PartitionKind::Logical)
        .map(|other| other.start);
    let behind = next_record
        .chain(next_logical)
        .filter(|start| *start >= partition.end() && *start < container.end())
        .min();
    Ok(behind.unwrap_or_else(|| next_start(table, container).min(disk_end)))
}

/// Start of the next partition of any kind behind `partition`, in bytes; `u64::MAX` if there is
/// none.
fn next_start(table: &PartitionTable, partition: &Partition) -> u64 {
    table
        .partitions
        .iter()
        .map(|other| other.start)
        .filter(|start| *start >= partition.end())
        .min()
        .unwrap_or(u64::MAX)
}

/// New sector counts by sector and slot.
#[derive(Debug, Default)]
struct Fields {
    counts: BTreeMap<(u64, usize), u64>,
}

impl Fields {
    fn set(&mut self, lba: u64, slot: usize, sectors: u64) {
        self.counts.insert((lba, slot), sectors);
    }

    fn set_end(&mut self, place: &Place, end: u64, target: Target) {
        let end_lba = end / u64::from(target.sector_size);
        self.set(place.lba, place.slot, end_lba.saturating_sub(place.first));
    }

    /// Writes the counts into the sectors of the draft. Counts of more than 32 bits are excluded by
    /// `LBA_LIMIT`; the check of the plan would find any other one.
    fn write(&self, target: Target, draft: &mut Draft) {
        for ((lba, slot), sectors) in &self.counts {
            let offset = target.offset(*lba);
            let Ok(sectors) = u32::try_from(*sectors) else {
                continue;
            };
            let sector = draft
                .stages
                .iter_mut()
                .flatten()
                .find(|(at, _)| *at == offset);
            if let Some((_, bytes)) = sector {
                put(bytes, sectors_offset(*slot), &sectors.to_le_bytes());
                put(bytes, chs_end_offset(*slot), &CHS_MAX);
            }
        }
    }
}
