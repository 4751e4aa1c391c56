//! Used clusters of FAT12, FAT16 and FAT32, from the file allocation table.
//!
//! Always holds: a cluster with a non-zero entry is used (clusters marked bad are then excluded);
//! everything before the data area is used (reserved sectors, every table, the fixed root
//! directory), and so is everything behind the last cluster. The free counts in FAT32's information
//! sector are only hints that may be stale; they are not read.
//!
//! ```text
//!   reserved sectors | FAT | FAT copy | root directory (12, 16) | cluster 2, 3, ...
//! ```
//!
//! The type is determined as in Linux, Windows and dosfstools: FAT32 if the 16-bit table length is
//! zero, otherwise by the number of clusters (Microsoft FAT specification, "FAT type
//! determination").

use super::bits::Used;
use super::stop::Stop;
use super::{Excluded, Found, FsInfo, FsKind, MapOptions, Reader};
use crate::volume::{Fields, Volume};

/// Largest numbers of clusters of FAT12, FAT16 and FAT32.
const FAT12_CLUSTERS: u64 = 4084;
const FAT16_CLUSTERS: u64 = 65_524;
const FAT32_CLUSTERS: u64 = 0x0FFF_FFF5;

/// Number of bytes of a table that are read at once: a multiple of 3, so that no pair of 12-bit
/// entries is divided, and more than a whole FAT12.
const WINDOW: u64 = 3 << 18;

const DIRTY_HINT: &str =
    "boot the system and shut it down cleanly, or run fsck.fat -a (Windows: chkdsk /f)";

/// A FAT file system.
pub(super) struct Fat {
    info: FsInfo,
    media: u8,
    fats: u64,
    fat_at: u64,
    fat_bytes: u64,
    data_at: u64,
    cluster_bytes: u64,
    clusters: u64,
    boot_state: u8,
}

impl Reader for Fat {
    fn open(volume: &Volume<'_>) -> Result<Self, Stop> {
        let sector = volume.read(0, 512)?;
        let boot = Fields(&sector);
        let sector_bytes = u64::from(boot.u16(11)?);
        let cluster_sectors = u64::from(boot.u8(13)?);
        if !sector_bytes.is_power_of_two()
            || !(512..=4096).contains(&sector_bytes)
            || !cluster_sectors.is_power_of_two()
        {
            return Err(Stop::raw(format!(
                "FAT clusters of {cluster_sectors} sectors of {sector_bytes} bytes"
            )));
        }
        let cluster_bytes = cluster_sectors * sector_bytes;
        let fats = u64::from(boot.u8(16)?);
        let root_entries = u64::from(boot.u16(17)?);
        let sectors = match boot.u16(19)? {
            0 => u64::from(boot.u32(32)?),
            sectors => u64::from(sectors),
        };
        let (fat_sectors, is_32) = match boot.u16(22)? {
            0 => (u64::from(boot.u32(36)?), true),
            sectors => (u64::from(sectors), false),
        };
        let reserved = u64::from(boot.u16(14)?);
        let root_bytes = (root_entries * 32).next_multiple_of(sector_bytes);
        // All factors are below 2^32 and 2^13, so products and sums fit u64.
        let fat_at = reserved * sector_bytes;
        let fat_bytes = fat_sectors * sector_bytes;
        let data_at = fat_at + fats * fat_bytes + root_bytes;
        let size = sectors * sector_bytes;
        if reserved == 0
            || !(1..=2).contains(&fats)
            || fat_sectors == 0
            || size > volume.length()
            || data_at >= size
            || is_32 != (root_entries == 0)
        {
            return Err(Stop::raw(format!(
                "FAT of {sectors} sectors of {sector_bytes} bytes with {fats} tables of \
                 {fat_sectors} sectors in a partition of {} bytes",
                volume.length()
            )));
        }
        let clusters = (size - data_at) / cluster_bytes;
        let (kind, most, entry_bits) = match (is_32, clusters) {
            (true, _) => (FsKind::Fat32, FAT32_CLUSTERS, 32),
            (false, 0..=FAT12_CLUSTERS) => (FsKind::Fat12, FAT12_CLUSTERS, 12),
            (false, _) => (FsKind::Fat16, FAT16_CLUSTERS, 16),
        };
        if clusters == 0 || clusters > most || ((clusters + 2) * entry_bits).div_ceil(8) > fat_bytes
        {
            return Err(Stop::raw(format!(
                "{kind} of {clusters} clusters with a table of {fat_bytes} bytes"
            )));
        }
        if is_32 {
            // Bit 7 means that only one table is kept up to date. No system has written this for
            // decades.
            let flags = boot.u16(40)?;
            let version = boot.u16(42)?;
            if flags & 0x80 != 0 || version != 0 {
                return Err(Stop::raw(format!(
                    "FAT32 version {version} with table flags {flags:#06x}"
                )));
            }
        }
        let extended = if is_32 { 64 } else { 36 };
        let (label, uuid) = if boot.u8(extended + 2)? == 0x29 {
            let id = boot.u32(extended + 3)?;
            let label = boot.label(extended + 7, 11)?;
            (
                label.filter(|label| label != "NO NAME"),
                Some(format!("{:04X}-{:04X}", id >> 16, id & 0xFFFF)),
            )
        } else {
            (None, None)
        };
        Ok(Self {
            info: FsInfo {
                kind,
                label,
                uuid,
                // At most 128 sectors of 4 KiB.
                block_size: u32::try_from(cluster_bytes).unwrap_or(0),
                size,
            },
            media: boot.u8(21)?,
            fats,
            fat_at,
            fat_bytes,
            data_at,
            cluster_bytes,
            clusters,
            boot_state: boot.u8(extended + 1)?,
        })
    }

