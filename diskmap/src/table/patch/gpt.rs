//! GPT on a target: both copies from the raw sectors, with changes only in the fields that depend
//! on the disk's size.
//!
//! On a disk of another size these change: the place of the backup, the last usable LBA, the size
//! of the protective entry, and the checksums. All other bytes are the master's.

use super::super::bytes::{put, u32_at};
use super::super::gpt::{GptLayout, LAST_LBA};
use super::super::gpt_copy::{
    ALTERNATE_LBA, ARRAY_CRC, ARRAY_LBA, FIRST_ARRAY_LBA, GptHeader, HEADER_CRC, LAST_USABLE,
    MY_LBA, PRIMARY_LBA, header_crc, is_header,
};
use super::super::mbr::{TYPE_PROTECTIVE, entries, sectors_offset};
use super::super::{PartitionTable, Role};
use super::{Draft, PatchError, Target, check_fit, grown_end, pick, raw_stages, set_end};
use facts::order::Grow;

/// The positions of the table's parts, in LBA.
#[derive(Clone, Copy, Debug)]
struct Places {
    primary_array: u64,
    backup_array: u64,
    backup_header: u64,
    last_usable: u64,
}

/// Plans both copies and the protective MBR.
pub(super) fn plan(
    table: &PartitionTable,
    layout: &GptLayout,
    target: Target,
    grow: Option<Grow>,
) -> Result<Draft, PatchError> {
    let same_size = target.sectors == table.sectors();
    let whole = layout.primary_whole && layout.backup.is_some();
    let mut partitions = table.partitions.clone();
    let mut notes = Vec::new();

    let mut growth = None;
    if let Some(grow) = grow {
        let partition = pick(table, grow)?;
        if layout.hybrid {
            return Err(PatchError::CannotGrow {
                number: partition.number,
                reason: "the disk has a hybrid MBR that mirrors partitions",
            });
        }
        let places = place(table, layout, target)?;
        let limit = table
            .partitions
            .iter()
            .map(|other| other.start)
            // An array between partitions is unusual but allowed.
            .chain([target.offset(places.primary_array)])
            .filter(|start| *start >= partition.end())
            .min()
            .unwrap_or(u64::MAX)
            .min(target.offset(places.last_usable.saturating_add(1)));
        growth = grown_end(partition, limit, &mut notes).map(|end| (partition.number, end));
    }
    if same_size && whole && growth.is_none() {
        return Ok(Draft {
            stages: raw_stages(&table.regions, target),
            partitions,
            notes,
        });
    }

    let places = place(table, layout, target)?;
    note_changes(layout, table, target, places, &mut notes);
    let active = &layout.active;
    let mut array = active.array.clone();
    if let Some((number, end)) = growth {
        let entry = usize::try_from(number.saturating_sub(1))
            .unwrap_or(usize::MAX)
            .saturating_mul(active.header.entry_size);
        let last = (end / u64::from(target.sector_size)).saturating_sub(1);
        put(
            &mut array,
            entry.saturating_add(LAST_LBA),
            &last.to_le_bytes(),
        );
        set_end(&mut partitions, number, end);
    }
    let crc = active.header.crc_of(&array);
    let primary = header(
        &active.header,
        PRIMARY_LBA,
        places.backup_header,
        places.primary_array,
        places.last_usable,
        crc,
    );
    let own = layout
        .backup
        .as_ref()
        .map_or(&active.header, |copy| &copy.header);
    let backup = header(
        own,
        places.backup_header,
        PRIMARY_LBA,
        places.backup_array,
        places.last_usable,
        crc,
    );

    let mut first = Vec::new();
    for region in table
        .regions
        .iter()
        .filter(|region| region.role == Role::Other)
    {
        // A stale header is kept only at the end of the disk it was read from, and only if the new
        // table does not use that place.
        let end = region.range().end;
        if !is_header(&region.bytes) && end <= target.offset(places.backup_array) {
            first.push((region.offset, region.bytes.clone()));
        }
    }
    first.push((target.offset(places.backup_array), array.clone()));
    first.push((target.offset(places.backup_header), backup));
    let second = vec![
        (target.offset(places.primary_array), array),
        (target.offset(PRIMARY_LBA), primary),
    ];
    let mut lba0 = table
        .regions
        .iter()
        .find(|region| region.role == Role::Lba0)
        .map(|region| region.bytes.clone())
        .unwrap_or_default();
    if !same_size {
        protect(&mut lba0, layout.hybrid, table.sectors(), target.sectors);
    }
    Ok(Draft {
        stages: [first, second, vec![(0, lba0)]],
        partitions,
        notes,
    })
}

