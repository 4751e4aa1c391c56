//! The errors of partition tables, with the numbers that a technician needs.

use std::io;

/// A partition table that cannot be read or must not be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The device returned an error.
    #[error("reading the partition table at byte {offset}")]
    Io {
        /// Byte position of the read.
        offset: u64,
        /// The device's error.
        source: io::Error,
    },
    /// The sector size is not 512, 1024, 2048 or 4096.
    #[error("sector size {sector_size} is not supported")]
    SectorSize {
        /// Sector size in bytes.
        sector_size: u32,
    },
    /// The disk has less than one sector.
    #[error("disk of {disk_size} bytes is smaller than one sector of {sector_size}")]
    DiskTooSmall {
        /// Size of the disk in bytes.
        disk_size: u64,
        /// Sector size in bytes.
        sector_size: u32,
    },
    /// The disk has a protective MBR, but neither copy of the GPT is usable.
    #[error("both GPT copies are damaged: primary: {primary}; backup: {backup}")]
    GptDamaged {
        /// The fault of the copy at LBA 1.
        primary: GptFault,
        /// The fault of the copy at the end of the disk.
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
        /// Number of the partition that starts first.
        first: u32,
        /// Number of the partition that starts inside it.
        second: u32,
        /// First shared LBA.
        lba: u64,
    },
    /// A partition contains sectors of the table itself.
    #[error("partition {number} covers the partition table's own sector at LBA {lba}")]
    CoversTable {
        /// Partition number.
        number: u32,
        /// First table LBA inside the partition.
        lba: u64,
    },
    /// The chain of extended boot records returns to an earlier sector.
    #[error("the chain of logical partitions returns to LBA {lba} after {links} links")]
    EbrCycle {
        /// The LBA that appears twice in the chain.
        lba: u64,
        /// Number of links followed before that.
        links: usize,
    },
    /// A link points outside the extended partition.
    #[error(
        "the chain of logical partitions leads to LBA {lba}, outside the extended partition {first}..={last}"
    )]
    EbrOutside {
        /// LBA that the link points to.
        lba: u64,
        /// First LBA of the extended partition.
        first: u64,
        /// Last LBA of the extended partition.
        last: u64,
    },
    /// The chain has more links than any system numbers.
    #[error("the chain of logical partitions has more than {limit} links")]
    EbrTooMany {
        /// Largest number of links.
        limit: usize,
    },
    /// A table sector of an image is empty, leaves the disk or overlaps another one.
    #[error(
        "table sectors at byte {offset}, {length} bytes, do not fit the disk of {disk_size} bytes or each other"
    )]
    BadRegion {
        /// Byte position of the sectors.
        offset: u64,
        /// Length of the sectors in bytes.
        length: u64,
        /// Size of the disk in bytes.
        disk_size: u64,
    },
    /// The table uses sectors that the image does not hold.
    #[error("the image lacks the table sectors at byte {offset}, {length} bytes")]
    MissingRegion {
        /// Byte position of the sectors.
        offset: u64,
        /// Length of the sectors in bytes.
        length: u64,
    },
}

/// The fault of one copy of a GPT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GptFault {
    /// The copy's sectors cannot be read.
    #[error("LBA {lba} is unreadable: {reason}")]
    Unreadable {
        /// First LBA of the read.
        lba: u64,
        /// The device's error.
        reason: String,
    },
    /// The position given for the copy is beyond the end of the disk.
    #[error("LBA {lba} is past the disk's last LBA {disk_last}")]
    OutsideDisk {
        /// LBA given for the copy.
        lba: u64,
        /// Last LBA of the disk.
        disk_last: u64,
    },
    /// The sector does not begin with `EFI PART`.
    #[error("no GPT signature at LBA {lba}")]
    Signature {
        /// LBA that was read.
        lba: u64,
    },
    /// The header size is below 92 or above one sector.
    #[error("header size {size} is not 92..={sector_size}")]
    HeaderSize {
        /// Header size in the header, in bytes.
        size: u32,
        /// Sector size in bytes.
        sector_size: u32,
    },
    /// The header's checksum does not match.
    #[error("header checksum at LBA {lba} is {computed:08x}, should be {stored:08x}")]
    HeaderCrc {
        /// LBA of the header.
        lba: u64,
        /// Checksum in the header.
        stored: u32,
        /// Checksum computed from the header's bytes.
        computed: u32,
    },
    /// The header gives another LBA as its own.
    #[error("header at LBA {lba} says it is at LBA {says}")]
    WrongPlace {
        /// LBA at which the header was found.
        lba: u64,
        /// LBA given in the header.
        says: u64,
    },
    /// The entry size is not 128 times a power of two, or the array is larger than 1 MiB.
    #[error("array of {count} entries of {size} bytes is not supported")]
    ArrayShape {
        /// Number of entries.
        count: u32,
        /// Entry size in bytes.
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
        /// Checksum in the header.
        stored: u32,
        /// Checksum computed from the array's bytes.
        computed: u32,
    },
    /// The copy is intact but differs from the primary copy.
    #[error("it differs from the primary copy in its {what}")]
    Differs {
        /// Name of the first field that differs.
        what: &'static str,
    },
    /// The copy is intact, but a partition of the primary copy covers it.
    #[error("partition {number} covers its sectors")]
    Covered {
        /// Partition number.
        number: u32,
    },
}
