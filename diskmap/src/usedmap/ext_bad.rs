//! The bad blocks of ext2, ext3 and ext4: inode 1 lists the blocks that `badblocks` found
//! unreadable.

use super::Excluded;
use super::ext_layout::Layout;
use super::volume::{Fields, Stop, Volume};

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
    let mut bad = Vec::new();
    for slot in 0..=DIRECT + 1 {
        let number = u64::from(inode.u32(BLOCKS_AT + slot * 4)?);
        add(
            layout,
            volume,
            number,
            slot.saturating_sub(DIRECT - 1),
            &mut bad,
        )?;
    }
    Ok(bad
        .into_iter()
        .map(|block| Excluded::bad(block * layout.block_size..(block + 1) * layout.block_size))
        .collect())
}

/// Adds one block, or with `depth` above zero the blocks listed by a block of numbers, `depth`
/// levels deep.
fn add(
    layout: &Layout,
    volume: &Volume<'_>,
    number: u64,
    depth: usize,
    bad: &mut Vec<u64>,
) -> Result<(), Stop> {
    let inside = number > layout.first_data_block && number < layout.blocks;
    if !inside || bad.len() >= Excluded::BAD_MAX {
        return Ok(());
    }
    let Some(deeper) = depth.checked_sub(1) else {
        bad.push(number);
        return Ok(());
    };
    let list = volume.read(number * layout.block_size, layout.block_size)?;
    for entry in list.chunks_exact(4) {
        let entry = u64::from(Fields(entry).u32(0)?);
        add(layout, volume, entry, deeper, bad)?;
    }
    Ok(())
}
