//! The base block at the start of a hive file, regf "Base block".
//!
//! ```text
//!   0 "regf"   4 sequence 1   8 sequence 2   12 time of last write
//!  20 major   24 minor       28 file type    32 format
//!  36 root    40 bytes of bins   44 clustering   48.. name, ids   508 checksum
//! ```
//!
//! Both sequence numbers are equal after a completed write. All other fields of the block belong to
//! Windows and are never changed.

use crate::FileTime;
use crate::error::HiveError;
use crate::scan::{Scan, u32_at};

/// Length in bytes of the base block and of a page; bins are multiples of it.
pub(crate) const BLOCK: usize = 4096;

const SEQUENCE_1: usize = 4;
const SEQUENCE_2: usize = 8;
const TIME: usize = 12;
const FILE_TYPE: usize = 28;
const BINS_LEN: usize = 40;
const CHECKSUM: usize = 508;

/// File types, regf "Base block" and "New format".
pub(crate) mod file_type {
    pub(crate) const PRIMARY: u32 = 0;
    pub(crate) const LOG_OLD: [u32; 2] = [1, 2];
    pub(crate) const LOG_NEW: u32 = 6;
}

/// The fields of the base block that this crate uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    pub(crate) sequence_1: u32,
    pub(crate) sequence_2: u32,
    pub(crate) time: u64,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) file_type: u32,
    pub(crate) format: u32,
    pub(crate) root: u32,
    pub(crate) bins_len: u32,
    pub(crate) clustering: u32,
    pub(crate) checksum_fits: bool,
}

impl Base {
    /// Parses the block at the start of `bytes`, even if its checksum is wrong.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Base> {
        let mut scan = Scan(bytes);
        if scan.take(4)? != b"regf" {
            return None;
        }
        let base = Base {
            sequence_1: scan.u32()?,
            sequence_2: scan.u32()?,
            time: scan.u64()?,
            major: scan.u32()?,
            minor: scan.u32()?,
            file_type: scan.u32()?,
            format: scan.u32()?,
            root: scan.u32()?,
            bins_len: scan.u32()?,
            clustering: scan.u32()?,
            checksum_fits: u32_at(bytes, CHECKSUM)? == checksum(bytes),
        };
        Some(base)
    }

    /// Checks for a primary file of a known version: 1.3 (Windows 2000, and user hives until
    /// today), 1.4 and 1.5 (Windows XP and later), 1.6 (Windows 10, layered hives without a layer).
    pub(crate) fn check_primary(&self) -> Result<(), HiveError> {
        let why = if self.file_type != file_type::PRIMARY {
            "it is a transaction log"
        } else if self.major != 1 || !(3..=6).contains(&self.minor) {
            "its version is not 1.3 to 1.6"
        } else if self.format != 1 {
            "its format is not 1"
        } else {
            return Ok(());
        };
        Err(HiveError::NotAHive { why })
    }

    /// True if the last write did not finish, regf "Dirty state of a hive".
    pub(crate) const fn is_dirty(&self) -> bool {
        !self.checksum_fits || self.sequence_1 != self.sequence_2
    }
}

/// The checksum: XOR of the first 508 bytes as 127 words. Zero and all ones are never stored.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let sum = bytes
        .get(..CHECKSUM)
        .unwrap_or_default()
        .chunks_exact(4)
        .filter_map(|word| u32_at(word, 0))
        .fold(0, |sum, word| sum ^ word);
    match sum {
        0 => 1,
        u32::MAX => u32::MAX - 1,
        sum => sum,
    }
}

/// Makes the block of a new hive without bins; its root will be the first cell. [`seal`] must
/// follow.
pub(crate) fn new_block(minor: u32, time: FileTime) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    put(&mut bytes, 0, b"regf");
    set_time(&mut bytes, time);
    // The fields are: version 1.minor, a primary file, format 1, the root behind the header of the
    // first bin, the length of the bins, clustering 1.
    let fields = [1, minor, file_type::PRIMARY, 1, 32, 0, 1];
    for (place, field) in (20..).step_by(4).zip(fields) {
        put(&mut bytes, place, &u32::to_le_bytes(field));
    }
    bytes
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

/// Marks a write of the hive as finished: sets both sequence numbers and the checksum.
pub(crate) fn seal(bytes: &mut [u8], sequence: u32) {
    put(bytes, SEQUENCE_1, &sequence.to_le_bytes());
    put(bytes, SEQUENCE_2, &sequence.to_le_bytes());
    let sum = checksum(bytes);
    put(bytes, CHECKSUM, &sum.to_le_bytes());
}

/// Sets the time of the last write. [`seal`] must follow.
pub(crate) fn set_time(bytes: &mut [u8], time: FileTime) {
    put(bytes, TIME, &time.0.to_le_bytes());
}

/// Sets the total length of the bins. [`seal`] must follow.
pub(crate) fn set_bins_len(bytes: &mut [u8], len: u32) {
    put(bytes, BINS_LEN, &len.to_le_bytes());
}

/// Turns a log's copy of the block into the block of a primary file. [`seal`] must follow.
pub(crate) fn set_primary(bytes: &mut [u8]) {
    put(bytes, FILE_TYPE, &file_type::PRIMARY.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_never_stores_zero_or_all_ones() {
        let mut block = [0; 512];
        assert_eq!(checksum(&block), 1);
        block[8..12].fill(0xff);
        assert_eq!(checksum(&block), 0xffff_fffe);
        block[12] = 1;
        assert_eq!(checksum(&block), 0xffff_fffe, "all ones less one is kept");
        block[13] = 2;
        assert_eq!(checksum(&block), 0xffff_fdfe);
    }
}
