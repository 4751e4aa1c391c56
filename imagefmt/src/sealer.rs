//! Construction of records: header, body, encryption, padding. The layout is described in
//! `record.rs`.
//!
//! Owns the data about an image that is needed to make records for it. Always holds: equal records
//! give equal bytes.

use std::sync::Arc;

use crate::codec::{self, Body, Codec};
use crate::error::{FormatError, Result};
use crate::id::stored_hash;
use crate::manifest::Entry;
use crate::prologue::{HASH_BLAKE3, identity};
use crate::record::{
    AAD_BYTES, CIPHER_NONE, CIPHER_XCHACHA, CRC_AT, HASH_AT, HEADER_BYTES, MASK_FOLLOWS, NONCE_AT,
    RecordKind, SYNC, chunk_name, plain_hash,
};
use crate::seal::{Keys, NONCE_BYTES, TAG_BYTES};
use crate::{ChunkId, Geometry, IdKey, Mask, index};

/// Makes records of one image. It is cheap to clone: worker threads seal chunks in parallel, and
/// one writer appends them.
#[derive(Debug, Clone)]
pub struct RecordSealer {
    pub(crate) geometry: Geometry,
    pub(crate) image_uuid: [u8; 16],
    pub(crate) keys: Option<Arc<Keys>>,
}

/// A sealed chunk, passed from a worker thread to the writer thread.
#[derive(Debug, Clone)]
pub struct EncodedChunk {
    pub(crate) entry: Entry,
    pub(crate) record: Vec<u8>,
    /// Identity of the image that it was sealed for.
    pub(crate) image: [u8; 32],
}

impl EncodedChunk {
    /// The manifest entry of this chunk.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Length of its record in the file, in bytes.
    #[must_use]
    pub fn record_len(&self) -> usize {
        self.record.len()
    }

    /// Returns the buffer, which can be reused in [`RecordSealer::seal_into`].
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.record
    }
}

/// The header fields that are chosen by the maker of a record.
pub(crate) struct NewRecord<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) codec: Codec,
    pub(crate) masked: bool,
    pub(crate) chunk: ChunkId,
    pub(crate) plain_len: u64,
    pub(crate) id: [u8; 32],
    pub(crate) body: &'a [u8],
}

impl RecordSealer {
    /// Key of the content ids, for the [`crate::Encoder`]s of this image.
    #[must_use]
    pub fn id_key(&self) -> Option<&IdKey> {
        self.keys.as_ref().map(|keys| &keys.id)
    }

    /// Hash of geometry, UUID and encryption of the image.
    pub(crate) fn identity(&self) -> [u8; 32] {
        identity(&self.geometry, &self.image_uuid, self.keys.is_some())
    }

    /// Seals one chunk.
    ///
    /// # Errors
    /// The errors of [`RecordSealer::seal_into`].
    pub fn seal(&self, chunk: ChunkId, mask: &Mask, body: &Body<'_>) -> Result<EncodedChunk> {
        self.seal_into(chunk, mask, body, Vec::new())
    }

    /// Seals one chunk into a reused buffer.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] if the mask is empty or was not made for this chunk of this
    /// disk.
    pub fn seal_into(
        &self,
        chunk: ChunkId,
        mask: &Mask,
        body: &Body<'_>,
        buffer: Vec<u8>,
    ) -> Result<EncodedChunk> {
        let entry = Entry {
            chunk,
            codec: body.codec,
            body_len: crate::error::narrow(body.bytes.len(), "chunk body")?,
            mask: mask.clone(),
            id: body.id,
        };
        self.seal_entry(entry, body.bytes, buffer)
    }

