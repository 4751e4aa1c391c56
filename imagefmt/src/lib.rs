//! The diskcast master image: what a `.dcimg` file holds, and how anyone proves it.
//!
//! Owns the container (prologue, self-describing records, index, trailer), the manifest, the chunk codec and the
//! checks. Pure: it takes readers, writers and random bytes as arguments, never opens a file, never looks at a clock,
//! and has no `unsafe`. It does not know what partition tables or file systems mean. `docs/image-format.md` is the
//! byte map; the two change together.
//!
//! ```text
//! prologue 4 KiB | META | TABLE | CHUNK CHUNK CHUNK ... | INDEX | SIG* | LABELS? | PROLOGUE | TRAILER
//! ```
//!
//! What always holds: nothing read from outside can make these functions panic, run past a buffer or allocate by a
//! length that was not checked first; a chunk is handed out only after its bytes match its id. No public function
//! panics.

#![forbid(unsafe_code)]

mod append;
mod bytes;
mod codec;
mod error;
mod geometry;
mod id;
mod image;
mod index;
mod labels;
mod manifest;
mod mask;
mod meta;
mod names;
mod prologue;
mod rebuild;
mod record;
mod records;
mod resume;
mod rewrite;
mod rules;
mod scan;
mod seal;
mod sealer;
mod sign;
mod store;
mod table;
mod tail;
mod trailer;
mod writer;

pub use positioned_io::ReadAt;

pub use append::Addition;
pub use codec::{Body, Codec, DEFAULT_LEVEL, Decoder, Encoder, LEVELS};
pub use error::{FormatError, Result};
pub use geometry::{ChunkId, DEFAULT_CHUNK_LOG2, Geometry, MAX_CHUNK_LOG2, MIN_CHUNK_LOG2};
pub use id::{ContentHasher, ContentId, IdKey, Root, content_id};
pub use image::{Image, Summary};
pub use index::Position;
pub use labels::{LABELS_MAX, Labels};
pub use manifest::{Entry, Manifest};
pub use mask::{Mask, Runs};
pub use meta::{
    DiskSet, Droppable, ExcludedRange, FsMeta, HOLES_MAX, Hole, LeftOut, META_MAX, META_SCHEMA,
    Meta, Origin, PARTITIONS_MAX, PartitionMeta, SourceDisk,
};
pub use names::Name;
pub use prologue::MAGIC as SIGNATURE;
pub use rebuild::Rebuilt;
pub use record::RecordKind;
pub use records::{Record, Records};
pub use resume::Unfinished;
pub use scan::Gap;
pub use seal::{KdfCost, NewPassword, Password};
pub use sealer::{EncodedChunk, RecordSealer};
pub use sign::{RootSignature, SigningKey, VerifyingKey};
pub use store::{Volume, is_divided};
pub use table::{Region, TABLE_MAX};
pub use writer::{DEFAULT_VOLUME_BYTES, VolumeSink, Writer, WriterOptions, Written, volume_name};

/// Granularity of used-block masks, in bytes.
pub const MASK_BLOCK: u32 = 4096;
