//! Rescue of an image without trailer or index: each chunk with an intact record is saved.
//!
//! Every record is read once, every chunk is decoded and verified by its id, and a manifest is made
//! from the valid ones. The result behaves like an opened image. Its root covers the saved chunks,
//! so it equals the original's root only if nothing was lost. The work runs in one thread, because
//! a rescue need not be fast.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use positioned_io::ReadAt;

use crate::codec::Decoder;
use crate::error::{Result, narrow, to_usize};
use crate::id::content_id;
use crate::image::{read_index, unlock};
use crate::prologue::Prologue;
use crate::record::{Header, RecordKind, chunk_name};
use crate::scan::{Gap, Scan};
use crate::seal::{Keys, Password};
use crate::sign;
use crate::store::{Store, Volume};
use crate::{
    ChunkId, Entry, Geometry, Image, Labels, Manifest, Mask, Meta, Position, Region, table,
};

/// The result of a rebuild: the saved image and the losses.
#[derive(Debug)]
pub struct Rebuilt<R> {
    /// The image with all intact chunks.
    pub image: Image<R>,
    /// Chunks with a record that was found but is not valid, ascending.
    pub damaged: Vec<ChunkId>,
    /// Chunks that a surviving index lists but that were not saved, ascending; `None` if no index
    /// survived, because then they are unknown.
    pub missing: Option<Vec<ChunkId>>,
    /// Parts of the file without a record.
    pub gaps: Vec<Gap>,
    /// True if no description was found; the image has an empty one.
    pub meta_lost: bool,
    /// True if no partition table record was found; the image has an empty sector 0 instead.
    pub table_lost: bool,
}

impl<R: ReadAt> Image<R> {
    /// Opens the remains of an image of one volume without trailer or index.
    ///
    /// # Errors
    /// The errors of [`Image::open`] for a broken prologue or a wrong password. Damage behind the
    /// prologue is not an error but part of the result.
    pub fn rebuild(reader: R, len: u64, password: Option<&Password>) -> Result<Rebuilt<R>> {
        Self::rebuild_volumes(vec![Volume { reader, len }], password)
    }

    /// Does the same as [`Image::rebuild`] for the available volumes of a divided image: the first
    /// one, and those that follow it without a missing one.
    ///
    /// # Errors
    /// The errors of [`Image::rebuild`], and [`crate::FormatError::VolumeMismatch`].
    pub fn rebuild_volumes(
        volumes: Vec<Volume<R>>,
        password: Option<&Password>,
    ) -> Result<Rebuilt<R>> {
        let store = Store { volumes };
        let prologue = store.prologue()?;
        let keys = unlock(&prologue, password)?;
        let mut saved = Saved::new(keys)?;
        let mut scan = Scan::new(&store, &prologue);
        while let Some((at, header)) = scan.next_record() {
            saved.take(&store, &prologue, at, &header);
        }
        let gaps = scan.gaps;
        saved.finish(store, prologue, gaps)
    }
}

/// Largest number of signatures that are kept.
const SIGNATURES_MAX: usize = 1024;

/// META, TABLE and the chunks with their positions.
pub(crate) type Parts = (
    Option<Vec<u8>>,
    Vec<Region>,
    BTreeMap<ChunkId, (Entry, Position)>,
);

/// The parts found so far.
pub(crate) struct Saved {
    keys: Option<Arc<Keys>>,
    decoder: Decoder,
    body: Vec<u8>,
    plain: Vec<u8>,
    meta: Option<Vec<u8>>,
    table: Option<Vec<Region>>,
    index: Option<Manifest>,
    chunks: BTreeMap<ChunkId, (Entry, Position)>,
    damaged: BTreeSet<ChunkId>,
    labels: Labels,
    signatures: Vec<Vec<u8>>,
}

impl Saved {
    pub(crate) fn new(keys: Option<Arc<Keys>>) -> Result<Self> {
        Ok(Self {
            decoder: Decoder::new(None)?,
            keys,
            body: Vec::new(),
            plain: Vec::new(),
            meta: None,
            table: None,
            index: None,
            chunks: BTreeMap::new(),
            damaged: BTreeSet::new(),
            labels: Labels::default(),
            signatures: Vec::new(),
        })
    }