/// Determines the positions on the target, or the reason why there are none.
fn place(table: &PartitionTable, layout: &GptLayout, target: Target) -> Result<Places, PatchError> {
    let header = &layout.active.header;
    let array_sectors = header.array_sectors();
    let overhead = array_sectors.saturating_add(1);
    check_fit(table, target, overhead)?;
    let primary_array = primary_array(table, layout, target)?;
    // Even an empty table needs its front and one usable sector.
    let floor = header
        .first_usable
        .saturating_add(1)
        .max(primary_array.saturating_add(array_sectors));
    let needed = floor.saturating_add(overhead);
    if needed > target.sectors {
        return Err(PatchError::DiskTooSmall {
            needed: target.offset(needed),
            target: target.bytes,
        });
    }
    let last = target.sectors.saturating_sub(1);
    let mut places = Places {
        primary_array,
        backup_array: last.saturating_sub(array_sectors),
        backup_header: last,
        last_usable: last.saturating_sub(overhead),
    };
    if target.sectors == table.sectors() && header.last_usable <= places.last_usable {
        // The disk's size did not change, so a table that ends earlier on purpose keeps its end.
        match &layout.backup {
            Some(copy) if copy.header.lba == last && copy.header.array_lba > header.last_usable => {
                places.last_usable = header.last_usable;
                places.backup_array = copy.header.array_lba;
            }
            Some(_) => {}
            None => places.last_usable = header.last_usable,
        }
    }
    Ok(places)
}

/// Position of the primary array: the old one, or directly behind the header if the old one is
/// unknown.
fn primary_array(
    table: &PartitionTable,
    layout: &GptLayout,
    target: Target,
) -> Result<u64, PatchError> {
    let active = &layout.active.header;
    if layout.primary_whole {
        return Ok(active.array_lba);
    }
    let sectors = active.array_sectors();
    let free = |lba: u64| {
        let end = lba.saturating_add(sectors);
        let range = target.offset(lba)..target.offset(end);
        end <= active.first_usable
            && !table
                .partitions
                .iter()
                .any(|p| p.start < range.end && range.start < p.end())
    };
    let named = layout
        .primary_header
        .as_ref()
        .filter(|header| header.array_sectors() == sectors)
        .map(|header| header.array_lba);
    named
        .into_iter()
        .chain([FIRST_ARRAY_LBA])
        .find(|lba| free(*lba))
        .ok_or(PatchError::NoRoomForPrimary {
            first: FIRST_ARRAY_LBA,
            last: FIRST_ARRAY_LBA.saturating_add(sectors).saturating_sub(1),
        })
}

/// Makes a header sector: `own` with the fields that depend on position, size and entries.
fn header(
    own: &GptHeader,
    lba: u64,
    alternate: u64,
    array_lba: u64,
    last_usable: u64,
    array_crc: u32,
) -> Vec<u8> {
    let mut sector = own.sector.clone();
    put(&mut sector, MY_LBA, &lba.to_le_bytes());
    put(&mut sector, ALTERNATE_LBA, &alternate.to_le_bytes());
    put(&mut sector, LAST_USABLE, &last_usable.to_le_bytes());
    put(&mut sector, ARRAY_LBA, &array_lba.to_le_bytes());
    put(&mut sector, ARRAY_CRC, &array_crc.to_le_bytes());
    let crc = header_crc(&sector, own.header_size);
    put(&mut sector, HEADER_CRC, &crc.to_le_bytes());
    sector
}

/// Adjusts the protective entry to the size of the disk. 0xFFFFFFFF, which Windows writes, means
/// "the whole disk" on any disk and is kept.
///
/// Beside other entries (hybrid), only an entry that ended at the old end of the disk is changed.
fn protect(lba0: &mut [u8], hybrid: bool, old_sectors: u64, new_sectors: u64) {
    for (slot, entry) in entries(lba0).into_iter().enumerate() {
        if entry.type_id != TYPE_PROTECTIVE || !entry.is_used() || entry.sectors == u32::MAX {
            continue;
        }
        let end = u64::from(entry.start) + u64::from(entry.sectors);
        if hybrid && end < old_sectors {
            continue;
        }
        let sectors = new_sectors.saturating_sub(u64::from(entry.start));
        // UEFI 5.2.3: a disk with more sectors than 32 bits can count has 0xFFFFFFFF here.
        let sectors = u32::try_from(sectors).unwrap_or(u32::MAX);
        if sectors != 0 && sectors != u32_at(lba0, sectors_offset(slot)) {
            put(lba0, sectors_offset(slot), &sectors.to_le_bytes());
        }
    }
}

/// Adds notes on the differences from the master.
fn note_changes(
    layout: &GptLayout,
    table: &PartitionTable,
    target: Target,
    places: Places,
    notes: &mut Vec<String>,
) {
    if !layout.primary_whole {
        notes.push(
            "the master's primary GPT was damaged: a new one is built from its backup".to_owned(),
        );
    }
    match &layout.backup {
        None => notes.push(format!(
            "the master's backup GPT was damaged or missing: a new one is built at LBA {}",
            places.backup_header
        )),
        Some(copy) if copy.header.lba != places.backup_header => notes.push(format!(
            "the backup GPT moves from LBA {} to LBA {}",
            copy.header.lba, places.backup_header
        )),
        Some(_) => {}
    }
    if target.sectors != table.sectors() {
        notes.push(format!(
            "the disk has {} sectors instead of {}: the last usable LBA becomes {}",
            target.sectors,
            table.sectors(),
            places.last_usable
        ));
    }
}
