//! Writer of an image: prologue, records in any order, index, trailer.
//!
//! It needs only `Write`: nothing is patched afterwards, so the sink may be a pipe. Durability
//! (`.partial`, sync, rename) is left to the caller. Order of calls: [`Writer::create`], then
//! [`Writer::meta`], [`Writer::table`] and chunks in any order, then [`Writer::finish`]. META may
//! be written again, for example with new warnings: the last one counts, and the first one keeps an
//! unfinished image readable.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::codec::DEFAULT_LEVEL;
use crate::error::{FormatError, Result};
use crate::names::Names;
use crate::prologue::{PROLOGUE_BYTES, Prologue, identity};
use crate::rebuild::Parts;
use crate::record::RecordKind;
use crate::seal::{KdfCost, KeySlot, Keys, NewPassword, PasswordSlot};
use crate::sealer::{EncodedChunk, RecordSealer};
use crate::sign;
use crate::tail::COPY_RECORD_BYTES;
use crate::trailer::{TRAILER_BYTES, Trailer};
use crate::{
    Body, ChunkId, Entry, Geometry, IdKey, Labels, Manifest, Mask, Meta, Position, Region, Root,
    SigningKey, index, table,
};

/// Default limit of a volume in bytes: FAT32 stores files of up to 4 GiB - 1.
pub const DEFAULT_VOLUME_BYTES: u64 = (4 << 30) - (64 << 10);
/// Smallest volume in bytes: a few chunks of the largest size.
const VOLUME_MIN: u64 = 16 << 20;

/// The options of a new image.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Sizes of disk, sectors and chunks.
    pub geometry: Geometry,
    /// Random identity of the image.
    pub image_uuid: [u8; 16],
    /// zstd level of META, TABLE and INDEX; chunks are encoded by the caller.
    pub level: i32,
    /// Password of an encrypted image; without it the image is not encrypted.
    pub password: Option<NewPassword>,
    /// Cost of one try of a password.
    pub kdf: KdfCost,
    /// Largest size of a volume in bytes, used by [`Writer::create_divided`].
    pub volume_bytes: u64,
}

impl WriterOptions {
    /// Options with the default level and no password.
    #[must_use]
    pub fn new(geometry: Geometry, image_uuid: [u8; 16]) -> Self {
        Self {
            geometry,
            image_uuid,
            level: DEFAULT_LEVEL,
            password: None,
            kdf: KdfCost::default(),
            volume_bytes: DEFAULT_VOLUME_BYTES,
        }
    }
}

/// The start of every image.
const START: Position = Position {
    volume: 0,
    offset: 0,
};

fn refuse_small(volume_bytes: u64) -> Result<()> {
    if volume_bytes < VOLUME_MIN {
        return Err(FormatError::LimitExceeded {
            what: "volume size",
            value: volume_bytes,
            limit: VOLUME_MIN,
        });
    }
    Ok(())
}

/// Supplies the further volumes of a divided image. The caller owns the files; this crate opens
/// none.
pub trait VolumeSink<W> {
    /// Ends `finished` and opens the next volume; `number` is 2 for the second (see
    /// [`volume_name`]).
    ///
    /// # Errors
    /// The error of the medium.
    fn next_volume(&mut self, finished: W, number: u32) -> std::io::Result<W>;
}

impl<W, F: FnMut(W, u32) -> std::io::Result<W>> VolumeSink<W> for F {
    fn next_volume(&mut self, finished: W, number: u32) -> std::io::Result<W> {
        self(finished, number)
    }
}

/// File name of a volume: `name.dcimg` for 1, `name.dcimg.002` for 2.
#[must_use]
pub fn volume_name(first: &str, number: u32) -> String {
    if number <= 1 {
        first.to_owned()
    } else {
        format!("{first}.{number:03}")
    }
}

/// A finished image.
#[derive(Debug, Clone)]
pub struct Written<W> {
    /// Root of the image.
    pub root: Root,
    /// Length of all volumes in bytes.
    pub bytes: u64,
    /// Number of chunks with content.
    pub chunks: u64,
    /// Number of volumes.
    pub volumes: u32,
    /// Manifest in the index.
    pub manifest: Manifest,
    /// Sink of the last volume. It is flushed; the caller must sync it.
    pub sink: W,
}

