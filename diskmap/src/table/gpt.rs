//! GPT: the choice between the two copies, their contents, and the raw sectors to keep.
//!
//! Owns the choice: the primary copy if it is intact, otherwise the backup, with a warning. Nothing
//! is taken from a copy that failed a check except its raw sectors, and those only if no partition
//! and no intact copy contains them.

use super::bytes::{array_at, u64_at};
use super::device::Disk;
use super::gpt_copy::{FIRST_ARRAY_LBA, GptCopy, GptHeader, PRIMARY_LBA, has_signature};
use super::{
    Claim, GptFault, Layout, Partition, PartitionKind, PartitionTable, Region, Role, TableError,
    TypeId, check_claims, check_regions,
};
use crate::ExtentSet;
use crate::guid::Guid;

// Offsets of the fields of an entry.
const TYPE_GUID: usize = 0;
const UNIQUE_GUID: usize = 16;
const FIRST_LBA: usize = 32;
/// Offset of the last LBA in an entry.
pub(super) const LAST_LBA: usize = 40;
const ATTRIBUTES: usize = 48;
const NAME: usize = 56;
/// Length of a name in UTF-16 units.
const NAME_UNITS: usize = 36;

/// Attribute bit 2, "legacy BIOS bootable".
const LEGACY_BOOTABLE: u64 = 1 << 2;

/// Both copies, as far as they are intact and agree.
#[derive(Clone, Debug)]
pub(super) struct GptLayout {
    /// The copy that the table is read from.
    pub(super) active: GptCopy,
    /// True if that is the primary copy.
    pub(super) primary_whole: bool,
    /// The header at LBA 1. It is present although the copy is not active if only its array is
    /// damaged.
    pub(super) primary_header: Option<GptHeader>,
    /// The backup copy, if it is intact and agrees with the active one.
    pub(super) backup: Option<GptCopy>,
    /// True if LBA 0 has entries for partitions beside the protective entry.
    pub(super) hybrid: bool,
}

/// Reads the GPT behind a protective MBR into `table`.
pub(super) fn read(
    disk: &Disk<'_>,
    hybrid: bool,
    table: &mut PartitionTable,
) -> Result<(), TableError> {
    let disk_last = disk.sectors.saturating_sub(1);
    let (primary_header, primary) = GptCopy::read(disk, PRIMARY_LBA);
    // The backup is at the position in the primary header, or else at its regular place at the end
    // of the disk.
    let named = primary_header
        .as_ref()
        .map_or(disk_last, |header| header.alternate);
    let (_, mut backup) = GptCopy::read(disk, named);
    if backup.is_err()
        && named != disk_last
        && let (_, Ok(found)) = GptCopy::read(disk, disk_last)
    {
        table.warnings.push(format!(
            "the primary GPT header names LBA {named} for the backup, which is at LBA {disk_last}"
        ));
        backup = Ok(found);
    }
    let (active, primary_whole) = match (primary, &backup) {
        (Ok(primary), _) => (primary, true),
        (Err(fault), Ok(copy)) => {
            table.warnings.push(format!(
                "the primary GPT is damaged ({fault}): the backup at LBA {} was used",
                copy.header.lba
            ));
            (copy.clone(), false)
        }
        (Err(primary), Err(backup)) => {
            return Err(TableError::GptDamaged {
                primary,
                backup: backup.clone(),
            });
        }
    };
    table.disk_guid = Some(active.header.disk_guid);
    read_entries(disk, &active, table)?;

    check_regions(&table.partitions, &table.table_extents(), table.sector_size)?;
    let mut keeper = Keeper::new(disk, table);
    // LBA 1 belongs to the table even if its copy is damaged, because the commit writes it.
    keeper.require(PRIMARY_LBA, 1, Role::GptPrimaryHeader, table)?;
    if primary_whole {
        let (lba, sectors) = (active.header.array_lba, active.header.array_sectors());
        keeper.require(lba, sectors, Role::GptPrimaryArray, table)?;
        backup = backup.and_then(|copy| keeper.accept_backup(&active, copy, table));
    }
    match &backup {
        Ok(copy) => {
            let (lba, sectors) = (copy.header.array_lba, copy.header.array_sectors());
            keeper.require(lba, sectors, Role::GptBackupArray, table)?;
            keeper.require(copy.header.lba, 1, Role::GptBackupHeader, table)?;
        }
        Err(fault) => {
            table.warnings.push(format!(
                "the backup GPT is damaged or missing ({fault}): the primary was used"
            ));
            let sectors = active.header.array_sectors();
            let lba = named.min(disk_last);
            keeper.keep(lba, 1, Role::GptBackupHeader);
            keeper.keep(lba.saturating_sub(sectors), sectors, Role::GptBackupArray);
        }
    }
    if !primary_whole {
        let lba = primary_header
            .as_ref()
            .map_or(FIRST_ARRAY_LBA, |header| header.array_lba);
        keeper.keep(lba, active.header.array_sectors(), Role::GptPrimaryArray);
    }
    // An old header in the last sector, left from another disk size, must not become visible before
    // the commit.
    if has_signature(disk, disk_last) {
        keeper.keep(disk_last, 1, Role::Other);
    }
    table.regions.append(&mut keeper.regions);
    warn(&active, backup.as_ref().ok(), hybrid, disk, table);
    table.layout = Layout::Gpt(Box::new(GptLayout {
        active,
        primary_whole,
        primary_header,
        backup: backup.ok(),
        hybrid,
    }));
    Ok(())
}

