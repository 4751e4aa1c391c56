//! INDEX: the manifest and the positions of its chunks. The manifest contains META and TABLE, so
//! the index is their second copy: it restores everything except content.
//!
//! ```text
//! manifest (see `manifest`) | { volume u32, offset u64 } * entries
//! ```

use crate::bytes::Fields;
use crate::error::Result;
use crate::manifest::{ENTRY_MAX, FIXED_BYTES, Manifest};
use crate::meta::META_MAX;
use crate::{Geometry, table};

/// The start of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the volume; 0 is the first.
    pub volume: u32,
    /// Offset in bytes from the start of that volume.
    pub offset: u64,
}

const POSITION_BYTES: usize = 12;
/// Largest compression ratio of an index. Real indexes are below it (content ids do not compress;
/// repeated entries of an all-zero disk shrink about 15 times), and it prevents a small file from
/// requesting much memory.
const RATIO_MAX: u64 = 64;

/// Longest plain index in bytes for this geometry, given its real stored length.
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
