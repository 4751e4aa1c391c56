//! Signatures of former file systems on a target that an image does not overwrite and that would
//! still be found.
//!
//! An image holds used blocks only. Swap has one page of them, so a LUKS header or its second copy
//! behind that page would survive a restore that is proven to the last byte, and the machine would
//! find two owners of one partition. The places of such signatures are zeroed before any data is
//! written, and read back with everything else.
//!
//! Pure. Always holds: no byte of the image or its table is among them, and if one partition goes
//! onto another, no byte outside that partition.

use diskmap::{ExtentSet, Partition};
use std::ops::Range;

/// Bytes at the front of a disk or partition that may hold superblocks: btrfs at 64 KiB, ZFS to 512
/// KiB, UDF at 1 MiB, VMFS at 2 MiB, and the second header of a LUKS2 with the largest metadata at
/// 4 MiB.
const HEAD_BYTES: u64 = 5 << 20;

/// Bytes at the end that may hold superblocks: md 1.0 within 12 KiB, md 0.90 within 128 KiB, ZFS
/// within 768 KiB, backups of GPT and NTFS, LDM within 1 MiB, controllers' RAID metadata within
/// 1.51 MiB (Promise, 3087 sectors).
const TAIL_BYTES: u64 = 2 << 20;

/// A disk that is about to be written.
pub(super) struct Target<'a> {
    /// Size in bytes.
    pub(super) size: u64,
    /// Its final partitions.
    pub(super) partitions: &'a [Partition],
    /// Range of the partition that is overwritten while everything else stays.
    pub(super) onto: Option<&'a Range<u64>>,
    /// Bytes that data and table are written to.
    pub(super) written: &'a ExtentSet,
}

/// Bytes to be zeroed, because nothing else is written there.
pub(super) fn of(target: &Target<'_>) -> ExtentSet {
    let mut places = ExtentSet::new();
    let mut ends_of = |range: &Range<u64>| {
        let range = range.start.min(target.size)..range.end.min(target.size);
        places.insert(range.start..range.end.min(range.start.saturating_add(HEAD_BYTES)));
        places.insert(range.start.max(range.end.saturating_sub(TAIL_BYTES))..range.end);
    };
    match target.onto {
        Some(onto) => ends_of(onto),
        None => {
            ends_of(&(0..target.size));
            let partitions = target.partitions.iter();
            for partition in partitions.filter(|partition| !partition.is_extended()) {
                ends_of(&partition.range());
            }
        }
    }
    places.subtract(target.written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use diskmap::{ReadAt, read_table};

    const MIB: u64 = 1 << 20;

    fn set(ranges: &[Range<u64>]) -> ExtentSet {
        let mut set = ExtentSet::new();
        for range in ranges {
            set.insert(range.clone());
        }
        set
    }

    /// Primary and logical partitions of a disk of 64 MiB: 10 to 20 and 31 to 34 MiB, the second in
    /// a container from 30 to 40.
    fn partitions() -> Vec<Partition> {
        let mut disk = vec![0u8; 64 << 20];
        let mut entry = |at: u64, slot: usize, kind: u8, start: u64, length: u64| {
            let sector = usize::try_from(at).unwrap();
            let place = sector + 446 + 16 * slot;
            disk[place + 4] = kind;
            for (field, bytes) in [(8, start), (12, length)] {
                let sectors = u32::try_from(bytes / 512).unwrap().to_le_bytes();
                disk[place + field..place + field + 4].copy_from_slice(&sectors);
            }
            disk[sector + 510..sector + 512].copy_from_slice(&[0x55, 0xaa]);
        };
        entry(0, 0, 0x83, 10 * MIB, 10 * MIB);
        entry(0, 1, 0x05, 30 * MIB, 10 * MIB);
        entry(30 * MIB, 0, 0x83, MIB, 3 * MIB);
        let dev: &dyn ReadAt = &disk;
        read_table(dev, 64 * MIB, 512).unwrap().partitions
    }

    #[test]
    fn ends_of_disk_and_partitions_become_zero_where_the_image_has_nothing() {
        let written = set(&[0..MIB, 10 * MIB..10 * MIB + 4096, 63 * MIB..64 * MIB - 512]);
        let found = of(&Target {
            size: 64 * MIB,
            partitions: &partitions(),
            onto: None,
            written: &written,
        });
        let expected = set(&[
            MIB..5 * MIB,
            10 * MIB + 4096..15 * MIB,
            18 * MIB..20 * MIB,
            // Smaller than its ends: all of it. The container's own sectors belong to no file
            // system.
            31 * MIB..34 * MIB,
            62 * MIB..63 * MIB,
            64 * MIB - 512..64 * MIB,
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn onto_a_partition_nothing_outside_of_it() {
        let found = of(&Target {
            size: 64 * MIB,
            partitions: &partitions(),
            onto: Some(&(10 * MIB..20 * MIB)),
            written: &set(std::slice::from_ref(&(9 * MIB..11 * MIB))),
        });
        assert_eq!(found, set(&[11 * MIB..15 * MIB, 18 * MIB..20 * MIB]));
    }
}
