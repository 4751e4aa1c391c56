//! Test for a blank disk: one that is new, or was erased as a whole.
//!
//! Only zeros count. A disk with unrecognised contents is not blank, because these may be
//! somebody's data.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes read at the front: tables, and every file system that begins in the first partition or
/// without one.
const FRONT: u64 = 4 << 20;
/// Bytes read at the end: backup tables, md, ZFS.
const BACK: u64 = 1 << 20;
/// Number of samples in between; a disk with moving parts takes about 10 ms for each.
const SAMPLES: u64 = 32;
/// Bytes of one read.
const PIECE: usize = 64 << 10;

/// True when a disk of `size` bytes holds nothing but zeros at its front, at its end and at every
/// sampled place.
pub(super) fn is_blank(disk: &File, size: u64) -> io::Result<bool> {
    let piece = PIECE as u64;
    let mut buffer = vec![0u8; PIECE];
    let mut zeros = |from: u64, to: u64| -> io::Result<bool> {
        let mut at = from;
        while at < to {
            let length = usize::try_from(to - at).map_or(PIECE, |left| left.min(PIECE));
            let Some(part) = buffer.get_mut(..length) else {
                return Ok(false);
            };
            disk.read_exact_at(part, at)?;
            if part.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += length as u64;
        }
        Ok(true)
    };
    if size == 0 || !zeros(0, size.min(FRONT))? || !zeros(size.saturating_sub(BACK), size)? {
        return Ok(false);
    }
    for sample in 1..=SAMPLES {
        let at = size / (SAMPLES + 1) * sample / piece * piece;
        if !zeros(at, size.min(at + piece))? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_where_a_table_or_a_file_system_lies_is_enough() {
        const SIZE: u64 = 64 << 20;
        for at in [0, 510, 1024, (1 << 20) + 1080, SIZE - 512, SIZE - 1] {
            let file = tempfile::tempfile().unwrap();
            file.set_len(SIZE).unwrap();
            assert!(is_blank(&file, SIZE).unwrap());
            file.write_all_at(&[1], at).unwrap();
            assert!(!is_blank(&file, SIZE).unwrap(), "byte {at}");
        }
    }

    #[test]
    fn data_in_the_middle_is_found() {
        const SIZE: u64 = 64 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        file.write_all_at(&vec![7; 4 << 20], 30 << 20).unwrap();
        assert!(!is_blank(&file, SIZE).unwrap());
    }

    #[test]
    fn small_and_empty_disks() {
        let file = tempfile::tempfile().unwrap();
        assert!(!is_blank(&file, 0).unwrap(), "no disk at all");
        file.set_len(1000).unwrap();
        assert!(is_blank(&file, 1000).unwrap());
        assert!(is_blank(&file, 2000).is_err(), "shorter than it says");
    }
}
