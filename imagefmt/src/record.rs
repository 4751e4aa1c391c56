//! Records: all parts of an image after the prologue. Each record contains its own type, length and
//! checksums.
//!
//! A record starts at a multiple of 64 bytes, where a scan for the sync magic looks, and is
//! followed by zeros up to the next multiple. Header, 128 bytes:
//!
//! ```text
//!    0  sync magic 8               D1 44 43 52 0D 0A 1A D8
//!    8  type u8                    1 META, 2 TABLE, 3 CHUNK, 4 INDEX, 5 SIG, 6 TRAILER, 7 PROLOGUE, 8 LABELS; from 128 passed over when unknown
//!    9  codec u8                   0 raw, 1 zstd, 2 zero, 3 reserved (reference to a base image); bit 7: the plain form
//!                                  ends with a mask (CHUNK)
//!   10  cipher u8                  0 none, 1 XChaCha20-Poly1305
//!   11  hash u8                    1 BLAKE3: id and stored hash
//!   12  chunk number u32           0 when not a CHUNK
//!   16  first 8 bytes of the image UUID
//!   24  stored length u64          bytes after this header, tag included, padding not
//!   32  plain length u64           after decompression
//!   40  nonce 24                   zero when not encrypted
//!   64  id 32                      CHUNK: content id, in an encrypted image its sealed form; others: BLAKE3 of the plain
//!                                  body (keyed when encrypted)
//!   96  BLAKE3-128 of the stored bytes
//!  112  reserved 12
//!  124  CRC-32 (IEEE) of bytes 0..124
//! ```
//!
//! Associated data of the encryption: bytes 0..96.

use crate::bytes::Fields;
use crate::codec::{self, Codec};
use crate::error::{FormatError, Result, at_most, unknown};
use crate::id::stored_hash;
use crate::labels::LABELS_BYTES_MAX;
use crate::meta::META_MAX;
use crate::names::Class;
use crate::prologue::{HASH_BLAKE3, PROLOGUE_BYTES};
use crate::seal::{Keys, NONCE_BYTES, TAG_BYTES};
use crate::{ChunkId, ContentId, Geometry, IdKey, Mask, index, table};

/// The first bytes of every record. The last byte differs from that of `MAGIC`, and the first and
/// last bytes have the high bit set.
pub(crate) const SYNC: [u8; 8] = *b"\xd1DCR\r\n\x1a\xd8";
/// Length of a record header in bytes.
pub(crate) const HEADER_BYTES: usize = 128;
/// Alignment of records in bytes.
pub(crate) const ALIGN: u64 = 64;

pub(crate) const AAD_BYTES: usize = 96;
pub(crate) const NONCE_AT: usize = 40;
pub(crate) const HASH_AT: usize = 96;
pub(crate) const CRC_AT: usize = 124;

pub(crate) const MASK_FOLLOWS: u8 = 0x80;
pub(crate) const CIPHER_NONE: u8 = 0;
pub(crate) const CIPHER_XCHACHA: u8 = 1;
/// First record type that a reader may ignore if it does not know it.
const OPTIONAL_FROM: u8 = 128;

/// The type of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordKind {
    /// Description of the image, JSON.
    Meta,
    /// Partition table sectors.
    Table,
    /// Content of one chunk.
    Chunk,
    /// Manifest and positions.
    Index,
    /// Signature.
    Signature,
    /// Trailer, the last record.
    Trailer,
    /// Copy of the prologue, right before the trailer.
    Prologue,
    /// Labels, which may change later.
    Labels,
    /// A type of a later version.
    Other(u8),
}

impl RecordKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Meta => 1,
            Self::Table => 2,
            Self::Chunk => 3,
            Self::Index => 4,
            Self::Signature => 5,
            Self::Trailer => 6,
            Self::Prologue => 7,
            Self::Labels => 8,
            Self::Other(code) => code,
        }
    }

    /// True if a reader can use the image without knowing this type: for known types, and for those
    /// that later versions mark as optional.
    #[must_use]
    pub fn is_optional(self) -> bool {
        !matches!(self, Self::Other(code) if code < OPTIONAL_FROM)
    }

    fn from_code(code: u8) -> Self {
        [
            Self::Meta,
            Self::Table,
            Self::Chunk,
            Self::Index,
            Self::Signature,
            Self::Trailer,
            Self::Prologue,
            Self::Labels,
        ]
        .into_iter()
        .find(|kind| kind.code() == code)
        .unwrap_or(Self::Other(code))
    }

    /// The word for this type in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Meta => "description record (META)",
            Self::Table => "partition table record (TABLE)",
            Self::Chunk => "chunk record",
            Self::Index => "index",
            Self::Signature => "signature record",
            Self::Trailer => "trailer",
            Self::Prologue => "copy of the prologue",
            Self::Labels => "labels",
            Self::Other(_) => "record of an unknown type",
        }
    }
}

