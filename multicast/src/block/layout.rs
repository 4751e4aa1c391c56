//! The division of an object's bytes into blocks and symbols.
//!
//! An object is a sequence of pieces: the chunk bodies of an image, or the single manifest. A block
//! is the unit of parity: whole consecutive pieces, at most [`BLOCK_BYTES`]. A symbol is the
//! payload of one packet.
//!
//! ```text
//! pieces   |  0  |1| 2 |        3        |  4  |
//! blocks   |   block 0   |block 1|block 2|  3  |     a piece larger than a block has
//! symbols  |s0|s1|s2|..  |                           blocks of its own, of like size
//! ```
//!
//! Both ends compute the same layout from the same lengths, so it is never sent. Always holds: the
//! sum of the blocks' lengths is the sum of the pieces' lengths; every piece belongs to at least
//! one block; `k` is `1..=745`. A block that contains only empty pieces has `k = 1`, one symbol of
//! padding, so that these pieces are delivered like all others.

use std::ops::Range;

/// Payload bytes of one packet: 22 x 64, even as the parity code requires. Together with header,
/// tag, UDP and IP it fits an MTU of 1500.
pub const SYMBOL_BYTES: usize = SYMBOL_LEN as usize;
const SYMBOL_LEN: u32 = 1408;
/// Largest number of source symbols of a block: 745 x 1408 bytes hold a raw 1 MiB chunk with its
/// mask, and 745 + 256 parity symbols still fit a 1024-point transform.
pub const MAX_SOURCE_SYMBOLS: u16 = 745;
/// Number of parity symbols of every block. It is part of the wire format: parity made for another
/// count has no symbol in common with this one.
pub const PARITY_SYMBOLS: u16 = 256;
/// Largest block in bytes.
pub const BLOCK_BYTES: u32 = MAX_SOURCE_SYMBOLS as u32 * SYMBOL_LEN;
/// Largest number of pieces in a block. It bounds the disk work behind one buffer when pieces are
/// tiny or empty (256 chunks of zeroes are 256 MiB to write).
pub const MAX_BLOCK_PIECES: u32 = 256;

/// The two objects that a session carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// Object 0: the contents of the image and its hashes.
    Manifest,
    /// Object 1: the chunk bodies of the image.
    Image,
}

/// One block of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// The object that the block belongs to.
    pub object: ObjectId,
    /// Index of the block in the object, from 0.
    pub index: u32,
}

impl BlockKey {
    /// A block of the image.
    #[must_use]
    pub const fn image(index: u32) -> Self {
        Self {
            object: ObjectId::Image,
            index,
        }
    }

    /// A block of the manifest.
    #[must_use]
    pub const fn manifest(index: u32) -> Self {
        Self {
            object: ObjectId::Manifest,
            index,
        }
    }
}

/// The range of an object's bytes that a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// Index of the first piece with bytes in this block.
    pub first_piece: u32,
    /// Number of pieces with bytes in this block.
    pub piece_count: u32,
    /// Offset in bytes in the first piece at which the block begins; not 0 only for a piece that
    /// spans several blocks.
    pub offset_in_first: u32,
    /// Length of the block in bytes, without padding.
    pub len: u32,
}

impl BlockShape {
    /// Number of source symbols of the block, `1..=745`.
    #[must_use]
    pub fn k(&self) -> u16 {
        symbols_for(self.len)
    }
}

/// The part of a piece that lies in one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Index of the piece.
    pub piece: u32,
    /// Offset of this part in the piece, in bytes.
    pub piece_offset: u32,
    /// Offset of this part in the block, in bytes.
    pub block_offset: u32,
    /// Length of this part in bytes.
    pub len: u32,
}

/// An object divided into blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    lens: Vec<u32>,
    blocks: Vec<BlockShape>,
}

/// Packs pieces of the given lengths (bytes) into blocks, in order.
///
/// Pieces after the first 2^32 - 1 are left out; no manifest can number them.
pub fn pack(lens: impl IntoIterator<Item = u32>) -> Layout {
    let mut layout = Layout {
        lens: Vec::new(),
        blocks: Vec::new(),
    };
    let mut open: Option<BlockShape> = None;
    for (piece, len) in (0..u32::MAX).zip(lens) {
        layout.lens.push(len);
        if len > BLOCK_BYTES {
            layout.blocks.extend(open.take());
            layout.span(piece, len);
            continue;
        }
        match &mut open {
            Some(block)
                if block.len.saturating_add(len) <= BLOCK_BYTES
                    && block.piece_count < MAX_BLOCK_PIECES =>
            {
                block.len += len;
                block.piece_count += 1;
            }
            _ => {
                layout.blocks.extend(open.replace(BlockShape {
                    first_piece: piece,
                    piece_count: 1,
                    offset_in_first: 0,
                    len,
                }));
            }
        }
    }
    layout.blocks.extend(open);
    layout
}

impl Layout {
    /// The layout of a single piece of `len` bytes, such as the manifest.
    #[must_use]
    pub fn single(len: u32) -> Self {
        pack([len])
    }

    /// The blocks, in order.
    #[must_use]
    pub fn blocks(&self) -> &[BlockShape] {
        &self.blocks
    }

