//! MBR: four entries in LBA 0, and a chain of extended boot records (EBR) for logical partitions.
//!
//! ```text
//!   LBA 0            extended container (type 05, 0f or 85), positions relative to its start
//!   [1][2][3][E] --> EBR: [data, relative to this EBR][link, relative to the container] --> EBR ...
//! ```
//!
//! Owns the reading order, which determines the numbers and follows the Linux kernel
//! (block/partitions/msdos.c): slots keep their number, logical partitions count from 5 in the
//! order of the chain, wherever their sectors are. LBA fields count logical sectors. CHS fields are
//! kept and never read.
//!
//! A boot sector of FAT or NTFS ends in 55AA like an MBR; [`classify`] distinguishes them.

use super::bytes::{array_at, u8_at, u32_at};
use super::device::Disk;
use super::{
    Claim, Layout, Partition, PartitionKind, PartitionTable, Region, Role, TableError, TypeId,
    check_claims, check_regions,
};
use crate::usedmap::boot_sector;

/// Offset of the disk signature in LBA 0.
pub(super) const DISK_SIGNATURE: usize = 440;
/// Offset of the first entry in LBA 0 and in an EBR.
const ENTRIES: usize = 446;
/// Length of an entry in bytes.
pub(super) const ENTRY_SIZE: usize = 16;
/// Number of entries in a sector.
const ENTRY_COUNT: usize = 4;
/// Offset of the system id in an entry.
const ENTRY_TYPE: usize = 4;
/// Offset of the ending cylinder, head and sector in an entry.
const ENTRY_CHS_END: usize = 5;
/// Offset of the first LBA in an entry.
const ENTRY_START: usize = 8;
/// Offset of the sector count in an entry.
const ENTRY_SECTORS: usize = 12;
/// Offset of the bytes 55 AA.
const SIGNATURE: usize = 510;

/// System id of a protective entry.
pub(super) const TYPE_PROTECTIVE: u8 = 0xee;
/// System id of a Windows dynamic disk, whose database fills the disk's last mebibyte.
pub(super) const TYPE_LDM: u8 = 0x42;

/// Longest chain of EBRs that is followed. Linux numbers at most 255 partitions of a disk
/// (`DISK_MAX_PARTS` is 256) and libfdisk 60, so no master system has a longer chain, and a hostile
/// chain costs at most this many reads.
pub(super) const MAX_EBR_LINKS: usize = 256;

/// Byte position of entry `slot` (0..4) in its sector.
pub(super) fn entry_offset(slot: usize) -> usize {
    ENTRIES + slot.min(ENTRY_COUNT - 1) * ENTRY_SIZE
}

/// Byte position of the sector count of entry `slot` (0..4).
pub(super) fn sectors_offset(slot: usize) -> usize {
    entry_offset(slot) + ENTRY_SECTORS
}

/// Byte position of the ending cylinder, head and sector of entry `slot` (0..4).
pub(super) fn chs_end_offset(slot: usize) -> usize {
    entry_offset(slot) + ENTRY_CHS_END
}

/// One entry of LBA 0 or of an EBR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MbrEntry {
    pub(super) flag: u8,
    pub(super) type_id: u8,
    pub(super) start: u32,
    pub(super) sectors: u32,
}

impl MbrEntry {
    /// True for a used entry. Like the kernel, this looks at the size alone: an entry of type 0
    /// with a size is a partition.
    pub(super) fn is_used(self) -> bool {
        self.sectors != 0
    }

    /// True for the types that Linux follows as a chain.
    pub(super) fn is_extended(self) -> bool {
        matches!(self.type_id, 0x05 | 0x0f | 0x85)
    }
}

/// The four entries of a sector.
pub(super) fn entries(sector: &[u8]) -> [MbrEntry; ENTRY_COUNT] {
    std::array::from_fn(|slot| {
        let at = entry_offset(slot);
        MbrEntry {
            flag: u8_at(sector, at),
            type_id: u8_at(sector, at + ENTRY_TYPE),
            start: u32_at(sector, at + ENTRY_START),
            sectors: u32_at(sector, at + ENTRY_SECTORS),
        }
    })
}

/// True if the first 512 bytes of the sector end with 55 AA.
fn has_signature(sector: &[u8]) -> bool {
    array_at::<2>(sector, SIGNATURE) == [0x55, 0xaa]
}

/// The kind of disk, as determined by LBA 0.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FirstSector {
    /// Not a partition table.
    Other { why: Option<String> },
    /// An MBR.
    Mbr { warnings: Vec<String> },
    /// A protective entry: the disk has a GPT. It is hybrid if other entries mirror partitions.
    Protective { hybrid: bool },
}

