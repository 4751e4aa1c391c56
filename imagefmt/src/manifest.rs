//! The manifest: everything about an image except the content of its chunks. It is stored in INDEX
//! and is the first thing sent to an agent.
//!
//! ```text
//!    0  magic 8 "DCMANI1\n"
//!    8  image UUID 16
//!   24  disk size u64
//!   32  sector size u32, chunk exponent u8, flags u8 (1: ids are keyed), hash u8 (1 BLAKE3), used-block exponent u8 (12)
//!   40  META length u32, TABLE length u32, entry count u32, reserved 4
//!   56  META (JSON) | TABLE (see `table`) | entries
//! entry: chunk u32, body length u32, codec u8 (bit 7: a mask follows), id 32 [, mask]
//! ```
//!
//! Entries ascend by chunk and never repeat; each fits the disk. The root is enough to check the
//! manifest, and the manifest is enough to check each chunk by itself.

use crate::bytes::Fields;
use crate::codec::{self, Codec};
use crate::error::{FormatError, Result, at_most, narrow, unknown};
use crate::mask::Mask;
use crate::names::Class;
use crate::prologue::{BLOCK_LOG2, HASH_BLAKE3, identity};
use crate::{ChunkId, ContentId, Geometry, Meta, Region, Root, table};

const MAGIC: [u8; 8] = *b"DCMANI1\n";
const FLAG_KEYED: u8 = 1;
const MASK_FOLLOWS: u8 = 0x80;
/// Length in bytes of the fixed part of the encoded form.
pub(crate) const FIXED_BYTES: usize = 56;
/// Smallest entry in bytes; a full mask is not stored.
const ENTRY_MIN: usize = 4 + 4 + 1 + 32;
/// Largest entry in bytes; the mask of a 4 MiB chunk has 128 bytes.
pub(crate) const ENTRY_MAX: usize = ENTRY_MIN + 128;

/// The manifest's entry for one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Number of the chunk.
    pub chunk: ChunkId,
    /// Form of its stored body.
    pub codec: Codec,
    /// Length in bytes of its body in the form sent over the network.
    pub body_len: u32,
    /// Used blocks of the chunk.
    pub mask: Mask,
    /// Id of its content.
    pub id: ContentId,
}

impl Entry {
    /// Checks that the entry can belong to a disk of this geometry: its chunk is on the disk, the
    /// mask fits and is not empty, and the body is no longer than the plain form.
    pub(crate) fn validate(&self, geometry: &Geometry) -> Result<()> {
        let damaged = |reason| {
            Err(FormatError::ChunkDamaged {
                chunk: self.chunk,
                reason,
            })
        };
        let len = geometry.chunk_len(self.chunk);
        if len == 0 {
            return damaged("it lies beyond the disk");
        }
        if self.mask.chunk_len() != len {
            return damaged("its mask was made for a chunk of another length");
        }
        if self.mask.is_empty() {
            return damaged("it has no used blocks");
        }
        let plain = codec::plain_len(&self.mask);
        let fits = match self.codec {
            Codec::Raw => self.body_len as usize == plain,
            Codec::Zstd => self.body_len as usize <= plain,
            Codec::Zero => self.body_len as usize == codec::zero_len(&self.mask),
        };
        if !fits {
            return damaged("its length does not fit its mask");
        }
        Ok(())
    }
}

/// An image without its content.
///
/// The fields are for reading only. The original bytes of META are kept too, because the root
/// covers them; a changed manifest must be made with [`Manifest::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Sizes of disk, sectors and chunks.
    pub geometry: Geometry,
    /// Random identity of the image.
    pub image_uuid: [u8; 16],
    /// True if ids are keyed, because the image is encrypted.
    pub keyed: bool,
    /// Description.
    pub meta: Meta,
    /// Partition table sectors.
    pub table: Vec<Region>,
    /// Chunks with content, ascending.
    pub entries: Vec<Entry>,
    meta_json: Vec<u8>,
}

