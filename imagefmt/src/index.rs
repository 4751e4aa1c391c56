//! INDEX: the manifest and where each of its chunks lies. With META and TABLE inside the manifest it is their second
//! copy: the index alone restores everything but content.
//!
//! ```text
//! manifest (see `manifest`) | { volume u32, offset u64 } * entries
//! ```

use crate::bytes::Fields;
use crate::error::Result;
use crate::manifest::{ENTRY_MAX, FIXED_BYTES, Manifest};
use crate::meta::META_MAX;
use crate::{Geometry, table};

/// Where a record starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Volume, 0 is the first.
    pub volume: u32,
    /// Bytes from the start of that volume.
    pub offset: u64,
}

const POSITION_BYTES: usize = 12;
/// More than real indexes shrink (content ids do not compress; rows of an all-zero disk shrink about 15 times), and
/// little enough that a small file cannot ask for much memory.
const RATIO_MAX: u64 = 64;

/// Longest index this geometry can have, given the bytes that are really there.
pub(crate) fn plain_max(geometry: &Geometry, stored_len: u64) -> u64 {
    let fixed = FIXED_BYTES as u64 + META_MAX + table::ENCODED_MAX;
    let entries = u64::from(geometry.chunk_count()) * (ENTRY_MAX + POSITION_BYTES) as u64;
    fixed + entries.min(stored_len.saturating_mul(RATIO_MAX))
}

pub(crate) fn encode(manifest: &Manifest, positions: &[Position]) -> Result<Vec<u8>> {
    debug_assert_eq!(manifest.entries.len(), positions.len());
    let mut out = manifest.encode()?;
    out.reserve(positions.len() * POSITION_BYTES);
    for position in positions {
        out.extend_from_slice(&position.volume.to_le_bytes());
        out.extend_from_slice(&position.offset.to_le_bytes());
    }
    Ok(out)
}

pub(crate) fn decode(bytes: &[u8]) -> Result<(Manifest, Vec<Position>)> {
    let (manifest, rest) = Manifest::decode_prefix(bytes)?;
    let mut fields = Fields::new(rest, "index positions");
    let mut positions = Vec::with_capacity(manifest.entries.len().min(rest.len() / POSITION_BYTES));
    for _ in &manifest.entries {
        positions.push(Position {
            volume: fields.u32()?,
            offset: fields.u64()?,
        });
    }
    fields.end()?;
    Ok((manifest, positions))
}
