//! Checks of one partition's content that replaces a partition of another disk, whose table stays.

use crate::table::{Grow, Partition};

/// Reason why a partition of an image does not fit onto a partition of a disk.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OntoError {
    /// The disk has no such partition.
    #[error("it has no partition {onto}")]
    Missing {
        /// Number of the disk's partition.
        onto: u32,
    },
    /// The disk's partition is smaller than the image's.
    #[error("partition {onto} has {length} bytes, partition {number} of the image {needed}")]
    TooSmall {
        /// Number of the disk's partition.
        onto: u32,
        /// Its length in bytes.
        length: u64,
        /// Number of the image's partition.
        number: u32,
        /// Its length in bytes.
        needed: u64,
    },
    /// A partition other than the image's is to grow.
    #[error(
        "partition {other} cannot grow: it is partition {number} of the image that goes onto the disk"
    )]
    OtherGrows {
        /// Number of the partition that is to grow.
        other: u32,
        /// Number of the image's partition.
        number: u32,
    },
    /// The file system does not work with the disk's sectors.
    #[error("{content} was made for sectors of {image} bytes, the disk has sectors of {disk}")]
    Sectors {
        /// File system, or a phrase for unknown content.
        content: String,
        /// Sector size of the image in bytes.
        image: u32,
        /// Sector size of the disk in bytes.
        disk: u32,
    },
}

/// Checks that partition `source` of an image fits onto partition `onto` of a disk, whose length in
/// bytes is `length`; `None` if the disk has no such partition.
///
/// # Errors
/// [`OntoError`] if it does not.
pub fn refuse_onto(
    source: &Partition,
    onto: u32,
    grow: Option<Grow>,
    length: Option<u64>,
) -> Result<(), OntoError> {
    let length = length.ok_or(OntoError::Missing { onto })?;
    let number = source.number;
    if length < source.length {
        return Err(OntoError::TooSmall {
            onto,
            length,
            number,
            needed: source.length,
        });
    }
    match grow {
        Some(Grow::Number(other)) if other != number => {
            Err(OntoError::OtherGrows { other, number })
        }
        _ => Ok(()),
    }
}

/// Checks that the content of a partition works on a disk with another sector size. A file system
/// that counts in sectors, or has blocks smaller than one, cannot be mounted there. Unknown content
/// is refused too.
///
/// `fs` is the kind of the file system and its block size in bytes.
///
/// # Errors
/// [`OntoError::Sectors`] if it does not work.
pub fn refuse_sectors(fs: Option<(&str, u32)>, image: u32, disk: u32) -> Result<(), OntoError> {
    let works = match fs {
        _ if image == disk => true,
        Some(("ext2" | "ext3" | "ext4" | "swap", block)) => block >= disk,
        // Its blocks have 4096 bytes at least.
        Some(("btrfs", _)) => true,
        _ => false,
    };
    if works {
        return Ok(());
    }
    Err(OntoError::Sectors {
        content: fs.map_or("what it holds", |(kind, _)| kind).to_owned(),
        image,
        disk,
    })
}
