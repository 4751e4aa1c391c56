//! Gaps outside partitions: boot loaders at the front of a disk, metadata at its end, and
//! unexpected data.
//!
//! Owns the choice of their bytes for an image, and the messages about the others. Always holds: no
//! bytes other than zeros are left out without being named, with their number and the option that
//! captures them; memory is one megabyte, whatever a gap's size.
//!
//! ```text
//!  0        1 MiB      64 MiB            first partition   end of the last one         end of disk
//!  | whole  | non-zero | 1 MiB ... 1 MiB |                 | 1 MiB | read, named | 1 MiB |
//! ```

use super::holes::Holes;
use super::survey::blank;
use diskmap::{ExtentSet, PartitionKind, PartitionTable, ReadAt, TableKind};
use facts::units;
use imagefmt::{LeftOut, MASK_BLOCK, Meta};
use std::io;
use std::ops::Range;

/// Bytes captured at either end of a gap, unless they are zero: loaders are at its front, LDM and
/// RAID metadata at its end. A gap of twice that size is captured whole.
const EDGE_BYTES: u64 = 1 << 20;

/// Offset up to which everything that is not zero is captured before the first partition: boards
/// start from images at 8 and 16 MiB.
const FRONT_BYTES: u64 = 64 << 20;

/// Most bytes read in order to name data that is left out, some ten seconds of a hard disk. The
/// bytes behind them are named as not read.
pub(super) const LOOK_BYTES: u64 = 1 << 30;

/// Bytes of one read.
const READ_BYTES: u64 = 1 << 20;

/// Bytes of the gaps that an image holds, and the gaps with bytes left out.
#[derive(Debug, Default)]
pub(super) struct GapScan {
    /// Device bytes that are captured.
    pub(super) taken: ExtentSet,
    /// Gaps with bytes that are not captured and are not zero or were not read, one entry for each
    /// gap.
    pub(super) left_out: Vec<LeftOut>,
}

/// Examines every gap of a disk. With `all`, everything that is not zero is captured.
///
/// # Errors
/// The disk cannot be read.
pub(super) fn scan(
    dev: &dyn ReadAt,
    table: &PartitionTable,
    size: u64,
    holes: &Holes,
    all: bool,
) -> io::Result<GapScan> {
    let mut found = GapScan::default();
    let mut look = LOOK_BYTES;
    for gap in gaps(table, size).iter() {
        let reach = reach(&gap, all);
        let mut taken = ExtentSet::new();
        taken.insert(reach.as_is.clone());
        for range in reach.looked_for.subtract(&taken).iter() {
            nonzero(dev, table, holes, range, |block| taken.insert(block))?;
        }
        let mut whole = ExtentSet::new();
        whole.insert(gap.clone());
        let rest = whole
            .subtract(&reach.looked_for)
            .subtract(&taken)
            .subtract(holes.set());
        let (mut bytes, mut unread, mut first) = (0, 0, None);
        for range in rest.iter() {
            let near = range.start..range.end.min(range.start.saturating_add(look));
            look -= near.end - near.start;
            unread += range.end - near.end;
            nonzero(dev, table, holes, near, |block| {
                first.get_or_insert(block.start);
                bytes += block.end - block.start;
            })?;
        }
        if bytes > 0 || unread > 0 {
            found.left_out.push(LeftOut {
                place: place(table, &gap, size),
                start: gap.start,
                length: gap.end - gap.start,
                first: first.unwrap_or(gap.end),
                bytes,
                unread,
            });
        }
        found.taken = found.taken.union(&taken);
    }
    Ok(found)
}

/// Bytes of one gap that may be captured.
struct Reach {
    /// Captured with its zeros, so that no former content of a target is left among loaders.
    as_is: Range<u64>,
    /// Bytes that are captured if they are not zero.
    looked_for: ExtentSet,
}