    fn info(&self) -> FsInfo {
        self.info.clone()
    }

    fn used(&self, volume: &Volume<'_>, _options: &MapOptions) -> Result<Found, Stop> {
        self.check_clean(volume)?;
        let mut used = Used::new();
        used.add(0..self.data_at);
        let end = self.data_at + self.clusters * self.cluster_bytes;
        used.add(end..self.info.size);

        let (mut excluded, bad) = (Vec::new(), bad_mark(self.info.kind));
        let mut at = 0;
        let mut cluster = 0;
        while at < self.fat_bytes {
            let len = WINDOW.min(self.fat_bytes - at);
            let table = volume.read(self.fat_at + at, len)?;
            if self.fats == 2 {
                let copy = volume.read(self.fat_at + self.fat_bytes + at, len)?;
                if copy != table {
                    return Err(Stop::raw("the two file allocation tables differ"));
                }
            }
            for entry in entries(self.info.kind, &table) {
                // Entries 0 and 1 do not stand for clusters; those after the last cluster are
                // padding.
                if entry != 0 && (2..self.clusters + 2).contains(&cluster) {
                    let start = self.data_at + (cluster - 2) * self.cluster_bytes;
                    let range = start..start + self.cluster_bytes;
                    used.add(range.clone());
                    if entry == bad && excluded.len() < Excluded::BAD_MAX {
                        excluded.push(Excluded::bad(range));
                    }
                }
                cluster += 1;
            }
            at += len;
        }
        Ok(Found { used, excluded })
    }
}

impl Fat {
    /// Refuses a volume that was not unmounted.
    ///
    /// Linux and Windows keep a bit in the boot sector, Windows and DOS two more bits in the second
    /// table entry (set means clean; FAT12 has no room for them).
    fn check_clean(&self, volume: &Volume<'_>) -> Result<(), Stop> {
        let head = volume.read(self.fat_at, 8)?;
        let head = Fields(&head);
        if head.u8(0)? != self.media {
            return Err(Stop::raw(format!(
                "FAT begins with {:#04x}, the boot sector says media {:#04x}",
                head.u8(0)?,
                self.media
            )));
        }
        let kind = self.info.kind;
        let (closed, no_errors) = match kind {
            FsKind::Fat16 => {
                let entry = head.u16(2)?;
                (entry & 0x8000 != 0, entry & 0x4000 != 0)
            }
            FsKind::Fat32 => {
                let entry = head.u32(4)?;
                (entry & 0x0800_0000 != 0, entry & 0x0400_0000 != 0)
            }
            _ => (true, true),
        };
        if !closed || self.boot_state & 1 != 0 {
            return Err(Stop::refused(
                format!("{kind} is mounted, or was not cleanly unmounted"),
                DIRTY_HINT,
            ));
        }
        if !no_errors {
            return Err(Stop::refused(
                format!("{kind} is marked as having met disk errors"),
                "run chkdsk /r on it in Windows",
            ));
        }
        Ok(())
    }
}

/// The entries of a part of the table, in order; 0 means free.
fn entries(kind: FsKind, table: &[u8]) -> Box<dyn Iterator<Item = u32> + '_> {
    match kind {
        FsKind::Fat12 => Box::new(table.chunks(3).flat_map(|pair| {
            let byte = |at: usize| u32::from(pair.get(at).copied().unwrap_or(0));
            [byte(0) | (byte(1) & 0x0F) << 8, byte(1) >> 4 | byte(2) << 4]
        })),
        FsKind::Fat16 => Box::new(table.chunks_exact(2).map(|entry| match entry {
            [a, b] => u32::from(*a) | u32::from(*b) << 8,
            _ => 1,
        })),
        // The top four bits of a 32-bit entry are reserved and ignored.
        _ => Box::new(table.chunks_exact(4).map(|entry| match entry {
            [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, d & 0x0F]),
            _ => 1,
        })),
    }
}

/// The entry of a cluster that cannot be read.
const fn bad_mark(kind: FsKind) -> u32 {
    match kind {
        FsKind::Fat12 => 0xFF7,
        FsKind::Fat16 => 0xFFF7,
        _ => 0x0FFF_FFF7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_each_width() {
        let taken = |kind, table: &[u8]| {
            entries(kind, table)
                .map(|entry| entry != 0)
                .collect::<Vec<_>>()
        };
        // Four 12-bit entries: 0x000, 0xF00, 0x001, 0x000.
        assert_eq!(
            taken(FsKind::Fat12, &[0x00, 0x00, 0xF0, 0x01, 0x00, 0x00]),
            [false, true, true, false]
        );
        assert_eq!(taken(FsKind::Fat16, &[0, 0, 0, 1]), [false, true]);
        assert_eq!(
            entries(FsKind::Fat12, &[0xF7, 0x7F, 0xFF]).collect::<Vec<_>>(),
            [bad_mark(FsKind::Fat12), bad_mark(FsKind::Fat12)]
        );
        // A free FAT32 entry with its reserved bits set counts as free.
        assert_eq!(
            taken(FsKind::Fat32, &[0, 0, 0, 0xF0, 0xF7, 0xFF, 0xFF, 0x0F]),
            [false, true]
        );
    }
}
