//! The B+trees `$SII` and `$SDH` of `$Secure`, walked in order, their entries changed in place.
//!
//! Entries of one tree have one size, so a changed key moves to another entry's slot and no node
//! grows, splits or merges: only keys and data are exchanged, child pointers and flags stay.
//!
//! ```text
//! entry   00 data offset, 02 data length, 08 length, 0a key length, 0c flags (1 child, 2 last)
//!         10 key, data behind it; the child's block number in the last 8 bytes
//! block   "INDX" 04 update sequence array, 10 own block number,
//!         18 header: entries, length, room, flags
//! ```

use super::NtfsError;
use super::record::{Record, kind, protect, unprotect};
use super::stream::{Found, Mft, Stream};
use super::volume::{Volume, u16_at, u32_at, u64_at};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Most levels of a tree: at 80 entries a block, five levels hold more descriptors than there are
/// identifiers.
const MOST_LEVELS: usize = 8;
/// Most entries of a tree; there is one for each descriptor.
pub(crate) const MOST_ENTRIES: usize = 1 << 22;
/// Offset of the index header in a block.
const BLOCK_HEADER: usize = 0x18;
/// Offset of the index header in the root attribute.
const ROOT_HEADER: usize = 0x10;
/// Offset of the key in an entry.
const KEY: usize = 0x10;
const HAS_CHILD: u16 = 1;
const IS_LAST: u16 = 2;

/// One tree in memory.
#[derive(Debug)]
pub(crate) struct Tree {
    name: &'static str,
    nodes: Vec<Node>,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Node {
    place: Place,
    /// Content with the true words in place of update sequence numbers.
    bytes: Vec<u8>,
    changed: bool,
}

#[derive(Debug)]
enum Place {
    /// The root: a range of a record's bytes.
    Record(u64, Range<usize>),
    /// A block of the allocation: pieces on the volume, as offset and length.
    Block(Vec<(u64, usize)>),
}

#[derive(Debug)]
struct Slot {
    node: usize,
    payload: Range<usize>,
}

/// State of a walk over a tree's nodes.
struct Walk<'a> {
    volume: &'a dyn Volume,
    allocation: Option<Stream>,
    block: usize,
    /// Size in bytes of the unit in which child blocks are numbered.
    unit: u64,
    payload: usize,
    key: usize,
    seen: BTreeSet<u64>,
}

impl Tree {
    /// Reads a tree whose entries have a key of `key` bytes followed by 20 bytes of data.
    pub(crate) fn read(
        volume: &dyn Volume,
        mft: &Mft,
        secure: &Record,
        name: &'static str,
        key: usize,
    ) -> Result<Self, NtfsError> {
        let bad = |what| NtfsError::structure(name, 0, what);
        let Some(Found::Resident(number, range)) =
            mft.find(volume, secure, kind::INDEX_ROOT, name)?
        else {
            return Err(bad("it has no root"));
        };
        let record = mft.record(volume, number)?;
        let root = record.bytes.get(range.clone()).unwrap_or_default();
        let block = u32_at(root, 8)
            .and_then(|block| usize::try_from(block).ok())
            .filter(|block| block.is_power_of_two() && (512..=65536).contains(block))
            .ok_or(bad("its block size is nonsense"))?;
        let allocation = match mft.find(volume, secure, kind::INDEX_ALLOCATION, name)? {
            Some(Found::Stream(stream)) => Some(stream),
            Some(Found::Resident(..)) => return Err(bad("its blocks lie in a record")),
            None => None,
        };
        let cluster = mft.geometry.cluster;
        let mut walk = Walk {
            volume,
            allocation,
            block,
            unit: if cluster <= block as u64 {
                cluster
            } else {
                512
            },
            payload: key + super::secure::ENTRY_HEADER,
            key,
            seen: BTreeSet::new(),
        };
        let mut tree = Self {
            name,
            nodes: vec![Node {
                place: Place::Record(number, range),
                bytes: root.to_vec(),
                changed: false,
            }],
            slots: Vec::new(),
        };
        tree.descend(&mut walk, 0, ROOT_HEADER, 0)?;
        Ok(tree)
    }