/// A header with a valid CRC and values within the limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: RecordKind,
    pub(crate) codec: Codec,
    pub(crate) encrypted: bool,
    /// True if the body ends with a mask.
    pub(crate) masked: bool,
    pub(crate) chunk: ChunkId,
    pub(crate) uuid_prefix: [u8; 8],
    pub(crate) stored_len: u64,
    pub(crate) plain_len: u64,
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) id: [u8; 32],
    pub(crate) stored_hash: [u8; 16],
    /// Bytes 0..96 as stored in the file.
    aad: [u8; AAD_BYTES],
}

impl Header {
    /// Parses a header. `offset` is used only in messages.
    ///
    /// After this call all lengths are within their limits: `plain_len` by type and geometry,
    /// `stored_len` at most the plain form plus a tag (content that does not shrink is stored raw).
    pub(crate) fn parse(
        bytes: &[u8; HEADER_BYTES],
        geometry: &Geometry,
        offset: u64,
    ) -> Result<Self> {
        let damaged = |reason| FormatError::Damaged {
            what: "record header",
            offset,
            reason,
        };
        let mut fields = Fields::new(bytes, "record header");
        if fields.array()? != SYNC {
            return Err(damaged("no record starts here"));
        }
        let (covered, crc) = bytes.split_at(CRC_AT);
        if crc32fast::hash(covered).to_le_bytes() != *crc {
            return Err(damaged("its CRC does not match"));
        }
        let kind = RecordKind::from_code(fields.u8()?);
        let form = fields.u8()?;
        let (cipher, hash) = (fields.u8()?, fields.u8()?);
        if hash != HASH_BLAKE3 {
            return Err(unknown(Class::Hash, hash));
        }
        // The codec and cipher of a record of an unknown type are not checked.
        let foreign = matches!(kind, RecordKind::Other(_));
        let codec = if foreign {
            Codec::Raw
        } else {
            Codec::from_code(form & !MASK_FOLLOWS)?
        };
        if !foreign && !matches!(cipher, CIPHER_NONE | CIPHER_XCHACHA) {
            return Err(unknown(Class::Cipher, cipher));
        }
        let mut aad = [0; AAD_BYTES];
        aad.copy_from_slice(&bytes[..AAD_BYTES]);
        let header = Self {
            kind,
            codec,
            encrypted: cipher != CIPHER_NONE,
            masked: !foreign && form & MASK_FOLLOWS != 0,
            chunk: ChunkId(fields.u32()?),
            uuid_prefix: fields.array()?,
            stored_len: fields.u64()?,
            plain_len: fields.u64()?,
            nonce: fields.array()?,
            id: fields.array()?,
            stored_hash: fields.array()?,
            aad,
        };
        // A later version may use these bytes for its own types.
        if !foreign {
            fields.zeros(12)?;
        }
        header.check(geometry, &damaged)?;
        Ok(header)
    }