/// Writes one image.
pub struct Writer<W> {
    /// The sink; `None` only after a failed change of volumes.
    sink: Option<W>,
    volumes: Option<Box<dyn VolumeSink<W> + Send>>,
    volume_bytes: u64,
    prologue: Prologue,
    pub(crate) sealer: RecordSealer,
    level: i32,
    position: Position,
    /// Length in bytes of the volumes before this one.
    before: u64,
    pub(crate) meta_json: Option<Vec<u8>>,
    pub(crate) table: Vec<Region>,
    pub(crate) chunks: BTreeMap<ChunkId, (Entry, Position)>,
    scratch: Vec<u8>,
    pub(crate) labels: Labels,
    /// Bodies of SIG records; they are written if they are valid for the root.
    pub(crate) signatures: Vec<Vec<u8>>,
}

impl<W> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("position", &self.position)
            .field("chunks", &self.chunks.len())
            .finish()
    }
}

impl<W> Writer<W> {
    /// A writer that continues an image: its prologue and these records are in front of `position`.
    pub(crate) fn going_on(
        sink: W,
        prologue: Prologue,
        level: i32,
        position: Position,
        keys: Option<Arc<Keys>>,
        (meta_json, table, chunks): Parts,
    ) -> Self {
        Self {
            sink: Some(sink),
            volumes: None,
            volume_bytes: DEFAULT_VOLUME_BYTES,
            sealer: RecordSealer {
                geometry: prologue.geometry,
                image_uuid: prologue.image_uuid,
                keys,
            },
            prologue,
            level,
            position,
            before: 0,
            meta_json,
            table,
            chunks,
            scratch: Vec::new(),
            labels: Labels::default(),
            signatures: Vec::new(),
        }
    }

    /// The same writer with another sink.
    pub(crate) fn with_sink<V>(self, sink: V) -> Writer<V> {
        Writer::going_on(
            sink,
            self.prologue,
            self.level,
            self.position,
            self.sealer.keys,
            (self.meta_json, self.table, self.chunks),
        )
    }
}

impl<W: Write> Writer<W> {
    /// Starts an image of one volume.
    ///
    /// # Errors
    /// [`FormatError::LimitExceeded`] for a geometry outside the format, [`FormatError::Io`] if the
    /// sink fails.
    pub fn create(sink: W, options: WriterOptions) -> Result<Self> {
        Self::start(sink, options, None)
    }

    /// Starts an image that is divided into volumes of at most `options.volume_bytes`.
    ///
    /// # Errors
    /// The errors of [`Writer::create`], and [`FormatError::LimitExceeded`] for volumes below 16
    /// MiB.
    pub fn create_divided(
        sink: W,
        options: WriterOptions,
        volumes: impl VolumeSink<W> + Send + 'static,
    ) -> Result<Self> {
        refuse_small(options.volume_bytes)?;
        Self::start(sink, options, Some(Box::new(volumes)))
    }

    /// A writer of a copy with the prologue `prologue`, which seals records like those of the
    /// original.
    pub(crate) fn copying(
        sink: W,
        prologue: Prologue,
        sealer: RecordSealer,
        divided: Option<(u64, Box<dyn VolumeSink<W> + Send>)>,
    ) -> Result<Self> {
        let mut writer = Self::going_on(
            sink,
            prologue,
            DEFAULT_LEVEL,
            START,
            sealer.keys,
            (None, Vec::new(), BTreeMap::new()),
        );
        if let Some((volume_bytes, volumes)) = divided {
            refuse_small(volume_bytes)?;
            writer.volume_bytes = volume_bytes;
            writer.volumes = Some(volumes);
        }
        writer.write_prologue()?;
        Ok(writer)
    }

    fn start(
        sink: W,
        options: WriterOptions,
        volumes: Option<Box<dyn VolumeSink<W> + Send>>,
    ) -> Result<Self> {
        let WriterOptions {
            geometry,
            image_uuid,
            level,
            password,
            kdf,
            volume_bytes,
        } = options;
        geometry.validate()?;
        let (slots, keys) = match &password {
            Some(new) => (
                vec![KeySlot::Password(PasswordSlot::wrap(
                    new,
                    kdf,
                    &identity(&geometry, &image_uuid, true),
                )?)],
                Some(Arc::new(Keys::derive(&Zeroizing::new(new.key)))),
            ),
            None => (Vec::new(), None),
        };
        let mut writer = Self {
            sink: Some(sink),
            prologue: Prologue {
                beyond: None,
                geometry,
                image_uuid,
                volume: 0,
                divided: volumes.is_some(),
                slots,
                names: Names::default(),
            },
            volumes,
            volume_bytes,
            sealer: RecordSealer {
                geometry,
                image_uuid,
                keys,
            },
            level,
            position: START,
            before: 0,
            meta_json: None,
            table: Vec::new(),
            chunks: BTreeMap::new(),
            scratch: Vec::new(),
            labels: Labels::default(),
            signatures: Vec::new(),
        };
        writer.write_prologue()?;
        Ok(writer)
    }

