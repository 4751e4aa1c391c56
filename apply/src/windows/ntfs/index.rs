//! The B+trees `$SII` and `$SDH` of `$Secure`, walked in order, their entries changed in place.
//!
//! Entries of one tree have one size, so a changed key moves to another entry's slot and no node
//! grows, splits or merges: only keys and data are exchanged, child pointers and flags stay. Data
//! follows the key; an entry begins with the offset and the length of its data.

use super::{Changed, NtfsError};
use diskmap::Volume;
use diskmap::ntfs::index::{Entry, MOST_LEVELS, Node};
use diskmap::ntfs::{Index, Mft, Record, fixup};
use std::collections::BTreeSet;
use std::ops::Range;

/// Most entries of a tree; there is one for each descriptor.
pub(crate) const MOST_ENTRIES: usize = 1 << 22;

/// One tree in memory.
#[derive(Debug)]
pub(crate) struct Tree {
    name: &'static str,
    index: Index,
    nodes: Vec<Place>,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Place {
    /// Number of the block; `None` for the root.
    block: Option<u64>,
    node: Node,
    changed: bool,
}

#[derive(Debug)]
struct Slot {
    node: usize,
    payload: Range<usize>,
}

/// State of a walk over a tree's nodes.
struct Walk<'a> {
    volume: &'a Volume<'a>,
    payload: usize,
    key: usize,
    seen: BTreeSet<u64>,
}

impl Tree {
    /// Reads a tree whose entries have a key of `key` bytes followed by 20 bytes of data.
    pub(crate) fn read(
        volume: &Volume<'_>,
        mft: &Mft,
        secure: &Record,
        name: &'static str,
        key: usize,
    ) -> Result<Self, NtfsError> {
        let index = Index::open(mft, volume, secure, name)?;
        let index = index.ok_or(NtfsError::structure(name, 0, "it has no root"))?;
        let mut walk = Walk {
            volume,
            payload: key + super::secure::ENTRY_HEADER,
            key,
            seen: BTreeSet::new(),
        };
        let root = index.root();
        let mut tree = Self {
            name,
            index,
            nodes: Vec::new(),
            slots: Vec::new(),
        };
        tree.descend(&mut walk, None, root, 1)?;
        Ok(tree)
    }

    fn descend(
        &mut self,
        walk: &mut Walk<'_>,
        block: Option<u64>,
        node: Node,
        level: usize,
    ) -> Result<(), NtfsError> {
        let (name, at) = (self.name, block.unwrap_or(0));
        let bad = move |what| NtfsError::structure(name, at, what);
        let entries = node.entries()?;
        for entry in entries.iter().filter(|entry| !entry.is_last) {
            if !walk.is_of_tree(&node, entry) {
                return Err(bad("an entry is not of this tree"));
            }
        }
        let number = self.nodes.len();
        self.nodes.push(Place {
            block,
            node,
            changed: false,
        });
        for entry in entries {
            if let Some(child) = entry.child {
                if level == MOST_LEVELS {
                    return Err(bad("it is too deep"));
                }
                if !walk.seen.insert(child) {
                    return Err(bad("two entries share a block"));
                }
                let below = self.index.node(walk.volume, child)?;
                self.descend(walk, Some(child), below, level + 1)?;
            }
            if entry.is_last {
                break;
            }
            if self.slots.len() == MOST_ENTRIES {
                return Err(bad("it has too many entries"));
            }
            self.slots.push(Slot {
                node: number,
                payload: entry.key.start..entry.key.start + walk.payload,
            });
        }
        Ok(())
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
            .map(|place| place.node.get(&slot.payload))
            .unwrap_or_default()
    }

    /// Puts keys and data into the slots in the order of the tree; number and lengths must be those
    /// from [`Self::payloads`].
    pub(crate) fn set_payloads(&mut self, payloads: &[Vec<u8>]) {
        for (slot, payload) in self.slots.iter().zip(payloads) {
            let Some(place) = self.nodes.get_mut(slot.node) else {
                continue;
            };
            if let Some(bytes) = place.node.bytes_mut().get_mut(slot.payload.clone())
                && bytes != payload.as_slice()
            {
                bytes.copy_from_slice(payload);
                place.changed = true;
            }
        }
    }

    /// Outputs the changes: blocks as bytes with their offsets on the volume, the root into its
    /// record.
    pub(crate) fn changes(
        &self,
        changed: &mut Changed<'_>,
        blocks: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<(), NtfsError> {
        for place in self.nodes.iter().filter(|place| place.changed) {
            let Some(block) = place.block else {
                let root = self.index.root_place();
                let record = changed.record(root.record)?;
                if let Some(bytes) = record.bytes_mut().get_mut(root.range.clone()) {
                    bytes.copy_from_slice(place.node.bytes());
                }
                continue;
            };
            let mut bytes = place.node.bytes().to_vec();
            fixup::redo(&mut bytes);
            let mut rest = bytes.as_slice();
            for (offset, length) in self.index.places(block)? {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let (part, behind) = rest.split_at(length.min(rest.len()));
                blocks.push((offset, part.to_vec()));
                rest = behind;
            }
        }
        Ok(())
    }
}

impl Walk<'_> {
    /// True if key and data of an entry have the lengths of this tree's, and lie in the entry.
    fn is_of_tree(&self, node: &Node, entry: &Entry) -> bool {
        let key_at = entry.key.start - entry.range.start;
        let child = if entry.child.is_some() { 8 } else { 0 };
        let data_at = key_at + self.key;
        let data = (data_at, self.payload - self.key);
        let word = |at: usize| {
            let bytes = node.get(&entry.range).get(at..at + 2);
            bytes.map_or(0, |word| {
                usize::from(u16::from_le_bytes([word[0], word[1]]))
            })
        };
        (word(0), word(2)) == data
            && entry.key.len() == self.key
            && entry.range.len() >= key_at + self.payload + child
    }
}