    fn check(
        &self,
        geometry: &Geometry,
        damaged: &dyn Fn(&'static str) -> FormatError,
    ) -> Result<()> {
        let limit = match self.kind {
            RecordKind::Meta => META_MAX,
            RecordKind::Table => table::ENCODED_MAX,
            RecordKind::Chunk => {
                let len = geometry.chunk_len(self.chunk);
                if len == 0 {
                    return Err(damaged("its chunk lies beyond the disk"));
                }
                u64::from(len) + Mask::byte_len(len) as u64
            }
            RecordKind::Index => index::plain_max(geometry, self.stored_len),
            RecordKind::Signature => 4096,
            RecordKind::Trailer => 128,
            RecordKind::Prologue => PROLOGUE_BYTES as u64,
            RecordKind::Labels => LABELS_BYTES_MAX,
            // Only its length in the file matters, which is compared with the volume.
            RecordKind::Other(_) => return Ok(()),
        };
        at_most("length of a record's plain form", self.plain_len, limit)?;
        at_most(
            "length of a record's stored form",
            self.stored_len,
            self.plain_len + TAG_BYTES as u64,
        )?;
        if self.kind != RecordKind::Chunk && (self.codec == Codec::Zero || self.masked) {
            return Err(damaged("its codec does not fit its type"));
        }
        if self.kind != RecordKind::Chunk && self.chunk != ChunkId(0) {
            return Err(damaged("it has a chunk number and is no chunk"));
        }
        if !self.encrypted && self.nonce != [0; NONCE_BYTES] {
            return Err(damaged("it has a nonce and is not encrypted"));
        }
        let tag = if self.encrypted { TAG_BYTES as u64 } else { 0 };
        let Some(body_len) = self.stored_len.checked_sub(tag) else {
            return Err(damaged("it is too short to be encrypted"));
        };
        let mask_len = match self.kind {
            RecordKind::Chunk => {
                let len = geometry.chunk_len(self.chunk);
                let mask_len = if self.masked {
                    Mask::byte_len(len) as u64
                } else {
                    0
                };
                if self.plain_len <= mask_len {
                    return Err(damaged("it has no used blocks"));
                }
                let used = self.plain_len - mask_len;
                if (used == u64::from(len)) == self.masked {
                    return Err(damaged("its length does not fit its chunk"));
                }
                mask_len
            }
            _ => 0,
        };
        let fits = match self.codec {
            Codec::Raw => body_len == self.plain_len,
            Codec::Zstd => body_len <= self.plain_len,
            Codec::Zero => body_len == mask_len,
        };
        if !fits {
            return Err(damaged("its length does not fit its codec"));
        }
        Ok(())
    }

    /// Number of used bytes of a chunk.
    pub(crate) fn used_bytes(&self, geometry: &Geometry) -> u64 {
        let mask = if self.masked {
            Mask::byte_len(geometry.chunk_len(self.chunk)) as u64
        } else {
            0
        };
        self.plain_len.saturating_sub(mask)
    }

    /// Number of bytes from the start of this record to the start of the next.
    pub(crate) fn record_len(&self) -> u64 {
        padded((HEADER_BYTES as u64).saturating_add(self.stored_len))
    }

    /// Checks the stored bytes and leaves the body in the form sent over the network (decrypted,
    /// still compressed).
    pub(crate) fn open_body(
        &self,
        keys: Option<&Keys>,
        stored: &mut Vec<u8>,
        offset: u64,
    ) -> Result<()> {
        self.check_stored(stored, offset)?;
        if self.encrypted {
            let keys = keys.ok_or(FormatError::PasswordNeeded)?;
            if !keys.open(&self.nonce, &self.aad, stored) {
                return Err(self.damaged(offset, "it does not decrypt with this image's key"));
            }
        }
        Ok(())
    }

    /// Checks only the stored bytes; no password is needed.
    pub(crate) fn check_stored(&self, stored: &[u8], offset: u64) -> Result<()> {
        if stored.len() as u64 != self.stored_len || stored_hash(stored) != self.stored_hash {
            return Err(self.damaged(offset, "its stored bytes do not match their hash"));
        }
        Ok(())
    }

    pub(crate) fn damaged(&self, offset: u64, reason: &'static str) -> FormatError {
        match self.kind {
            RecordKind::Chunk => FormatError::ChunkDamaged {
                chunk: self.chunk,
                reason,
            },
            kind => FormatError::Damaged {
                what: kind.name(),
                offset,
                reason,
            },
        }
    }

    /// Returns the plain body of any record but a chunk, checked against its id.
    pub(crate) fn plain(
        &self,
        body: Vec<u8>,
        id_key: Option<&IdKey>,
        offset: u64,
    ) -> Result<Vec<u8>> {
        let plain = match self.codec {
            Codec::Zstd => codec::decompress(
                &body,
                crate::error::to_usize(self.plain_len, "length of a record")?,
            )
            .map_err(|_| self.damaged(offset, "it does not decompress"))?,
            _ => body,
        };
        if plain.len() as u64 != self.plain_len || plain_hash(id_key, &plain) != self.id {
            return Err(self.damaged(offset, "its content does not match its hash"));
        }
        Ok(plain)
    }
}

/// Type in a header with a valid CRC, independent of any image.
pub(crate) fn raw_kind(bytes: &[u8; HEADER_BYTES]) -> Option<RecordKind> {
    let (covered, crc) = bytes.split_at(CRC_AT);
    let whole = bytes.starts_with(&SYNC) && crc32fast::hash(covered).to_le_bytes() == *crc;
    whole.then(|| RecordKind::from_code(bytes[8]))
}

/// Stored length given in a header.
pub(crate) fn stored_len(bytes: &[u8; HEADER_BYTES]) -> u64 {
    let mut len = [0; 8];
    len.copy_from_slice(&bytes[24..32]);
    u64::from_le_bytes(len)
}

/// The next multiple of [`ALIGN`]. It saturates near `u64::MAX`, which no volume reaches.
pub(crate) fn padded(len: u64) -> u64 {
    len.saturating_add(ALIGN - 1) / ALIGN * ALIGN
}

/// BLAKE3 of a plain body, keyed in an encrypted image.
pub(crate) fn plain_hash(id_key: Option<&IdKey>, plain: &[u8]) -> [u8; 32] {
    match id_key {
        Some(key) => blake3::keyed_hash(&key.to_bytes(), plain).into(),
        None => blake3::hash(plain).into(),
    }
}

/// The id in a chunk's header: its content id. In an encrypted image equal ids would reveal equal
/// chunks, so the id is hashed once more together with the number of the chunk.
pub(crate) fn chunk_name(id_key: Option<&IdKey>, chunk: ChunkId, id: &ContentId) -> [u8; 32] {
    let Some(key) = id_key else {
        return id.0;
    };
    let mut hasher = blake3::Hasher::new_keyed(&key.to_bytes());
    hasher.update(&id.0);
    hasher.update(&chunk.0.to_le_bytes());
    hasher.finalize().into()
}