    /// Saves the content of one record if it is valid.
    fn take<R: ReadAt>(
        &mut self,
        store: &Store<R>,
        prologue: &Prologue,
        at: Position,
        header: &Header,
    ) {
        let geometry = &prologue.geometry;
        match header.kind {
            RecordKind::Chunk => {
                let chunk_len = geometry.chunk_len(header.chunk);
                let proven = self.chunk(store, chunk_len, at, header);
                match proven.map(|(entry, _)| entry) {
                    // A writer makes each chunk once. If there are two valid records, the first one
                    // is used.
                    Ok(entry) if entry.validate(geometry).is_ok() => {
                        self.chunks.entry(entry.chunk).or_insert((entry, at));
                    }
                    _ => {
                        self.damaged.insert(header.chunk);
                    }
                }
            }
            // META may be written several times; the last one counts.
            RecordKind::Meta => {
                if let Ok(json) = self.other(store, at, header)
                    && Meta::from_json(&json, geometry).is_ok()
                {
                    self.meta = Some(json);
                }
            }
            RecordKind::Table => {
                if let Ok(bytes) = self.other(store, at, header)
                    && let Ok(table) = table::decode(&bytes, geometry)
                {
                    self.table = Some(table);
                }
            }
            RecordKind::Index => {
                if let Ok((manifest, _, _)) = read_index(store, prologue, self.keys.as_deref(), at)
                {
                    self.index = Some(manifest);
                }
            }
            RecordKind::Labels => {
                let labels = self.other(store, at, header);
                if let Ok(labels) = labels.and_then(|json| Labels::from_json(&json)) {
                    self.labels = labels;
                }
            }
            // Signatures are checked later, when the root is known.
            RecordKind::Signature => {
                if self.signatures.len() < SIGNATURES_MAX
                    && let Ok(body) = self.other(store, at, header)
                {
                    self.signatures.push(body);
                }
            }
            RecordKind::Prologue | RecordKind::Trailer | RecordKind::Other(_) => {}
        }
    }

    /// Saves a META, TABLE or CHUNK record; false if it is not valid.
    pub(crate) fn takes<R: ReadAt>(
        &mut self,
        store: &Store<R>,
        prologue: &Prologue,
        at: Position,
        header: &Header,
    ) -> bool {
        let count = |saved: &Self| {
            let others = usize::from(saved.meta.is_some()) + usize::from(saved.table.is_some());
            saved.chunks.len() + others
        };
        // Each is written once: a second valid record counts as not saved.
        let before = count(self);
        self.take(store, prologue, at, header);
        count(self) > before
    }

    /// Returns META, TABLE and chunks for a writer that continues the image.
    pub(crate) fn into_parts(self) -> Parts {
        (self.meta, self.table.unwrap_or_default(), self.chunks)
    }

