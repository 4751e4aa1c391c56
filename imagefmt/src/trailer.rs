//! TRAILER: the last 256 bytes of the last volume, a record with this body:
//!
//! ```text
//!    0  index volume u32, volumes u32
//!    8  index offset u64, index record length u64
//!   24  chunks u64, used bytes u64
//!   40  total length of all volumes u64
//!   48  root 32
//!   80  reserved 16
//!   96  BLAKE3 of bytes 0..96
//! ```
//!
//! It contains the position of the index. An image without a trailer was not finished.

use crate::bytes::Fields;
use crate::error::{FormatError, Result};
use crate::record::HEADER_BYTES;
use crate::{Position, Root};

/// Length of the trailer record in bytes: header and body.
pub(crate) const TRAILER_BYTES: usize = HEADER_BYTES + BODY_BYTES;
pub(crate) const BODY_BYTES: usize = 128;
const HASH_AT: usize = BODY_BYTES - 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) index: Position,
    /// Length of the index record in bytes: header, stored bytes and padding.
    pub(crate) index_len: u64,
    pub(crate) volumes: u32,
    pub(crate) chunks: u64,
    pub(crate) used_bytes: u64,
    pub(crate) total_len: u64,
    pub(crate) root: Root,
}

impl Trailer {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BODY_BYTES);
        out.extend_from_slice(&self.index.volume.to_le_bytes());
        out.extend_from_slice(&self.volumes.to_le_bytes());
        out.extend_from_slice(&self.index.offset.to_le_bytes());
        out.extend_from_slice(&self.index_len.to_le_bytes());
        out.extend_from_slice(&self.chunks.to_le_bytes());
        out.extend_from_slice(&self.used_bytes.to_le_bytes());
        out.extend_from_slice(&self.total_len.to_le_bytes());
        out.extend_from_slice(&self.root.0);
        out.resize(HASH_AT, 0);
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    pub(crate) fn parse(body: &[u8], offset: u64) -> Result<Self> {
        let damaged = |reason| FormatError::Damaged {
            what: "trailer",
            offset,
            reason,
        };
        if body.len() != BODY_BYTES {
            return Err(damaged("its length is wrong"));
        }
        let (covered, hash) = body.split_at(HASH_AT);
        if blake3::hash(covered).as_bytes()[..] != *hash {
            return Err(damaged("its hash does not match"));
        }
        let mut fields = Fields::new(covered, "trailer");
        let index_volume = fields.u32()?;
        let volumes = fields.u32()?;
        Ok(Self {
            index: Position {
                volume: index_volume,
                offset: fields.u64()?,
            },
            volumes,
            index_len: fields.u64()?,
            chunks: fields.u64()?,
            used_bytes: fields.u64()?,
            total_len: fields.u64()?,
            root: Root(fields.array()?),
        })
    }
}
