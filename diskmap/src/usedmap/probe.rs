//! Recognition of a partition's content by its signatures.
//!
//! Owns the list of signatures and their positions. It only selects the reader; the reader decides
//! if the content is intact. If there are two signatures (a file system created over an older one
//! whose traces are left), the module does not guess: the result is raw.
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
//!   4120        GUID of bcache               bcache
//!   65600       _BHRfS_M                     btrfs
//!   128 KiB     0x00BAB10C in any 1 KiB      ZFS label 0
//!   page - 10   SWAPSPACE2 and relatives     swap, hibernation images
//!   end - 1024  Intel Raid ISM Cfg Sig.      member of a RAID that the firmware made (Intel)
//!   end - 512   DE 11 DE 11                  the same, of the DDF standard
//! ```

use super::FsKind;
use super::stop::Stop;
use super::swap;
use crate::volume::{Fields, Volume};

/// The content according to the signatures.
pub(super) enum Content {
    /// No known signature.
    Unknown,
    /// Signatures of more than one kind.
    Several(Vec<FsKind>),
    /// A kind without a reader; the text is the reason for a raw capture.
    Opaque(FsKind, String),
    /// A kind with a reader.
    One(FsKind),
}

pub(crate) const MD_MAGIC: u32 = 0xA92B_4EFC;

/// A signature that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Kind of content that the signature stands for.
    pub(crate) kind: FsKind,
    /// Position of its first byte.
    pub(crate) at: u64,
}

/// Checks all places of signatures and returns the content they stand for.
pub(super) fn identify(volume: &Volume<'_>) -> Result<Content, Stop> {
    let mut kinds: Vec<FsKind> = Vec::new();
    for signature in signatures(volume)? {
        if !kinds.contains(&signature.kind) {
            kinds.push(signature.kind);
        }
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

/// All signatures that are present, with their positions.
pub(super) fn signatures(volume: &Volume<'_>) -> Result<Vec<Signature>, Stop> {
    // Covers all positions up to the btrfs superblock at 64 KiB and the largest swap page.
    let head = volume.read_available(0, 128 << 10)?;
    let mut found = Vec::new();
    found.extend(boot_sector(&head).map(|kind| Signature { kind, at: 0 }));
    superblocks(&head, &mut found);
    if let Some(signature) = swap::signature(&head) {
        found.push(Signature {
            kind: FsKind::Swap,
            at: u64::from(signature.page_size).saturating_sub(10),
        });
    }
    let kind = FsKind::MdRaid;
    found.extend(md_places(volume, &head)?.map(|at| Signature { kind, at }));
    let kind = FsKind::Zfs;
    found.extend(zfs_label(volume)?.map(|at| Signature { kind, at }));
    let kind = FsKind::BiosRaid;
    found.extend(bios_raid(volume)?.map(|at| Signature { kind, at }));
    Ok(found)
}

/// The kind of content according to a boot sector and the bytes that follow it in `head`; `None` if
/// it is unknown or there are several kinds.
pub(crate) fn boot_sector_kind(head: &[u8]) -> Option<FsKind> {
    let mut found = Vec::new();
    superblocks(head, &mut found);
    match (boot_sector(head), found.as_slice()) {
        (Some(kind), []) => Some(kind),
        (None, [one]) => Some(one.kind),
        _ => None,
    }
}

/// True if `head` has `signature` at `at`.
fn has(head: &[u8], at: usize, signature: &[u8]) -> bool {
    head.get(at..)
        .is_some_and(|rest| rest.starts_with(signature))
}

/// The kind of a boot sector of the Microsoft family. The kinds exclude each other, because their
/// names are at different positions or differ.
///
/// The first sector is enough for this.
pub(crate) fn boot_sector(head: &[u8]) -> Option<FsKind> {
    /// BitLocker To Go looks like FAT32 except for this GUID, 4967d63b-2e29-4ad8-8399-f6a339e3d001.
    const TO_GO: &[u8] = &[
        0x3B, 0xD6, 0x67, 0x49, 0x29, 0x2E, 0xD8, 0x4A, 0x83, 0x99, 0xF6, 0xA3, 0x39, 0xE3, 0xD0,
        0x01,
    ];
    if has(head, 3, b"-FVE-FS-") || has(head, 424, TO_GO) {
        Some(FsKind::BitLocker)
    } else if has(head, 3, b"NTFS    ") {
        Some(FsKind::Ntfs)
    } else if has(head, 3, b"EXFAT   ") {
        Some(FsKind::ExFat)
    } else if has(head, 3, b"ReFS\0\0\0\0") {
        Some(FsKind::ReFs)
    } else if is_fat(head).unwrap_or(false) {
        // The reader counts clusters to distinguish 12 from 16 bits.
        let is_32 = has(head, 22, &[0, 0]);
        Some(if is_32 { FsKind::Fat32 } else { FsKind::Fat16 })
    } else {
        None
    }
}

/// True for the boot sector of FAT.
///
/// FAT has no magic number: it is recognised by a jump, a plausible parameter block and the boot
/// signature together. The text with the type "is informational only and does not determine the FAT
/// type" (Microsoft FAT specification).
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
        && (boot.u8(21)? == 0xF0 || boot.u8(21)? >= 0xF8)
        // The number of sectors and of sectors for each table: 16 bits, or 32 if those are zero.
        && (boot.u16(19)? != 0 || boot.u32(32)? != 0)
        && (boot.u16(22)? != 0 || boot.u32(36)? != 0))
}

