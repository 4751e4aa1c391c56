//! Recognises what a partition holds, by signature.
//!
//! Owns the list of signatures and their places. It decides only who reads on; whether the content
//! is sound is the reader's question. Two signatures at once (a file system made over an older one
//! whose traces survived) are never resolved by guessing: the answer is raw.
//!
//! ```text
//!   offset      signature                    what
//!   0           LUKS\xBA\xBE                 LUKS
//!   0           XFSB                         XFS
//!   3           NTFS, EXFAT, -FVE-FS-, ReFS  boot sectors
//!   32          NXSB                         APFS
//!   n*512, n<4  LABELONE + LVM2 001 at +24   LVM physical volume
//!   1024        H+ HX, 0xF2F52010            HFS+, F2FS
//!   1080        0xEF53                       ext2/3/4
//!   0, 4096     0xA92B4EFC                   md 1.1, 1.2; 1.0 and 0.90 near the end
//!   65600       _BHRfS_M                     btrfs
//!   128 KiB     0x00BAB10C in any 1 KiB      ZFS label 0
//!   page - 10   SWAPSPACE2 and relatives     swap, hibernation images
//! ```

use super::FsKind;
use super::swap;
use super::volume::{Fields, Stop, Volume};

/// What signatures say.
pub(super) enum Content {
    /// No signature known here.
    Unknown,
    /// More than one.
    Several(Vec<FsKind>),
    /// Recognised, and no business of a reader: the reason to give.
    Opaque(FsKind, String),
    /// One that a reader may understand.
    One(FsKind),
}

const MD_MAGIC: u32 = 0xA92B_4EFC;

/// Looks at every place a signature can be.
pub(super) fn identify(volume: &Volume<'_>) -> Result<Content, Stop> {
    // Covers everything up to the btrfs superblock at 64 KiB and the largest swap page.
    let head = volume.read_available(0, 128 << 10)?;
    let mut kinds = Vec::new();
    boot_sector(&head, &mut kinds);
    superblocks(&head, &mut kinds);
    if swap::signature(&head).is_some() {
        kinds.push(FsKind::Swap);
    }
    if md_member(volume, &head)? {
        kinds.push(FsKind::MdRaid);
    }
    if zfs_label(volume)? {
        kinds.push(FsKind::Zfs);
    }
    Ok(match kinds.as_slice() {
        [] => Content::Unknown,
        [kind] => match opaque_reason(*kind, volume.length()) {
            Some(reason) => Content::Opaque(*kind, reason),
            None => Content::One(*kind),
        },
        _ => Content::Several(kinds),
    })
}

/// What a boot sector, and as much of what follows as is given, says it is; none when it is unknown, or more
/// than one thing.
pub(crate) fn boot_sector_kind(head: &[u8]) -> Option<FsKind> {
    let mut kinds = Vec::new();
    boot_sector(head, &mut kinds);
    superblocks(head, &mut kinds);
    match kinds.as_slice() {
        [kind] => Some(*kind),
        _ => None,
    }
}

/// Whether `head` has `signature` at `at`.
fn has(head: &[u8], at: usize, signature: &[u8]) -> bool {
    head.get(at..)
        .is_some_and(|rest| rest.starts_with(signature))
}

/// Boot sectors of the Microsoft family. They exclude each other by where their name stands.
fn boot_sector(head: &[u8], kinds: &mut Vec<FsKind>) {
    /// BitLocker To Go looks like FAT32 but for this GUID, 4967d63b-2e29-4ad8-8399-f6a339e3d001.
    const TO_GO: &[u8] = &[
        0x3B, 0xD6, 0x67, 0x49, 0x29, 0x2E, 0xD8, 0x4A, 0x83, 0x99, 0xF6, 0xA3, 0x39, 0xE3, 0xD0,
        0x01,
    ];
    if has(head, 3, b"-FVE-FS-") || has(head, 424, TO_GO) {
        kinds.push(FsKind::BitLocker);
    } else if has(head, 3, b"NTFS    ") {
        kinds.push(FsKind::Ntfs);
    } else if has(head, 3, b"EXFAT   ") {
        kinds.push(FsKind::ExFat);
    } else if has(head, 3, b"ReFS\0\0\0\0") {
        kinds.push(FsKind::ReFs);
    } else if is_fat(head).unwrap_or(false) {
        // The reader counts clusters to tell 12 from 16 bits.
        let is_32 = has(head, 22, &[0, 0]);
        kinds.push(if is_32 { FsKind::Fat32 } else { FsKind::Fat16 });
    }
}