fn reach(gap: &Range<u64>, all: bool) -> Reach {
    let length = gap.end - gap.start;
    let small = length <= 2 * EDGE_BYTES;
    let mut looked_for = ExtentSet::new();
    if small || all {
        looked_for.insert(gap.clone());
    } else {
        let front = if gap.start == 0 {
            FRONT_BYTES
        } else {
            EDGE_BYTES
        };
        looked_for.insert(gap.start..gap.end.min(gap.start.saturating_add(front)));
        looked_for.insert(gap.end - EDGE_BYTES..gap.end);
    }
    let as_is = match (gap.start, small) {
        (0, true) => gap.clone(),
        (0, false) => 0..EDGE_BYTES,
        _ => 0..0,
    };
    Reach { as_is, looked_for }
}

/// Everything outside partitions; nothing on a disk without a table.
fn gaps(table: &PartitionTable, size: u64) -> ExtentSet {
    let mut gaps = ExtentSet::new();
    if table.kind == TableKind::None {
        return gaps;
    }
    gaps.insert(0..size);
    let partitions = table.partitions.iter();
    for partition in partitions.filter(|p| p.kind != PartitionKind::Extended) {
        gaps.remove(partition.start..partition.end().min(size));
    }
    gaps
}

/// Calls `found` with every block of `range`, cut at multiples of the mask's block, that contains
/// anything but zeros and table sectors.
fn nonzero(
    dev: &dyn ReadAt,
    table: &PartitionTable,
    holes: &Holes,
    range: Range<u64>,
    mut found: impl FnMut(Range<u64>),
) -> io::Result<()> {
    let mut bytes = Vec::new();
    for data in holes.data_in(range).iter() {
        let mut at = data.start;
        while at < data.end {
            let end = data.end.min(at - at % READ_BYTES + READ_BYTES);
            bytes.resize(usize::try_from(end - at).map_err(io::Error::other)?, 0);
            dev.read_exact_at(at, &mut bytes)?;
            for region in &table.regions {
                blank(&mut bytes, at, region.offset, region.bytes.len());
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let to_border = u64::from(MASK_BLOCK) - at % u64::from(MASK_BLOCK);
                let len = usize::try_from(to_border).map_or(rest.len(), |len| len.min(rest.len()));
                let (block, after) = rest.split_at(len);
                if block.iter().any(|byte| *byte != 0) {
                    found(at..at + len as u64);
                }
                at += len as u64;
                rest = after;
            }
        }
    }
    Ok(())
}

/// Place of a gap in words, such as `behind partition 2`.
fn place(table: &PartitionTable, gap: &Range<u64>, size: u64) -> String {
    let partitions = || {
        let all = table.partitions.iter();
        all.filter(|p| p.kind != PartitionKind::Extended)
    };
    let before = partitions()
        .filter(|p| p.end() <= gap.start)
        .max_by_key(|p| p.end());
    let behind = partitions()
        .filter(|p| p.start >= gap.end && gap.end < size)
        .min_by_key(|p| p.start);
    match (before, behind) {
        (Some(before), Some(behind)) => {
            format!("between partitions {} and {}", before.number, behind.number)
        }
        (Some(before), None) => format!("behind partition {}", before.number),
        (None, Some(behind)) => format!("before partition {}", behind.number),
        (None, None) => "outside any partition".to_owned(),
    }
}

/// The part of a partition behind its file system that was not read.
pub(super) fn unread_slack(
    partition: &Range<u64>,
    number: u32,
    map: &diskmap::usedmap::UsedMap,
) -> Option<LeftOut> {
    let (first, last) = (map.unread.first()?, map.unread.last()?);
    Some(LeftOut {
        place: format!("behind the file system of partition {number}"),
        start: partition.start + first.start,
        length: last.end - first.start,
        first: partition.start + last.end,
        bytes: 0,
        unread: map.unread.iter().map(|range| range.end - range.start).sum(),
    })
}

