//! The superblock of ext2/3/4 and the arithmetic of its block groups.
//!
//! Owns the positions: features, sizes, groups with a superblock copy, places of descriptors.
//! Parsing refuses all values that the arithmetic could not handle, so later products and sums
//! cannot overflow. This module does not read bitmaps.
//!
//! ```text
//!   group:  [superblock copy][descriptors][reserved][block bitmap][inode bitmap][inode table][data]
//!            only in groups with a super            anywhere when flex_bg is on
//! ```
//!
//! Layout: Linux `Documentation/filesystems/ext4`, and libext2fs `ext2fs_super_and_bgd_loc2`.

use std::ops::Range;

use super::checksum::crc32c;
use super::stop::Stop;
use super::{FsInfo, FsKind};
use crate::volume::{Fields, Volume};

const SUPER_OFFSET: u64 = 1024;
const SUPER_BYTES: u64 = 1024;

const STATE_VALID: u16 = 1;
const STATE_ERROR: u16 = 2;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const COMPAT_LAZY_BG: u32 = 0x40;
const COMPAT_SPARSE_SUPER2: u32 = 0x200;

const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_EXTENTS: u32 = 0x40;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_FLEX_BG: u32 = 0x200;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
/// Known incompatible features: those handled here, and those that change neither the positions of
/// blocks nor the meaning of a bitmap. These are filetype, recover, meta_bg, extents, 64bit, mmp,
/// flex_bg, ea_inode, csum_seed, largedir, inline_data, encrypt, casefold. Not known: compression
/// (0x1), dirdata (0x1000, Lustre), newer ones.
const INCOMPAT_KNOWN: u32 = 0x2
    | INCOMPAT_RECOVER
    | INCOMPAT_META_BG
    | INCOMPAT_EXTENTS
    | INCOMPAT_64BIT
    | 0x100
    | INCOMPAT_FLEX_BG
    | 0x400
    | INCOMPAT_CSUM_SEED
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000;

const RO_SPARSE_SUPER: u32 = 0x1;
const RO_GDT_CSUM: u32 = 0x10;
const RO_BIGALLOC: u32 = 0x200;
const RO_METADATA_CSUM: u32 = 0x400;
/// Known read-only compatible features: sparse_super, large_file, btree_dir, huge_file, gdt_csum,
/// dir_nlink, extra_isize, quota, bigalloc, metadata_csum, readonly, project, verity,
/// orphan_present. A feature that only forbids writing may still change the bitmap's meaning
/// (bigalloc does), so unknown ones are refused here too.
const RO_KNOWN: u32 = 0x1
    | 0x2
    | 0x4
    | 0x8
    | RO_GDT_CSUM
    | 0x20
    | 0x40
    | 0x100
    | RO_BIGALLOC
    | RO_METADATA_CSUM
    | 0x1000
    | 0x2000
    | 0x8000
    | 0x1_0000;

/// Features that only ext4 has. A file system without them is ext3 if it has a journal.
const INCOMPAT_EXT4: u32 = !(0x2 | INCOMPAT_RECOVER | INCOMPAT_META_BG);
const RO_EXT4: u32 = !(RO_SPARSE_SUPER | 0x2 | 0x4);

/// The kind of checksum of group descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// No checksum.
    None,
    /// CRC-16 of the descriptor (feature `uninit_bg`).
    Crc16,
    /// CRC-32C of descriptor and bitmaps (feature `metadata_csum`).
    Crc32c,
}

/// A checked superblock. Blocks are numbered from 0 at the start of the partition.
pub(super) struct Layout {
    pub(super) info: FsInfo,
    pub(super) block_size: u64,
    pub(super) blocks: u64,
    pub(super) first_data_block: u64,
    pub(super) blocks_per_group: u64,
    /// Number of blocks for each bitmap bit: 1 without bigalloc.
    pub(super) cluster_blocks: u64,
    pub(super) groups: u64,
    pub(super) inode_table_blocks: u64,
    pub(super) descriptor_bytes: u64,
    pub(super) guard: Guard,
    /// Seed of CRC-32C checksums.
    pub(super) seed: u32,
    pub(super) uuid: [u8; 16],
    state: u16,
    recover: bool,
    journal: Journal,
    /// Descriptor blocks with a lower number than this follow each superblock copy.
    first_meta_bg: u64,
    meta_bg: bool,
    reserved_descriptor_blocks: u64,
    supers: Supers,
}

