//! The table of slots: the block in each buffer and the symbols received for it.
//!
//! Owns the table; the bytes belong to [`crate::Assembly`]. A slot is free, filling, or whole (all
//! its symbols are stored and the shell checks or writes it).

use crate::block::layout::{BlockKey, MAX_SOURCE_SYMBOLS, PARITY_SYMBOLS};
use crate::time::Instant;
use std::collections::BTreeMap;
use std::ops::Range;

const SYMBOL_WORDS: usize = 16;
const _: () = assert!(SYMBOL_WORDS * 64 >= (MAX_SOURCE_SYMBOLS + PARITY_SYMBOLS) as usize);

/// A block that is still incomplete.
#[derive(Clone, Debug)]
pub(crate) struct Filling {
    pub(crate) slot: u16,
    pub(crate) k: u16,
    /// Sequence number of the block's begin.
    pub(crate) begun: u64,
    pub(crate) last_symbol_at: Instant,
    have: [u64; SYMBOL_WORDS],
    count: u16,
    source_count: u16,
}

/// The effect of a symbol on its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    Duplicate,
    Stored,
    Whole { needs_parity: bool },
}

/// The bitmap words that a range of symbols lies in, and the bits of each.
fn words(symbols: &Range<u16>) -> impl Iterator<Item = (usize, u64)> + use<> {
    let (start, end) = (symbols.start, symbols.end);
    let last = if start < end { (end - 1) / 64 + 1 } else { 0 };
    (start / 64..last).map(move |word| {
        let from = start.max(word * 64) - word * 64;
        let to = (end - word * 64).min(64);
        let mask = u64::MAX << from & u64::MAX >> (64 - to);
        (usize::from(word), mask)
    })
}

impl Filling {
    pub(crate) fn missing(&self) -> u16 {
        self.k.saturating_sub(self.count)
    }

    /// True if none of the symbols is stored yet and all indexes are valid.
    fn lacks_row(&self, symbols: &Range<u16>) -> bool {
        words(symbols).all(|(at, mask)| self.have.get(at).is_some_and(|word| word & mask == 0))
    }

    fn take_row(&mut self, now: Instant, symbols: Range<u16>) {
        for (at, mask) in words(&symbols) {
            if let Some(word) = self.have.get_mut(at) {
                *word |= mask;
            }
        }
        self.last_symbol_at = now;
        self.count += symbols.end - symbols.start;
        self.source_count += symbols.end.min(self.k) - symbols.start.min(self.k);
    }

    fn take(&mut self, now: Instant, symbol: u16) -> Filled {
        let bit = 1 << (symbol % 64);
        match self.have.get_mut(usize::from(symbol / 64)) {
            Some(word) if *word & bit == 0 => *word |= bit,
            _ => return Filled::Duplicate,
        }
        self.last_symbol_at = now;
        self.count += 1;
        if symbol < self.k {
            self.source_count += 1;
        }
        if self.count < self.k {
            Filled::Stored
        } else {
            Filled::Whole {
                needs_parity: self.source_count < self.k,
            }
        }
    }
}

/// The slots of a receiver.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    free: Vec<u16>,
    filling: BTreeMap<BlockKey, Filling>,
    whole: BTreeMap<BlockKey, u16>,
    begun: u64,
}

impl Slots {
    pub(crate) fn new(count: u16) -> Self {
        Self {
            free: (0..count).rev().collect(),
            filling: BTreeMap::new(),
            whole: BTreeMap::new(),
            begun: 0,
        }
    }

    pub(crate) fn free_count(&self) -> u32 {
        u32::try_from(self.free.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_whole(&self, block: BlockKey) -> bool {
        self.whole.contains_key(&block)
    }

    pub(crate) fn filling(&self, block: BlockKey) -> Option<&Filling> {
        self.filling.get(&block)
    }

    /// The incomplete blocks in the order in which they were begun.
    pub(crate) fn oldest_first(&self) -> Vec<(BlockKey, &Filling)> {
        let mut all: Vec<_> = self.filling.iter().map(|(key, at)| (*key, at)).collect();
        all.sort_by_key(|(_, filling)| filling.begun);
        all
    }

    /// The whole blocks, ascending.
    pub(crate) fn whole(&self) -> impl Iterator<Item = BlockKey> + '_ {
        self.whole.keys().copied()
    }

    /// Gives a slot to a block; `None` if no slot is free.
    pub(crate) fn begin(&mut self, now: Instant, block: BlockKey, k: u16) -> Option<u16> {
        let slot = self.free.pop()?;
        self.filling.insert(
            block,
            Filling {
                slot,
                k,
                begun: self.begun,
                last_symbol_at: now,
                have: [0; SYMBOL_WORDS],
                count: 0,
                source_count: 0,
            },
        );
        self.begun += 1;
        Some(slot)
    }

    /// Records a symbol of an incomplete block; `None` if the block has no slot.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        block: BlockKey,
        symbol: u16,
    ) -> Option<(u16, Filled)> {
        let filling = self.filling.get_mut(&block)?;
        let slot = filling.slot;
        let filled = filling.take(now, symbol);
        if let Filled::Whole { .. } = filled {
            self.filling.remove(&block);
            self.whole.insert(block, slot);
        }
        Some((slot, filled))
    }

    /// Records consecutive symbols of an incomplete block of `k` and returns its slot. Nothing is
    /// recorded unless all of them are new and the block stays incomplete.
    pub(crate) fn take_row(
        &mut self,
        now: Instant,
        block: BlockKey,
        k: u16,
        symbols: Range<u16>,
    ) -> Option<u16> {
        let filling = self.filling.get_mut(&block)?;
        let count = symbols.end.checked_sub(symbols.start)?;
        if filling.k != k || count >= filling.missing() || !filling.lacks_row(&symbols) {
            return None;
        }
        filling.take_row(now, symbols);
        Some(filling.slot)
    }

    /// Drops an incomplete block and frees its slot; true if there was one.
    pub(crate) fn abandon(&mut self, block: BlockKey) -> bool {
        match self.filling.remove(&block) {
            Some(filling) => {
                self.free.push(filling.slot);
                true
            }
            None => false,
        }
    }

    /// Frees the slot of a whole block; true if there was one.
    pub(crate) fn done(&mut self, block: BlockKey) -> bool {
        match self.whole.remove(&block) {
            Some(slot) => {
                self.free.push(slot);
                true
            }
            None => false,
        }
    }

    /// The incomplete block with the oldest last symbol, if that is older than `before`.
    pub(crate) fn stalest(&self, before: Instant) -> Option<BlockKey> {
        self.filling
            .iter()
            .filter(|(_, filling)| filling.last_symbol_at < before)
            .min_by_key(|(_, filling)| (filling.last_symbol_at, filling.begun))
            .map(|(block, _)| *block)
    }
}
