//! Reassembly of blocks from symbols, in buffers that are allocated once and reused.
//!
//! Owns the bytes of the blocks in flight. The [`crate::Receiver`] decides which packet goes into
//! which slot; this module only stores payloads. A source symbol is copied once, to its final
//! place, so a block received without loss needs no further copy. Parity symbols are kept in a
//! separate list, at most 256 for each slot, so their memory grows only with loss.
//!
//! A slot's buffer can be [taken out](Assembly::detach), so that another thread decodes, checks and
//! writes the block while packets keep coming, and [put back](Assembly::attach) afterwards. No
//! function panics, whatever indexes it is given.

use crate::block::few::{self, FewLost};
use crate::block::layout::{BLOCK_BYTES, MAX_SOURCE_SYMBOLS, PARITY_SYMBOLS, SYMBOL_BYTES};
use reed_solomon_simd::ReedSolomonDecoder;
use thiserror::Error;

const SYMBOL_WORDS: usize = 16;
const _: () = assert!(SYMBOL_WORDS * 64 >= (MAX_SOURCE_SYMBOLS + PARITY_SYMBOLS) as usize);

/// The reason why a symbol cannot be stored or a block cannot be finished.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AssemblyError {
    /// The slot does not exist, or its buffer is detached.
    #[error("slot {0} has no buffer here")]
    Slot(u16),
    /// The symbol index is out of range for the block, or the payload is not one symbol long.
    #[error("symbol {symbol} with {len} bytes does not belong to a block of {k}")]
    Symbol {
        /// Index of the symbol.
        symbol: u16,
        /// Length of the payload in bytes.
        len: usize,
        /// Source symbols of the block.
        k: u16,
    },
    /// Too few symbols to restore the block.
    #[error("{got} symbols of {k} needed")]
    TooFew {
        /// Distinct symbols received.
        got: u16,
        /// Symbols needed.
        k: u16,
    },
    /// The requested length is not possible for a block of `k` symbols.
    #[error("block of {k} symbols cannot have {len} bytes")]
    Length {
        /// Requested length in bytes.
        len: u32,
        /// Source symbols of the block.
        k: u16,
    },
    /// The Reed-Solomon library refused the block.
    #[error("parity code refused the block")]
    Code(#[from] reed_solomon_simd::Error),
}

/// Restores missing source symbols. The working memory is kept from block to block.
#[derive(Default)]
pub struct Decoder {
    code: Option<ReedSolomonDecoder>,
    few: FewLost,
}

impl Decoder {
    /// A decoder without working memory; the first block that needs it allocates it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// The buffer of one slot: the symbols received so far for one block.
pub struct BlockBuffer {
    k: u16,
    source: Vec<u8>,
    /// Payloads of the parity symbols in order of arrival; `parity_index` has their indexes.
    parity: Vec<u8>,
    parity_index: Vec<u16>,
    have: [u64; SYMBOL_WORDS],
    source_count: u16,
}

impl BlockBuffer {
    fn new() -> Self {
        Self {
            k: 0,
            source: vec![0; BLOCK_BYTES as usize],
            parity: Vec::new(),
            parity_index: Vec::new(),
            have: [0; SYMBOL_WORDS],
            source_count: 0,
        }
    }

    fn begin(&mut self, k: u16) {
        self.k = k.min(MAX_SOURCE_SYMBOLS);
        self.parity.clear();
        self.parity_index.clear();
        self.have = [0; SYMBOL_WORDS];
        self.source_count = 0;
    }

    fn has(&self, symbol: u16) -> bool {
        self.have
            .get(usize::from(symbol / 64))
            .is_some_and(|word| word >> (symbol % 64) & 1 == 1)
    }

    fn store(&mut self, symbol: u16, payload: &[u8]) -> Result<bool, AssemblyError> {
        let refused = AssemblyError::Symbol {
            symbol,
            len: payload.len(),
            k: self.k,
        };
        if payload.len() != SYMBOL_BYTES
            || u32::from(symbol) >= u32::from(self.k) + u32::from(PARITY_SYMBOLS)
        {
            return Err(refused);
        }
        if self.has(symbol) {
            return Ok(false);
        }
        if symbol < self.k {
            let at = usize::from(symbol) * SYMBOL_BYTES;
            let Some(to) = self.source.get_mut(at..at + SYMBOL_BYTES) else {
                return Err(refused);
            };
            to.copy_from_slice(payload);
            self.source_count += 1;
        } else {
            self.parity.extend_from_slice(payload);
            self.parity_index.push(symbol - self.k);
        }
        if let Some(word) = self.have.get_mut(usize::from(symbol / 64)) {
            *word |= 1 << (symbol % 64);
        }
        Ok(true)
    }

