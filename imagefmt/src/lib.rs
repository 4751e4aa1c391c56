//! The diskcast master image: the contents of a `.dcimg` file, and their verification.
//!
//! Owns the container (prologue, self-describing records, index, trailer), the manifest, the chunk
//! codec and the checks. The crate is pure: readers, writers and random bytes are arguments; it
//! never opens a file, never reads a clock, and has no `unsafe`. It does not interpret partition
//! tables or file systems. `docs/image-format.md` is the byte map; code and document change
//! together.
//!
//! ```text
//! prologue 4 KiB | META | TABLE | CHUNK CHUNK CHUNK ... | INDEX | SIG* | LABELS? | PROLOGUE | TRAILER
//! ```
//!
//! Always holds: no input can cause a panic, an access outside a buffer, or an allocation by an
//! unchecked length; a chunk is returned only after its bytes matched its id. No public function
//! panics.
//! An image of a disk of two chunks, of which only one block is used, in memory:
//!
//! ```
//! use imagefmt::{ChunkId, Encoder, FormatError, Geometry, Image, Mask, Meta, Region, Writer, WriterOptions};
//!
//! let geometry = Geometry::new(2 << 20, 512, 20)?;
//! let mut writer = Writer::create(Vec::new(), WriterOptions::new(geometry, *b"random, 16 bytes"))?;
//! writer.meta(&Meta::default())?;
//! writer.table(&[Region { offset: 0, bytes: vec![0; 512] }])?;
//!
//! // Chunk 1: its first 4096 bytes are used, and hold text.
//! let mut mask = Mask::empty(geometry.chunk_len(ChunkId(1)));
//! mask.set_range(0..4096);
//! let used = b"a block of a file ".repeat(228)[..4096].to_vec();
//! let mut encoder = Encoder::new(3, writer.id_key())?;
//! writer.chunk(ChunkId(1), &mask, &encoder.encode(&mask, &used)?)?;
//! let written = writer.finish()?;
//!
//! // Read again: every byte matched its hash, or there would be an error.
//! let file = written.sink;
//! let image = Image::open(file.as_slice(), file.len() as u64, None)?;
//! assert_eq!(image.root(), written.root);
//! let (index, entry) = image.manifest().find(ChunkId(1)).expect("it was written");
//! assert_eq!(entry.mask, mask);
//! let (mut body, mut out) = (Vec::new(), Vec::new());
//! let read = image.read_chunk(index, &mut image.decoder()?, &mut body, &mut out)?;
//! assert_eq!(read, used);
//!
//! // A bit that changed is noticed, wherever it is.
//! let mut damaged = file.clone();
//! let middle = image.positions()[index].offset as usize + 64;
//! damaged[middle] ^= 1;
//! let image = Image::open(damaged.as_slice(), damaged.len() as u64, None)?;
//! let read = image.read_chunk(index, &mut image.decoder()?, &mut body, &mut out);
//! assert!(read.is_err());
//! # Ok::<(), FormatError>(())
//! ```

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