    /// Seals a body that comes from another image or from the network, without encoding it again.
    ///
    /// # Errors
    /// The errors of [`RecordSealer::seal_into`]; also if `body` has another length than the entry.
    pub fn seal_entry(&self, entry: Entry, body: &[u8], buffer: Vec<u8>) -> Result<EncodedChunk> {
        entry.validate(&self.geometry)?;
        if body.len() != entry.body_len as usize {
            return Err(FormatError::Unwritable {
                what: "a chunk's body has not the length its entry says",
            });
        }
        let mut record = buffer;
        self.build(
            &NewRecord {
                kind: RecordKind::Chunk,
                codec: entry.codec,
                masked: !entry.mask.is_full(),
                chunk: entry.chunk,
                plain_len: codec::plain_len(&entry.mask) as u64,
                id: chunk_name(self.id_key(), entry.chunk, &entry.id),
                body,
            },
            &mut record,
        )?;
        Ok(EncodedChunk {
            entry,
            record,
            image: self.identity(),
        })
    }

    /// Makes a record of any other type, compressed if that saves enough.
    pub(crate) fn pack(&self, kind: RecordKind, plain: &[u8], level: i32) -> Result<Vec<u8>> {
        let packed = codec::compress(plain, level)?;
        // An index with a higher compression ratio than readers accept is stored uncompressed,
        // because it would be refused later.
        let pays = codec::pays(plain.len(), packed.len())
            && (kind != RecordKind::Index
                || plain.len() as u64 <= index::plain_max(&self.geometry, packed.len() as u64));
        let (codec, body) = if pays {
            (Codec::Zstd, packed.as_slice())
        } else {
            (Codec::Raw, plain)
        };
        let mut record = Vec::new();
        self.build(
            &NewRecord {
                kind,
                codec,
                masked: false,
                chunk: ChunkId(0),
                plain_len: plain.len() as u64,
                id: plain_hash(self.id_key(), plain),
                body,
            },
            &mut record,
        )?;
        Ok(record)
    }

    /// Makes a record that is readable without a password (SIG, PROLOGUE, TRAILER).
    pub(crate) fn pack_open(&self, kind: RecordKind, plain: &[u8]) -> Result<Vec<u8>> {
        let open = Self {
            keys: None,
            ..self.clone()
        };
        let mut record = Vec::new();
        open.build(
            &NewRecord {
                kind,
                codec: Codec::Raw,
                masked: false,
                chunk: ChunkId(0),
                plain_len: plain.len() as u64,
                id: plain_hash(None, plain),
                body: plain,
            },
            &mut record,
        )?;
        Ok(record)
    }

    fn build(&self, new: &NewRecord<'_>, out: &mut Vec<u8>) -> Result<()> {
        let keys = self.keys.as_deref();
        let stored_len = new.body.len() + if keys.is_some() { TAG_BYTES } else { 0 };
        let mut header = [0; HEADER_BYTES];
        header[0..8].copy_from_slice(&SYNC);
        header[8] = new.kind.code();
        header[9] = new.codec.code() | if new.masked { MASK_FOLLOWS } else { 0 };
        header[10] = if keys.is_some() {
            CIPHER_XCHACHA
        } else {
            CIPHER_NONE
        };
        header[11] = HASH_BLAKE3;
        header[12..16].copy_from_slice(&new.chunk.0.to_le_bytes());
        header[16..24].copy_from_slice(&self.image_uuid[..8]);
        header[24..32].copy_from_slice(&(stored_len as u64).to_le_bytes());
        header[32..40].copy_from_slice(&new.plain_len.to_le_bytes());
        header[64..96].copy_from_slice(&new.id);

        out.clear();
        out.reserve(HEADER_BYTES + stored_len + 64);
        out.resize(HEADER_BYTES, 0);
        out.extend_from_slice(new.body);
        if let Some(keys) = keys {
            let nonce = keys.nonce(&header[..AAD_BYTES], new.body);
            header[NONCE_AT..NONCE_AT + NONCE_BYTES].copy_from_slice(&nonce);
            let tag = keys.seal(&nonce, &header[..AAD_BYTES], &mut out[HEADER_BYTES..])?;
            out.extend_from_slice(&tag);
        }
        header[HASH_AT..HASH_AT + 16].copy_from_slice(&stored_hash(&out[HEADER_BYTES..]));
        let crc = crc32fast::hash(&header[..CRC_AT]);
        header[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out[..HEADER_BYTES].copy_from_slice(&header);
        out.resize(out.len().next_multiple_of(64), 0);
        Ok(())
    }
}
