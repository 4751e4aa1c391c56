//! Partition tables: their contents, the raw sectors they came from, and the plan to put them on a
//! target.
//!
//! ```text
//!   master disk --read_table--> PartitionTable --regions--> TABLE record of the image
//!   TABLE record --table_from_regions--> PartitionTable --plan_commit--> CommitPlan --> target disk
//!                                          |      ^
//!                                          +-keep-+  only some of the partitions
//! ```
//!
//! Owns the model and the decision on the kind of table: a protective entry in LBA 0 makes it GPT,
//! other used entries make it MBR, anything else means no table. A GPT without used entries means
//! no table too. Never writes and never repairs by guessing: a partition that leaves the disk,
//! overlaps another or covers the table itself is an error. It is never shortened, because that
//! would silently shorten its file system.
//!
//! Always holds for a [`PartitionTable`]: regions are whole sectors, ascending, disjoint, inside
//! the disk, and no partition other than an extended container shares a byte with them; the first
//! region is LBA 0. No function panics, whatever the bytes are.

mod bytes;
mod cross_check;
mod device;
mod error;
mod gpt;
mod gpt_copy;
mod keep;
mod mbr;
mod patch;
mod sectors;
mod starting;

use std::fmt;
use std::ops::Range;

use positioned_io::ReadAt;
use serde::Serialize;

pub use cross_check::cross_check;
pub use error::{GptFault, TableError};
pub use facts::order::Grow;
pub use keep::KeepError;
pub use patch::{CommitPlan, PatchError, is_dynamic, plan_commit};
pub use sectors::other_sector_size;

use crate::ExtentSet;
use crate::guid::Guid;
use device::{Disk, SparseDisk};

/// Largest number of a partition: the largest GPT that is read has 8192 entries, and an MBR has
/// fewer logical partitions.
pub const PARTITIONS_MAX: u32 = 8192;

/// The kind of partition table of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// No table, or an empty one: the disk is blank or used as a whole.
    None,
    /// Four primary entries in LBA 0, logical partitions in a chain of extended boot records.
    Mbr,
    /// GUID partition table behind a protective (or hybrid) MBR.
    Gpt,
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Mbr => "mbr",
            Self::Gpt => "gpt",
        })
    }
}

/// The purpose of a range of table sectors. It determines the order of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The first sector: MBR, protective MBR or boot sector. Written last of all.
    Lba0,
    /// The sector at LBA 1.
    GptPrimaryHeader,
    /// The entry array of the primary header.
    GptPrimaryArray,
    /// The entry array of the backup header.
    GptBackupArray,
    /// The backup header, at its real position.
    GptBackupHeader,
    /// An extended boot record.
    Ebr,
    /// Sectors that are kept because they look like a table but do not belong to this one, such as
    /// a GPT header at the end left from a smaller or larger disk.
    Other,
}

/// A range of raw table sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Byte position on the disk.
    pub offset: u64,
    /// The bytes of whole sectors, unchanged.
    pub bytes: Vec<u8>,
    /// Purpose of the sectors.
    pub role: Role,
}

impl Region {
    /// The range of disk bytes that the region holds.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.bytes.len() as u64)
    }
}

/// The type of a partition as stored in its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TypeId {
    /// GPT partition type.
    Gpt(Guid),
    /// MBR system id.
    Mbr(u8),
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpt(guid) => write!(f, "{guid}"),
            Self::Mbr(id) => write!(f, "0x{id:02x}"),
        }
    }
}

impl Serialize for TypeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The kind of entry that a partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionKind {
    /// A GPT entry, or one of the four in LBA 0.
    Primary,
    /// A container of logical partitions; its bytes belong to them, to EBRs and to gaps.
    Extended,
    /// An entry of an extended boot record.
    Logical,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Number as in Linux: GPT entry index + 1; for MBR the slots are 1 to 4, logical partitions
    /// count from 5 in chain order.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// Type in the entry.
    pub type_id: TypeId,
    /// Unique GUID (GPT only).
    pub unique: Option<Guid>,
    /// Name (GPT only); absent when empty.
    pub name: Option<String>,
    /// GPT attribute bits; zero for MBR.
    pub attributes: u64,
    /// MBR active flag, or the GPT attribute "legacy BIOS bootable".
    pub bootable: bool,
    /// Kind of the entry.
    pub kind: PartitionKind,
}

impl Partition {
    /// First byte behind the partition.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    /// The range of disk bytes that the partition covers.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.start..self.end()
    }

    /// True if the partition is a container of logical partitions and holds no data itself.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.kind == PartitionKind::Extended
    }
}

