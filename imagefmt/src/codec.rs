//! Conversion of one chunk between its plain form and its stored body.
//!
//! ```text
//! used blocks in order | mask          the plain form; no mask when every block is used
//! ```
//!
//! The mask comes last, so used bytes are at the start of the buffer and can be written from it
//! directly. The body is the plain form compressed by zstd, or the plain form itself if compression
//! saves less than 3 %, or only the mask if all used bytes are zero. Each worker thread has one
//! [`Encoder`] or [`Decoder`], which reuses its buffers and contexts.

use std::io;

use zstd::bulk::{Compressor, Decompressor};

use crate::error::{FormatError, Result, unknown};
use crate::id::content_id;
use crate::manifest::Entry;
use crate::names::Class;
use crate::{ContentId, Geometry, IdKey, Mask};

/// The form in which a body is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// The plain form, uncompressed.
    Raw,
    /// The plain form as one zstd frame.
    Zstd,
    /// All used bytes are zero: the body is the mask, or empty if every block is used.
    Zero,
}

impl Codec {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::Zero => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Result<Self> {
        match code {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            2 => Ok(Self::Zero),
            // 3 is reserved for a reference to a base image.
            code => Err(unknown(Class::Codec, code)),
        }
    }
}

/// Lowest and highest zstd level. Levels above 6 saved nothing more on the test corpus (research:
/// imagefmt 4.1).
pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=12;
/// Default zstd level: higher levels cost much more time for little gain.
pub const DEFAULT_LEVEL: i32 = 3;

/// True if `packed` saves at least 3 % of `plain`. Less is not worth a decompression on every
/// target.
pub(crate) fn pays(plain: usize, packed: usize) -> bool {
    (packed as u64) * 100 <= (plain as u64) * 97
}

/// Length in bytes of the plain form of a chunk with this mask.
pub(crate) fn plain_len(mask: &Mask) -> usize {
    let used = mask.used_bytes() as usize;
    if mask.is_full() {
        used
    } else {
        used + Mask::byte_len(mask.chunk_len())
    }
}

/// Length in bytes of the body of an all-zero chunk with this mask.
pub(crate) fn zero_len(mask: &Mask) -> usize {
    plain_len(mask) - mask.used_bytes() as usize
}

/// An encoded chunk, as sent over the network and (encrypted or not) stored in the file.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    /// Form of the body.
    pub codec: Codec,
    /// Bytes of the body.
    pub bytes: &'a [u8],
    /// Id of the content.
    pub id: ContentId,
}

/// Compresses chunks and computes their ids. Each worker thread has its own.
pub struct Encoder {
    compressor: Compressor<'static>,
    id_key: Option<IdKey>,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// An encoder with a zstd level of 1 to 12.
    ///
    /// # Errors
    /// [`FormatError::LimitExceeded`] for another level, [`FormatError::Compressor`] if zstd cannot
    /// allocate memory.
    pub fn new(level: i32, id_key: Option<IdKey>) -> Result<Self> {
        Ok(Self {
            compressor: compressor(level)?,
            id_key,
            plain: Vec::new(),
            packed: Vec::new(),
        })
    }

    /// Encodes one chunk: `used` holds the blocks marked in `mask`, one after another.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] if the mask is empty (a chunk without content has no record) or
    /// `used` has another length than the mask requires; [`FormatError::Compressor`] if zstd fails.
    pub fn encode<'a>(&'a mut self, mask: &Mask, used: &'a [u8]) -> Result<Body<'a>> {
        if mask.is_empty() {
            return Err(FormatError::Unwritable {
                what: "a chunk without used blocks has no record",
            });
        }
        if used.len() != mask.used_bytes() as usize {
            return Err(FormatError::Unwritable {
                what: "a chunk's bytes do not fit its mask",
            });
        }
        let id = content_id(self.id_key.as_ref(), mask, used);
        // A full mask, the usual case, needs no copy.
        let zero = all_zero(used);
        let plain: &'a [u8] = if mask.is_full() {
            used
        } else {
            self.plain.clear();
            if !zero {
                self.plain.extend_from_slice(used);
            }
            mask.write_to(&mut self.plain);
            &self.plain
        };
        if zero {
            let bytes = if mask.is_full() { &[] } else { plain };
            return Ok(Body {
                codec: Codec::Zero,
                bytes,
                id,
            });
        }
        self.packed.clear();
        self.packed
            .reserve(zstd::zstd_safe::compress_bound(plain.len()));
        self.compressor
            .compress_to_buffer(plain, &mut self.packed)
            .map_err(FormatError::Compressor)?;
        Ok(if pays(plain.len(), self.packed.len()) {
            Body {
                codec: Codec::Zstd,
                bytes: &self.packed,
                id,
            }
        } else {
            Body {
                codec: Codec::Raw,
                bytes: plain,
                id,
            }
        })
    }
}

/// Decompresses chunks and verifies them. Each worker thread has its own.
pub struct Decoder {
    decompressor: Decompressor<'static>,
    id_key: Option<IdKey>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// A decoder. `id_key` is the key of the image's ids if the image is encrypted.
    ///
    /// # Errors
    /// [`FormatError::Compressor`] if zstd cannot allocate memory.
    pub fn new(id_key: Option<IdKey>) -> Result<Self> {
        Ok(Self {
            decompressor: Decompressor::new().map_err(FormatError::Compressor)?,
            id_key,
        })
    }

