//! Adjusts the boot sector of a file system to a partition that starts at another place.
//!
//! Owns one field: the number of disk sectors before the partition. NTFS and FAT12, FAT16 and FAT32
//! call it hidden sectors: 32 bits at byte 0x1C (Microsoft FAT specification 1.03, `BPB_HiddSec`;
//! ntfs-3g `layout.h`, `hidden_sectors`). Drivers ignore it. The boot code in the sector does not:
//! it adds the field to every position it reads, so a system that BIOS firmware starts this way
//! stops if the field is stale. UEFI never runs that code. (Untested on real Windows: compared with
//! mkntfs and mkfs.fat only.)
//!
//! Decisions:
//!
//! - A start beyond 32 bits becomes 0, which is what mkntfs and mkfs.fat write there. No boot code
//!   could read that far, and a wrapped value would name sectors of another partition.
//! - Sectors are the disk's logical sectors, counted from LBA 0, for logical partitions too. Boot
//!   code needs this, and mkntfs and mkfs.fat take the same value from the kernel. MS-DOS counted
//!   from the extended boot record in a container of type 05, and never started from there
//!   (mkfs.fat(8), option -h).
//! - exFAT (`PartitionOffset`, 64 bits at byte 0x40) is not changed. Its specification gives the
//!   field to boot code that uses INT 13h, allows any value, and defines 0, which mkfs.exfat
//!   writes, as "ignore"; no system that diskcast deploys starts from exFAT. The field is covered
//!   by a checksum over eleven sectors in both boot regions, and a volume with a wrong checksum is
//!   not mounted, so a change would risk more than it repairs.
//! - BitLocker is not changed: a copy is bound to the machine it came from anyway.
//!
//! Never changes another byte, and never panics, whatever the bytes are.

use crate::usedmap::{FsKind, boot_sector_kind};

/// Offset of `BPB_BytsPerSec`, 16 bits.
const BYTES_PER_SECTOR: usize = 0x0B;
/// Offset of `BPB_RsvdSecCnt`, 16 bits.
const RESERVED_SECTORS: usize = 0x0E;
/// Offset of `BPB_HiddSec`, 32 bits.
const HIDDEN_SECTORS: usize = 0x1C;
/// Offset of the number of sectors of an NTFS volume, 64 bits.
const NTFS_SECTORS: usize = 0x28;
/// Offset of `BPB_BkBootSec` in FAT32, 16 bits.
const FAT32_COPY: usize = 0x32;

/// Shortest boot sector in bytes.
const SECTOR_BYTES: usize = 512;

/// Writes the partition's start into the boot sector of an NTFS or FAT file system.
///
/// `start_lba` is in logical sectors of the disk. Returns true if a byte changed. Any other content
/// is not changed, and neither is a sector of less than 512 bytes.
///
/// `sector` is the first sector of the partition, or the copy at [`boot_sector_copy`]. More bytes
/// of the partition may follow it: if they contain the signature of a second file system, nothing
/// is changed.
pub fn relocate_boot_sector(sector: &mut [u8], start_lba: u64) -> bool {
    if !matches!(
        kind(sector),
        Some(FsKind::Ntfs | FsKind::Fat12 | FsKind::Fat16 | FsKind::Fat32)
    ) {
        return false;
    }
    let field = u32::try_from(start_lba).unwrap_or(0).to_le_bytes();
    match sector.get_mut(HIDDEN_SECTORS..HIDDEN_SECTORS + field.len()) {
        Some(place) if *place != field => {
            place.copy_from_slice(&field);
            true
        }
        _ => false,
    }
}

/// Position of the boot sector's copy, in bytes from the start of the partition.
///
/// Repair tools compare the two. FAT32 stores the position in a field; NTFS has the copy directly
/// behind the volume, which is the last sector of a partition that the volume fills. `None` for
/// other file systems and for impossible values. The caller must check that the position is inside
/// the partition.
#[must_use]
pub fn boot_sector_copy(sector: &[u8]) -> Option<u64> {
    let kind = kind(sector)?;
    let bytes = u64::from(u16::from_le_bytes(field(sector, BYTES_PER_SECTOR)?));
    if !bytes.is_power_of_two() || !(512..=4096).contains(&bytes) {
        return None;
    }
    match kind {
        FsKind::Ntfs => {
            let sectors = u64::from_le_bytes(field(sector, NTFS_SECTORS)?);
            sectors.checked_mul(bytes).filter(|place| *place > 0)
        }
        FsKind::Fat32 => {
            let reserved = u16::from_le_bytes(field(sector, RESERVED_SECTORS)?);
            let copy = u16::from_le_bytes(field(sector, FAT32_COPY)?);
            // 0 and 0xFFFF mean "no copy"; the first table follows the reserved sectors.
            (1..reserved)
                .contains(&copy)
                .then(|| u64::from(copy) * bytes)
        }
        _ => None,
    }
}

/// True if the last sector of the partition must hold a copy as well.
///
/// Windows and ntfsfix look for the NTFS copy there, even if the partition is larger than the
/// volume.
#[must_use]
pub fn boot_sector_is_last_too(sector: &[u8]) -> bool {
    kind(sector) == Some(FsKind::Ntfs)
}

fn kind(sector: &[u8]) -> Option<FsKind> {
    (sector.len() >= SECTOR_BYTES)
        .then(|| boot_sector_kind(sector))
        .flatten()
}

fn field<const N: usize>(sector: &[u8], at: usize) -> Option<[u8; N]> {
    sector.get(at..)?.first_chunk::<N>().copied()
}
