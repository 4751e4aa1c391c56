//! Bins and cells: the start of each cell, and its bytes.
//!
//! Bins cover the hive without a gap, and cells cover each bin behind its header of 32 bytes, regf
//! "Hive bin" and "Cell". This is checked once, when the hive is opened; afterwards the declared
//! length of every cell is known to be inside its bin. The map has one bit for every 8 bytes: a
//! hive of 150 MB needs 2.3 MB for it.

use crate::base::BLOCK;
use crate::error::{HiveError, damaged};
use crate::scan::{Scan, index, u32_at};
use crate::space::Space;

/// Length of a bin's header in bytes.
pub(crate) const BIN_HEADER: u32 = 32;
/// The offset that means "no cell", for example as the list of a key without values.
pub(crate) const NOWHERE: u32 = u32::MAX;
/// The bit of offsets that refer to cells in the memory of a running Windows.
pub(crate) const VOLATILE: u32 = 1 << 31;

/// A set of offsets that are multiples of 8.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// An empty set for offsets below `len`.
    pub(crate) fn new(len: u32) -> Bits {
        Bits(vec![0; index(len).div_ceil(512)])
    }

    fn place(offset: u32) -> (usize, u64) {
        (index(offset / 512), 1 << (offset / 8 % 64))
    }

    pub(crate) fn has(&self, offset: u32) -> bool {
        let (word, bit) = Bits::place(offset);
        offset.is_multiple_of(8) && self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Adds an offset; false if it was in the set.
    pub(crate) fn add(&mut self, offset: u32) -> bool {
        let (word, bit) = Bits::place(offset);
        let Some(word) = self.0.get_mut(word) else {
            return false;
        };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub(crate) fn remove(&mut self, offset: u32) {
        let (word, bit) = Bits::place(offset);
        if let Some(word) = self.0.get_mut(word) {
            *word &= !bit;
        }
    }

    /// The largest member below `offset`.
    pub(crate) fn last_before(&self, offset: u32) -> Option<u32> {
        let (mut place, bit) = Bits::place(offset);
        let mut word = self.0.get(place).map_or(0, |word| word & (bit - 1));
        while word == 0 {
            place = place.checked_sub(1)?;
            word = self.0.get(place).copied().unwrap_or(0);
        }
        u32::try_from(place)
            .ok()?
            .checked_mul(512)?
            .checked_add(8 * (63 - word.leading_zeros()))
    }

    /// The members, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let words = (0..).step_by(512).zip(&self.0);
        words.flat_map(|(first, word)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| first + 8 * bit)
        })
    }

    /// Extends the set to offsets below `len`, or removes those from `len` on.
    pub(crate) fn resize(&mut self, len: u32) {
        self.0.resize(index(len).div_ceil(512), 0);
    }
}

/// The bytes of a hive and the map of its cells. `space.rs` changes both.
#[derive(Clone)]
pub(crate) struct Cells {
    /// Base block, bins, and the bytes behind them.
    pub(crate) bytes: Vec<u8>,
    pub(crate) bins_len: u32,
    pub(crate) starts: Bits,
    pub(crate) space: Space,
}

/// One bin according to its header.
pub(crate) struct Bin {
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// Reads the bin with its header at `offset`, checked against the end of the bins.
pub(crate) fn bin_at(bins: &[u8], offset: u32) -> Result<Bin, HiveError> {
    let bad = |why| damaged("bin", offset, why);
    let mut scan = Scan(bins.get(index(offset)..).unwrap_or_default());
    if scan.take(4) != Some(b"hbin") {
        return Err(bad("no signature"));
    }
    if scan.u32() != Some(offset) {
        return Err(bad("it names another offset"));
    }
    let len = scan.u32().unwrap_or(0);
    let room = bins.len() - index(offset);
    if len == 0 || !index(len).is_multiple_of(BLOCK) || index(len) > room {
        return Err(bad("its length is wrong"));
    }
    Ok(Bin { offset, len })
}

impl Cells {
    /// Maps all cells. `bins_len` is the length in the base block.
    pub(crate) fn map(bytes: Vec<u8>, bins_len: u32) -> Result<Cells, HiveError> {
        let whole = bins_len != 0 && index(bins_len).is_multiple_of(BLOCK) && bins_len < VOLATILE;
        let bins = bytes
            .get(BLOCK..BLOCK + if whole { index(bins_len) } else { 0 })
            .filter(|bins| !bins.is_empty());
        let Some(bins) = bins else {
            return Err(damaged("base block", 0, "the bins do not fit the file"));
        };
        let mut starts = Bits::new(bins_len);
        let mut offset = 0;
        while offset < bins_len {
            let bin = bin_at(bins, offset)?;
            let end = bin.offset + bin.len;
            let mut at = offset + BIN_HEADER;
            while at < end {
                let size = u32_at(bins, index(at))
                    .unwrap_or(0)
                    .cast_signed()
                    .unsigned_abs();
                if size < 8 || !size.is_multiple_of(8) || size > end - at {
                    return Err(damaged("cell", at, "its length is wrong"));
                }
                starts.add(at);
                at += size;
            }
            offset = end;
        }
        Ok(Cells {
            bytes,
            bins_len,
            starts,
            space: Space::default(),
        })
    }

    /// A hive without bins; `block` is the base block.
    pub(crate) fn empty(block: Vec<u8>) -> Cells {
        Cells {
            bytes: block,
            bins_len: 0,
            starts: Bits::default(),
            space: Space::default(),
        }
    }

    /// The bytes of all bins.
    pub(crate) fn bins(&self) -> &[u8] {
        self.bytes
            .get(BLOCK..BLOCK + index(self.bins_len))
            .unwrap_or_default()
    }

    /// Returns the length of the cell that begins at `at` and true if it is allocated; `None` if no
    /// cell begins there.
    pub(crate) fn size(&self, at: u32) -> Option<(u32, bool)> {
        if !self.starts.has(at) {
            return None;
        }
        let size = u32_at(self.bytes.get(BLOCK..)?, index(at))?.cast_signed();
        Some((size.unsigned_abs(), size < 0))
    }

    /// Returns the content of the allocated cell at `at`, with the padding at its end. `what` names
    /// the structure in errors.
    pub(crate) fn get(&self, at: u32, what: &'static str) -> Result<&[u8], HiveError> {
        match self.size(at) {
            Some((size, true)) => {
                let start = BLOCK + index(at) + 4;
                let cell = self.bytes.get(start..start + index(size) - 4);
                cell.ok_or(damaged(what, at, "it is outside the file"))
            }
            Some((_, false)) => Err(damaged(what, at, "its cell is free")),
            None => Err(damaged(what, at, "no cell begins there")),
        }
    }
}
