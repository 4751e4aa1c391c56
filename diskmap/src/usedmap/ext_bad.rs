//! Inode 1 of ext2, ext3 and ext4: the list of blocks that `badblocks` found unreadable.

use super::Excluded;
use super::ext_layout::Layout;
use super::volume::{Fields, Stop, Volume};

/// Place of the block numbers in an inode, and of its flags.
const BLOCKS_AT: usize = 40;
const FLAGS_AT: usize = 32;
/// The inode has an extent tree; e2fsck never makes one for this inode.
const EXTENTS: u32 = 0x0008_0000;
/// Block numbers in an inode that lead to data directly.
const DIRECT: usize = 12;

/// The bad blocks of a file system whose inode table begins at byte `table`. A list that cannot be followed ends where it
/// cannot: what is not known to be bad is read.
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

/// Adds one block, or what a block of numbers lists, `depth` levels deep.
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
