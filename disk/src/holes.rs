//! Holes of a file that contains a disk: bytes that are zero without being read.
//!
//! A sparse copy of a one-terabyte disk has a few gigabytes of data; its file system tells where
//! they are (`SEEK_DATA`, lseek(2)) within milliseconds. Devices and file systems without that call
//! have no holes, and everything is read.

use diskmap::ExtentSet;
use rustix::fs::SeekFrom;
use std::fs::File;
use std::ops::Range;

/// Shortest hole that is used, in bytes; shorter ones are read with their surroundings.
const SHORTEST: u64 = 1 << 20;

/// Most holes kept in memory: 16 MiB. Bytes behind the last of them are read.
const MOST: usize = 1 << 20;

/// The holes of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Holes {
    set: ExtentSet,
}

impl Holes {
    /// Finds the holes in the first `size` bytes of a file.
    pub(super) fn of_file(file: &File, size: u64) -> Self {
        let mut set = ExtentSet::new();
        let mut at = 0;
        for _ in 0..MOST {
            if at >= size {
                break;
            }
            let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
                Ok(data) => data,
                // No data from here to the end of the file.
                Err(rustix::io::Errno::NXIO) => size,
                Err(_) => break,
            };
            let data = data.min(size);
            if data.saturating_sub(at) >= SHORTEST {
                set.insert(at..data);
            }
            match rustix::fs::seek(file, SeekFrom::Hole(data)) {
                Ok(hole) if hole > at => at = hole,
                _ => break,
            }
        }
        Self { set }
    }

    /// A set of these ranges.
    #[cfg(test)]
    pub(super) fn of(set: ExtentSet) -> Self {
        Self { set }
    }

    /// The ranges.
    pub(super) fn set(&self) -> &ExtentSet {
        &self.set
    }

    /// Holes after `start`, counted from there: the holes of a partition.
    pub(super) fn from(&self, start: u64) -> ExtentSet {
        let mut holes = ExtentSet::new();
        for hole in self.set.within(start..u64::MAX).iter() {
            holes.insert(hole.start - start..hole.end - start);
        }
        holes
    }

    /// Bytes of a range that have to be read.
    pub(super) fn data_in(&self, range: Range<u64>) -> ExtentSet {
        let mut data = ExtentSet::new();
        data.insert(range.clone());
        data.subtract(&self.set.within(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn only_what_was_written_has_to_be_read() {
        let file = tempfile::tempfile().unwrap();
        let size = 1 << 30;
        file.set_len(size).unwrap();
        file.write_all_at(&[1; 4096], 500 << 20).unwrap();
        let holes = Holes::of_file(&file, size);
        let data = holes.data_in(0..size);
        assert!(data.contains(500 << 20..(500 << 20) + 4096));
        // A file system without holes may report everything as data; the one of these tests does
        // not.
        assert!(data.total() < 8 << 20, "{data:?}");
        assert_eq!(holes.data_in(0..1 << 20).total(), 0);
    }
}
