//! Slack: the bytes of a partition behind its file system.
//!
//! Bytes behind a file system's own end are not free but unknown: the NTFS backup boot sector, md
//! 0.90 and 1.0 superblocks, ZFS and GELI labels are stored there. Those that are not zero are
//! kept, and the last 64 KiB always. This module never removes ranges that a reader found.

use std::ops::Range;

use super::MapOptions;
use super::bits::Used;
use super::stop::Stop;
use crate::ExtentSet;
use crate::volume::Volume;

/// Number of bytes always kept at the end of a partition: they include an md 0.90 superblock.
const TAIL_BYTES: u64 = 64 << 10;

/// Unit in bytes in which slack is kept; it is the granularity of an image's masks.
const PIECE_BYTES: u64 = 4096;

/// Number of bytes of slack that are read at once.
const READ_BYTES: u64 = 1 << 20;

/// The end of a partition of `length` bytes that is always kept.
pub(super) const fn tail(length: u64) -> Range<u64> {
    length.saturating_sub(TAIL_BYTES)..length
}

/// Number of bytes at the end of the slack that are always read: labels of ZFS and of RAID
/// controllers are up to 1.51 MiB before the end.
const END_BYTES: u64 = 2 << 20;

/// Largest number of bytes read from the start of the slack, unless all of it is requested. They
/// include the copy of a boot sector, and the remains of a file system that was shrunk. Bytes
/// behind them and before the end are not used by anything known.
const START_BYTES: u64 = 1 << 30;

/// Adds the non-zero slack between `end`, the end of the file system, and the end of the partition.
/// Returns the ranges that were not read.
pub(super) fn add(
    volume: &Volume<'_>,
    end: u64,
    options: &MapOptions,
    used: &mut Used,
) -> Result<Vec<Range<u64>>, Stop> {
    let tail = tail(volume.length());
    let mut slack = ExtentSet::new();
    slack.insert(end..tail.start);
    let slack = slack.subtract(&options.holes);
    let last = tail.start.saturating_sub(END_BYTES);
    let mut budget = if options.all_slack {
        u64::MAX
    } else {
        START_BYTES
    };
    let mut unread = Vec::new();
    for range in slack.iter() {
        let near = range.end.min(range.start.saturating_add(budget));
        budget -= near - range.start;
        add_nonzero(volume, range.start..near, used)?;
        let behind = near..range.end.min(last.max(near));
        add_nonzero(volume, behind.end..range.end, used)?;
        if !behind.is_empty() {
            unread.push(behind);
        }
    }
    Ok(unread)
}

/// Adds the pieces of a range that are not zero.
fn add_nonzero(volume: &Volume<'_>, range: Range<u64>, used: &mut Used) -> Result<(), Stop> {
    let mut at = range.start;
    while at < range.end {
        // Reads end at multiples of their size, so pieces are aligned after the first.
        let next = (at - at % READ_BYTES + READ_BYTES).min(range.end);
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
        let unread = add(&volume, 1_000_001, &MapOptions::default(), &mut used).unwrap();
        assert_eq!(unread, []);
        let start = 1_500_000 / 4096 * 4096;
        assert_eq!(used.finish().into_vec(), vec![start..start + 4096]);
    }

    #[test]
    fn of_a_terabyte_of_slack_only_its_start_and_end_are_read() {
        /// A device of zeros that counts the bytes read.
        struct Zeros(std::cell::Cell<u64>);
        impl positioned_io::ReadAt for Zeros {
            fn read_at(&self, _: u64, buf: &mut [u8]) -> std::io::Result<usize> {
                buf.fill(0);
                self.0.set(self.0.get() + buf.len() as u64);
                Ok(buf.len())
            }
        }
        let (zeros, length) = (Zeros(std::cell::Cell::new(0)), 1 << 40);
        let volume = Volume::new(&zeros, length);
        let look = |options: &MapOptions| {
            zeros.0.set(0);
            let unread = add(&volume, 5 << 30, options, &mut Used::new()).unwrap();
            (zeros.0.get(), unread)
        };
        let last = length - (64 << 10) - END_BYTES;
        let (read, unread) = look(&MapOptions::default());
        assert_eq!(read, START_BYTES + END_BYTES);
        assert_eq!(unread, std::slice::from_ref(&(6 << 30..last)));
        let mut options = MapOptions::default();
        options.holes.insert(5 << 30..length - (100 << 20));
        assert_eq!(look(&options), ((100 << 20) - (64 << 10), vec![]));
    }

    #[test]
    fn the_tail_of_a_tiny_partition_is_all_of_it() {
        assert_eq!(tail(4096), 0..4096);
        assert_eq!(tail(1 << 20), (1 << 20) - (64 << 10)..1 << 20);
    }
}