    /// Returns the block's `len` bytes, after restoring missing source symbols from parity.
    ///
    /// # Errors
    /// [`AssemblyError::TooFew`] if fewer than `k` distinct symbols were stored,
    /// [`AssemblyError::Length`] if a block of `k` symbols cannot have `len` bytes,
    /// [`AssemblyError::Code`] if the Reed-Solomon library refuses the block.
    pub fn finish(&mut self, decoder: &mut Decoder, len: u32) -> Result<&[u8], AssemblyError> {
        let k = usize::from(self.k);
        let len_bytes = len as usize;
        if self.k == 0 || len_bytes.div_ceil(SYMBOL_BYTES).max(1) != k {
            return Err(AssemblyError::Length { len, k: self.k });
        }
        if self.source_count < self.k {
            let got = usize::from(self.source_count) + self.parity_index.len();
            if got < k {
                return Err(AssemblyError::TooFew {
                    got: u16::try_from(got).unwrap_or(u16::MAX),
                    k: self.k,
                });
            }
            if !self.restore_few(decoder)? {
                self.restore(decoder)?;
            }
            self.is_whole();
        }
        self.source
            .get(..len_bytes)
            .ok_or(AssemblyError::Length { len, k: self.k })
    }

    /// Restores a block with at most [`few::MOST`] lost symbols; false if more are lost.
    fn restore_few(&mut self, decoder: &mut Decoder) -> Result<bool, AssemblyError> {
        let missing = usize::from(self.k - self.source_count);
        if missing > few::MOST {
            return Ok(false);
        }
        let lost: Vec<u16> = (0..self.k).filter(|symbol| !self.has(*symbol)).collect();
        let (payloads, _) = self.parity.as_chunks::<SYMBOL_BYTES>();
        let parity = self.parity_index.iter().copied().zip(payloads);
        let k = usize::from(self.k);
        let parity = parity.take(missing);
        Ok(decoder.few.restore(k, &mut self.source, &lost, parity)?)
    }