/// Distinguishes an MBR, a protective MBR and the boot sector of a file system on the whole disk.
///
/// A sector is a table only if an entry is used: the boot code of many file systems also ends in
/// 55AA, and an empty table may be left on a disk whose real content is a claim on the whole disk.
/// An entry of type EE counts whatever its size (the kernel and firmware look at type and start),
/// and the GPT headers then decide.
///
/// A boot flag other than 00 and 80 excludes an MBR, as in the kernel. A file-system signature
/// excludes it only if the entries are no valid table either: GRUB keeps the 90 bytes after the
/// first jump when it is installed, so a real MBR may contain the old parameters of a USB stick.
/// mkfs.fat writes an entry that starts at LBA 0, and most boot sectors have text or zeros there.
pub(super) fn classify(lba0: &[u8], disk_sectors: u64) -> FirstSector {
    if !has_signature(lba0) {
        return FirstSector::Other { why: None };
    }
    let entries = entries(lba0);
    let file_system = boot_sector(lba0);
    let protective = |entry: &MbrEntry| entry.type_id == TYPE_PROTECTIVE;
    let used = || entries.iter().filter(|entry| entry.is_used());
    let flagged = entries.iter().all(|entry| matches!(entry.flag, 0 | 0x80));
    // UEFI 2.10, 5.2.3: the entry starts at LBA 1. One that starts elsewhere is accepted only if
    // the sector is nothing else.
    let announced = entries
        .iter()
        .any(|entry| protective(entry) && (entry.start == 1 || (flagged && file_system.is_none())));
    if announced {
        let hybrid = used().any(|entry| !protective(entry) && entry.type_id != 0);
        return FirstSector::Protective { hybrid };
    }
    let whole_disk = |file_system| {
        format!("LBA 0 is the boot sector of a file system on the whole disk ({file_system})")
    };
    let no_table = |reason: &str| format!("{reason}: taken as a disk without a table");
    let why = match file_system {
        Some(file_system) => {
            let plausible = used().next().is_some()
                && used().all(|entry| {
                    entry.start > 0
                        && u64::from(entry.start) + u64::from(entry.sectors) <= disk_sectors
                        && entry.type_id != 0
                });
            (!flagged || !plausible).then(|| whole_disk(file_system))
        }
        None if !flagged => Some(no_table(
            "LBA 0 ends in 55AA but its entries have no boot flag of a partition table",
        )),
        None if used().next().is_none() => Some(no_table("the partition table in LBA 0 is empty")),
        None => None,
    };
    if why.is_some() {
        return FirstSector::Other { why };
    }
    let warnings = entries
        .iter()
        .zip(1..)
        .filter(|(entry, _)| entry.is_used() && entry.type_id == 0)
        .map(|(_, number): (_, u32)| format!("partition {number} has a size but type 00"))
        .collect();
    FirstSector::Mbr { warnings }
}

/// One extended boot record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ebr {
    /// LBA of the record.
    pub(super) lba: u64,
    /// Number of the extended partition it belongs to.
    pub(super) container: u32,
    /// EBR and slot of the entry that links here; `None` for the first record of a container.
    pub(super) link: Option<(u64, usize)>,
}

/// The position of a partition's entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Partition number.
    pub(super) number: u32,
    /// LBA of the entry's sector: 0, or that of an EBR.
    pub(super) lba: u64,
    /// Index of the entry in the sector, 0..4.
    pub(super) slot: usize,
    /// First LBA of the partition.
    pub(super) first: u64,
    /// Length of the partition in sectors.
    pub(super) sectors: u64,
}

/// The data for the patcher: the position of every entry, and the chain.
#[derive(Clone, Debug, Default)]
pub(super) struct MbrLayout {
    pub(super) places: Vec<Place>,
    pub(super) ebrs: Vec<Ebr>,
    /// True if a third or fourth EBR entry was ignored because it leaves its scope. If the scope
    /// grew, the entry could become a partition.
    pub(super) garbage: bool,
}

/// Reads the entries of LBA 0 and all chains they lead to.
pub(super) fn read(
    disk: &Disk<'_>,
    lba0: &[u8],
    table: &mut PartitionTable,
) -> Result<(), TableError> {
    table.disk_signature = Some(u32_at(lba0, DISK_SIGNATURE));
    let mut layout = MbrLayout::default();
    let mut containers = Vec::new();
    for ((slot, entry), number) in entries(lba0).into_iter().enumerate().zip(1u32..) {
        if !entry.is_used() {
            continue;
        }
        let place = Place {
            number,
            lba: 0,
            slot,
            first: u64::from(entry.start),
            sectors: u64::from(entry.sectors),
        };
        let kind = if entry.is_extended() {
            containers.push(place);
            PartitionKind::Extended
        } else {
            PartitionKind::Primary
        };
        table.partitions.push(partition(disk, place, entry, kind));
        layout.places.push(place);
    }
    // Positions are checked first: a chain is followed only if its container is inside the disk.
    check_claims(layout.places.iter().map(claim).collect(), disk)?;
    if containers.len() > 1 {
        table.warnings.push(format!(
            "{} extended partitions: Linux reads them all, most other systems only the first",
            containers.len()
        ));
    }
    for container in &containers {
        read_chain(disk, *container, table, &mut layout)?;
    }
    let data = layout.places.iter().filter(|place| {
        !containers
            .iter()
            .any(|container| container.number == place.number)
    });
    check_claims(data.map(claim).collect(), disk)?;
    check_regions(&table.partitions, &table.table_extents(), table.sector_size)?;
    table.layout = Layout::Mbr(layout);
    Ok(())
}