impl Manifest {
    /// Makes a manifest from its parts; entries are sorted.
    ///
    /// # Errors
    /// [`FormatError::LimitExceeded`], [`FormatError::Damaged`] or [`FormatError::ChunkDamaged`]
    /// for parts that do not fit the geometry or each other.
    pub fn new(
        geometry: Geometry,
        image_uuid: [u8; 16],
        keyed: bool,
        meta: Meta,
        table: Vec<Region>,
        entries: Vec<Entry>,
    ) -> Result<Self> {
        let meta_json = meta.to_json(&geometry)?;
        Self::assemble(geometry, image_uuid, keyed, meta_json, table, entries)
    }

    /// Does the same as [`Manifest::new`], with the stored bytes of META.
    pub(crate) fn assemble(
        geometry: Geometry,
        image_uuid: [u8; 16],
        keyed: bool,
        meta_json: Vec<u8>,
        table: Vec<Region>,
        mut entries: Vec<Entry>,
    ) -> Result<Self> {
        geometry.validate()?;
        let meta = Meta::from_json(&meta_json, &geometry)?;
        table::encode(&table, &geometry)?;
        entries.sort_by_key(|entry| entry.chunk);
        let mut last = None;
        for entry in &entries {
            entry.validate(&geometry)?;
            if last.replace(entry.chunk) == Some(entry.chunk) {
                return Err(FormatError::ChunkDamaged {
                    chunk: entry.chunk,
                    reason: "it is there twice",
                });
            }
        }
        Ok(Self {
            geometry,
            image_uuid,
            keyed,
            meta,
            table,
            entries,
            meta_json,
        })
    }

    /// The entry of a chunk and its index in `entries`; `None` if the chunk has no content.
    #[must_use]
    pub fn find(&self, chunk: ChunkId) -> Option<(usize, &Entry)> {
        let at = self
            .entries
            .binary_search_by_key(&chunk, |entry| entry.chunk)
            .ok()?;
        Some((at, self.entries.get(at)?))
    }

    /// The stored bytes of META.
    #[must_use]
    pub fn meta_json(&self) -> &[u8] {
        &self.meta_json
    }