    /// Returns the plain body of a record that is not a chunk.
    fn other<R: ReadAt>(&self, store: &Store<R>, at: Position, header: &Header) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        store.stored(header, at, &mut body)?;
        header.open_body(self.keys.as_deref(), &mut body, at.offset)?;
        let keys = self.keys.as_ref().filter(|_| header.encrypted);
        header.plain(body, keys.map(|keys| &keys.id), at.offset)
    }

    /// Makes the entry of a chunk from its record alone, verified by its id, and returns it with
    /// the used bytes.
    fn chunk<R: ReadAt>(
        &mut self,
        store: &Store<R>,
        chunk_len: u32,
        at: Position,
        header: &Header,
    ) -> Result<(Entry, &[u8])> {
        store.stored(header, at, &mut self.body)?;
        header.open_body(self.keys.as_deref(), &mut self.body, at.offset)?;
        let damaged = || header.damaged(at.offset, "its content does not match its id");
        let plain = self
            .decoder
            .unpack(
                header.codec,
                &self.body,
                to_usize(header.plain_len, "length of a chunk")?,
                &mut self.plain,
            )
            .ok_or_else(damaged)?;
        let (used, mask) = if header.masked {
            let cut = plain.len().checked_sub(Mask::byte_len(chunk_len));
            let (used, mask) = plain.split_at(cut.ok_or_else(damaged)?);
            (used, Mask::from_bytes(chunk_len, mask)?)
        } else {
            (plain, Mask::full(chunk_len))
        };
        if used.len() != mask.used_bytes() as usize || header.masked == mask.is_full() {
            return Err(damaged());
        }
        let id_key = self.keys.as_ref().map(|keys| &keys.id);
        let id = content_id(id_key, &mask, used);
        if chunk_name(id_key, header.chunk, &id) != header.id {
            return Err(damaged());
        }
        let entry = Entry {
            chunk: header.chunk,
            codec: header.codec,
            body_len: narrow(self.body.len(), "chunk body")?,
            mask,
            id,
        };
        Ok((entry, used))
    }

    /// The chunks that every reader would refuse, because they are not zero in the place of the
    /// table.
    fn refused<R: ReadAt>(
        &mut self,
        store: &Store<R>,
        prologue: &Prologue,
        manifest: &Manifest,
        positions: &[Position],
    ) -> BTreeSet<ChunkId> {
        let mut refused = BTreeSet::new();
        for (entry, at) in manifest.entries.iter().zip(positions) {
            if !manifest.holds_table(entry.chunk) {
                continue;
            }
            let chunk_len = prologue.geometry.chunk_len(entry.chunk);
            let holds = store.header(prologue, *at).and_then(|header| {
                let (_, used) = self.chunk(store, chunk_len, *at, &header)?;
                manifest.refuse_table_bytes(entry, used)
            });
            if holds.is_err() {
                refused.insert(entry.chunk);
            }
        }
        refused
    }

    fn finish<R: ReadAt>(
        mut self,
        store: Store<R>,
        prologue: Prologue,
        gaps: Vec<Gap>,
    ) -> Result<Rebuilt<R>> {
        let (meta_lost, table_lost) = (
            self.meta.is_none() && self.index.is_none(),
            self.table.is_none() && self.index.is_none(),
        );
        // The index holds a second copy of META and TABLE.
        let (index_meta, index_table, listed) = match self.index.take() {
            Some(index) => {
                let json = index.meta_json().to_vec();
                let listed: Vec<ChunkId> = index.entries.iter().map(|entry| entry.chunk).collect();
                (Some(json), Some(index.table), Some(listed))
            }
            None => (None, None, None),
        };
        let meta_json = match index_meta.or(self.meta.take()) {
            Some(json) => json,
            None => Meta::default().to_json(&prologue.geometry)?,
        };
        let (mut entries, mut positions): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.chunks).into_values().unzip();
        let table = index_table
            .or(self.table.take())
            .unwrap_or_else(|| blank_table(&prologue.geometry));
        let assemble = |entries: Vec<Entry>| {
            Manifest::assemble(
                prologue.geometry,
                prologue.image_uuid,
                prologue.encrypted(),
                meta_json.clone(),
                table.clone(),
                entries,
            )
        };
        let mut manifest = assemble(entries.clone())?;
        let refused = self.refused(&store, &prologue, &manifest, &positions);
        if !refused.is_empty() {
            let kept = |entry: &Entry| !refused.contains(&entry.chunk);
            let pairs = entries.into_iter().zip(positions);
            (entries, positions) = pairs.filter(|(entry, _)| kept(entry)).unzip();
            manifest = assemble(entries)?;
            self.damaged.extend(refused);
        }
        let saved = |chunk: &ChunkId| manifest.find(*chunk).is_some();
        let damaged = self.damaged.into_iter().filter(|c| !saved(c)).collect();
        let missing = listed.map(|listed| listed.into_iter().filter(|c| !saved(c)).collect());
        let root = manifest.root();
        let signed = self.signatures.into_iter().filter_map(|body| {
            let key = sign::check(&body, &root).ok().flatten()?;
            Some((key, body))
        });
        let (signers, signatures) = signed.unzip();
        Ok(Rebuilt {
            damaged,
            missing,
            gaps,
            meta_lost,
            table_lost,
            image: Image {
                root,
                store,
                prologue,
                keys: self.keys,
                manifest,
                positions,
                signers,
                signatures,
                labels: self.labels,
                end: None,
            },
        })
    }
}

/// An empty sector 0, used if the table is lost.
fn blank_table(geometry: &Geometry) -> Vec<Region> {
    vec![Region {
        offset: 0,
        bytes: vec![0; geometry.sector_size as usize],
    }]
}