/// The place of the journal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Journal {
    None,
    Inside,
    OtherDevice,
}

/// The groups with a copy of the superblock.
enum Supers {
    All,
    /// Group 0, group 1, and powers of 3, 5 and 7.
    Sparse,
    /// Group 0 and these two; zero means none.
    Sparse2([u64; 2]),
}

impl Layout {
    /// Reads and checks the primary superblock.
    pub(super) fn open(volume: &Volume<'_>) -> Result<Self, Stop> {
        let bytes = volume.read(SUPER_OFFSET, SUPER_BYTES)?;
        let sb = Fields(&bytes);
        let (compat, incompat, ro) = if sb.u32(0x4C)? == 0 {
            (0, 0, 0) // revision 0 had no features; the fields are not defined
        } else {
            (sb.u32(0x5C)?, sb.u32(0x60)?, sb.u32(0x64)?)
        };
        if incompat & INCOMPAT_JOURNAL_DEV != 0 {
            return Err(Stop::raw("a journal device of another ext file system"));
        }
        let unknown = incompat & !INCOMPAT_KNOWN;
        if unknown != 0 {
            return Err(Stop::raw(format!(
                "unknown ext incompat features {unknown:#x}"
            )));
        }
        let unknown = ro & !RO_KNOWN;
        if unknown != 0 {
            return Err(Stop::raw(format!(
                "unknown ext ro-compat features {unknown:#x}"
            )));
        }
        if compat & COMPAT_LAZY_BG != 0 {
            return Err(Stop::raw("ext feature lazy_bg"));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(sb.bytes(0x68, 16)?);
        let guard = match (ro & RO_METADATA_CSUM != 0, ro & RO_GDT_CSUM != 0) {
            (true, true) => return Err(Stop::raw("both gdt_csum and metadata_csum are set")),
            (true, false) => Guard::Crc32c,
            (false, true) => Guard::Crc16,
            (false, false) => Guard::None,
        };
        let seed = if incompat & INCOMPAT_CSUM_SEED != 0 {
            sb.u32(0x270)?
        } else {
            crc32c(!0, &uuid)
        };
        if guard == Guard::Crc32c && sb.u32(0x3FC)? != crc32c(!0, sb.bytes(0, 0x3FC)?) {
            return Err(Stop::raw("ext superblock checksum does not match"));
        }

        let log_block = sb.u32(0x18)?;
        if log_block > 6 {
            return Err(Stop::raw(format!("ext block size 1024 << {log_block}")));
        }
        let block_size = 1024u64 << log_block;
        let wide = incompat & INCOMPAT_64BIT != 0;
        let high = if wide { sb.u32(0x150)? } else { 0 };
        let blocks = u64::from(sb.u32(0x4)?) | u64::from(high) << 32;
        let fits = blocks
            .checked_mul(block_size)
            .filter(|size| *size <= volume.length());
        let Some(size) = fits else {
            return Err(Stop::raw(format!(
                "ext file system of {blocks} blocks of {block_size} bytes in a partition of {} bytes",
                volume.length()
            )));
        };
        let bigalloc = ro & RO_BIGALLOC != 0;
        let cluster_blocks = if bigalloc {
            let log_cluster = sb.u32(0x1C)?;
            match log_cluster.checked_sub(log_block) {
                Some(shift) if shift <= 20 => 1u64 << shift,
                _ => return Err(Stop::raw(format!("ext cluster size 1024 << {log_cluster}"))),
            }
        } else {
            1
        };
        let clusters_per_group = u64::from(sb.u32(if bigalloc { 0x24 } else { 0x20 })?);
        let blocks_per_group = u64::from(sb.u32(0x20)?);
        let bits = block_size * 8;
        if clusters_per_group == 0
            || clusters_per_group > bits
            || clusters_per_group % 8 != 0
            || clusters_per_group * cluster_blocks != blocks_per_group
        {
            return Err(Stop::raw(format!(
                "ext groups of {blocks_per_group} blocks, {clusters_per_group} clusters"
            )));
        }
        let first_data_block = u64::from(sb.u32(0x14)?);
        // The first data block is 1 if the superblock does not share its block with the boot
        // sector, otherwise 0. With bigalloc, clusters count from 0 in any case.
        let expected_first = u64::from(block_size == 1024 && !bigalloc);
        if first_data_block != expected_first || blocks <= first_data_block {
            return Err(Stop::raw(format!(
                "ext first data block {first_data_block} of {blocks}"
            )));
        }
        let groups = (blocks - first_data_block).div_ceil(blocks_per_group);

        let inode_bytes = if sb.u32(0x4C)? == 0 {
            128
        } else {
            u32::from(sb.u16(0x58)?)
        };
        let inodes_per_group = u64::from(sb.u32(0x28)?);
        if !inode_bytes.is_power_of_two()
            || inode_bytes < 128
            || u64::from(inode_bytes) > block_size
            || inodes_per_group == 0
            || inodes_per_group > bits
        {
            return Err(Stop::raw(format!(
                "ext inodes: {inodes_per_group} of {inode_bytes} bytes a group"
            )));
        }
        let descriptor_bytes = if wide { u64::from(sb.u16(0xFE)?) } else { 32 };
        if !descriptor_bytes.is_power_of_two()
            || !(32..=1024).contains(&descriptor_bytes)
            || (wide && descriptor_bytes < 64)
        {
            return Err(Stop::raw(format!(
                "ext descriptors of {descriptor_bytes} bytes"
            )));
        }
        let supers = if compat & COMPAT_SPARSE_SUPER2 != 0 {
            Supers::Sparse2([u64::from(sb.u32(0x24C)?), u64::from(sb.u32(0x250)?)])
        } else if ro & RO_SPARSE_SUPER != 0 {
            Supers::Sparse
        } else {
            Supers::All
        };
        let journal = if compat & COMPAT_HAS_JOURNAL == 0 {
            Journal::None
        } else if sb.u32(0xE0)? == 0 {
            Journal::OtherDevice
        } else {
            Journal::Inside
        };
        let kind = if incompat & INCOMPAT_EXT4 != 0 || ro & RO_EXT4 != 0 {
            FsKind::Ext4
        } else if journal == Journal::None {
            FsKind::Ext2
        } else {
            FsKind::Ext3
        };
        Ok(Self {
            info: FsInfo {
                kind,
                label: sb.label(0x78, 16)?,
                uuid: sb.uuid(0x68)?,
                // At most 64 KiB, checked above.
                block_size: u32::try_from(block_size).unwrap_or(0),
                size,
            },
            block_size,
            blocks,
            first_data_block,
            blocks_per_group,
            cluster_blocks,
            groups,
            inode_table_blocks: (inodes_per_group * u64::from(inode_bytes)).div_ceil(block_size),
            descriptor_bytes,
            guard,
            seed,
            uuid,
            state: sb.u16(0x3A)?,
            recover: incompat & INCOMPAT_RECOVER != 0,
            journal,
            first_meta_bg: u64::from(sb.u32(0x104)?),
            meta_bg: incompat & INCOMPAT_META_BG != 0,
            reserved_descriptor_blocks: u64::from(sb.u16(0xCE)?),
            supers,
        })
    }

    /// Refuses a file system that was not cleanly unmounted.
    ///
    /// `needs_recovery` is the important flag: after a crash the superblock still says "valid", and
    /// data that programs had synced is only in the journal. partclone copies such a volume, exits
    /// 0, and the files are wrong after a restore.
    pub(super) fn check_clean(&self) -> Result<(), Stop> {
        let hint = "unmount it, or boot it and shut it down cleanly, or run e2fsck -p on it";
        if self.recover {
            return Err(Stop::refused(
                format!(
                    "{} journal needs recovery: mounted, or not cleanly unmounted",
                    self.info.kind
                ),
                hint,
            ));
        }
        if self.state & STATE_ERROR != 0 {
            return Err(Stop::refused(
                format!("{} is marked as having errors", self.info.kind),
                "run e2fsck -p on it",
            ));
        }
        if self.state & STATE_VALID == 0 {
            return Err(Stop::refused(
                format!(
                    "{} is mounted, or was not cleanly unmounted",
                    self.info.kind
                ),
                hint,
            ));
        }
        if self.journal == Journal::OtherDevice {
            return Err(Stop::raw("ext journal on another device"));
        }
        Ok(())
    }

    /// The blocks of group `group`, limited to the end of the file system.
    pub(super) fn group_blocks(&self, group: u64) -> Range<u64> {
        let start = self
            .first_data_block
            .saturating_add(group.saturating_mul(self.blocks_per_group))
            .min(self.blocks);
        start..start.saturating_add(self.blocks_per_group).min(self.blocks)
    }

    fn descriptors_per_block(&self) -> u64 {
        self.block_size / self.descriptor_bytes
    }

    /// Number of blocks for one copy of all descriptors.
    pub(super) fn descriptor_blocks(&self) -> u64 {
        self.groups.div_ceil(self.descriptors_per_block())
    }

    /// Number of descriptor blocks that follow each superblock copy.
    fn old_descriptor_blocks(&self) -> u64 {
        if self.meta_bg {
            self.first_meta_bg.min(self.descriptor_blocks())
        } else {
            self.descriptor_blocks()
        }
    }

    /// Block of the superblock of `group`, if the group has one. With 1 KiB blocks and bigalloc,
    /// group 0 begins at block 0 but its superblock is in block 1.
    fn super_block(&self, group: u64) -> u64 {
        let start = self.group_blocks(group).start;
        if start == 0 && self.block_size == 1024 {
            1
        } else {
            start
        }
    }

    /// Block that holds descriptor block `index` of the primary copy.
    pub(super) fn descriptor_block(&self, index: u64) -> u64 {
        if index < self.old_descriptor_blocks() {
            return self.super_block(0) + 1 + index;
        }
        let group = index.saturating_mul(self.descriptors_per_block());
        self.super_block(group) + u64::from(self.has_super(group))
    }

    fn has_super(&self, group: u64) -> bool {
        match &self.supers {
            _ if group == 0 => true,
            Supers::Sparse2(groups) => groups.contains(&group),
            Supers::All => true,
            Supers::Sparse => {
                group == 1 || [3, 5, 7].into_iter().any(|base| is_power_of(group, base))
            }
        }
    }

    /// The superblock copy, the descriptors and the space reserved for more, at the front of
    /// `group`. These blocks are used, whatever a bitmap says.
    pub(super) fn front_of_group(&self, group: u64) -> Range<u64> {
        let all = self.group_blocks(group);
        let has_super = self.has_super(group);
        let first = self.super_block(group);
        let mut end = if has_super { first + 1 } else { first };
        let per_block = self.descriptors_per_block();
        let meta_group = group / per_block;
        if !self.meta_bg || meta_group < self.old_descriptor_blocks() {
            if has_super {
                end += self.old_descriptor_blocks() + self.reserved_descriptor_blocks;
            }
        } else {
            let within = group % per_block;
            if within <= 1 || within == per_block - 1 {
                end += 1;
            }
        }
        all.start..end.min(all.end)
    }
}

fn is_power_of(mut number: u64, base: u64) -> bool {
    while number > 1 && number.is_multiple_of(base) {
        number /= base;
    }
    number == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_super_groups() {
        let with: Vec<u64> = (0..130)
            .filter(|group| {
                *group <= 1 || [3, 5, 7].into_iter().any(|base| is_power_of(*group, base))
            })
            .collect();
        assert_eq!(with, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }
}