    /// A sealer for the chunks of this image. It can be cloned for other threads.
    #[must_use]
    pub fn sealer(&self) -> RecordSealer {
        self.sealer.clone()
    }

    /// Key for the encoders of this image; `None` if it is not encrypted.
    #[must_use]
    pub fn id_key(&self) -> Option<IdKey> {
        self.sealer.id_key().cloned()
    }

    /// Number of bytes written so far in all volumes.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.before + self.position.offset
    }

    /// Writes the description. It may be written again; the last one counts.
    ///
    /// # Errors
    /// [`FormatError::LimitExceeded`] for a description that could not be read again,
    /// [`FormatError::Io`] if the sink fails.
    pub fn meta(&mut self, meta: &Meta) -> Result<()> {
        self.meta_bytes(meta.to_json(&self.sealer.geometry)?)
    }

    /// Writes the description from bytes that were read as META.
    pub(crate) fn meta_bytes(&mut self, json: Vec<u8>) -> Result<()> {
        let record = self.sealer.pack(RecordKind::Meta, &json, self.level)?;
        self.append(&record, 0)?;
        self.meta_json = Some(json);
        Ok(())
    }

    /// Writes the partition table sectors. It may be called only once.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] at the second call; [`FormatError::LimitExceeded`],
    /// [`FormatError::NotMultiple`] or [`FormatError::Damaged`] for regions that overlap, are out
    /// of order, are not whole sectors, lie outside the disk, have more than 4 MiB, or do not
    /// contain sector 0; [`FormatError::Io`] if the sink fails.
    pub fn table(&mut self, table: &[Region]) -> Result<()> {
        if !self.table.is_empty() {
            return Err(FormatError::Unwritable {
                what: "an image has one partition table (TABLE)",
            });
        }
        let bytes = table::encode(table, &self.sealer.geometry)?;
        let record = self.sealer.pack(RecordKind::Table, &bytes, self.level)?;
        self.append(&record, 0)?;
        self.table = table.to_vec();
        Ok(())
    }

    /// Seals and writes a chunk.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] or [`FormatError::ChunkDamaged`] for a chunk that does not fit
    /// the disk, has an empty mask or was written before; [`FormatError::Io`] if the sink fails.
    pub fn chunk(&mut self, chunk: ChunkId, mask: &Mask, body: &Body<'_>) -> Result<()> {
        let buffer = std::mem::take(&mut self.scratch);
        let sealed = self.sealer.seal_into(chunk, mask, body, buffer)?;
        self.write(&sealed)?;
        self.scratch = sealed.into_buffer();
        Ok(())
    }

    /// Writes a chunk that was sealed by a [`RecordSealer`] of this writer.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] if it was sealed for another image,
    /// [`FormatError::ChunkDamaged`] if this chunk was written before, [`FormatError::Io`] if the
    /// sink fails.
    pub fn write(&mut self, sealed: &EncodedChunk) -> Result<()> {
        let chunk = sealed.entry.chunk;
        if sealed.image != self.sealer.identity() {
            return Err(FormatError::Unwritable {
                what: "a chunk was sealed for another image",
            });
        }
        if self.chunks.contains_key(&chunk) {
            return Err(FormatError::ChunkDamaged {
                chunk,
                reason: "it is there twice",
            });
        }
        let position = self.append(&sealed.record, 0)?;
        self.chunks.insert(chunk, (sealed.entry.clone(), position));
        Ok(())
    }

    /// Writes index and trailer and flushes.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] without META or TABLE, [`FormatError::Io`] if the sink fails.
    pub fn finish(self) -> Result<Written<W>> {
        self.finish_with(None)
    }

    /// Does the same as [`Writer::finish`], with a signature over the root.
    ///
    /// # Errors
    /// The errors of [`Writer::finish`].
    pub fn finish_signed(self, key: &SigningKey) -> Result<Written<W>> {
        self.finish_with(Some(key))
    }

    fn finish_with(mut self, key: Option<&SigningKey>) -> Result<Written<W>> {
        let Some(meta_json) = self.meta_json.take() else {
            return Err(FormatError::Unwritable {
                what: "an image needs its description (META)",
            });
        };
        if self.table.is_empty() {
            return Err(FormatError::Unwritable {
                what: "an image needs its partition table sectors (TABLE)",
            });
        }
        let (entries, positions): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.chunks).into_values().unzip();
        let geometry = self.sealer.geometry;
        let keyed = self.sealer.keys.is_some();
        let table = std::mem::take(&mut self.table);
        let manifest = Manifest::assemble(
            geometry,
            self.sealer.image_uuid,
            keyed,
            meta_json,
            table,
            entries,
        )?;
        let root = manifest.root();
        let record = self.sealer.pack(
            RecordKind::Index,
            &index::encode(&manifest, &positions)?,
            self.level,
        )?;
        let mut tail = Vec::new();
        let kept = std::mem::take(&mut self.signatures).into_iter();
        let kept = kept.filter(|body| sign::check(body, &root).is_ok());
        for body in kept.chain(key.map(|key| key.sign(&root).to_body())) {
            tail.extend(self.sealer.pack_open(RecordKind::Signature, &body)?);
        }
        if !self.labels.is_empty() {
            let json = self.labels.to_json()?;
            tail.extend(self.sealer.pack(RecordKind::Labels, &json, self.level)?);
        }
        // All records from the index on are in one volume, so the last volume is enough to open the
        // image.
        let index = self.append(
            &record,
            (tail.len() + COPY_RECORD_BYTES + TRAILER_BYTES) as u64,
        )?;
        self.put(&tail)?;
        let copy = self.prologue.as_first().to_bytes();
        let copy = self.sealer.pack_open(RecordKind::Prologue, &copy)?;
        self.put(&copy)?;
        let trailer = Trailer {
            index,
            index_len: record.len() as u64,
            volumes: self.position.volume + 1,
            chunks: manifest.entries.len() as u64,
            used_bytes: manifest.used_bytes(),
            total_len: self.bytes_written() + TRAILER_BYTES as u64,
            root,
        };
        let record = self
            .sealer
            .pack_open(RecordKind::Trailer, &trailer.to_bytes())?;
        debug_assert_eq!(record.len(), TRAILER_BYTES);
        self.put(&record)?;
        let bytes = self.bytes_written();
        let offset = self.position.offset;
        let Some(mut sink) = self.sink.take() else {
            return Err(FormatError::Unwritable {
                what: "the last volume could not be opened",
            });
        };
        sink.flush()
            .map_err(|source| FormatError::Io { offset, source })?;
        Ok(Written {
            root,
            bytes,
            chunks: manifest.entries.len() as u64,
            volumes: self.position.volume + 1,
            manifest,
            sink,
        })
    }

    /// Appends a record. It goes into a new volume if it and `reserve` bytes behind it do not fit
    /// into this one. A record never spans volumes; one that is larger than a volume gets its own.
    fn append(&mut self, record: &[u8], reserve: u64) -> Result<Position> {
        let end = self
            .position
            .offset
            .saturating_add(record.len() as u64)
            .saturating_add(reserve);
        if self.volumes.is_some()
            && end > self.volume_bytes
            && self.position.offset > PROLOGUE_BYTES as u64
        {
            self.next_volume()?;
        }
        let position = self.position;
        self.put(record)?;
        Ok(position)
    }

    fn next_volume(&mut self) -> Result<()> {
        let offset = self.position.offset;
        let (Some(mut sink), Some(volumes)) = (self.sink.take(), self.volumes.as_mut()) else {
            return Err(FormatError::Unwritable {
                what: "the last volume could not be opened",
            });
        };
        let number = self.position.volume + 1;
        let next = sink
            .flush()
            .and_then(|()| volumes.next_volume(sink, number + 1));
        self.sink = Some(next.map_err(|source| FormatError::Io { offset, source })?);
        self.before += offset;
        self.position = Position {
            volume: number,
            offset: 0,
        };
        self.prologue.volume = number;
        self.write_prologue()
    }

    fn write_prologue(&mut self) -> Result<()> {
        let bytes = self.prologue.to_bytes();
        self.put(&bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let offset = self.position.offset;
        let Some(sink) = self.sink.as_mut() else {
            return Err(FormatError::Unwritable {
                what: "the last volume could not be opened",
            });
        };
        sink.write_all(bytes)
            .map_err(|source| FormatError::Io { offset, source })?;
        self.position.offset += bytes.len() as u64;
        Ok(())
    }
}
