//! Reader of an image: prologue, trailer and index first, then bodies in any order and from any
//! number of threads.

use positioned_io::ReadAt;

use crate::error::{FormatError, Result};
use crate::prologue::Prologue;
use crate::record::{ALIGN, RecordKind, chunk_name};
use crate::seal::{Keys, Password, open_slots};
use crate::sealer::RecordSealer;
use crate::store::{Store, Volume};
use crate::trailer::Trailer;
use crate::{Decoder, IdKey, Labels, Manifest, Position, Root, VerifyingKey, index};
use std::sync::Arc;

/// An open image. Every method takes `&self`, so threads can share it if the reader allows that.
#[derive(Debug)]
pub struct Image<R> {
    pub(crate) store: Store<R>,
    pub(crate) prologue: Prologue,
    pub(crate) keys: Option<Arc<Keys>>,
    pub(crate) manifest: Manifest,
    pub(crate) positions: Vec<Position>,
    pub(crate) root: Root,
    /// Keys with a valid signature over the root.
    pub(crate) signers: Vec<VerifyingKey>,
    /// Bodies of the records of these signatures.
    pub(crate) signatures: Vec<Vec<u8>>,
    pub(crate) labels: Labels,
    /// The trailer and its position; `None` after a rebuild.
    pub(crate) end: Option<(Trailer, Position)>,
}

/// The properties of an image that are readable without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Sizes of disk, sectors and chunks.
    pub geometry: crate::Geometry,
    /// Random identity of the image.
    pub image_uuid: [u8; 16],
    /// True if a password is needed.
    pub encrypted: bool,
    /// Root of the image, as given in its trailer.
    pub root: Root,
    /// Number of chunks with content.
    pub chunks: u64,
    /// Number of used bytes of the disk.
    pub used_bytes: u64,
    /// Length of all volumes in bytes.
    pub bytes: u64,
    /// Volumes with a damaged prologue, for which a copy was used; 0 is the first.
    pub damaged_prologues: Vec<u32>,
    /// Keys with a valid signature over the root. The caller decides if it trusts them.
    pub signers: Vec<VerifyingKey>,
}

impl<R: ReadAt> Image<R> {
    /// Opens an image of one volume with `len` bytes.
    ///
    /// # Errors
    /// [`FormatError::NotAnImage`], [`FormatError::UnsupportedVersion`],
    /// [`FormatError::UnknownFeature`]; [`FormatError::Truncated`] if there is no trailer (see
    /// [`Image::rebuild`]); [`FormatError::PasswordNeeded`], [`FormatError::WrongPassword`];
    /// [`FormatError::BadSignature`] if a signature is not valid; [`FormatError::Damaged`] and
    /// [`FormatError::LimitExceeded`] for other faults.
    pub fn open(reader: R, len: u64, password: Option<&Password>) -> Result<Self> {
        Self::open_volumes(vec![Volume { reader, len }], password)
    }

    /// Opens a divided image from its volumes in order.
    ///
    /// # Errors
    /// The errors of [`Image::open`], and [`FormatError::VolumeMissing`] and
    /// [`FormatError::VolumeMismatch`].
    pub fn open_volumes(volumes: Vec<Volume<R>>, password: Option<&Password>) -> Result<Self> {
        let store = Store { volumes };
        let prologue = store.prologue()?;
        let (trailer, trailer_at) = store.trailer(&prologue)?;
        let keys = unlock(&prologue, password)?;
        let (manifest, positions, record_len) =
            read_index(&store, &prologue, keys.as_deref(), trailer.index)?;
        let damaged = |reason| {
            Err(FormatError::Damaged {
                what: "index",
                offset: trailer.index.offset,
                reason,
            })
        };
        let root = manifest.root();
        if root != trailer.root {
            return damaged("its root is not the one in the trailer");
        }
        if record_len != trailer.index_len
            || manifest.entries.len() as u64 != trailer.chunks
            || manifest.used_bytes() != trailer.used_bytes
        {
            return damaged("its counts are not those in the trailer");
        }
        let tail = store.tail(&prologue, &trailer, trailer_at, &root)?;
        let labels = tail
            .labels
            .map(|at| store.labels(&prologue, keys.as_deref(), at))
            .unwrap_or_default();
        Ok(Self {
            store,
            prologue,
            keys,
            manifest,
            positions,
            root,
            signers: tail.signers(),
            signatures: tail.signatures.into_iter().map(|(_, body)| body).collect(),
            labels,
            end: Some((trailer, trailer_at)),
        })
    }