    /// Buffer length in bytes for [`Decoder::decode_into`]: the used bytes, followed by the mask.
    #[must_use]
    pub fn buffer_len(entry: &Entry) -> usize {
        plain_len(&entry.mask)
    }

    /// Decodes a body and returns the used bytes, verified against the entry.
    ///
    /// `out` is only working space: it grows once to the size of a chunk and is reused.
    ///
    /// # Errors
    /// [`FormatError::ChunkDamaged`] if anything differs from the entry.
    pub fn decode<'a>(
        &mut self,
        geometry: &Geometry,
        entry: &Entry,
        body: &[u8],
        out: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        entry.validate(geometry)?;
        let len = plain_len(&entry.mask);
        if out.len() < len {
            // At most a chunk and its mask, because of `validate`.
            out.resize(len, 0);
        }
        let used = self.decode_into(geometry, entry, body, out)?;
        Ok(out.get(..used).unwrap_or_default())
    }

    /// Does the same as [`Decoder::decode`] with a buffer of the caller (for example one aligned
    /// for direct writes) of at least [`Decoder::buffer_len`] bytes.
    ///
    /// Returns the number of used bytes at its start.
    ///
    /// # Errors
    /// [`FormatError::ChunkDamaged`] if anything differs from the entry;
    /// [`FormatError::Unwritable`] if the buffer is too small.
    pub fn decode_into(
        &mut self,
        geometry: &Geometry,
        entry: &Entry,
        body: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        entry.validate(geometry)?;
        let damaged = |reason| FormatError::ChunkDamaged {
            chunk: entry.chunk,
            reason,
        };
        if body.len() != entry.body_len as usize {
            return Err(damaged("its body has not the length the manifest says"));
        }
        let used_len = entry.mask.used_bytes() as usize;
        let Some(out) = out.get_mut(..plain_len(&entry.mask)) else {
            return Err(FormatError::Unwritable {
                what: "the buffer is too small for the chunk",
            });
        };
        match entry.codec {
            Codec::Raw => {
                if body.len() != out.len() {
                    return Err(damaged("its body has not the length its mask calls for"));
                }
                out.copy_from_slice(body);
            }
            Codec::Zero => {
                let (used, mask) = out.split_at_mut(used_len);
                if body.len() != mask.len() {
                    return Err(damaged("its body has not the length its mask calls for"));
                }
                used.fill(0);
                mask.copy_from_slice(body);
            }
            Codec::Zstd => {
                // zstd stops at the end of `out`, whatever the frame claims.
                let len = self
                    .decompressor
                    .decompress_to_buffer(body, out)
                    .map_err(|_| damaged("its body does not decompress"))?;
                if len != out.len() {
                    return Err(damaged("its body decompresses to the wrong length"));
                }
            }
        }
        let (used, mask) = out.split_at(used_len);
        if !mask.is_empty() && mask != entry.mask.to_bytes() {
            return Err(damaged("its mask is not the one in the manifest"));
        }
        if content_id(self.id_key.as_ref(), &entry.mask, used) != entry.id {
            return Err(damaged("its content does not match its id"));
        }
        Ok(used_len)
    }

    /// Returns the plain form of a body for which there is no entry to compare with (when an index
    /// is rebuilt).
    pub(crate) fn unpack<'a>(
        &mut self,
        codec: Codec,
        body: &[u8],
        plain_len: usize,
        out: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        out.clear();
        match codec {
            Codec::Raw => out.extend_from_slice(body),
            Codec::Zero => {
                out.resize(plain_len.checked_sub(body.len())?, 0);
                out.extend_from_slice(body);
            }
            Codec::Zstd => {
                out.reserve(plain_len);
                // The vector may have a larger capacity than requested; a longer result is refused
                // below.
                self.decompressor.decompress_to_buffer(body, out).ok()?;
            }
        }
        (out.len() == plain_len).then_some(out.as_slice())
    }
}

fn compressor(level: i32) -> Result<Compressor<'static>> {
    if !LEVELS.contains(&level) {
        return Err(FormatError::LimitExceeded {
            what: "compression level",
            value: u64::try_from(level).unwrap_or(0),
            limit: 12,
        });
    }
    let start = || -> io::Result<Compressor<'static>> {
        let mut compressor = Compressor::new(level)?;
        // The content size bounds the decoder. BLAKE3 covers the content, so zstd's own checksum
        // would only take time.
        compressor.include_contentsize(true)?;
        compressor.include_checksum(false)?;
        compressor.include_dictid(false)?;
        Ok(compressor)
    };
    start().map_err(FormatError::Compressor)
}

/// Compresses a whole buffer (META, TABLE, INDEX).
pub(crate) fn compress(plain: &[u8], level: i32) -> Result<Vec<u8>> {
    compressor(level)?
        .compress(plain)
        .map_err(FormatError::Compressor)
}

/// Decompresses a whole buffer of a length that was checked before.
pub(crate) fn decompress(packed: &[u8], len: usize) -> io::Result<Vec<u8>> {
    // `decompress` uses the smaller of the frame's size and this limit, and stops there.
    Decompressor::new()?.decompress(packed, len)
}

/// True if all bytes are zero. Compares 64 bytes at a time and stops at the first difference.
fn all_zero(bytes: &[u8]) -> bool {
    let (pieces, rest) = bytes.as_chunks::<64>();
    pieces
        .iter()
        .all(|piece| piece.iter().fold(0, |any, byte| any | byte) == 0)
        && rest.iter().all(|&byte| byte == 0)
}
