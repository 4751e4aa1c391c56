//! Partition tables: what they say, the raw sectors they came from, and how to put them on a target.
//!
//! ```text
//!   master disk --read_table--> PartitionTable --regions--> TABLE record of the image
//!   TABLE record --table_from_regions--> PartitionTable --plan_commit--> CommitPlan --> target disk
//!                                          |      ^
//!                                          +-keep-+  only some of the partitions
//! ```
//!
//! Owns the model and the decision which table a disk has: the protective entry of LBA 0 makes it
//! GPT, other used entries MBR, anything else none; a GPT in which no entry is used is none either. Never writes and never repairs by guessing: a
//! partition that leaves the disk, overlaps another or covers the table itself is an error, never
//! clamped, because a clamped partition is a silently shortened file system.
//!
//! Always holds for a [`PartitionTable`]: regions are whole sectors, ascending, disjoint, inside the
//! disk, and no partition other than an extended container shares a byte with them; the first
//! region is LBA 0. No call here panics, whatever the bytes are.

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
pub use keep::KeepError;
pub use patch::{CommitPlan, Grow, PatchError, is_dynamic, plan_commit};
pub use sectors::other_sector_size;

use crate::ExtentSet;
use crate::guid::Guid;
use device::{Disk, SparseDisk};

/// Largest number of a partition: a GPT of 8192 entries is the largest that is read, and logical partitions of an MBR are fewer.
pub const PARTITIONS_MAX: u32 = 8192;

/// Which table a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// No table, or an empty one: blank, or one thing on the whole disk.
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

/// What a run of table sectors is for; decides when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The first sector: MBR, protective MBR or boot sector. Written last of all.
    Lba0,
    /// The sector at LBA 1.
    GptPrimaryHeader,
    /// The entry array that the primary header names.
    GptPrimaryArray,
    /// The entry array that the backup header names.
    GptBackupArray,
    /// The backup header, where it really is.
    GptBackupHeader,
    /// An extended boot record.
    Ebr,
    /// Kept raw because it looks like a table, though it has no part in this one (a GPT header that a
    /// smaller or larger disk left at the end).
    Other,
}

/// A run of raw table sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Byte position on the disk.
    pub offset: u64,
    /// Whole sectors, as they were read.
    pub bytes: Vec<u8>,
    /// What they are for.
    pub role: Role,
}

impl Region {
    /// The bytes of the disk that the region holds.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.bytes.len() as u64)
    }
}

/// What a partition says it holds.
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

/// Where a partition's entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionKind {
    /// A GPT entry, or one of the four in LBA 0.
    Primary,
    /// The container of logical partitions; its bytes belong to them, to EBRs and to gaps.
    Extended,
    /// An entry of an extended boot record.
    Logical,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Number as Linux gives it: GPT entry index + 1; MBR slots 1 to 4, logical from 5 in chain order.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// What it says it holds.
    pub type_id: TypeId,
    /// Unique GUID (GPT only).
    pub unique: Option<Guid>,
    /// Name (GPT only); absent when empty.
    pub name: Option<String>,
    /// GPT attribute bits; zero for MBR.
    pub attributes: u64,
    /// MBR active flag, or the GPT attribute "legacy BIOS bootable".
    pub bootable: bool,
    /// Where the entry lives.
    pub kind: PartitionKind,
}

impl Partition {
    /// First byte behind the partition.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    /// The bytes of the disk it claims.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.start..self.end()
    }

    /// Whether it is a container of logical partitions rather than a holder of data.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.kind == PartitionKind::Extended
    }
}

/// A partition table with the raw sectors it came from.
#[derive(Clone, Debug)]
pub struct PartitionTable {
    /// Which table the disk has.
    pub kind: TableKind,
    /// Bytes a logical sector.
    pub sector_size: u32,
    /// Bytes of the disk it was read from.
    pub disk_size: u64,
    /// By number.
    pub partitions: Vec<Partition>,
    /// By position.
    pub regions: Vec<Region>,
    /// What a technician should know, in sentences.
    pub warnings: Vec<String>,
    /// GUID of the disk (GPT).
    pub disk_guid: Option<Guid>,
    /// Disk signature of LBA 0 (MBR): what Windows boot data refers to.
    pub disk_signature: Option<u32>,
    /// Where each entry came from, for the patcher.
    layout: Layout,
    /// Places of table sectors that went with partitions which were left out: no table any more, never
    /// written, but blanked like one. Empty for a table that was read.
    vacated: ExtentSet,
}

/// What the patcher must know beyond the public model.
#[derive(Clone, Debug)]
enum Layout {
    None,
    Mbr(mbr::MbrLayout),
    Gpt(Box<gpt::GptLayout>),
}

impl PartitionTable {
    /// No table: LBA 0 and nothing else.
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

    /// Every byte that the table's own sectors hold: these are zero in chunk content, and written last.
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

    /// Makes it a disk without a table. Its sectors stay, so that reading them again ends here again.
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

    /// Whole sectors of the disk.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.disk_size / u64::from(self.sector_size.max(1))
    }
}

/// Reads the partition table of a disk of `disk_size` bytes with `sector_size`-byte logical sectors.
///
/// # Errors
/// LBA 0 is unreadable, both GPT copies are damaged, or a partition or an EBR link is impossible.
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

/// A disk that is taken as one stretch of bytes, whatever its first sector says: no table, and LBA 0 the only
/// sector that is held back.
///
/// # Errors
/// LBA 0 is unreadable, or there is none.
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

/// Makes the table of a disk without one, like [`without_table`], from the raw sectors that an image holds.
///
/// # Errors
/// Sectors that leave the disk or overlap; no LBA 0 among them.
pub fn without_table_from_regions<'a>(
    regions: impl IntoIterator<Item = (u64, &'a [u8])>,
    disk_size: u64,
    sector_size: u32,
) -> Result<PartitionTable, TableError> {
    from_regions(regions, disk_size, sector_size, without_table)
}

/// Reads the partition table out of the raw sectors that an image holds.
///
/// The sectors become a disk that is zero elsewhere and goes through [`read_table`], so an agent sees
/// exactly what the capture saw. Sectors that have no part in the table are kept as [`Role::Other`].
///
/// # Errors
/// As [`read_table`]; sectors that leave the disk or overlap; sectors the table needs and the image
/// lacks (chunk content is zero there, so a commit without them would lose them).
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

/// Adds the known sectors that have no part in the table which was read from them.
fn add_spares(table: &mut PartitionTable, known: &SparseDisk) -> Result<(), TableError> {
    let given: ExtentSet = known.ranges().collect();
    for spare in given.subtract(&table.table_extents()) {
        let length = spare.end - spare.start;
        // Runs of `known` are bytes the caller handed over, so the allocation is one they already made.
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

/// A claim of one partition on sectors, for the checks both kinds of table share.
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