/// FAT has no magic: a jump, a sane parameter block and the boot mark together stand for one.
fn is_fat(head: &[u8]) -> Result<bool, Stop> {
    let boot = Fields(head);
    let sector = boot.u16(11)?;
    let cluster = boot.u8(13)?;
    Ok(boot.bytes(510, 2)? == [0x55, 0xAA]
        && matches!(boot.u8(0)?, 0xEB | 0xE9)
        && sector.is_power_of_two()
        && (512..=4096).contains(&sector)
        && cluster.is_power_of_two()
        && boot.u16(14)? != 0
        && (1..=2).contains(&boot.u8(16)?)
        && (boot.u8(21)? == 0xF0 || boot.u8(21)? >= 0xF8))
}

fn superblocks(head: &[u8], kinds: &mut Vec<FsKind>) {
    let table: &[(FsKind, usize, &[u8])] = &[
        (FsKind::Luks, 0, b"LUKS\xBA\xBE"),
        (FsKind::Xfs, 0, b"XFSB"),
        (FsKind::Apfs, 32, b"NXSB"),
        // With their versions: two letters alone are a likely inode count of an ext superblock.
        (FsKind::HfsPlus, 1024, b"H+\0\x04"),
        (FsKind::HfsPlus, 1024, b"HX\0\x05"),
        (FsKind::F2fs, 1024, &[0x10, 0x20, 0xF5, 0xF2]),
        (FsKind::Ext4, 1080, &[0x53, 0xEF]),
        (FsKind::Btrfs, 65_600, b"_BHRfS_M"),
    ];
    for (kind, at, signature) in table {
        if has(head, *at, signature) {
            kinds.push(*kind);
        }
    }
    let lvm = (0..4).any(|sector| {
        has(head, sector * 512, b"LABELONE") && has(head, sector * 512 + 24, b"LVM2 001")
    });
    if lvm {
        kinds.push(FsKind::LvmPv);
    }
}

/// md superblocks: 1.1 and 1.2 at the front, 1.0 and 0.90 near the end of the member.
fn md_member(volume: &Volume<'_>, head: &[u8]) -> Result<bool, Stop> {
    let magic = MD_MAGIC.to_le_bytes();
    if has(head, 0, &magic) || has(head, 4096, &magic) {
        return Ok(true);
    }
    let length = volume.length();
    let sectors = length / 512;
    let version_1_0 = sectors.checked_sub(16).map(|sector| (sector & !7) * 512);
    let version_0_90 = (length & !0xFFFF).checked_sub(0x1_0000);
    for at in [version_1_0, version_0_90].into_iter().flatten() {
        let found = volume.read_available(at, 4)?;
        // 0.90 is in the byte order of the machine that made it.
        if found == magic || found == MD_MAGIC.to_be_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The uberblock array of ZFS label 0: 128 KiB of slots, any of them may be the live one.
fn zfs_label(volume: &Volume<'_>) -> Result<bool, Stop> {
    const UBERBLOCK: u64 = 0x00BA_B10C;
    let ring = volume.read_available(128 << 10, 128 << 10)?;
    let found = ring.chunks_exact(1024).any(|slot| {
        slot.starts_with(&UBERBLOCK.to_le_bytes()) || slot.starts_with(&UBERBLOCK.to_be_bytes())
    });
    Ok(found)
}

/// Why content of this kind is captured whole, with what that means for the operator.
fn opaque_reason(kind: FsKind, length: u64) -> Option<String> {
    let mib = length.div_ceil(1 << 20);
    Some(match kind {
        FsKind::BitLocker => format!(
            "BitLocker: encrypted, so all {mib} MiB are captured and do not compress; a copy is \
             bound to the TPM of the source machine: decrypt the volume before capture \
             (manage-bde -off) to deploy it elsewhere"
        ),
        FsKind::Luks => {
            format!("LUKS: encrypted, so all {mib} MiB are captured and do not compress")
        }
        FsKind::LvmPv => {
            format!("LVM physical volume: all {mib} MiB are captured, free extents included")
        }
        FsKind::MdRaid => format!("member of an md array: all {mib} MiB are captured"),
        FsKind::Zfs => format!("member of a ZFS pool: all {mib} MiB are captured"),
        FsKind::Xfs
        | FsKind::Btrfs
        | FsKind::ReFs
        | FsKind::Apfs
        | FsKind::HfsPlus
        | FsKind::F2fs => format!("no used-block reader for {kind}: all {mib} MiB are captured"),
        FsKind::Ext2
        | FsKind::Ext3
        | FsKind::Ext4
        | FsKind::Ntfs
        | FsKind::Fat12
        | FsKind::Fat16
        | FsKind::Fat32
        | FsKind::ExFat
        | FsKind::Swap => return None,
    })
}