/// Lines about bytes that may be data and are not in the image; capture, info, plans and reports
/// show the same lines.
pub fn left_out_lines(meta: &Meta) -> Vec<String> {
    let mut lines = Vec::new();
    for gap in &meta.left_out {
        if gap.bytes > 0 {
            lines.push(format!(
                "left out: {} {}, not zero, from byte {} on; `image capture --all-gaps` takes it",
                units::bytes(gap.bytes),
                gap.place,
                gap.first
            ));
        }
        if gap.unread > 0 {
            lines.push(format!(
                "not looked at: {} {}; `image capture --all-gaps` reads it and takes what is not zero",
                units::bytes(gap.unread),
                gap.place
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use diskmap::read_table;

    const MIB: u64 = 1 << 20;

    /// A disk of `size` bytes with one MBR partition of 1 MiB at `start`.
    fn disk(size: u64, start: u64) -> Vec<u8> {
        let mut disk = vec![0u8; usize::try_from(size).unwrap()];
        let entry = &mut disk[446..462];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&u32::try_from(start / 512).unwrap().to_le_bytes());
        entry[12..16].copy_from_slice(&2048u32.to_le_bytes());
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk
    }

    fn look(disk: &[u8], all: bool) -> GapScan {
        let size = disk.len() as u64;
        let dev = disk.to_vec();
        let table = read_table(&dev, size, 512).unwrap();
        scan(&dev, &table, size, &Holes::default(), all).unwrap()
    }

    #[test]
    fn the_front_comes_along_to_64_mib_and_the_rest_is_named() {
        let mut disk = disk(80 * MIB, 70 * MIB);
        let at = |mib: u64| usize::try_from(mib * MIB).unwrap();
        for mib in [8, 63, 66, 75] {
            disk[at(mib) + 5] = 1;
        }
        let found = look(&disk, false);
        for (mib, taken) in [(8, true), (63, true), (66, false), (75, false)] {
            let block = mib * MIB..mib * MIB + 4096;
            assert_eq!(found.taken.contains(block), taken, "{mib} MiB");
        }
        assert!(found.taken.contains(0..MIB));
        assert_eq!(found.taken.total(), MIB + 2 * 4096);
        let words: Vec<_> = found
            .left_out
            .iter()
            .map(|gap| (gap.place.as_str(), gap.first, gap.bytes, gap.unread))
            .collect();
        assert_eq!(
            words,
            [
                ("before partition 1", 66 * MIB, 4096, 0),
                ("behind partition 1", 75 * MIB, 4096, 0)
            ]
        );
        let all = look(&disk, true);
        assert_eq!(all.taken.total(), MIB + 4 * 4096);
        assert_eq!(all.left_out, []);
    }

    #[test]
    fn what_is_too_far_to_be_read_is_named_as_that() {
        /// A terabyte with nothing but its table; counts the bytes read from it.
        struct Large(Vec<u8>, std::cell::Cell<u64>);
        impl ReadAt for Large {
            fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
                buf.fill(0);
                if pos < MIB {
                    let head = &self.0[usize::try_from(pos).unwrap()..];
                    let len = head.len().min(buf.len());
                    buf[..len].copy_from_slice(&head[..len]);
                }
                self.1.set(self.1.get() + buf.len() as u64);
                Ok(buf.len())
            }
        }
        let size = 1 << 40;
        let large = Large(disk(4 * MIB, MIB), std::cell::Cell::new(0));
        let table = read_table(&large, size, 512).unwrap();
        let found = scan(&large, &table, size, &Holes::default(), false).unwrap();
        assert!(
            large.1.get() < LOOK_BYTES + 8 * MIB,
            "{} bytes read",
            large.1.get()
        );
        let gap = &found.left_out[0];
        assert_eq!((gap.bytes, gap.start), (0, 2 * MIB));
        assert_eq!(gap.unread, size - 2 * MIB - 2 * MIB - LOOK_BYTES);
        // Ranges that the medium reports as empty are neither read nor named.
        large.1.set(0);
        let mut nothing = ExtentSet::new();
        nothing.insert(2 * MIB..size);
        let found = scan(&large, &table, size, &Holes::of(nothing), false).unwrap();
        assert_eq!((large.1.get(), found.left_out.len()), (0, 0));
    }
}