fn superblocks(head: &[u8], found: &mut Vec<Signature>) {
    let table: &[(FsKind, usize, &[u8])] = &[
        (FsKind::Luks, 0, b"LUKS\xBA\xBE"),
        (FsKind::Xfs, 0, b"XFSB"),
        (FsKind::Apfs, 32, b"NXSB"),
        // The versions are included, because two letters alone may well be the inode count of an
        // ext superblock.
        (FsKind::HfsPlus, 1024, b"H+\0\x04"),
        (FsKind::HfsPlus, 1024, b"HX\0\x05"),
        (FsKind::F2fs, 1024, &[0x10, 0x20, 0xF5, 0xF2]),
        (FsKind::Ext4, 1080, &[0x53, 0xEF]),
        (FsKind::Btrfs, 65_600, b"_BHRfS_M"),
        // The GUID c68573f6-4e1a-45ca-8265-f57f48ba6d81, on a cache and on a backing device.
        (
            FsKind::Bcache,
            4120,
            b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        ),
    ];
    for (kind, at, signature) in table {
        if has(head, *at, signature) {
            found.push(Signature {
                kind: *kind,
                at: *at as u64,
            });
        }
    }
    let lvm = (0..4usize)
        .map(|sector| sector * 512)
        .find(|at| has(head, *at, b"LABELONE") && has(head, at.saturating_add(24), b"LVM2 001"));
    found.extend(lvm.map(|at| Signature {
        kind: FsKind::LvmPv,
        at: at as u64,
    }));
}

/// The positions of md superblocks: 1.1 and 1.2 at the front, 1.0 and 0.90 near the end of the
/// member.
fn md_places(volume: &Volume<'_>, head: &[u8]) -> Result<impl Iterator<Item = u64>, Stop> {
    let magic = MD_MAGIC.to_le_bytes();
    let mut found: Vec<u64> = [0usize, 4096]
        .into_iter()
        .filter(|at| has(head, *at, &magic))
        .map(|at| at as u64)
        .collect();
    let length = volume.length();
    let sectors = length / 512;
    let version_1_0 = sectors.checked_sub(16).map(|sector| (sector & !7) * 512);
    let version_0_90 = (length & !0xFFFF).checked_sub(0x1_0000);
    for at in [version_1_0, version_0_90].into_iter().flatten() {
        let bytes = volume.read_available(at, 4)?;
        // Version 0.90 uses the byte order of the machine that created it.
        let named = bytes == magic || bytes == MD_MAGIC.to_be_bytes();
        // In a small member, a position at the end may equal one at the front.
        if named && !found.contains(&at) {
            found.push(at);
        }
    }
    Ok(found.into_iter())
}

/// The position of a ZFS uberblock in label 0: 128 KiB of slots, any of which may be in use.
fn zfs_label(volume: &Volume<'_>) -> Result<Option<u64>, Stop> {
    const UBERBLOCK: u64 = 0x00BA_B10C;
    const RING: u64 = 128 << 10;
    let ring = volume.read_available(RING, 128 << 10)?;
    let slot = ring.chunks_exact(1024).position(|slot| {
        slot.starts_with(&UBERBLOCK.to_le_bytes()) || slot.starts_with(&UBERBLOCK.to_be_bytes())
    });
    Ok(slot.map(|slot| RING + slot as u64 * 1024))
}

/// Position of the RAID metadata that the firmware of a board or controller stores at the end of
/// the disks of its arrays.
fn bios_raid(volume: &Volume<'_>) -> Result<Option<u64>, Stop> {
    let Some(at) = (volume.length() & !511).checked_sub(1024) else {
        return Ok(None);
    };
    let tail = volume.read_available(at, 1024)?;
    Ok(if has(&tail, 0, b"Intel Raid ISM Cfg Sig. ") {
        Some(at)
    } else if has(&tail, 512, &[0xDE, 0x11, 0xDE, 0x11]) {
        Some(at.saturating_add(512))
    } else {
        None
    })
}

/// The reason for the operator why content of this kind is captured whole, and the consequence.
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
        FsKind::Bcache => format!("bcache device: all {mib} MiB are captured"),
        FsKind::BiosRaid => {
            format!("member of a RAID that the firmware made: all {mib} MiB are captured")
        }
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