    fn restore(&mut self, decoder: &mut Decoder) -> Result<(), AssemblyError> {
        let k = usize::from(self.k);
        let parity = usize::from(PARITY_SYMBOLS);
        if let Some(code) = &mut decoder.code {
            code.reset(k, parity, SYMBOL_BYTES)?;
        }
        let code = match &mut decoder.code {
            Some(code) => code,
            none => none.insert(ReedSolomonDecoder::new(k, parity, SYMBOL_BYTES)?),
        };
        let (symbols, _) = self.source.as_chunks::<SYMBOL_BYTES>();
        for (symbol, payload) in (0..self.k).zip(symbols) {
            if self.has(symbol) {
                code.add_original_shard(usize::from(symbol), payload)?;
            }
        }
        let missing = k - usize::from(self.source_count);
        let (payloads, _) = self.parity.as_chunks::<SYMBOL_BYTES>();
        for (index, payload) in self.parity_index.iter().zip(payloads).take(missing) {
            code.add_recovery_shard(usize::from(*index), payload)?;
        }
        let decoded = code.decode()?;
        for symbol in 0..self.k {
            if self.has(symbol) {
                continue;
            }
            let at = usize::from(symbol) * SYMBOL_BYTES;
            if let (Some(from), Some(to)) = (
                decoded.restored_original(usize::from(symbol)),
                self.source.get_mut(at..at + SYMBOL_BYTES),
            ) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// Marks all source symbols as present, so that a second `finish` does no work.
    fn is_whole(&mut self) {
        for symbol in 0..self.k {
            if let Some(word) = self.have.get_mut(usize::from(symbol / 64)) {
                *word |= 1 << (symbol % 64);
            }
        }
        self.source_count = self.k;
    }
}

/// The block buffers of a receiver, indexed by slot.
pub struct Assembly {
    slots: Vec<Option<BlockBuffer>>,
    decoder: Decoder,
}

impl Assembly {
    /// Allocates `slots` buffers of [`BLOCK_BYTES`] each.
    #[must_use]
    pub fn new(slots: u16) -> Self {
        Self {
            slots: (0..slots).map(|_| Some(BlockBuffer::new())).collect(),
            decoder: Decoder::new(),
        }
    }

    /// Begins a block of `k` source symbols in `slot`; earlier contents of the slot are dropped.
    ///
    /// # Errors
    /// [`AssemblyError::Slot`] if the slot does not exist or its buffer is detached.
    pub fn begin(&mut self, slot: u16, k: u16) -> Result<(), AssemblyError> {
        self.slot(slot)?.begin(k);
        Ok(())
    }

    /// Stores a symbol; false if it was stored before.
    ///
    /// # Errors
    /// [`AssemblyError::Slot`] if the slot does not exist or its buffer is detached,
    /// [`AssemblyError::Symbol`] if index or payload do not fit the block.
    pub fn store(&mut self, slot: u16, symbol: u16, payload: &[u8]) -> Result<bool, AssemblyError> {
        self.slot(slot)?.store(symbol, payload)
    }

    /// Returns the `len` bytes of the block in `slot`, restored from parity if needed.
    ///
    /// # Errors
    /// The errors of [`BlockBuffer::finish`], and [`AssemblyError::Slot`] if the slot does not
    /// exist or its buffer is detached.
    pub fn finish(&mut self, slot: u16, len: u32) -> Result<&[u8], AssemblyError> {
        let Self { slots, decoder } = self;
        slots
            .get_mut(usize::from(slot))
            .and_then(Option::as_mut)
            .ok_or(AssemblyError::Slot(slot))?
            .finish(decoder, len)
    }

    /// Takes a slot's buffer out, for work on another thread; `None` if it is not there.
    pub fn detach(&mut self, slot: u16) -> Option<BlockBuffer> {
        self.slots.get_mut(usize::from(slot))?.take()
    }

    /// Puts a buffer back into its slot; it is dropped if the slot does not exist.
    pub fn attach(&mut self, slot: u16, buffer: BlockBuffer) {
        if let Some(place) = self.slots.get_mut(usize::from(slot)) {
            *place = Some(buffer);
        }
    }

    fn slot(&mut self, slot: u16) -> Result<&mut BlockBuffer, AssemblyError> {
        self.slots
            .get_mut(usize::from(slot))
            .and_then(Option::as_mut)
            .ok_or(AssemblyError::Slot(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::parity::{Encoder, source_symbol};
    use proptest::prelude::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len)
            .map(|at| u8::try_from((at ^ at >> 8) & 255).unwrap())
            .collect()
    }

    fn feed(assembly: &mut Assembly, slot: u16, block: &[u8], symbols: &[u16]) {
        let k = u16::try_from(block.len().div_ceil(SYMBOL_BYTES).max(1)).unwrap();
        let parity = Encoder::new().encode(block).unwrap();
        assembly.begin(slot, k).unwrap();
        for symbol in symbols {
            let mut payload = [0; SYMBOL_BYTES];
            if *symbol < k {
                assert!(source_symbol(block, *symbol, &mut payload));
            } else {
                payload.copy_from_slice(parity.symbol(*symbol - k).unwrap());
            }
            assert!(assembly.store(slot, *symbol, &payload).unwrap());
            assert!(!assembly.store(slot, *symbol, &payload).unwrap());
        }
    }

    #[test]
    fn without_loss_the_block_is_where_it_lies() {
        let block = bytes(5000);
        let mut assembly = Assembly::new(1);
        feed(&mut assembly, 0, &block, &[3, 0, 2, 1]);
        assert_eq!(assembly.finish(0, 5000).unwrap(), block);
    }

    #[test]
    fn slots_are_used_again() {
        let mut assembly = Assembly::new(1);
        let large = bytes(BLOCK_BYTES as usize);
        feed(&mut assembly, 0, &large, &(256..1001).collect::<Vec<_>>());
        assert_eq!(assembly.finish(0, BLOCK_BYTES).unwrap(), large);
        assert_eq!(assembly.finish(0, BLOCK_BYTES).unwrap(), large);
        for len in [1, 0, 1409] {
            let small = bytes(len);
            let k = u16::try_from(len.div_ceil(SYMBOL_BYTES).max(1)).unwrap();
            feed(&mut assembly, 0, &small, &(k..2 * k).collect::<Vec<_>>());
            assert_eq!(
                assembly.finish(0, u32::try_from(len).unwrap()).unwrap(),
                small
            );
        }
    }

    #[test]
    fn detached_buffers_are_out_until_they_come_back() {
        let mut assembly = Assembly::new(2);
        feed(&mut assembly, 1, &bytes(10), &[1]);
        let mut buffer = assembly.detach(1).unwrap();
        assert!(assembly.begin(1, 1).is_err());
        assert_eq!(buffer.finish(&mut Decoder::new(), 10).unwrap(), bytes(10));
        assembly.attach(1, buffer);
        assembly.begin(1, 1).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut assembly = Assembly::new(1);
        assembly.begin(0, 2).unwrap();
        assert!(assembly.store(0, 258, &[0; SYMBOL_BYTES]).is_err());
        assert!(assembly.store(0, 0, &[0; 5]).is_err());
        assert!(assembly.store(9, 0, &[0; SYMBOL_BYTES]).is_err());
        assembly.store(0, 0, &[0; SYMBOL_BYTES]).unwrap();
        assert!(matches!(
            assembly.finish(0, 1409),
            Err(AssemblyError::TooFew { got: 1, k: 2 })
        ));
        assert!(matches!(
            assembly.finish(0, 1408),
            Err(AssemblyError::Length { .. })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_k_symbols_restore_the_block(len in 0_usize..300_000, seed in any::<u64>()) {
            let block = bytes(len);
            let k = len.div_ceil(SYMBOL_BYTES).max(1);
            let mut symbols: Vec<u16> = (0..u16::try_from(k + 256).unwrap()).collect();
            let mut state = seed | 1;
            for at in (1..symbols.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                symbols.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
            }
            symbols.truncate(k);
            let mut assembly = Assembly::new(1);
            feed(&mut assembly, 0, &block, &symbols);
            prop_assert_eq!(assembly.finish(0, u32::try_from(len).unwrap()).unwrap(), block);
        }
    }
}
