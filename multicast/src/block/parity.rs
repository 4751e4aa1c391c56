//! Parity encoder: Reed-Solomon over GF(2^16), always 256 parity symbols for a block.
//!
//! Owns the only place where the encoder is constructed. The code is not nested in its parity count
//! (parity of 8, 64 or 128 symbols has nothing in common with parity of 256), so the count is never
//! an argument: [`PARITY_SYMBOLS`] is part of the wire format. Encoding a block of 745 symbols
//! takes about 0.4 ms and 360 kB, so callers keep the result.

use crate::block::layout::{BLOCK_BYTES, PARITY_SYMBOLS, SYMBOL_BYTES};
use reed_solomon_simd::ReedSolomonEncoder;
use thiserror::Error;

/// The reason why parity cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ParityError {
    /// The block is longer than 745 symbols.
    #[error("block of {0} bytes, at most {BLOCK_BYTES}")]
    Length(usize),
    /// The Reed-Solomon library refused the block.
    #[error("parity code refused the block")]
    Code(#[from] reed_solomon_simd::Error),
}

/// The 256 parity symbols of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parity {
    symbols: Vec<u8>,
}

impl Parity {
    /// Parity symbol `index`, `0..256`: the payload of the packet with symbol number `k + index`.
    #[must_use]
    pub fn symbol(&self, index: u16) -> Option<&[u8]> {
        let at = usize::from(index).checked_mul(SYMBOL_BYTES)?;
        self.symbols.get(at..at.checked_add(SYMBOL_BYTES)?)
    }
}

/// Makes parity. The working memory is kept from block to block.
#[derive(Default)]
pub struct Encoder {
    code: Option<ReedSolomonEncoder>,
}

impl Encoder {
    /// An encoder without working memory; the first block allocates it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Computes the parity of a block, given its bytes without padding.
    ///
    /// # Errors
    /// [`ParityError::Length`] if the block is too long, [`ParityError::Code`] if the library
    /// refuses it.
    pub fn encode(&mut self, block: &[u8]) -> Result<Parity, ParityError> {
        if block.len() > BLOCK_BYTES as usize {
            return Err(ParityError::Length(block.len()));
        }
        let k = block.len().div_ceil(SYMBOL_BYTES).max(1);
        let parity = usize::from(PARITY_SYMBOLS);
        if let Some(code) = &mut self.code {
            code.reset(k, parity, SYMBOL_BYTES)?;
        }
        let code = match &mut self.code {
            Some(code) => code,
            none => none.insert(ReedSolomonEncoder::new(k, parity, SYMBOL_BYTES)?),
        };
        let (whole, rest) = block.as_chunks::<SYMBOL_BYTES>();
        for symbol in whole {
            code.add_original_shard(symbol)?;
        }
        if whole.len() < k {
            let mut last = [0; SYMBOL_BYTES];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            code.add_original_shard(last)?;
        }
        let made = code.encode()?;
        let mut symbols = Vec::with_capacity(parity * SYMBOL_BYTES);
        for symbol in made.recovery_iter() {
            symbols.extend_from_slice(symbol);
        }
        Ok(Parity { symbols })
    }
}

/// Copies source symbol `index` of a block into `out`, padding the last one with zeroes.
///
/// Returns false and fills `out` with zeroes if the block has no such symbol.
pub fn source_symbol(block: &[u8], index: u16, out: &mut [u8; SYMBOL_BYTES]) -> bool {
    let start = usize::from(index) * SYMBOL_BYTES;
    let end = block.len().min(start + SYMBOL_BYTES);
    out.fill(0);
    match block.get(start..end) {
        Some(from) if start < end || index == 0 => {
            if let Some(to) = out.get_mut(..from.len()) {
                to.copy_from_slice(from);
            }
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(k: usize) -> Vec<u8> {
        (0..k * SYMBOL_BYTES)
            .map(|at| u8::try_from((at * 31 + at / 1408 * 7) % 251).unwrap())
            .collect()
    }

    #[test]
    fn golden_parity() {
        // Story: parity made for 128 symbols has nothing in common with parity made for 256, and a
        // newer version of the code or the library could change all of it. Old agents must still be
        // able to decode.
        let golden = include_str!("../../tests/golden/parity.txt");
        let mut lines = golden.lines();
        let mut encoder = Encoder::new();
        for k in [1, 2, 372, 745] {
            let parity = encoder.encode(&block(k)).unwrap();
            for j in [0, 255] {
                let hash = blake3::hash(parity.symbol(j).unwrap());
                assert_eq!(Some(format!("{k} {j} {hash}").as_str()), lines.next());
            }
            assert_eq!(parity.symbol(256), None);
        }
    }

    #[test]
    fn working_space_does_not_leak_from_block_to_block() {
        let mut used = Encoder::new();
        for len in [1_000_000, 1, 0, 1408, 1409, 5000] {
            let bytes = &block(745)[..len];
            assert_eq!(
                used.encode(bytes).unwrap(),
                Encoder::new().encode(bytes).unwrap()
            );
        }
        assert!(matches!(
            used.encode(&vec![0; BLOCK_BYTES as usize + 1]),
            Err(ParityError::Length(_))
        ));
    }

    #[test]
    fn source_symbols_are_padded() {
        let bytes = block(2);
        let mut out = [1; SYMBOL_BYTES];
        assert!(source_symbol(&bytes[..1409], 1, &mut out));
        assert_eq!((out[0], out[1]), (bytes[1408], 0));
        assert!(!source_symbol(&bytes[..1408], 1, &mut out));
        assert!(source_symbol(&[], 0, &mut out));
        assert!(!source_symbol(&[], 1, &mut out));
    }
}
