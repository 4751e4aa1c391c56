//! Used blocks of ext2, ext3 and ext4, from the block bitmaps of their groups.
//!
//! Descriptors are read a block at a time and bitmaps one group at a time, so memory does not grow
//! with the file system. Always holds:
//!
//! - The metadata of every group (superblock copies, descriptors, bitmaps, inode tables) is used,
//!   whatever the bitmaps say. With `flex_bg` it is stored in other groups, so the positions are
//!   taken from each group's descriptor.
//! - `BLOCK_UNINIT` groups contain only metadata; their bitmap on disk is garbage and not read.
//! - A bitmap is trusted only if its descriptor's checksum and its own checksum match (if they
//!   exist), the number of free clusters equals that in the descriptor, and all metadata of its
//!   group is marked as used. Otherwise the partition is captured raw.

use std::ops::Range;

use super::bits::{Used, set_runs};
use super::checksum::{crc16, crc32c};
use super::ext_bad;
use super::ext_layout::{Guard, Layout};
use super::stop::Stop;
use super::{Found, FsInfo, MapOptions, Reader};
use crate::volume::{Fields, Volume};

const BLOCK_UNINIT: u16 = 2;
const CHECKSUM_AT: usize = 0x1E;

/// An ext2, ext3 or ext4 file system.
pub(super) struct Ext {
    layout: Layout,
}

/// The fields of a group descriptor.
struct Descriptor {
    block_bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
    free_clusters: u64,
    bitmap_uninit: bool,
    bitmap_checksum: Option<u32>,
}

impl Reader for Ext {
    fn open(volume: &Volume<'_>) -> Result<Self, Stop> {
        Ok(Self {
            layout: Layout::open(volume)?,
        })
    }

    fn info(&self) -> FsInfo {
        self.layout.info.clone()
    }

    fn used(&self, volume: &Volume<'_>, _options: &MapOptions) -> Result<Found, Stop> {
        self.layout.check_clean()?;
        let mut used = Used::new();
        // The boot block belongs to no file and may contain a boot loader; with 1 KiB blocks no
        // bitmap covers it.
        let head = 1024u64.max(self.layout.first_data_block * self.layout.block_size);
        used.add(0..head.min(volume.length()));

        let per_block = self.layout.block_size / self.layout.descriptor_bytes;
        let size = usize::try_from(self.layout.descriptor_bytes)
            .map_err(|_| Stop::raw("ext descriptor size"))?;
        let mut excluded = Vec::new();
        for index in 0..self.layout.descriptor_blocks() {
            let at = self.layout.descriptor_block(index);
            let bytes = volume.read(self.byte_of(at)?, self.layout.block_size)?;
            let groups = index * per_block..((index + 1) * per_block).min(self.layout.groups);
            for (group, bytes) in groups.zip(bytes.chunks_exact(size)) {
                let descriptor = self.descriptor(group, bytes)?;
                self.add_group(volume, group, &descriptor, &mut used)?;
                if group == 0 {
                    let table = self.byte_of(descriptor.inode_table)?;
                    excluded = ext_bad::excluded(&self.layout, volume, table)?;
                }
            }
        }
        Ok(Found { used, excluded })
    }
}

impl Ext {
    /// Position of the first byte of a block inside the file system.
    fn byte_of(&self, block: u64) -> Result<u64, Stop> {
        if block >= self.layout.blocks {
            return Err(Stop::raw(format!(
                "ext block {block} beyond the {} of the file system",
                self.layout.blocks
            )));
        }
        Ok(block * self.layout.block_size)
    }

    /// Byte range of blocks, limited to the end of the file system.
    fn bytes_of(&self, blocks: &Range<u64>) -> Range<u64> {
        let end = blocks.end.min(self.layout.blocks);
        blocks.start.min(end) * self.layout.block_size..end * self.layout.block_size
    }

    /// Checks and parses the descriptor of `group`.
    fn descriptor(&self, group: u64, bytes: &[u8]) -> Result<Descriptor, Stop> {
        let fields = Fields(bytes);
        self.check_descriptor(group, fields)?;
        let wide = bytes.len() >= 64;
        let pair = |low: usize, high: usize| -> Result<u64, Stop> {
            let top = if wide { fields.u32(high)? } else { 0 };
            Ok(u64::from(fields.u32(low)?) | u64::from(top) << 32)
        };
        let guarded = self.layout.guard != Guard::None;
        let free_high = if wide { fields.u16(0x2C)? } else { 0 };
        let checksum = match self.layout.guard {
            Guard::Crc32c => {
                let high = if wide { fields.u16(0x38)? } else { 0 };
                Some(u32::from(fields.u16(0x18)?) | u32::from(high) << 16)
            }
            _ => None,
        };
        Ok(Descriptor {
            block_bitmap: pair(0, 0x20)?,
            inode_bitmap: pair(4, 0x24)?,
            inode_table: pair(8, 0x28)?,
            free_clusters: u64::from(fields.u16(0xC)?) | u64::from(free_high) << 16,
            // The flags are defined only if descriptors have checksums.
            bitmap_uninit: guarded && fields.u16(0x12)? & BLOCK_UNINIT != 0,
            bitmap_checksum: checksum,
        })
    }