    fn descend(
        &mut self,
        walk: &mut Walk<'_>,
        node: usize,
        header: usize,
        level: usize,
    ) -> Result<(), NtfsError> {
        let name = self.name;
        let bad = move |what| NtfsError::structure(name, node as u64, what);
        if level > MOST_LEVELS {
            return Err(bad("it is too deep"));
        }
        let bytes = self
            .nodes
            .get(node)
            .map(|n| n.bytes.as_slice())
            .unwrap_or_default();
        let (first, length) = u32_at(bytes, header)
            .zip(u32_at(bytes, header + 4))
            .and_then(|(first, length)| {
                Some((usize::try_from(first).ok()?, usize::try_from(length).ok()?))
            })
            .ok_or(bad("a node has no header"))?;
        let end = header
            .checked_add(length)
            .filter(|end| *end <= bytes.len() && first >= 0x10 && first <= length)
            .ok_or(bad("a node's entries leave it"))?;
        let mut at = header + first;
        loop {
            let bytes = self
                .nodes
                .get(node)
                .map(|n| n.bytes.as_slice())
                .unwrap_or_default();
            let rest = bytes.get(at..end).unwrap_or_default();
            let length = usize::from(u16_at(rest, 8).unwrap_or(0));
            let flags = u16_at(rest, 12).unwrap_or(0);
            let child_bytes = if flags & HAS_CHILD != 0 { 8 } else { 0 };
            let entry = rest
                .get(..length)
                .filter(|_| length >= KEY + child_bytes && length % 8 == 0)
                .ok_or(bad("an entry's length is nonsense"))?;
            if flags & !(HAS_CHILD | IS_LAST) != 0 {
                return Err(bad("an entry has unknown flags"));
            }
            let child = (child_bytes > 0).then(|| u64_at(entry, length - 8).unwrap_or(u64::MAX));
            let sound = flags & IS_LAST != 0
                || usize::from(u16_at(entry, 0).unwrap_or(0)) == KEY + walk.key
                    && usize::from(u16_at(entry, 2).unwrap_or(0)) + walk.key == walk.payload
                    && usize::from(u16_at(entry, 10).unwrap_or(0)) == walk.key
                    && length >= KEY + walk.payload + child_bytes;
            if !sound {
                return Err(bad("an entry is not of this tree"));
            }
            if let Some(child) = child {
                let below = self.load(walk, child)?;
                self.descend(walk, below, BLOCK_HEADER, level + 1)?;
            }
            if flags & IS_LAST != 0 {
                return Ok(());
            }
            if self.slots.len() == MOST_ENTRIES {
                return Err(bad("it has too many entries"));
            }
            self.slots.push(Slot {
                node,
                payload: at + KEY..at + KEY + walk.payload,
            });
            at += length;
        }
    }

    fn load(&mut self, walk: &mut Walk<'_>, child: u64) -> Result<usize, NtfsError> {
        let name = self.name;
        let bad = move |what| NtfsError::structure(name, child, what);
        let allocation = walk.allocation.as_ref().ok_or(bad("it has no blocks"))?;
        let offset = child
            .checked_mul(walk.unit)
            .filter(|offset| offset % walk.block as u64 == 0)
            .ok_or(bad("a block lies at no block's place"))?;
        if !walk.seen.insert(offset) {
            return Err(bad("two entries share a block"));
        }
        let mut bytes = vec![0; walk.block];
        allocation.read(walk.volume, offset, &mut bytes)?;
        if bytes.get(..4) != Some(b"INDX") || !unprotect(&mut bytes) {
            return Err(bad("a block is torn"));
        }
        if u64_at(&bytes, 0x10) != Some(child) {
            return Err(bad("a block says it is another"));
        }
        let mut pieces = Vec::new();
        for (place, length) in allocation.pieces(offset, walk.block)? {
            pieces.push((place.ok_or(bad("a block lies in a hole"))?, length));
        }
        self.nodes.push(Node {
            place: Place::Block(pieces),
            bytes,
            changed: false,
        });
        Ok(self.nodes.len() - 1)
    }

    /// Key and data of every entry, in the order of the tree.
    pub(crate) fn payloads(&self) -> Vec<Vec<u8>> {
        self.slots
            .iter()
            .map(|slot| self.payload(slot).to_vec())
            .collect()
    }

    fn payload(&self, slot: &Slot) -> &[u8] {
        self.nodes
            .get(slot.node)
            .and_then(|node| node.bytes.get(slot.payload.clone()))
            .unwrap_or_default()
    }

    /// Puts keys and data into the slots in the order of the tree; number and lengths must be those
    /// from [`Self::payloads`].
    pub(crate) fn set_payloads(&mut self, payloads: &[Vec<u8>]) {
        for (slot, payload) in self.slots.iter().zip(payloads) {
            let Some(node) = self.nodes.get_mut(slot.node) else {
                continue;
            };
            if let Some(place) = node.bytes.get_mut(slot.payload.clone())
                && place != payload.as_slice()
            {
                place.copy_from_slice(payload);
                node.changed = true;
            }
        }
    }

    /// Outputs the changes: blocks as bytes with their offsets on the volume, the root into its
    /// record.
    pub(crate) fn changes(
        &self,
        volume: &dyn Volume,
        mft: &Mft,
        records: &mut BTreeMap<u64, Record>,
        blocks: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<(), NtfsError> {
        for node in self.nodes.iter().filter(|node| node.changed) {
            match &node.place {
                Place::Record(number, range) => {
                    let record = super::changed_record(volume, mft, records, *number)?;
                    if let Some(root) = record.bytes.get_mut(range.clone()) {
                        root.copy_from_slice(&node.bytes);
                    }
                }
                Place::Block(pieces) => {
                    let mut bytes = node.bytes.clone();
                    protect(&mut bytes);
                    let mut done = 0;
                    for (place, length) in pieces {
                        let part = bytes.get(done..done + length).unwrap_or_default();
                        blocks.push((*place, part.to_vec()));
                        done += length;
                    }
                }
            }
        }
        Ok(())
    }
}
