//! The used 4 KiB blocks of a chunk.
//!
//! A mask always fits its chunk: bits beyond the last block are zero, a mask of all ones has one
//! single value however it was made, and the last block of a short chunk counts with its real
//! length. Free blocks are neither stored, nor sent, nor written.

use std::ops::Range;

use crate::MASK_BLOCK;
use crate::error::{FormatError, Result};

/// The used 4 KiB blocks of one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    chunk_len: u32,
    bits: Bits,
}

/// The bits of a mask. Nearly all chunks of a real disk are full or absent; these need no
/// allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bits {
    Empty,
    Full,
    /// Neither empty nor full; block `i` is bit `i % 8` of byte `i / 8`.
    Some(Box<[u8]>),
}

impl Mask {
    /// A mask with no block in use.
    #[must_use]
    pub fn empty(chunk_len: u32) -> Self {
        Self {
            chunk_len,
            bits: Bits::Empty,
        }
    }

    /// A mask with every block in use.
    #[must_use]
    pub fn full(chunk_len: u32) -> Self {
        Self {
            chunk_len,
            bits: if chunk_len == 0 {
                Bits::Empty
            } else {
                Bits::Full
            },
        }
    }

    /// Reads the stored form, which has [`Mask::byte_len`] bytes.
    ///
    /// # Errors
    /// [`FormatError::Damaged`] if the length is wrong or a bit beyond the last block is set.
    pub fn from_bytes(chunk_len: u32, bytes: &[u8]) -> Result<Self> {
        let bad = |reason| FormatError::Damaged {
            what: "used-block mask",
            offset: 0,
            reason,
        };
        if bytes.len() != Self::byte_len(chunk_len) {
            return Err(bad("its length does not fit the chunk"));
        }
        if let Some(&last) = bytes.last()
            && last & !last_byte(chunk_len) != 0
        {
            return Err(bad("bits beyond the end of the chunk are set"));
        }
        let mut mask = Self {
            chunk_len,
            bits: Bits::Some(bytes.into()),
        };
        mask.normalise();
        Ok(mask)
    }

    /// Length in bytes of the stored form for a chunk of this length: one bit for every 4 KiB
    /// block, the last one rounded up.
    #[must_use]
    pub fn byte_len(chunk_len: u32) -> usize {
        block_count(chunk_len).div_ceil(8) as usize
    }

    /// Appends the stored form.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let len = Self::byte_len(self.chunk_len);
        match &self.bits {
            Bits::Empty => out.resize(out.len() + len, 0),
            Bits::Full => {
                out.resize(out.len() + len, 0xff);
                if let Some(last) = out.last_mut() {
                    *last = last_byte(self.chunk_len);
                }
            }
            Bits::Some(bits) => out.extend_from_slice(bits),
        }
    }

    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::byte_len(self.chunk_len));
        self.write_to(&mut out);
        out
    }

    /// Length of the chunk in bytes.
    #[must_use]
    pub fn chunk_len(&self) -> u32 {
        self.chunk_len
    }

    /// True if no block is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bits == Bits::Empty
    }

    /// True if every block is in use.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bits == Bits::Full
    }

    /// Marks the blocks that contain these bytes of the chunk. The range is extended to whole
    /// blocks and limited to the end of the chunk.
    pub fn set_range(&mut self, range: Range<u32>) {
        let end = range.end.min(self.chunk_len);
        if range.start >= end || self.is_full() {
            return;
        }
        let blocks = range.start / MASK_BLOCK..end.div_ceil(MASK_BLOCK);
        if blocks.start == 0 && blocks.end == block_count(self.chunk_len) {
            self.bits = Bits::Full;
            return;
        }
        if self.is_empty() {
            self.bits = Bits::Some(vec![0; Self::byte_len(self.chunk_len)].into());
        }
        if let Bits::Some(bits) = &mut self.bits {
            for block in blocks {
                if let Some(byte) = bits.get_mut((block / 8) as usize) {
                    *byte |= 1 << (block % 8);
                }
            }
        }
        self.normalise();
    }

    /// Marks all blocks that are marked in `other`. If the chunks have different lengths, nothing
    /// changes.
    pub fn union(&mut self, other: &Mask) {
        if other.chunk_len == self.chunk_len {
            for run in other.runs() {
                self.set_range(run);
            }
        }
    }

    /// Number of bytes in used blocks; the last block of a short chunk counts with its real length.
    #[must_use]
    pub fn used_bytes(&self) -> u32 {
        match &self.bits {
            Bits::Empty => 0,
            Bits::Full => self.chunk_len,
            Bits::Some(bits) => {
                let blocks: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
                let last = block_count(self.chunk_len).saturating_sub(1);
                let slack = if self.block(last) {
                    (last + 1) * MASK_BLOCK - self.chunk_len
                } else {
                    0
                };
                blocks * MASK_BLOCK - slack
            }
        }
    }

    /// The runs of used bytes in the chunk: ascending, never adjacent, limited to the end of the
    /// chunk.
    pub fn runs(&self) -> Runs<'_> {
        Runs {
            mask: self,
            block: 0,
        }
    }

    /// True if a block that contains any of these bytes is in use.
    #[must_use]
    pub fn intersects(&self, range: Range<u32>) -> bool {
        let end = range.end.min(self.chunk_len);
        range.start < end
            && (range.start / MASK_BLOCK..end.div_ceil(MASK_BLOCK)).any(|block| self.block(block))
    }

    /// True if block `index` (4 KiB each) is in use; false beyond the chunk.
    #[must_use]
    pub fn block(&self, index: u32) -> bool {
        match &self.bits {
            Bits::Empty => false,
            Bits::Full => index < block_count(self.chunk_len),
            Bits::Some(bits) => bits
                .get((index / 8) as usize)
                .is_some_and(|byte| byte >> (index % 8) & 1 == 1),
        }
    }

    fn normalise(&mut self) {
        if let Bits::Some(bits) = &self.bits {
            let set: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
            if set == 0 {
                self.bits = Bits::Empty;
            } else if set == block_count(self.chunk_len) {
                self.bits = Bits::Full;
            }
        }
    }
}