    /// Reads the properties given in prologue and trailer; no password is needed.
    ///
    /// # Errors
    /// The errors of [`Image::open`], except those about passwords.
    pub fn summary(volumes: Vec<Volume<R>>) -> Result<Summary> {
        let store = Store { volumes };
        let prologue = store.prologue()?;
        summarize(&store, &prologue)
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Key of the content ids; `None` if the image is not encrypted.
    #[must_use]
    pub fn id_key(&self) -> Option<&IdKey> {
        self.keys.as_ref().map(|keys| &keys.id)
    }

    /// Root of the image.
    #[must_use]
    pub fn root(&self) -> Root {
        self.root
    }

    /// True if the image needs a password.
    #[must_use]
    pub fn encrypted(&self) -> bool {
        self.prologue.encrypted()
    }

    /// Length of all volumes in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.store.total_len()
    }

    /// Start of each chunk's record, in the order of the manifest's entries.
    #[must_use]
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// A decoder for this image's bodies.
    ///
    /// # Errors
    /// [`FormatError::Compressor`] if zstd cannot allocate memory.
    pub fn decoder(&self) -> Result<Decoder> {
        Decoder::new(self.id_key().cloned())
    }

    /// Reads the body of entry `entry_index` in the form sent over the network: stored bytes
    /// checked, decrypted.
    ///
    /// # Errors
    /// [`FormatError::ChunkDamaged`] or [`FormatError::Damaged`] if the record differs from the
    /// index, [`FormatError::LimitExceeded`] for an entry that does not exist, [`FormatError::Io`]
    /// if the medium fails.
    pub fn read_body(&self, entry_index: usize, body: &mut Vec<u8>) -> Result<()> {
        let (Some(entry), Some(&at)) = (
            self.manifest.entries.get(entry_index),
            self.positions.get(entry_index),
        ) else {
            return Err(FormatError::LimitExceeded {
                what: "entry number",
                value: entry_index as u64,
                limit: self.manifest.entries.len() as u64,
            });
        };
        let header = self.store.header(&self.prologue, at)?;
        let damaged = |reason| {
            Err(FormatError::ChunkDamaged {
                chunk: entry.chunk,
                reason,
            })
        };
        if header.kind != RecordKind::Chunk || header.chunk != entry.chunk {
            return damaged("another record stands in its place");
        }
        if header.id != chunk_name(self.id_key(), entry.chunk, &entry.id)
            || header.codec != entry.codec
            || header.masked == entry.mask.is_full()
        {
            return damaged("its record is not the one the index describes");
        }
        self.store.stored(&header, at, body)?;
        header.open_body(self.keys.as_deref(), body, at.offset)?;
        if body.len() != entry.body_len as usize
            || header.plain_len != crate::codec::plain_len(&entry.mask) as u64
        {
            return damaged("its record is not the one the index describes");
        }
        Ok(())
    }

