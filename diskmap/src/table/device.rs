//! Two kinds of disks: one read in whole sectors, and one that consists only of an image's table
//! sectors.
//!
//! Owns the bounds: no read leaves the disk, and no read allocates more than the device delivered
//! plus one piece. Never interprets a byte.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use positioned_io::ReadAt;

use super::TableError;

/// Step in bytes by which a read buffer grows, so a false length costs no more memory than was
/// really read.
const PIECE_BYTES: usize = 64 << 10;

/// A device of `sectors` whole sectors of `sector_size` bytes.
pub(super) struct Disk<'a> {
    dev: &'a dyn ReadAt,
    pub(super) sector_size: u32,
    pub(super) sectors: u64,
}

impl<'a> Disk<'a> {
    /// Wraps a device. A partial sector at the end of a file is ignored, as the kernel does.
    pub(super) fn new(
        dev: &'a dyn ReadAt,
        disk_size: u64,
        sector_size: u32,
    ) -> Result<Self, TableError> {
        if !(512..=4096).contains(&sector_size) || !sector_size.is_power_of_two() {
            return Err(TableError::SectorSize { sector_size });
        }
        let sectors = disk_size / u64::from(sector_size);
        if sectors == 0 {
            return Err(TableError::DiskTooSmall {
                disk_size,
                sector_size,
            });
        }
        Ok(Self {
            dev,
            sector_size,
            sectors,
        })
    }

    /// Byte position of a sector of the disk.
    pub(super) fn offset(&self, lba: u64) -> u64 {
        // A checked lba is at most `sectors`, which is at most u64::MAX / sector_size. For an
        // unchecked one the product saturates, so the position can only be too far away, never
        // wrapped to the front.
        lba.saturating_mul(u64::from(self.sector_size))
    }

    /// True if `count` sectors from `lba` on are all inside the disk.
    pub(super) fn holds(&self, lba: u64, count: u64) -> bool {
        lba.checked_add(count)
            .is_some_and(|end| end <= self.sectors)
    }

    /// Reads `count` sectors from `lba` on.
    ///
    /// # Errors
    /// `InvalidInput` if the range leaves the disk; otherwise the error of the device.
    pub(super) fn read(&self, lba: u64, count: u64) -> io::Result<Vec<u8>> {
        if !self.holds(lba, count) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "sectors {lba}+{count} leave the disk of {} sectors",
                    self.sectors
                ),
            ));
        }
        let wanted = usize::try_from(self.offset(count))
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut bytes = Vec::new();
        let mut position = self.offset(lba);
        while bytes.len() < wanted {
            let done = bytes.len();
            let piece = PIECE_BYTES.min(wanted - done);
            bytes.resize(done + piece, 0);
            let Some(tail) = bytes.get_mut(done..) else {
                break;
            };
            self.dev.read_exact_at(position, tail)?;
            position = position.saturating_add(piece as u64);
        }
        Ok(bytes)
    }
}

/// A disk with only some known ranges of bytes; the rest reads as zero.
pub(super) struct SparseDisk {
    size: u64,
    runs: BTreeMap<u64, Vec<u8>>,
}

impl SparseDisk {
    /// A disk of `size` bytes, all zero.
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            runs: BTreeMap::new(),
        }
    }

    /// Stores `bytes` at `offset`.
    ///
    /// # Errors
    /// If the range is empty, leaves the disk or overlaps another one.
    pub(super) fn insert(&mut self, offset: u64, bytes: Vec<u8>) -> Result<(), TableError> {
        let length = bytes.len() as u64;
        let refused = TableError::BadRegion {
            offset,
            length,
            disk_size: self.size,
        };
        let Some(end) = offset.checked_add(length) else {
            return Err(refused);
        };
        let before = self.runs.range(..end).next_back();
        let overlaps =
            before.is_some_and(|(start, run)| start.saturating_add(run.len() as u64) > offset);
        if length == 0 || end > self.size || overlaps {
            return Err(refused);
        }
        self.runs.insert(offset, bytes);
        Ok(())
    }

    /// The known ranges, ascending.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs
            .iter()
            .map(|(start, run)| *start..start.saturating_add(run.len() as u64))
    }
}

impl ReadAt for SparseDisk {
    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(position)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        let Some(buf) = buf.get_mut(..len) else {
            return Ok(0);
        };
        buf.fill(0);
        let end = position.saturating_add(len as u64);
        for (start, run) in self.runs.range(..end).rev() {
            // Ranges are disjoint and ascending, so the first one that ends at or before `position`
            // ends the search.
            let run_end = start.saturating_add(run.len() as u64);
            if run_end <= position {
                break;
            }
            let from = position.max(*start);
            let to = end.min(run_end);
            let (Ok(source), Ok(target), Ok(count)) = (
                usize::try_from(from - start),
                usize::try_from(from - position),
                usize::try_from(to - from),
            ) else {
                continue;
            };
            if let (Some(place), Some(bytes)) = (
                buf.get_mut(target..).and_then(|tail| tail.get_mut(..count)),
                run.get(source..).and_then(|tail| tail.get(..count)),
            ) {
                place.copy_from_slice(bytes);
            }
        }
        Ok(len)
    }
}
