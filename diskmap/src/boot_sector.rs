//! The boot sector of a file system that is put onto a partition which starts elsewhere.
//!
//! Owns one field: how many sectors of the disk lie before the partition. NTFS and FAT12, FAT16 and FAT32
//! call it hidden sectors: 32 bits at byte 0x1C (Microsoft FAT specification 1.03, `BPB_HiddSec`; ntfs-3g
//! `layout.h`, `hidden_sectors`). Drivers ignore it. The boot code in the sector does not: it adds the
//! field to every place it reads, so a system that BIOS firmware starts there stops with a stale one.
//! UEFI never runs that code. (Untested on real Windows: held against mkntfs and mkfs.fat only.)
//!
//! Decided:
//!
//! - A start beyond 32 bits becomes 0, which is what mkntfs and mkfs.fat write there. No boot code could
//!   read that far, and a wrapped value would name sectors of another partition.
//! - Sectors are the disk's logical ones, counted from LBA 0, for logical partitions too: what boot code
//!   needs, and what mkntfs and mkfs.fat take from the kernel. MS-DOS counted from the extended boot
//!   record in a container of type 05, and never started from there (mkfs.fat(8), option -h).
//! - exFAT (`PartitionOffset`, 64 bits at byte 0x40) is left as it is. Its specification gives the field
//!   to boot code that uses INT 13h, takes any value, and has 0 mean "ignore", which mkfs.exfat writes; no
//!   system we deploy starts from exFAT. The field is under a checksum over eleven sectors, in both boot
//!   regions: a volume whose sum is wrong is not mounted, so a change risks more than it mends.
//! - BitLocker is left as it is: its copy is bound to the machine it came from anyway.
//!
//! Never touches another byte, and never panics, whatever the bytes are.

use crate::usedmap::{FsKind, boot_sector_kind};

/// `BPB_BytsPerSec`, 16 bits.
const BYTES_PER_SECTOR: usize = 0x0B;
/// `BPB_RsvdSecCnt`, 16 bits.
const RESERVED_SECTORS: usize = 0x0E;
/// `BPB_HiddSec`, 32 bits.
const HIDDEN_SECTORS: usize = 0x1C;
/// NTFS: sectors of the volume, 64 bits.
const NTFS_SECTORS: usize = 0x28;
/// FAT32: `BPB_BkBootSec`, 16 bits.
const FAT32_COPY: usize = 0x32;

/// Bytes a boot sector has at least.
const SECTOR_BYTES: usize = 512;

/// Tells the boot sector of an NTFS or FAT file system that its partition starts at `start_lba`, in
/// logical sectors of the disk. Returns whether a byte changed; anything else is left alone, a sector of
/// less than 512 bytes too.
///
/// `sector` is the first sector of the partition, or the copy that [`boot_sector_copy`] names. More of the
/// partition may follow it: a second file system recognised there means nothing is changed.
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

/// Where the second copy of this boot sector is, in bytes from the start of the partition: repair tools
/// compare the two. FAT32 names it; NTFS has it right behind the volume, in the last sector of a partition
/// it fills. None for other file systems, and where the sector says nothing possible. Whether that place
/// is inside the partition is for the caller to see.
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
            // 0 and 0xFFFF mean none; behind the reserved sectors is the first table.
            (1..reserved)
                .contains(&copy)
                .then(|| u64::from(copy) * bytes)
        }
        _ => None,
    }
}

/// Whether the last sector of the partition has to hold a copy as well: that is where Windows and ntfsfix look for NTFS' one, also
/// when the partition is larger than the volume.
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