    /// Number of blocks.
    #[must_use]
    pub fn block_count(&self) -> u32 {
        u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)
    }

    /// Number of pieces.
    #[must_use]
    pub fn piece_count(&self) -> u32 {
        u32::try_from(self.lens.len()).unwrap_or(u32::MAX)
    }

    /// Number of source symbols of a block; `None` past the end.
    #[must_use]
    pub fn k(&self, block: u32) -> Option<u16> {
        self.blocks.get(block as usize).map(BlockShape::k)
    }

    /// Number of source symbols of every block, in order. [`crate::Sender`] and [`crate::Receiver`]
    /// need to know nothing else about an object.
    #[must_use]
    pub fn symbol_counts(&self) -> Vec<u16> {
        self.blocks.iter().map(BlockShape::k).collect()
    }

    /// Length of the object in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.lens.iter().map(|len| u64::from(*len)).sum()
    }

    /// The parts of pieces that make up a block, in order; empty past the end.
    pub fn parts(&self, block: u32) -> impl Iterator<Item = Part> + '_ {
        let shape = self.blocks.get(block as usize).copied();
        let mut block_offset = 0;
        shape.into_iter().flat_map(move |shape| {
            let first = shape.first_piece;
            (first..first.saturating_add(shape.piece_count)).filter_map(move |piece| {
                let piece_offset = if piece == first {
                    shape.offset_in_first
                } else {
                    0
                };
                let rest = self.lens.get(piece as usize)?.checked_sub(piece_offset)?;
                let len = rest.min(shape.len - block_offset);
                let part = Part {
                    piece,
                    piece_offset,
                    block_offset,
                    len,
                };
                block_offset += len;
                Some(part)
            })
        })
    }

    /// The blocks that hold bytes of `piece`: one, unless the piece spans several; empty past the
    /// end.
    #[must_use]
    pub fn blocks_of(&self, piece: u32) -> Range<u32> {
        if piece >= self.piece_count() {
            return 0..0;
        }
        let end = self
            .blocks
            .partition_point(|block| block.first_piece <= piece);
        let mut start = end.saturating_sub(1);
        while start > 0
            && self
                .blocks
                .get(start)
                .is_some_and(|block| block.first_piece == piece && block.offset_in_first > 0)
        {
            start -= 1;
        }
        let narrow = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        narrow(start)..narrow(end)
    }

    /// Divides one large piece into blocks of nearly equal size. A short last block would get the
    /// same 256 parity symbols for few bytes.
    fn span(&mut self, piece: u32, len: u32) {
        let symbols = len.div_ceil(SYMBOL_LEN);
        let count = symbols.div_ceil(u32::from(MAX_SOURCE_SYMBOLS));
        let step = symbols.div_ceil(count) * SYMBOL_LEN;
        let mut offset = 0;
        while offset < len {
            let part = step.min(len - offset);
            self.blocks.push(BlockShape {
                first_piece: piece,
                piece_count: 1,
                offset_in_first: offset,
                len: part,
            });
            offset += part;
        }
    }
}

/// Number of source symbols for `len` bytes of a block; at least one, at most 745.
fn symbols_for(len: u32) -> u16 {
    let symbols = len.div_ceil(SYMBOL_LEN).max(1);
    u16::try_from(symbols)
        .unwrap_or(MAX_SOURCE_SYMBOLS)
        .min(MAX_SOURCE_SYMBOLS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_raw_chunk_with_its_mask_is_one_block() {
        let layout = pack([(1 << 20) + 32]);
        assert_eq!(layout.symbol_counts(), [745]);
    }

    #[test]
    fn small_pieces_share_a_block() {
        let layout = pack([500_000, 500_000, 500_000, 0, 10]);
        assert_eq!(layout.block_count(), 2);
        assert_eq!(layout.blocks()[1].piece_count, 3);
        assert_eq!(layout.blocks()[1].len, 500_010);
    }

    #[test]
    fn a_large_piece_spans_blocks_of_like_size() {
        let layout = pack([100, BLOCK_BYTES + 1, 100]);
        let lens: Vec<u32> = layout.blocks().iter().map(|block| block.len).collect();
        assert_eq!(layout.block_count(), 4);
        assert_eq!(lens[1] + lens[2], BLOCK_BYTES + 1);
        assert!(lens[1].abs_diff(lens[2]) <= 2 * SYMBOL_LEN);
        assert_eq!(layout.blocks_of(0), 0..1);
        assert_eq!(layout.blocks_of(1), 1..3);
        assert_eq!(layout.blocks_of(2), 3..4);
        assert_eq!(layout.blocks_of(3), 0..0);
    }

    #[test]
    fn nothing_and_empty_pieces() {
        assert_eq!(pack([]).block_count(), 0);
        assert_eq!(pack([0]).symbol_counts(), [1]);
        assert_eq!(pack([0; 600]).block_count(), 3);
        assert_eq!(Layout::single(0).symbol_counts(), [1]);
        assert_eq!(Layout::single(1409).symbol_counts(), [2]);
        assert_eq!(Layout::single(u32::MAX).total_bytes(), u64::from(u32::MAX));
    }

    proptest! {
        #[test]
        fn parts_cover_every_piece_once(
            lens in prop::collection::vec(prop_oneof![0..3000_u32, 0..2_500_000_u32], 0..40)
        ) {
            let layout = pack(lens.iter().copied());
            let mut covered = vec![0_u32; lens.len()];
            let mut seen = vec![false; lens.len()];
            for block in 0..layout.block_count() {
                let shape = layout.blocks()[block as usize];
                prop_assert!(shape.len <= BLOCK_BYTES);
                let mut at = 0;
                for part in layout.parts(block) {
                    prop_assert_eq!(part.block_offset, at);
                    prop_assert_eq!(part.piece_offset, covered[part.piece as usize]);
                    prop_assert!(layout.blocks_of(part.piece).contains(&block));
                    at += part.len;
                    covered[part.piece as usize] += part.len;
                    seen[part.piece as usize] = true;
                }
                prop_assert_eq!(at, shape.len);
            }
            prop_assert_eq!(covered, lens);
            prop_assert!(seen.into_iter().all(|seen| seen));
        }
    }
}