/// Reads the partitions from an intact copy; their numbers are the positions of their entries.
fn read_entries(
    disk: &Disk<'_>,
    copy: &GptCopy,
    table: &mut PartitionTable,
) -> Result<(), TableError> {
    let mut claims = Vec::new();
    for (number, entry) in copy.header.entries(&copy.array) {
        let type_id = Guid(array_at(entry, TYPE_GUID));
        if type_id.is_zero() {
            continue;
        }
        let claim = Claim {
            number,
            first: u64_at(entry, FIRST_LBA),
            last: u64_at(entry, LAST_LBA),
        };
        claims.push(claim);
        let attributes = u64_at(entry, ATTRIBUTES);
        table.partitions.push(Partition {
            number,
            start: disk.offset(claim.first),
            // Reversed and overlong entries are refused below.
            length: disk.offset(claim.last.saturating_sub(claim.first).saturating_add(1)),
            type_id: TypeId::Gpt(type_id),
            unique: Some(Guid(array_at(entry, UNIQUE_GUID))),
            name: name(entry),
            attributes,
            bootable: attributes & LEGACY_BOOTABLE != 0,
            kind: PartitionKind::Primary,
        });
    }
    check_claims(claims, disk)
}

/// Name of an entry: UTF-16 up to the first zero. A lone surrogate becomes U+FFFD here; the raw
/// bytes stay.
fn name(entry: &[u8]) -> Option<String> {
    let units = (0..NAME_UNITS)
        .map(|unit| u16::from_le_bytes(array_at(entry, NAME + 2 * unit)))
        .take_while(|unit| *unit != 0);
    let name: String = char::decode_utf16(units)
        .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    (!name.is_empty()).then_some(name)
}