/// A partition table with the raw sectors it came from.
#[derive(Clone, Debug)]
pub struct PartitionTable {
    /// Kind of table on the disk.
    pub kind: TableKind,
    /// Size of a logical sector in bytes.
    pub sector_size: u32,
    /// Size in bytes of the disk it was read from.
    pub disk_size: u64,
    /// The partitions, sorted by number.
    pub partitions: Vec<Partition>,
    /// The table's sectors, sorted by position.
    pub regions: Vec<Region>,
    /// Warnings for the technician, in sentences.
    pub warnings: Vec<String>,
    /// GUID of the disk (GPT).
    pub disk_guid: Option<Guid>,
    /// Disk signature in LBA 0 (MBR). Windows boot data refers to it.
    pub disk_signature: Option<u32>,
    /// Positions of the entries, for the patcher.
    layout: Layout,
    /// Former positions of table sectors whose partitions were left out. They are no longer part of
    /// the table and never written, but blanked like table sectors. Empty for a table that was
    /// read.
    vacated: ExtentSet,
}

/// The data that the patcher needs beyond the public model.
#[derive(Clone, Debug)]
enum Layout {
    None,
    Mbr(mbr::MbrLayout),
    Gpt(Box<gpt::GptLayout>),
}

impl PartitionTable {
    /// A disk without a table: LBA 0 and nothing else.
    fn none(disk: &Disk<'_>, disk_size: u64, lba0: Vec<u8>) -> Self {
        Self {
            kind: TableKind::None,
            sector_size: disk.sector_size,
            disk_size,
            partitions: Vec::new(),
            regions: vec![Region {
                offset: 0,
                bytes: lba0,
                role: Role::Lba0,
            }],
            warnings: Vec::new(),
            disk_guid: None,
            disk_signature: None,
            layout: Layout::None,
            vacated: ExtentSet::new(),
        }
    }

    /// The bytes of the table's own sectors. They are zero in chunk content, and written last.
    #[must_use]
    pub fn table_extents(&self) -> ExtentSet {
        self.regions.iter().map(Region::range).collect()
    }

    /// The partition with this number.
    #[must_use]
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions
            .iter()
            .find(|partition| partition.number == number)
    }

    /// Turns this into a disk without a table. Its sectors stay, so reading them again gives the
    /// same result.
    fn forget(&mut self, why: &str) {
        self.kind = TableKind::None;
        self.disk_guid = None;
        self.layout = Layout::None;
        self.warnings = vec![why.to_owned()];
        for region in &mut self.regions {
            if region.role != Role::Lba0 {
                region.role = Role::Other;
            }
        }
    }

    /// Number of whole sectors of the disk.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.disk_size / u64::from(self.sector_size.max(1))
    }
}

/// Reads the partition table of a disk of `disk_size` bytes with `sector_size`-byte logical sectors.
///
/// # Errors
/// [`TableError`] if LBA 0 is unreadable, both GPT copies are damaged, or a partition or an EBR
/// link is impossible.
pub fn read_table(
    dev: &dyn ReadAt,
    disk_size: u64,
    sector_size: u32,
) -> Result<PartitionTable, TableError> {
    let disk = Disk::new(dev, disk_size, sector_size)?;
    let lba0 = disk
        .read(0, 1)
        .map_err(|source| TableError::Io { offset: 0, source })?;
    let mut table = PartitionTable::none(&disk, disk_size, lba0.clone());
    match mbr::classify(&lba0, disk.sectors) {
        mbr::FirstSector::Other { why } => {
            table.warnings.extend(why);
            if gpt_copy::has_signature(&disk, gpt_copy::PRIMARY_LBA) {
                table.warnings.push(
                    "LBA 1 holds a GPT header but LBA 0 no protective MBR: taken as a disk without a table"
                        .to_owned(),
                );
            }
        }
        mbr::FirstSector::Mbr { warnings } => {
            table.kind = TableKind::Mbr;
            table.warnings.extend(warnings);
            mbr::read(&disk, &lba0, &mut table)?;
        }
        mbr::FirstSector::Protective { hybrid } => {
            table.kind = TableKind::Gpt;
            gpt::read(&disk, hybrid, &mut table)?;
        }
    }
    table.partitions.sort_by_key(|partition| partition.number);
    table.regions.sort_by_key(|region| region.offset);
    if table.kind == TableKind::Gpt && table.partitions.is_empty() {
        table.forget("the GPT is empty: taken as a disk without a table");
    }
    Ok(table)
}

/// Treats a disk as one range of bytes, whatever its first sector contains: no table, and LBA 0 as
/// the only sector that is written last.
///
/// # Errors
/// [`TableError`] if LBA 0 is unreadable or does not exist.
pub fn without_table(
    dev: &dyn ReadAt,
    disk_size: u64,
    sector_size: u32,
) -> Result<PartitionTable, TableError> {
    let disk = Disk::new(dev, disk_size, sector_size)?;
    let lba0 = disk
        .read(0, 1)
        .map_err(|source| TableError::Io { offset: 0, source })?;
    Ok(PartitionTable::none(&disk, disk_size, lba0))
}