/// Number of 4 KiB blocks of a chunk of this length, rounded up.
pub(crate) fn block_count(chunk_len: u32) -> u32 {
    chunk_len.div_ceil(MASK_BLOCK)
}

/// The last byte of a full mask.
fn last_byte(chunk_len: u32) -> u8 {
    match block_count(chunk_len) % 8 {
        0 => 0xff,
        blocks => (1 << blocks) - 1,
    }
}

/// Iterator of [`Mask::runs`].
#[derive(Debug, Clone)]
pub struct Runs<'a> {
    mask: &'a Mask,
    block: u32,
}

impl Iterator for Runs<'_> {
    type Item = Range<u32>;

    fn next(&mut self) -> Option<Range<u32>> {
        let count = block_count(self.mask.chunk_len);
        if self.mask.is_full() && self.block == 0 && count > 0 {
            self.block = count;
            return Some(0..self.mask.chunk_len);
        }
        while self.block < count && !self.mask.block(self.block) {
            self.block += 1;
        }
        if self.block >= count {
            return None;
        }
        let start = self.block;
        while self.block < count && self.mask.block(self.block) {
            self.block += 1;
        }
        Some(start * MASK_BLOCK..(self.block * MASK_BLOCK).min(self.mask.chunk_len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_last_block_counts_its_real_length() {
        let len = 3 * MASK_BLOCK + 512;
        assert_eq!(Mask::full(len).used_bytes(), len);
        let mut mask = Mask::empty(len);
        mask.set_range(len - 1..len);
        assert_eq!(mask.used_bytes(), 512);
        assert!(mask.runs().eq(std::iter::once(3 * MASK_BLOCK..len)));
        mask.set_range(0..1);
        assert_eq!(mask.used_bytes(), 512 + MASK_BLOCK);
        mask.set_range(0..u32::MAX);
        assert!(mask.is_full());
        assert_eq!(mask, Mask::full(len));
    }

    #[test]
    fn bits_beyond_the_chunk_are_refused() {
        assert!(Mask::from_bytes(5 * MASK_BLOCK, &[0b0010_0000]).is_err());
        assert!(
            Mask::from_bytes(5 * MASK_BLOCK, &[0b0001_1111])
                .unwrap()
                .is_full()
        );
        assert!(Mask::from_bytes(5 * MASK_BLOCK, &[1, 0]).is_err());
    }

    proptest! {
        #[test]
        fn stored_form_gives_the_value_back(len in 1u32..(4 << 20), ranges in proptest::collection::vec((0u32..(4 << 20), 1u32..100_000), 0..8)) {
            let mut mask = Mask::empty(len);
            let mut slow = vec![false; block_count(len) as usize];
            for (start, size) in ranges {
                mask.set_range(start..start + size);
                for (block, used) in slow.iter_mut().enumerate() {
                    let from = u32::try_from(block).unwrap() * MASK_BLOCK;
                    let to = (from + MASK_BLOCK).min(len);
                    *used |= start < to && start + size > from;
                }
            }
            prop_assert_eq!(&Mask::from_bytes(len, &mask.to_bytes()).unwrap(), &mask);
            let used: u32 = mask.runs().map(|run| run.end - run.start).sum();
            prop_assert_eq!(used, mask.used_bytes());
            for (block, used) in slow.iter().enumerate() {
                prop_assert_eq!(mask.block(u32::try_from(block).unwrap()), *used);
            }
        }
    }
}