/// Adds warnings about unusual but valid properties of the table.
fn warn(
    active: &GptCopy,
    backup: Option<&GptCopy>,
    hybrid: bool,
    disk: &Disk<'_>,
    table: &mut PartitionTable,
) {
    let disk_last = disk.sectors.saturating_sub(1);
    let header = &active.header;
    if let Some(backup) = backup {
        if backup.header.lba != disk_last {
            table.warnings.push(format!(
                "the backup GPT is at LBA {}, the disk's last LBA is {disk_last}: the table was made for a smaller disk",
                backup.header.lba
            ));
        }
        if backup.header.alternate != PRIMARY_LBA {
            table.warnings.push(format!(
                "the backup GPT header names LBA {} for the primary",
                backup.header.alternate
            ));
        }
    }
    if header.last_usable > disk_last {
        table.warnings.push(format!(
            "the last usable LBA is {}, the disk's last LBA is {disk_last}: the table was made for a larger disk",
            header.last_usable
        ));
    }
    if header.lba == PRIMARY_LBA
        && header.array_lba.saturating_add(header.array_sectors()) > header.first_usable
    {
        table.warnings.push(format!(
            "the first usable LBA {} is inside the entry array",
            header.first_usable
        ));
    }
    let usable =
        disk.offset(header.first_usable)..disk.offset(header.last_usable.saturating_add(1));
    for partition in &table.partitions {
        if partition.start < usable.start || partition.end() > usable.end {
            table.warnings.push(format!(
                "partition {} lies outside the usable range, LBA {}..={}",
                partition.number, header.first_usable, header.last_usable
            ));
        }
    }
    if hybrid {
        table.warnings.push(
            "hybrid MBR: LBA 0 mirrors partitions; they are kept, and no partition can grow"
                .to_owned(),
        );
    }
}

/// Collects raw sectors, each once, and none inside a partition.
struct Keeper<'a> {
    disk: &'a Disk<'a>,
    claimed: ExtentSet,
    kept: ExtentSet,
    regions: Vec<Region>,
}

impl<'a> Keeper<'a> {
    fn new(disk: &'a Disk<'a>, table: &PartitionTable) -> Self {
        Self {
            disk,
            claimed: table.partitions.iter().map(Partition::range).collect(),
            kept: table.regions.iter().map(Region::range).collect(),
            regions: Vec::new(),
        }
    }

    /// Keeps sectors that the table needs. An unreadable LBA 1 of a damaged copy is left out.
    fn require(
        &mut self,
        lba: u64,
        sectors: u64,
        role: Role,
        table: &PartitionTable,
    ) -> Result<(), TableError> {
        let range = self.disk.offset(lba)..self.disk.offset(lba.saturating_add(sectors));
        let length = range.end - range.start;
        check_regions(
            &table.partitions,
            &ExtentSet::from(range.clone()),
            table.sector_size,
        )?;
        if self.kept.intersects(range.clone()) {
            return Err(TableError::BadRegion {
                offset: range.start,
                length,
                disk_size: table.disk_size,
            });
        }
        self.keep(lba, sectors, role);
        Ok(())
    }

    /// Keeps sectors if they are readable and not claimed by anything else.
    fn keep(&mut self, lba: u64, sectors: u64, role: Role) {
        let range = self.disk.offset(lba)..self.disk.offset(lba.saturating_add(sectors));
        if self.claimed.intersects(range.clone()) || self.kept.intersects(range.clone()) {
            return;
        }
        if let Ok(bytes) = self.disk.read(lba, sectors) {
            self.kept.insert(range.clone());
            self.regions.push(Region {
                offset: range.start,
                bytes,
                role,
            });
        }
    }

    /// Accepts the backup beside an intact primary if it has the same content in sectors of its
    /// own.
    fn accept_backup(
        &self,
        primary: &GptCopy,
        backup: GptCopy,
        table: &PartitionTable,
    ) -> Result<GptCopy, GptFault> {
        if let Some(what) = primary.difference(&backup) {
            return Err(GptFault::Differs { what });
        }
        for (lba, sectors) in backup.places() {
            let range = self.disk.offset(lba)..self.disk.offset(lba.saturating_add(sectors));
            if self.kept.intersects(range.clone()) {
                return Err(GptFault::Differs {
                    what: "place: it shares sectors with the primary",
                });
            }
            let owner = table
                .partitions
                .iter()
                .find(|partition| partition.start < range.end && range.start < partition.end());
            if let Some(owner) = owner {
                return Err(GptFault::Covered {
                    number: owner.number,
                });
            }
        }
        Ok(backup)
    }
}
