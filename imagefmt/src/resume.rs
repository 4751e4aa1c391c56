//! Continuation of an image whose writing was interrupted: valid content of the file stays, the
//! rest is cut off.
//!
//! Owns the walk from the first record to the first invalid one, and the [`Writer`] that appends
//! behind it. A record is kept if its header is valid, its stored bytes match their hash and, for a
//! chunk, its content matches its id; nothing is trusted only because it is in the file. The walk
//! also ends at the index, so an image that was complete except for its final file name gets a new
//! end. Always holds: the kept chunks are a prefix of those written, in the order of writing.

use positioned_io::ReadAt;

use crate::error::{FormatError, Result, unknown};
use crate::image::unlock;
use crate::names::Class;
use crate::prologue::{PROLOGUE_BYTES, named};
use crate::rebuild::Saved;
use crate::record::RecordKind;
use crate::store::{Store, Volume};
use crate::{ChunkId, ContentId, Geometry, Meta, Password, Position, Region, Writer};

/// An unfinished image, read up to the end of its valid part.
#[derive(Debug)]
pub struct Unfinished {
    writer: Writer<()>,
    end: u64,
}

impl Unfinished {
    /// Reads an image of one volume with `len` bytes. The time is linear in its length; one thread
    /// is used.
    ///
    /// # Errors
    /// The errors of [`crate::Image::open`] for the prologue and the password. Damage behind the
    /// prologue is not an error: the image ends there.
    pub fn read<R: ReadAt>(
        reader: R,
        len: u64,
        password: Option<&Password>,
        level: i32,
    ) -> Result<Self> {
        let store = Store {
            volumes: vec![Volume { reader, len }],
        };
        let prologue = store.prologue()?;
        if prologue.divided {
            return Err(FormatError::Unwritable {
                what: "a divided image is not gone on with",
            });
        }
        prologue.may_grow()?;
        let keys = unlock(&prologue, password)?;
        let mut saved = Saved::new(keys.clone())?;
        let mut at = Position {
            volume: 0,
            offset: PROLOGUE_BYTES as u64,
        };
        let mut scratch = Vec::new();
        while let Ok(header) = store.header(&prologue, at) {
            let kept = match header.kind {
                RecordKind::Meta | RecordKind::Table | RecordKind::Chunk => {
                    saved.takes(&store, &prologue, at, &header)
                }
                RecordKind::Other(number) if !header.kind.is_optional() => {
                    return Err(named(
                        unknown(Class::Record, number),
                        Class::Record,
                        &prologue.names,
                    ));
                }
                // An optional record is kept if it is intact.
                RecordKind::Other(_) => store
                    .stored(&header, at, &mut scratch)
                    .and_then(|()| header.check_stored(&scratch, at.offset))
                    .is_ok(),
                // The end of an image that was complete except for its final file name.
                RecordKind::Index
                | RecordKind::Signature
                | RecordKind::Prologue
                | RecordKind::Labels
                | RecordKind::Trailer => false,
            };
            if !kept {
                break;
            }
            at.offset = at.offset.saturating_add(header.record_len());
        }
        Ok(Self {
            end: at.offset.min(len),
            writer: Writer::going_on((), prologue, level, at, keys, saved.into_parts()),
        })
    }

    /// Length in bytes of the valid part of the file. The file must be cut to this length before
    /// anything is appended.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Sizes of disk, sectors and chunks.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.writer.geometry()
    }

    /// Makes a writer that continues the image; `sink` must append at [`Unfinished::end`].
    #[must_use]
    pub fn into_writer<W: std::io::Write>(self, sink: W) -> Writer<W> {
        self.writer.with_sink(sink)
    }
}

impl<W> Writer<W> {
    /// Sizes of disk, sectors and chunks.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.sealer.geometry
    }

    /// The chunks written so far with their content ids, by number.
    pub fn written(&self) -> impl Iterator<Item = (ChunkId, ContentId)> + '_ {
        self.chunks
            .iter()
            .map(|(chunk, (entry, _))| (*chunk, entry.id))
    }

    /// Number of used bytes of the chunks written so far.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.chunks
            .values()
            .map(|(entry, _)| u64::from(entry.mask.used_bytes()))
            .sum()
    }

    /// The description that was written last.
    #[must_use]
    pub fn description(&self) -> Option<Meta> {
        Meta::from_json(self.meta_json.as_ref()?, &self.sealer.geometry).ok()
    }

    /// The table sectors that were written last.
    #[must_use]
    pub fn table_regions(&self) -> &[Region] {
        &self.table
    }
}