    fn check_descriptor(&self, group: u64, fields: Fields<'_>) -> Result<(), Stop> {
        // The checksum includes a 32-bit group number; there are no more groups.
        let number = u32::try_from(group)
            .map_err(|_| Stop::raw(format!("ext group number {group}")))?
            .to_le_bytes();
        let before = fields.bytes(0, CHECKSUM_AT)?;
        let after = fields
            .0
            .get(CHECKSUM_AT + 2..)
            .ok_or_else(|| Stop::raw("short ext descriptor"))?;
        let expected = match self.layout.guard {
            Guard::None => return Ok(()),
            Guard::Crc16 => {
                let crc = crc16(crc16(!0, &self.layout.uuid), &number);
                crc16(crc16(crc, before), after)
            }
            Guard::Crc32c => {
                let crc = crc32c(crc32c(self.layout.seed, &number), before);
                let [low, high, ..] = crc32c(crc32c(crc, &[0, 0]), after).to_le_bytes();
                u16::from_le_bytes([low, high])
            }
        };
        if fields.u16(CHECKSUM_AT)? != expected {
            return Err(Stop::raw(format!(
                "checksum of the descriptor of ext group {group} does not match"
            )));
        }
        Ok(())
    }

    /// Adds the used blocks of one group and its metadata, wherever that is stored.
    fn add_group(
        &self,
        volume: &Volume<'_>,
        group: u64,
        descriptor: &Descriptor,
        used: &mut Used,
    ) -> Result<(), Stop> {
        let layout = &self.layout;
        let blocks = layout.group_blocks(group);
        let front = layout.front_of_group(group);
        let table_end = descriptor
            .inode_table
            .checked_add(layout.inode_table_blocks)
            .filter(|end| *end <= layout.blocks);
        let (Some(table_end), true) = (
            table_end,
            [
                descriptor.block_bitmap,
                descriptor.inode_bitmap,
                descriptor.inode_table,
            ]
            .iter()
            .all(|block| *block > layout.first_data_block && *block < layout.blocks),
        ) else {
            return Err(Stop::raw(format!(
                "metadata of ext group {group} lies outside the file system"
            )));
        };
        let metadata = [
            front,
            descriptor.block_bitmap..descriptor.block_bitmap + 1,
            descriptor.inode_bitmap..descriptor.inode_bitmap + 1,
            descriptor.inode_table..table_end,
        ];
        for range in &metadata {
            used.add(self.bytes_of(range));
        }
        if descriptor.bitmap_uninit {
            return Ok(());
        }

        let bitmap = volume.read(self.byte_of(descriptor.block_bitmap)?, layout.block_size)?;
        self.check_bitmap(group, descriptor, &bitmap)?;
        let ratio = layout.cluster_blocks;
        let clusters = (blocks.end - blocks.start).div_ceil(ratio);
        let set = set_runs(&bitmap, clusters, |run| {
            used.add(
                self.bytes_of(&(blocks.start + run.start * ratio..blocks.start + run.end * ratio)),
            );
        });
        let free = clusters - set;
        if free != descriptor.free_clusters {
            return Err(Stop::raw(format!(
                "bitmap of ext group {group} has {free} free clusters, its descriptor says {}",
                descriptor.free_clusters
            )));
        }
        for range in metadata {
            let inside = range.start.max(blocks.start)..range.end.min(blocks.end);
            for block in inside {
                if !bit(&bitmap, (block - blocks.start) / ratio) {
                    return Err(Stop::raw(format!(
                        "bitmap of ext group {group} has its metadata block {block} free"
                    )));
                }
            }
        }
        Ok(())
    }

    fn check_bitmap(&self, group: u64, descriptor: &Descriptor, bitmap: &[u8]) -> Result<(), Stop> {
        let Some(expected) = descriptor.bitmap_checksum else {
            return Ok(());
        };
        let clusters = self.layout.blocks_per_group / self.layout.cluster_blocks;
        let hashed = usize::try_from(clusters / 8)
            .ok()
            .and_then(|len| bitmap.get(..len))
            .ok_or_else(|| Stop::raw("ext bitmap length"))?;
        let mut crc = crc32c(self.layout.seed, hashed);
        if self.layout.descriptor_bytes < 64 {
            crc &= 0xFFFF; // a short descriptor has room for the lower half only
        }
        if crc != expected {
            return Err(Stop::raw(format!(
                "checksum of the bitmap of ext group {group} does not match"
            )));
        }
        Ok(())
    }
}

fn bit(bitmap: &[u8], number: u64) -> bool {
    usize::try_from(number / 8)
        .ok()
        .and_then(|at| bitmap.get(at))
        .is_some_and(|byte| byte >> (number % 8) & 1 == 1)
}
