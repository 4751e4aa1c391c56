//! Which sector size a disk's own content speaks of.
//!
//! A file that holds a copy of a disk does not say how large the sectors were, and an adapter may show a disk
//! with other sectors than the one it was partitioned behind. Every position in a table is counted in sectors:
//! with the wrong size a partition is looked for at an eighth of its place.
//!
//! Owns the evidence: GPT headers, and contents found where the entries of an MBR point. Never guesses: without
//! evidence for another size, and none for the one assumed, there is no answer.

use std::io;

use positioned_io::ReadAt;

use super::device::Disk;
use super::gpt_copy::{GptCopy, PRIMARY_LBA};
use super::read_table;
use crate::usedmap::{Window, kinds};

/// Sector sizes that disks have.
const SIZES: [u32; 2] = [512, 4096];

/// Evidence on the disk that a sector size is the right one.
#[derive(Debug, PartialEq, Eq)]
struct Evidence {
    /// A GPT header is where it belongs, and sound.
    gpt: bool,
    /// Partitions whose content is known; not counted where a GPT header speaks.
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

/// The sector size a disk's content speaks of, when that is not `assumed`.
///
/// # Errors
/// Only for a device that cannot be read.
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