/// Makes the table of a disk without one, like [`without_table`], from the raw sectors of an image.
///
/// # Errors
/// [`TableError`] if sectors leave the disk or overlap, or if LBA 0 is not among them.
pub fn without_table_from_regions<'a>(
    regions: impl IntoIterator<Item = (u64, &'a [u8])>,
    disk_size: u64,
    sector_size: u32,
) -> Result<PartitionTable, TableError> {
    from_regions(regions, disk_size, sector_size, without_table)
}

/// Reads the partition table from the raw sectors of an image.
///
/// The sectors form a disk that is zero elsewhere, which is read by [`read_table`], so an agent
/// sees exactly the same table as the capture. Sectors that do not belong to the table are kept as
/// [`Role::Other`].
///
/// # Errors
/// The errors of [`read_table`]; also if sectors leave the disk or overlap, or if the image lacks
/// sectors that the table needs (chunk content is zero there, so a commit without them would lose
/// them).
pub fn table_from_regions<'a>(
    regions: impl IntoIterator<Item = (u64, &'a [u8])>,
    disk_size: u64,
    sector_size: u32,
) -> Result<PartitionTable, TableError> {
    from_regions(regions, disk_size, sector_size, read_table)
}

fn from_regions<'a>(
    regions: impl IntoIterator<Item = (u64, &'a [u8])>,
    disk_size: u64,
    sector_size: u32,
    read: impl Fn(&dyn ReadAt, u64, u32) -> Result<PartitionTable, TableError>,
) -> Result<PartitionTable, TableError> {
    let mut known = SparseDisk::new(disk_size);
    for (offset, bytes) in regions {
        known.insert(offset, bytes.to_vec())?;
    }
    let mut table = read(&known, disk_size, sector_size)?;
    let given: ExtentSet = known.ranges().collect();
    for region in &table.regions {
        if !given.contains(region.range()) {
            return Err(TableError::MissingRegion {
                offset: region.offset,
                length: region.bytes.len() as u64,
            });
        }
    }
    add_spares(&mut table, &known)?;
    Ok(table)
}

/// Adds the known sectors that do not belong to the table read from them.
fn add_spares(table: &mut PartitionTable, known: &SparseDisk) -> Result<(), TableError> {
    let given: ExtentSet = known.ranges().collect();
    for spare in given.subtract(&table.table_extents()) {
        let length = spare.end - spare.start;
        // The runs of `known` are bytes supplied by the caller, so the allocation is no larger than
        // theirs.
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        known
            .read_exact_at(spare.start, &mut bytes)
            .map_err(|source| TableError::Io {
                offset: spare.start,
                source,
            })?;
        table.regions.push(Region {
            offset: spare.start,
            bytes,
            role: Role::Other,
        });
    }
    table.regions.sort_by_key(|region| region.offset);
    Ok(())
}

/// The sectors of one partition, for the checks shared by both kinds of table.
#[derive(Clone, Copy, Debug)]
struct Claim {
    number: u32,
    first: u64,
    last: u64,
}

/// Refuses partitions that leave the disk or share sectors. `claims` need not be sorted.
fn check_claims(mut claims: Vec<Claim>, disk: &Disk<'_>) -> Result<(), TableError> {
    let disk_last = disk.sectors.saturating_sub(1);
    for claim in &claims {
        if claim.last < claim.first {
            return Err(TableError::Backwards {
                number: claim.number,
                first: claim.first,
                last: claim.last,
            });
        }
        if claim.last > disk_last {
            return Err(TableError::PastEnd {
                number: claim.number,
                last: claim.last,
                disk_last,
            });
        }
    }
    claims.sort_by_key(|claim| (claim.first, claim.last));
    for pair in claims.windows(2) {
        if let [before, after] = pair
            && after.first <= before.last
        {
            return Err(TableError::Overlap {
                first: before.number,
                second: after.number,
                lba: after.first,
            });
        }
    }
    Ok(())
}

/// Refuses partitions that cover the table's own sectors.
fn check_regions(
    partitions: &[Partition],
    own: &ExtentSet,
    sector_size: u32,
) -> Result<(), TableError> {
    for partition in partitions
        .iter()
        .filter(|partition| !partition.is_extended())
    {
        if let Some(shared) = own.within(partition.range()).iter().next() {
            return Err(TableError::CoversTable {
                number: partition.number,
                lba: shared.start / u64::from(sector_size.max(1)),
            });
        }
    }
    Ok(())
}
