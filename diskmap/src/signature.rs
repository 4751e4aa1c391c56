//! Signatures that claim a whole disk in addition to its partition table.
//!
//! A disk that belongs as a whole to md, LVM, ZFS, bcache or LUKS may still have a partition table:
//! one that is stored inside a mirror, or one created over the array later. The signature may also
//! be left over from an earlier use. The bytes do not show which of the two is in use, so a copy
//! must hold what each of them needs.
//!
//! Owns that decision. A signature inside a partition belongs to the partition. Never writes, and
//! never panics, whatever the bytes are.

use std::io;

use positioned_io::ReadAt;

use crate::table::{PartitionTable, TableKind};
use crate::usedmap::{self, FsKind, MD_MAGIC};

/// Length in bytes of the longest signature; this many bytes must lie outside every partition.
const MARK_BYTES: u64 = 24;

/// RAID level of an md mirror, whose members each hold the whole array.
const MD_MIRROR: u32 = 1;

/// Byte offsets of the RAID level in an md superblock of version 1 and of version 0.90.
const MD_LEVELS: [usize; 2] = [72, 28];

/// The part of a disk that a claim needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The whole disk, because the data may be anywhere.
    Everything,
    /// Only the signature: the partitions are where the table says (a mirror), or none of the data
    /// is kept over a restart (swap).
    Signature,
}

/// A claim on the whole of a disk that has a partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Kind of the array, volume or file system that claims the disk.
    pub kind: FsKind,
    /// First byte of the signature.
    pub at: u64,
    /// The part of the disk that a copy must hold for this claim.
    pub needs: Needs,
}

/// Finds the claims on the whole disk beside `table`; none for a disk without a table.
///
/// # Errors
/// Only if the device cannot be read.
pub fn beside_table(dev: &dyn ReadAt, table: &PartitionTable) -> io::Result<Vec<Claim>> {
    if table.kind == TableKind::None {
        return Ok(Vec::new());
    }
    let mut claims = Vec::new();
    for found in usedmap::signatures(dev, table.disk_size)? {
        let mark = found.at..found.at.saturating_add(MARK_BYTES);
        let of_a_partition = table
            .partitions
            .iter()
            .any(|p| !p.is_extended() && p.start < mark.end && mark.start < p.end());
        if of_a_partition || is_boot_sector(found.kind) {
            continue;
        }
        let needs = match found.kind {
            FsKind::Swap => Needs::Signature,
            FsKind::MdRaid if is_mirror_behind_its_data(dev, found.at, table)? => Needs::Signature,
            _ => Needs::Everything,
        };
        claims.push(Claim {
            kind: found.kind,
            at: found.at,
            needs,
        });
    }
    Ok(claims)
}

/// True for the kinds whose signature is a boot sector.
///
/// These are no claims: the boot sector was compared with the entries when the table was read,
/// because GRUB leaves the parameters of an older file system in LBA 0.
fn is_boot_sector(kind: FsKind) -> bool {
    matches!(
        kind,
        FsKind::Ntfs
            | FsKind::Fat12
            | FsKind::Fat16
            | FsKind::Fat32
            | FsKind::ExFat
            | FsKind::ReFs
            | FsKind::BitLocker
    )
}

/// True for an md mirror whose superblock lies behind its data.
///
/// The array then begins at the first byte of the disk, so the table and its partitions belong to
/// the array. With a superblock at the front the data begins elsewhere.
fn is_mirror_behind_its_data(
    dev: &dyn ReadAt,
    at: u64,
    table: &PartitionTable,
) -> io::Result<bool> {
    if table.partitions.iter().all(|p| p.start > at) {
        return Ok(false);
    }
    let mut block = [0u8; 128];
    dev.read_exact_at(at, &mut block)?;
    let field = |at: usize| {
        let bytes = block.get(at..).and_then(|rest| rest.first_chunk::<4>());
        let bytes = bytes.copied().unwrap_or_default();
        // Version 0.90 uses the byte order of the machine that created it.
        if block.starts_with(&MD_MAGIC.to_be_bytes()) {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    };
    let [of_1, of_0_90] = MD_LEVELS;
    Ok(field(if field(4) == 1 { of_1 } else { of_0_90 }) == MD_MIRROR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_table;

    const SIZE: usize = 4 << 20;

    /// A disk with one MBR partition of 2 MiB that begins at 1 MiB.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0u8; SIZE];
        disk[450] = 0x83;
        disk[454..458].copy_from_slice(&2048u32.to_le_bytes());
        disk[458..462].copy_from_slice(&4096u32.to_le_bytes());
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk
    }

    fn claims(disk: &Vec<u8>) -> Vec<(FsKind, u64, Needs)> {
        let table = read_table(disk, SIZE as u64, 512).unwrap();
        let claims = beside_table(disk, &table).unwrap();
        claims
            .into_iter()
            .map(|c| (c.kind, c.at, c.needs))
            .collect()
    }

    #[test]
    fn what_stands_outside_the_partitions_is_a_claim_on_the_disk() {
        assert_eq!(claims(&disk()), []);
        let cases: [(usize, &[u8], FsKind); 5] = [
            (4096, &MD_MAGIC.to_le_bytes(), FsKind::MdRaid),
            (512, b"LABELONE................LVM2 001", FsKind::LvmPv),
            (65_600, b"_BHRfS_M", FsKind::Btrfs),
            (SIZE - 1024, b"Intel Raid ISM Cfg Sig. ", FsKind::BiosRaid),
            (128 << 10, &0x00BA_B10Cu64.to_le_bytes(), FsKind::Zfs),
        ];
        for (at, mark, kind) in cases {
            let mut disk = disk();
            disk[at..at + mark.len()].copy_from_slice(mark);
            assert_eq!(claims(&disk), [(kind, at as u64, Needs::Everything)]);
        }
        // Two bytes of a boot loader must not count as a superblock of ext4.
        let mut loader = disk();
        loader[1080..1082].copy_from_slice(&[0x53, 0xef]);
        assert_eq!(claims(&loader), []);
    }

    #[test]
    fn the_superblock_of_a_mirror_needs_only_itself_and_that_of_a_stripe_all() {
        let at = SIZE - 8192;
        for (level, needs) in [(1u32, Needs::Signature), (0, Needs::Everything)] {
            let mut disk = disk();
            disk[at..at + 4].copy_from_slice(&MD_MAGIC.to_le_bytes());
            disk[at + 4..at + 8].copy_from_slice(&1u32.to_le_bytes());
            disk[at + 72..at + 76].copy_from_slice(&level.to_le_bytes());
            assert_eq!(claims(&disk), [(FsKind::MdRaid, at as u64, needs)]);
        }
        // A superblock of version 0.90, made by a big-endian machine.
        let at = SIZE - (64 << 10);
        let mut disk = disk();
        disk[at..at + 4].copy_from_slice(&MD_MAGIC.to_be_bytes());
        disk[at + 28..at + 32].copy_from_slice(&1u32.to_be_bytes());
        assert_eq!(
            claims(&disk),
            [(FsKind::MdRaid, at as u64, Needs::Signature)]
        );
    }

    #[test]
    fn a_signature_inside_a_partition_is_the_partitions() {
        let mut disk = disk();
        // The partition contains the place of the md superblock.
        disk[454..458].copy_from_slice(&8u32.to_le_bytes());
        disk[4096..4100].copy_from_slice(&MD_MAGIC.to_le_bytes());
        assert_eq!(claims(&disk), []);
    }
}
