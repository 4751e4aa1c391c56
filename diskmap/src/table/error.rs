//! What can be wrong with a partition table, with the numbers a technician needs.

use std::io;

/// A partition table cannot be read, or says something that must not be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The device failed.
    #[error("reading the partition table at byte {offset}")]
    Io {
        /// Byte position of the read.
        offset: u64,
        /// What the device said.
        source: io::Error,
    },
    /// Not 512, 1024, 2048 or 4096.
    #[error("sector size {sector_size} is not supported")]
    SectorSize {
        /// Bytes a sector.
        sector_size: u32,
    },
    /// Not even one sector.
    #[error("disk of {disk_size} bytes is smaller than one sector of {sector_size}")]
    DiskTooSmall {
        /// Bytes of the disk.
        disk_size: u64,
        /// Bytes a sector.
        sector_size: u32,
    },
    /// A protective MBR announces a GPT, and neither copy is usable.
    #[error("both GPT copies are damaged: primary: {primary}; backup: {backup}")]
    GptDamaged {
        /// What is wrong with the copy at LBA 1.
        primary: GptFault,
        /// What is wrong with the copy at the end.
        backup: GptFault,
    },
    /// A partition ends before it starts.
    #[error("partition {number} runs backwards: first LBA {first}, last LBA {last}")]
    Backwards {
        /// Partition number.
        number: u32,
        /// First LBA of the entry.
        first: u64,
        /// Last LBA of the entry.
        last: u64,
    },
    /// A partition leaves the disk.
    #[error("partition {number} ends at LBA {last}, but the disk's last LBA is {disk_last}")]
    PastEnd {
        /// Partition number.
        number: u32,
        /// Last LBA of the partition.
        last: u64,
        /// Last LBA of the disk.
        disk_last: u64,
    },
    /// Two partitions claim the same sectors.
    #[error("partitions {first} and {second} overlap at LBA {lba}")]
    Overlap {
        /// The one that starts first.
        first: u32,
        /// The one that starts inside it.
        second: u32,
        /// First shared LBA.
        lba: u64,
    },
    /// A partition claims sectors that hold the table itself.
    #[error("partition {number} covers the partition table's own sector at LBA {lba}")]
    CoversTable {
        /// Partition number.
        number: u32,
        /// First table LBA inside the partition.
        lba: u64,
    },
    /// The chain of extended boot records returns to a sector it has been to.
    #[error("the chain of logical partitions returns to LBA {lba} after {links} links")]
    EbrCycle {
        /// The LBA met twice.
        lba: u64,
        /// Links followed so far.
        links: usize,
    },
    /// A link leads out of the extended partition.
    #[error(
        "the chain of logical partitions leads to LBA {lba}, outside the extended partition {first}..={last}"
    )]
    EbrOutside {
        /// Where the link leads.
        lba: u64,
        /// First LBA of the extended partition.
        first: u64,
        /// Last LBA of the extended partition.
        last: u64,
    },
    /// More links than any system numbers.
    #[error("the chain of logical partitions has more than {limit} links")]
    EbrTooMany {
        /// The limit.
        limit: usize,
    },
    /// A table sector of an image is empty, leaves the disk or overlaps another one.
    #[error(
        "table sectors at byte {offset}, {length} bytes, do not fit the disk of {disk_size} bytes or each other"
    )]
    BadRegion {
        /// Byte position.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Bytes of the disk.
        disk_size: u64,
    },
    /// The table refers to sectors that the image does not hold.
    #[error("the image lacks the table sectors at byte {offset}, {length} bytes")]
    MissingRegion {
        /// Byte position.
        offset: u64,
        /// Bytes.
        length: u64,
    },
}

/// What is wrong with one copy of a GPT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GptFault {
    /// The copy's sectors cannot be read.
    #[error("LBA {lba} is unreadable: {reason}")]
    Unreadable {
        /// First LBA of the read.
        lba: u64,
        /// What the device said.
        reason: String,
    },
    /// The copy is said to be beyond the end of the disk.
    #[error("LBA {lba} is past the disk's last LBA {disk_last}")]
    OutsideDisk {
        /// Where it is said to be.
        lba: u64,
        /// Last LBA of the disk.
        disk_last: u64,
    },
    /// No `EFI PART` at the start of the sector.
    #[error("no GPT signature at LBA {lba}")]
    Signature {
        /// The LBA looked at.
        lba: u64,
    },
    /// Header size below 92 or above a sector.
    #[error("header size {size} is not 92..={sector_size}")]
    HeaderSize {
        /// What the header says.
        size: u32,
        /// Bytes a sector.
        sector_size: u32,
    },
    /// The header's checksum does not match.
    #[error("header checksum at LBA {lba} is {computed:08x}, should be {stored:08x}")]
    HeaderCrc {
        /// LBA of the header.
        lba: u64,
        /// What the header says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// The header names another sector as its own.
    #[error("header at LBA {lba} says it is at LBA {says}")]
    WrongPlace {
        /// Where it was found.
        lba: u64,
        /// Where it says it is.
        says: u64,
    },
    /// Entry size not 128 times a power of two, or the array above a mebibyte.
    #[error("array of {count} entries of {size} bytes is not supported")]
    ArrayShape {
        /// Number of entries.
        count: u32,
        /// Bytes an entry.
        size: u32,
    },
    /// The array covers the header or the first two sectors, or leaves the disk.
    #[error("array at LBA {lba}, {sectors} sectors, is not a possible place")]
    ArrayPlace {
        /// First LBA of the array.
        lba: u64,
        /// Sectors of the array.
        sectors: u64,
    },
    /// The first usable LBA is behind the last one.
    #[error("usable range {first}..={last} is empty")]
    Usable {
        /// First usable LBA.
        first: u64,
        /// Last usable LBA.
        last: u64,
    },
    /// The array's checksum does not match.
    #[error("array checksum at LBA {lba} is {computed:08x}, should be {stored:08x}")]
    ArrayCrc {
        /// First LBA of the array.
        lba: u64,
        /// What the header says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Whole, but not what the primary copy says.
    #[error("it differs from the primary copy in its {what}")]
    Differs {
        /// The first field that differs.
        what: &'static str,
    },
    /// Whole, but a partition of the primary copy covers it.
    #[error("partition {number} covers its sectors")]
    Covered {
        /// Partition number.
        number: u32,
    },
}
