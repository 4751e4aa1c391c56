//! Detection of the sector size for which a disk's content was made.
//!
//! A file with a copy of a disk does not record the sector size, and a USB adapter may present a
//! disk with another sector size than the one it was partitioned with. Every position in a table is
//! counted in sectors: with the wrong size, a partition is searched for at an eighth of its real
//! position.
//!
//! Owns the evidence: GPT headers, and known contents at the positions of the MBR's entries. Never
//! guesses: it names another size only with evidence for it and without evidence for the assumed
//! one.

use std::io;

use positioned_io::ReadAt;

use super::device::Disk;
use super::gpt_copy::{GptCopy, PRIMARY_LBA};
use super::read_table;
use crate::usedmap::{Window, kinds};

/// The sector sizes of real disks, in bytes.
const SIZES: [u32; 2] = [512, 4096];

/// Evidence on the disk that a sector size is the right one.
#[derive(Debug, PartialEq, Eq)]
struct Evidence {
    /// True if an intact GPT header is at one of its regular places.
    gpt: bool,
    /// Number of partitions with known content; not counted if there is a GPT header.
    volumes: usize,
}

impl Evidence {
    fn of(dev: &dyn ReadAt, disk_size: u64, sector_size: u32) -> io::Result<Self> {
        let mut evidence = Self {
            gpt: false,
            volumes: 0,
        };
        let Ok(disk) = Disk::new(dev, disk_size, sector_size) else {
            return Ok(evidence);
        };
        evidence.gpt = [PRIMARY_LBA, disk.sectors.saturating_sub(1)]
            .iter()
            .any(|lba| GptCopy::read(&disk, *lba).0.is_some());
        if evidence.gpt {
            return Ok(evidence);
        }
        let table = read_table(dev, disk_size, sector_size);
        for partition in table.iter().flat_map(|table| &table.partitions) {
            let window = Window::new(dev, partition.start, partition.length);
            if !partition.is_extended() && !kinds(&window, partition.length)?.is_empty() {
                evidence.volumes = evidence.volumes.saturating_add(1);
            }
        }
        Ok(evidence)
    }
}

/// The sector size that the disk's content was made for, if it is not `assumed`; `None` otherwise.
///
/// # Errors
/// Only if the device cannot be read.
pub fn other_sector_size(
    dev: &dyn ReadAt,
    disk_size: u64,
    assumed: u32,
) -> io::Result<Option<u32>> {
    let own = Evidence::of(dev, disk_size, assumed)?;
    if own.gpt {
        return Ok(None);
    }
    for size in SIZES.into_iter().filter(|size| *size != assumed) {
        let other = Evidence::of(dev, disk_size, size)?;
        if other.gpt || (own.volumes == 0 && other.volumes > 0) {
            return Ok(Some(size));
        }
    }
    Ok(None)
}
