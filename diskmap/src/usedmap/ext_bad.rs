//! The bad blocks of ext2, ext3 and ext4: inode 1 lists the blocks that `badblocks` found
//! unreadable.

use super::Excluded;
use super::ext_layout::Layout;
use super::stop::Stop;
use crate::volume::{Fields, Volume};

/// Offsets in an inode of the block numbers and of the flags.
const BLOCKS_AT: usize = 40;
const FLAGS_AT: usize = 32;
/// Flag of an inode with an extent tree; e2fsck never creates one for this inode.
const EXTENTS: u32 = 0x0008_0000;
/// Number of direct block numbers in an inode.
const DIRECT: usize = 12;

/// The bad blocks of a file system with an inode table at byte `table`. A list ends where it cannot
/// be followed; blocks not known to be bad are read.
pub(super) fn excluded(
    layout: &Layout,
    volume: &Volume<'_>,
    table: u64,
) -> Result<Vec<Excluded>, Stop> {
    // Inode 1 is the first of the table.
    let inode = volume.read(table, 128)?;
    let inode = Fields(&inode);
    if inode.u32(FLAGS_AT)? & EXTENTS != 0 {
        return Ok(Vec::new());
    }
    let mut found = Search {
        layout,
        volume,
        bad: Vec::new(),
        lists: MOST_LISTED / (layout.block_size / 4).max(1) + DIRECT as u64,
    };
    for slot in 0..=DIRECT + 1 {
        let number = u64::from(inode.u32(BLOCKS_AT + slot * 4)?);
        found.add(number, slot.saturating_sub(DIRECT - 1))?;
    }
    Ok(found
        .bad
        .into_iter()
        .map(|block| Excluded::bad(block * layout.block_size..(block + 1) * layout.block_size))
        .collect())
}

/// Most numbers that the blocks of a list can hold.
const MOST_LISTED: u64 = Excluded::BAD_MAX as u64;

/// A search through the list.
struct Search<'a> {
    layout: &'a Layout,
    volume: &'a Volume<'a>,
    bad: Vec<u64>,
    /// Number of blocks of the list that may still be read. A list is dense, so as many as its
    /// numbers fill are enough; a list that names a block of its own again ends here.
    lists: u64,
}

impl Search<'_> {
    /// Adds one block, or with `depth` above zero the blocks listed by a block of numbers, `depth`
    /// levels deep.
    fn add(&mut self, number: u64, depth: usize) -> Result<(), Stop> {
        let layout = self.layout;
        let inside = number > layout.first_data_block && number < layout.blocks;
        if !inside || self.bad.len() >= Excluded::BAD_MAX {
            return Ok(());
        }
        let Some(deeper) = depth.checked_sub(1) else {
            self.bad.push(number);
            return Ok(());
        };
        let Some(lists) = self.lists.checked_sub(1) else {
            return Ok(());
        };
        self.lists = lists;
        let list = self
            .volume
            .read(number * layout.block_size, layout.block_size)?;
        for entry in list.chunks_exact(4) {
            let entry = u64::from(Fields(entry).u32(0)?);
            self.add(entry, deeper)?;
        }
        Ok(())
    }
}
