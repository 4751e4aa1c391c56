//! Which block is in which buffer, and which of its symbols are in.
//!
//! Owns: the table of slots. Bytes are [`crate::Assembly`]'s. A slot is free, filling, or
//! whole (its symbols are all in and somebody checks or writes it).

use crate::layout::{BlockKey, MAX_SOURCE_SYMBOLS, PARITY_SYMBOLS};
use crate::time::Instant;
use std::collections::BTreeMap;
use std::ops::Range;

const SYMBOL_WORDS: usize = 16;
const _: () = assert!(SYMBOL_WORDS * 64 >= (MAX_SOURCE_SYMBOLS + PARITY_SYMBOLS) as usize);

/// One block in the making.
#[derive(Clone, Debug)]
pub(crate) struct Filling {
    pub(crate) slot: u16,
    pub(crate) k: u16,
    /// Order in which blocks were begun.
    pub(crate) begun: u64,
    pub(crate) last_symbol_at: Instant,
    have: [u64; SYMBOL_WORDS],
    count: u16,
    source_count: u16,
}

/// What a symbol did to its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    Duplicate,
    Stored,
    Whole { needs_parity: bool },
}

/// The words that symbols in a row lie in, and which bits of each.
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

    /// Whether none of the symbols is there and all of them can be.
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

    /// Blocks being filled, oldest begun first.
    pub(crate) fn oldest_first(&self) -> Vec<(BlockKey, &Filling)> {
        let mut all: Vec<_> = self.filling.iter().map(|(key, at)| (*key, at)).collect();
        all.sort_by_key(|(_, filling)| filling.begun);
        all
    }

    /// Whole blocks, ascending.
    pub(crate) fn whole(&self) -> impl Iterator<Item = BlockKey> + '_ {
        self.whole.keys().copied()
    }

    /// Gives a block a slot; nothing when none is free.
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

    /// Takes a symbol of a block that is being filled; nothing when it is not.
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

    /// Takes symbols in a row of a block of `k` that is being filled, when all of them are new
    /// and leave something missing; otherwise nothing is taken. The slot.
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

    /// Forgets a block that is being filled; true when there was one.
    pub(crate) fn abandon(&mut self, block: BlockKey) -> bool {
        match self.filling.remove(&block) {
            Some(filling) => {
                self.free.push(filling.slot);
                true
            }
            None => false,
        }
    }

    /// Frees the slot of a whole block; true when there was one.
    pub(crate) fn done(&mut self, block: BlockKey) -> bool {
        match self.whole.remove(&block) {
            Some(slot) => {
                self.free.push(slot);
                true
            }
            None => false,
        }
    }

    /// The block whose last symbol came longest ago, when that was before `before`.
    pub(crate) fn stalest(&self, before: Instant) -> Option<BlockKey> {
        self.filling
            .iter()
            .filter(|(_, filling)| filling.last_symbol_at < before)
            .min_by_key(|(_, filling)| (filling.last_symbol_at, filling.begun))
            .map(|(block, _)| *block)
    }
}