/// Follows one chain from the first sector of its container.
fn read_chain(
    disk: &Disk<'_>,
    container: Place,
    table: &mut PartitionTable,
    layout: &mut MbrLayout,
) -> Result<(), TableError> {
    let container_end = container.first.saturating_add(container.sectors);
    let mut next = Ebr {
        lba: container.first,
        container: container.number,
        link: None,
    };
    // Scope of the current EBR in sectors: the container at first, then the size in the link to it.
    let mut scope_sectors = container.sectors;
    loop {
        let lba = next.lba;
        if lba < container.first || lba >= container_end {
            return Err(TableError::EbrOutside {
                lba,
                first: container.first,
                last: container_end.saturating_sub(1),
            });
        }
        if layout.ebrs.iter().any(|seen| seen.lba == lba) {
            return Err(TableError::EbrCycle {
                lba,
                links: layout.ebrs.len(),
            });
        }
        if layout.ebrs.len() >= MAX_EBR_LINKS {
            return Err(TableError::EbrTooMany {
                limit: MAX_EBR_LINKS,
            });
        }
        let offset = disk.offset(lba);
        let sector = disk
            .read(lba, 1)
            .map_err(|source| TableError::Io { offset, source })?;
        if !has_signature(&sector) {
            // The kernel stops here silently; later records are no partitions for any system.
            table.warnings.push(if next.link.is_none() {
                format!("extended partition {} is empty: no boot record at LBA {lba}", container.number)
            } else {
                format!("the chain of logical partitions ends at LBA {lba}, where the boot record has no 55AA")
            });
            return Ok(());
        }
        let entries = entries(&sector);
        layout.ebrs.push(next);
        table.regions.push(Region {
            offset,
            bytes: sector,
            role: Role::Ebr,
        });
        for (slot, entry) in entries.into_iter().enumerate() {
            if !entry.is_used() || entry.is_extended() {
                continue;
            }
            let place = Place {
                number: next_logical(layout),
                lba,
                slot,
                first: lba.saturating_add(u64::from(entry.start)),
                sectors: u64::from(entry.sectors),
            };
            let end = place.first.saturating_add(place.sectors);
            // The kernel's rule: OS/2 used all four entries, other systems leave garbage in the
            // last two.
            let garbage = u64::from(entry.start) + u64::from(entry.sectors) > scope_sectors
                || end > container_end;
            if slot >= 2 && garbage {
                layout.garbage = true;
                continue;
            }
            if end > container_end {
                table.warnings.push(format!(
                    "logical partition {} ends at LBA {}, outside its extended partition",
                    place.number,
                    end.saturating_sub(1)
                ));
            }
            table
                .partitions
                .push(partition(disk, place, entry, PartitionKind::Logical));
            layout.places.push(place);
        }
        let link = entries
            .into_iter()
            .enumerate()
            .find(|(_, entry)| entry.is_used() && entry.is_extended());
        let Some((slot, entry)) = link else {
            return Ok(());
        };
        scope_sectors = u64::from(entry.sectors);
        next = Ebr {
            lba: container.first.saturating_add(u64::from(entry.start)),
            container: container.number,
            link: Some((lba, slot)),
        };
    }
}

/// The number Linux gives the next logical partition.
fn next_logical(layout: &MbrLayout) -> u32 {
    layout
        .places
        .iter()
        .map(|place| place.number)
        .max()
        .unwrap_or(0)
        .max(4)
        .saturating_add(1)
}

/// The sectors of a place, as a claim.
fn claim(place: &Place) -> Claim {
    Claim {
        number: place.number,
        first: place.first,
        last: place.first.saturating_add(place.sectors.saturating_sub(1)),
    }
}

/// Makes a partition from an entry. Positions beyond the disk saturate here and are refused by
/// `check_claims`.
fn partition(disk: &Disk<'_>, place: Place, entry: MbrEntry, kind: PartitionKind) -> Partition {
    Partition {
        number: place.number,
        start: disk.offset(place.first),
        length: disk.offset(place.sectors),
        type_id: TypeId::Mbr(entry.type_id),
        unique: None,
        name: None,
        attributes: 0,
        bootable: entry.flag == 0x80,
        kind,
    }
}
