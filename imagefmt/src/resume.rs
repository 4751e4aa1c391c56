//! Going on with an image whose writing was cut: what lies in the file and is proven stays, the rest is cut off.
//!
//! Owns the walk from the first record to the first that does not hold, and the [`Writer`] that appends behind it. A
//! record is kept when its header holds, its stored bytes match their hash and, for a chunk, its content matches its id:
//! nothing is believed because it is in the file. The walk ends at the index too, so that an image that was complete but
//! for its name is finished anew. What always holds: chunks are kept as a prefix of the order they were written in.

use positioned_io::ReadAt;

use crate::error::{FormatError, Result, unknown};
use crate::image::unlock;
use crate::names::Class;
use crate::prologue::{PROLOGUE_BYTES, named};
use crate::rebuild::Saved;
use crate::record::RecordKind;
use crate::store::{Store, Volume};
use crate::{ChunkId, ContentId, Geometry, Meta, Password, Position, Region, Writer};

/// An unfinished image, read to where it holds.
#[derive(Debug)]
pub struct Unfinished {
    writer: Writer<()>,
    end: u64,
}

impl Unfinished {
    /// Reads an image in one piece of `len` bytes. Linear in its length; one thread.
    ///
    /// # Errors
    /// As [`crate::Image::open`] for the prologue and the password. Damage behind the prologue is no error: it is where the
    /// image ends.
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
                // Passed over and kept, when it is whole.
                RecordKind::Other(_) => store
                    .stored(&header, at, &mut scratch)
                    .and_then(|()| header.check_stored(&scratch, at.offset))
                    .is_ok(),
                // The end of an image that only lacks its name.
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

    /// Bytes of the file that hold; it has to be cut to this length before anything is appended.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Disk, sectors, chunks.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.writer.geometry()
    }

    /// Goes on: `sink` appends at [`Unfinished::end`].
    #[must_use]
    pub fn into_writer<W: std::io::Write>(self, sink: W) -> Writer<W> {
        self.writer.with_sink(sink)
    }
}

impl<W> Writer<W> {
    /// Disk, sectors, chunks.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.sealer.geometry
    }

    /// Chunks written so far with the names of their content, by number.
    pub fn written(&self) -> impl Iterator<Item = (ChunkId, ContentId)> + '_ {
        self.chunks
            .iter()
            .map(|(chunk, (entry, _))| (*chunk, entry.id))
    }

    /// Used bytes of the chunks written so far.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.chunks
            .values()
            .map(|(entry, _)| u64::from(entry.mask.used_bytes()))
            .sum()
    }

    /// The description as written last.
    #[must_use]
    pub fn description(&self) -> Option<Meta> {
        Meta::from_json(self.meta_json.as_ref()?, &self.sealer.geometry).ok()
    }

    /// The table sectors as written last.
    #[must_use]
    pub fn table_regions(&self) -> &[Region] {
        &self.table
    }
}
