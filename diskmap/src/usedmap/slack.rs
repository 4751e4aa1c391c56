//! What a partition holds beyond its file system.
//!
//! Bytes after a file system's own end are not free, they are unknown: the NTFS backup boot sector,
//! md 0.90 and 1.0 superblocks, ZFS and GELI labels live there. They are kept where they are not
//! zero, and the last 64 KiB always. Never shortens what a reader found.

use std::ops::Range;

use super::bits::Used;
use super::volume::{Stop, Volume};

/// Kept at the end of every partition: the reach of an md 0.90 superblock.
const TAIL_BYTES: u64 = 64 << 10;

/// Slack is taken in pieces of this size, the granularity of an image's masks.
const PIECE_BYTES: u64 = 4096;

/// Slack is read this many bytes at a time.
const READ_BYTES: u64 = 1 << 20;

/// The end of a partition of `length` bytes that is always kept.
pub(super) const fn tail(length: u64) -> Range<u64> {
    length.saturating_sub(TAIL_BYTES)..length
}

/// Adds what is not zero between `end`, where the file system ends, and the end of the partition.
pub(super) fn add(volume: &Volume<'_>, end: u64, used: &mut Used) -> Result<(), Stop> {
    let tail = tail(volume.length());
    let mut at = end;
    while at < tail.start {
        // Reads are cut at multiples of their size, so pieces are aligned after the first.
        let next = (at - at % READ_BYTES + READ_BYTES).min(tail.start);
        let bytes = volume.read(at, next - at)?;
        if bytes.iter().any(|byte| *byte != 0) {
            let mut piece_at = at;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let to_boundary = PIECE_BYTES - piece_at % PIECE_BYTES;
                let len =
                    usize::try_from(to_boundary).map_or(rest.len(), |len| len.min(rest.len()));
                let (piece, after) = rest.split_at(len);
                if piece.iter().any(|byte| *byte != 0) {
                    used.add(piece_at..piece_at + len as u64);
                }
                piece_at += len as u64;
                rest = after;
            }
        }
        at = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_zero_slack_is_kept_by_the_piece() {
        let mut bytes = vec![0u8; 3 << 20];
        bytes[1_500_000] = 1;
        bytes[10] = 1; // inside the file system: the reader's affair
        let dev = bytes.as_slice();
        let volume = Volume::new(&dev, bytes.len() as u64);
        let mut used = Used::new();
        add(&volume, 1_000_001, &mut used).unwrap();
        let start = 1_500_000 / 4096 * 4096;
        assert_eq!(used.finish().into_vec(), vec![start..start + 4096]);
    }

    #[test]
    fn the_tail_of_a_tiny_partition_is_all_of_it() {
        assert_eq!(tail(4096), 0..4096);
        assert_eq!(tail(1 << 20), (1 << 20) - (64 << 10)..1 << 20);
    }
}