    /// Reads, decrypts and decodes entry `entry_index`; returns its verified used bytes.
    ///
    /// # Errors
    /// The errors of [`Image::read_body`] and [`Decoder::decode`].
    pub fn read_chunk<'a>(
        &self,
        entry_index: usize,
        decoder: &mut Decoder,
        body: &mut Vec<u8>,
        out: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        self.read_body(entry_index, body)?;
        let Some(entry) = self.manifest.entries.get(entry_index) else {
            return Ok(&[]);
        };
        let used = decoder.decode(&self.manifest.geometry, entry, body, out)?;
        self.manifest.refuse_table_bytes(entry, used)?;
        Ok(used)
    }

    /// A sealer that makes records for a copy of this image (same geometry, identity and key).
    #[must_use]
    pub fn sealer(&self) -> RecordSealer {
        RecordSealer {
            geometry: self.prologue.geometry,
            image_uuid: self.prologue.image_uuid,
            keys: self.keys.clone(),
        }
    }

    /// Volumes with a damaged prologue, for which a copy was used; 0 is the first.
    #[must_use]
    pub fn damaged_prologues(&self) -> Vec<u32> {
        self.store.damaged_prologues()
    }

    /// Labels set by the technician, which are not part of any root.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Keys with a valid signature over the root.
    #[must_use]
    pub fn signers(&self) -> &[VerifyingKey] {
        &self.signers
    }

    /// Succeeds if the image has a valid signature of this key, which the caller trusts.
    ///
    /// # Errors
    /// [`FormatError::NotSigned`]; [`FormatError::BadSignature`] if only other keys signed it.
    pub fn verify_signature(&self, key: &VerifyingKey) -> Result<()> {
        if self.signers.is_empty() {
            return Err(FormatError::NotSigned);
        }
        if !self.signers.contains(key) {
            return Err(FormatError::BadSignature);
        }
        Ok(())
    }
}

/// Reads the properties given in prologue and trailer.
pub(crate) fn summarize<R: ReadAt>(store: &Store<R>, prologue: &Prologue) -> Result<Summary> {
    let (trailer, at) = store.trailer(prologue)?;
    let signers = store.tail(prologue, &trailer, at, &trailer.root)?.signers();
    Ok(Summary {
        damaged_prologues: store.damaged_prologues(),
        signers,
        geometry: prologue.geometry,
        image_uuid: prologue.image_uuid,
        encrypted: prologue.encrypted(),
        root: trailer.root,
        chunks: trailer.chunks,
        used_bytes: trailer.used_bytes,
        bytes: trailer.total_len,
    })
}

/// Returns the keys of the image, or the reason why they are not available.
pub(crate) fn unlock(
    prologue: &Prologue,
    password: Option<&Password>,
) -> Result<Option<Arc<Keys>>> {
    if !prologue.encrypted() {
        return Ok(None);
    }
    let key = open_slots(
        &prologue.slots,
        &prologue.names,
        password,
        &prologue.identity(),
    )?;
    Ok(Some(Arc::new(Keys::derive(&key))))
}

/// Reads the index record at this position: manifest, positions, and length of the record.
pub(crate) fn read_index<R: ReadAt>(
    store: &Store<R>,
    prologue: &Prologue,
    keys: Option<&Keys>,
    at: Position,
) -> Result<(Manifest, Vec<Position>, u64)> {
    let header = store.header(prologue, at)?;
    let damaged = |reason| FormatError::Damaged {
        what: "index",
        offset: at.offset,
        reason,
    };
    if header.kind != RecordKind::Index {
        return Err(damaged("another record stands in its place"));
    }
    let mut body = Vec::new();
    store.stored(&header, at, &mut body)?;
    header.open_body(keys, &mut body, at.offset)?;
    let plain = header.plain(body, keys.map(|keys| &keys.id), at.offset)?;
    let (manifest, positions) = index::decode(&plain)?;
    if manifest.geometry != prologue.geometry
        || manifest.image_uuid != prologue.image_uuid
        || manifest.keyed != prologue.encrypted()
    {
        return Err(damaged("it belongs to another image"));
    }
    let inside = |position: &Position| {
        position.offset.is_multiple_of(ALIGN) && position.offset < store.volume_len(position.volume)
    };
    if !positions.iter().all(inside) {
        return Err(damaged("a record lies outside the file"));
    }
    let record_len = header.record_len();
    Ok((manifest, positions, record_len))
}