    /// Total length of all bodies in bytes: the amount sent by multicast.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.entries
            .iter()
            .map(|entry| u64::from(entry.body_len))
            .sum()
    }

    /// Total number of used bytes: the amount written by a target.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.entries
            .iter()
            .map(|entry| u64::from(entry.mask.used_bytes()))
            .sum()
    }

    /// Root of the image according to this manifest.
    #[must_use]
    pub fn root(&self) -> Root {
        self.root_of(self.entries.iter().map(|entry| (entry.chunk, entry.id)))
    }

    /// Computes the root of an image with this geometry, META and TABLE and with these chunks, in
    /// any order.
    ///
    /// An agent passes the ids it read back from its disk and compares the result with the root it
    /// was given.
    #[must_use]
    pub fn root_of(&self, ids: impl IntoIterator<Item = (ChunkId, ContentId)>) -> Root {
        let mut hasher = blake3::Hasher::new_derive_key("diskcast image root 1");
        hasher.update(&identity(&self.geometry, &self.image_uuid, self.keyed));
        hasher.update(blake3::hash(&self.meta_json).as_bytes());
        hasher.update(&self.content_root_of(ids).0);
        Root(hasher.finalize().into())
    }

    /// Computes the root of the disk's bytes and table sectors alone.
    ///
    /// It is the same for two captures of one disk with the same chunk size, whatever their time
    /// and description. Ids of an encrypted image are keyed, so this root is keyed too.
    #[must_use]
    pub fn content_root(&self) -> Root {
        self.content_root_of(self.entries.iter().map(|entry| (entry.chunk, entry.id)))
    }

    fn content_root_of(&self, ids: impl IntoIterator<Item = (ChunkId, ContentId)>) -> Root {
        let mut ids: Vec<_> = ids.into_iter().collect();
        ids.sort_unstable();
        let mut hasher = blake3::Hasher::new_derive_key("diskcast image content 1");
        hasher.update(&self.geometry.disk_size.to_le_bytes());
        hasher.update(&self.geometry.sector_size.to_le_bytes());
        hasher.update(&[self.geometry.chunk_log2, u8::from(self.keyed)]);
        hasher.update(&table_hash(&self.table));
        for (chunk, id) in &ids {
            hasher.update(&chunk.0.to_le_bytes());
            hasher.update(&id.0);
        }
        hasher.update(&(ids.len() as u64).to_le_bytes());
        Root(hasher.finalize().into())
    }

    /// True if TABLE has bytes within the chunk.
    pub(crate) fn holds_table(&self, chunk: ChunkId) -> bool {
        self.table_in(chunk).next().is_some()
    }

    /// The regions of TABLE that overlap a chunk.
    fn table_in(&self, chunk: ChunkId) -> impl Iterator<Item = &Region> {
        let base = self.geometry.chunk_offset(chunk);
        let end = base.saturating_add(self.geometry.chunk_len(chunk).into());
        let first = self.table.partition_point(|r| region_end(r) <= base);
        let later = self.table.get(first..).unwrap_or_default();
        later.iter().take_while(move |region| region.offset < end)
    }

    /// Refuses a chunk with non-zero content in the place of TABLE. Those bytes are written last
    /// and from TABLE alone; content of a chunk there could make an unfinished disk bootable.
    ///
    /// # Errors
    /// [`FormatError::ChunkDamaged`] if there is such content.
    pub fn refuse_table_bytes(&self, entry: &Entry, used: &[u8]) -> Result<()> {
        if !self.holds_table(entry.chunk) {
            return Ok(());
        }
        let base = self.geometry.chunk_offset(entry.chunk);
        let mut rest = used;
        for run in entry.mask.runs() {
            let len = (run.end - run.start) as usize;
            let Some((bytes, tail)) = rest.split_at_checked(len) else {
                break;
            };
            rest = tail;
            let start = base + u64::from(run.start);
            for region in self.table_in(entry.chunk) {
                // Both ends are inside the run, which is no longer than a chunk.
                let within = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(len);
                let part = within(region.offset).min(len)..within(region_end(region)).min(len);
                if bytes.get(part).is_some_and(|b| b.iter().any(|&b| b != 0)) {
                    return Err(FormatError::ChunkDamaged {
                        chunk: entry.chunk,
                        reason: "it is not zero where the partition table (TABLE) lies",
                    });
                }
            }
        }
        Ok(())
    }

    /// Encodes the manifest.
    ///
    /// # Errors
    /// [`FormatError::LimitExceeded`] if the fields were changed to values that could not be read
    /// again.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let table = table::encode(&self.table, &self.geometry)?;
        let mut out = Vec::with_capacity(
            FIXED_BYTES + self.meta_json.len() + table.len() + self.entries.len() * 56,
        );
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.image_uuid);
        out.extend_from_slice(&self.geometry.disk_size.to_le_bytes());
        out.extend_from_slice(&self.geometry.sector_size.to_le_bytes());
        out.push(self.geometry.chunk_log2);
        out.push(if self.keyed { FLAG_KEYED } else { 0 });
        out.extend_from_slice(&[HASH_BLAKE3, BLOCK_LOG2]);
        out.extend_from_slice(
            &narrow(self.meta_json.len(), "description (META) size")?.to_le_bytes(),
        );
        out.extend_from_slice(&narrow(table.len(), "partition table (TABLE) size")?.to_le_bytes());
        out.extend_from_slice(&narrow(self.entries.len(), "number of chunks")?.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        debug_assert_eq!(out.len(), FIXED_BYTES);
        out.extend_from_slice(&self.meta_json);
        out.extend_from_slice(&table);
        for entry in &self.entries {
            out.extend_from_slice(&entry.chunk.0.to_le_bytes());
            out.extend_from_slice(&entry.body_len.to_le_bytes());
            out.push(
                entry.codec.code()
                    | if entry.mask.is_full() {
                        0
                    } else {
                        MASK_FOLLOWS
                    },
            );
            out.extend_from_slice(&entry.id.0);
            if !entry.mask.is_full() {
                entry.mask.write_to(&mut out);
            }
        }
        Ok(out)
    }

    /// Decodes a manifest.
    ///
    /// # Errors
    /// [`FormatError::Damaged`], [`FormatError::ChunkDamaged`] or [`FormatError::LimitExceeded`]
    /// for anything that [`Manifest::encode`] would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (manifest, rest) = Self::decode_prefix(bytes)?;
        if !rest.is_empty() {
            return Err(FormatError::Damaged {
                what: "manifest",
                offset: (bytes.len() - rest.len()) as u64,
                reason: "bytes are left over",
            });
        }
        Ok(manifest)
    }

    /// Decodes a manifest and returns the bytes that follow it.
    pub(crate) fn decode_prefix(bytes: &[u8]) -> Result<(Self, &[u8])> {
        let mut fields = Fields::new(bytes, "manifest");
        if fields.array()? != MAGIC {
            return Err(fields.damaged("it does not start with its signature"));
        }
        let image_uuid = fields.array()?;
        let disk_size = fields.u64()?;
        let sector_size = fields.u32()?;
        let geometry = Geometry::new(disk_size, sector_size, fields.u8()?)?;
        let flags = fields.u8()?;
        if flags & !FLAG_KEYED != 0 {
            return Err(fields.damaged("its flags are unknown"));
        }
        let hash = fields.u8()?;
        if hash != HASH_BLAKE3 {
            return Err(unknown(Class::Hash, hash));
        }
        if fields.u8()? != BLOCK_LOG2 {
            return Err(fields.damaged("its used blocks are not of 4096 bytes"));
        }
        let meta_len = fields.u32()?;
        let table_len = fields.u32()?;
        let count = fields.u32()?;
        fields.zeros(4)?;
        let meta_json = fields.take(meta_len as usize)?.to_vec();
        let meta = Meta::from_json(&meta_json, &geometry)?;
        let table = table::decode(fields.take(table_len as usize)?, &geometry)?;

        at_most(
            "number of chunks",
            count.into(),
            geometry.chunk_count().into(),
        )?;
        at_most(
            "number of chunks",
            count.into(),
            (fields.left() / ENTRY_MIN) as u64,
        )?;
        let mut entries: Vec<Entry> = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let chunk = ChunkId(fields.u32()?);
            let body_len = fields.u32()?;
            let form = fields.u8()?;
            let codec = Codec::from_code(form & !MASK_FOLLOWS)?;
            let id = ContentId(fields.array()?);
            let len = geometry.chunk_len(chunk);
            let mask = if form & MASK_FOLLOWS == 0 {
                Mask::full(len)
            } else {
                Mask::from_bytes(len, fields.take(Mask::byte_len(len))?)?
            };
            if form & MASK_FOLLOWS != 0 && mask.is_full() {
                return Err(fields.damaged("a full mask is written out"));
            }
            if entries.last().is_some_and(|last| last.chunk >= chunk) {
                return Err(fields.damaged("its chunks do not ascend"));
            }
            let entry = Entry {
                chunk,
                codec,
                body_len,
                mask,
                id,
            };
            entry.validate(&geometry)?;
            entries.push(entry);
        }
        let keyed = flags & FLAG_KEYED != 0;
        let rest = fields.take(fields.left())?;
        Ok((
            Self {
                geometry,
                image_uuid,
                keyed,
                meta,
                table,
                entries,
                meta_json,
            },
            rest,
        ))
    }
}

/// Hash of TABLE for the root: the hash of the encoded regions, computed without encoding them.
fn table_hash(table: &[Region]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&u32::try_from(table.len()).unwrap_or(u32::MAX).to_le_bytes());
    for region in table {
        hasher.update(&region.offset.to_le_bytes());
        hasher.update(
            &u32::try_from(region.bytes.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        hasher.update(&region.bytes);
    }
    hasher.finalize().into()
}
fn region_end(region: &Region) -> u64 {
    region.offset.saturating_add(region.bytes.len() as u64)
}
