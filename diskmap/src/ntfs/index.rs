//! Indexes: B+trees of entries, in a root that lies in a record and in blocks.
//!
//! Owns the parsing of nodes and of their entries. What the keys mean is the affair of the index:
//! names for a folder ([`super::FileName`]), hashes and numbers for `$Secure`. A block that is read
//! says that it is the one that was asked for.

use std::collections::BTreeSet;
use std::ops::Range;

use super::layout::index;
use super::record::{Record, Reference};
use super::stream::{Resident, Stream};
use super::{Mft, NtfsError, fixup, kind};
use crate::volume::{Fields, Volume};

/// Most nodes from the root to a leaf: with the longest names, 16 levels hold more than any volume.
pub const MOST_LEVELS: usize = 16;

const HAS_CHILD: u16 = 1;
const IS_LAST: u16 = 2;

/// An index of a file.
#[derive(Clone, Debug)]
pub struct Index {
    file: u64,
    root: Resident,
    blocks: Option<Stream>,
    block_bytes: u64,
    /// Bytes of the unit in which blocks are numbered.
    unit: u64,
}

/// A node of an index, with its true words in place.
#[derive(Clone, Debug)]
pub struct Node {
    file: u64,
    bytes: Vec<u8>,
    header: usize,
}

/// An entry of a node, as ranges of the node's bytes.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The whole entry.
    pub range: Range<usize>,
    /// The key; empty in the last entry.
    pub key: Range<usize>,
    /// The record that the entry names; only in the index of a folder.
    pub reference: Reference,
    /// Number of the block with the entries before this one.
    pub child: Option<u64>,
    /// True for the last entry of a node, which has no key.
    pub is_last: bool,
}

impl Index {
    /// The index `name` of a file; `None` if it has none.
    ///
    /// # Errors
    ///
    /// Its parts make no sense.
    pub fn open(
        mft: &Mft,
        volume: &Volume<'_>,
        base: &Record,
        name: &str,
    ) -> Result<Option<Self>, NtfsError> {
        let bad = |what| NtfsError::structure("index of record", base.number(), what);
        let Some(root) = mft.find(volume, base, kind::INDEX_ROOT, name)? else {
            return Ok(None);
        };
        let root = root.resident().ok_or(bad("its root lies in clusters"))?;
        let block_bytes = u64::from(Fields(&root.value).u32(index::AT_ROOT_BLOCK_BYTES)?);
        if !block_bytes.is_power_of_two() || !(512..=64 << 10).contains(&block_bytes) {
            return Err(bad("the size of its nodes is nonsense"));
        }
        let blocks = mft.find(volume, base, kind::INDEX_ALLOCATION, name)?;
        if blocks
            .as_ref()
            .is_some_and(|blocks| blocks.resident().is_some())
        {
            return Err(bad("its nodes lie in a record"));
        }
        // Blocks smaller than a cluster are numbered in units of 512 bytes.
        let cluster = mft.geometry().cluster_bytes();
        let unit = if block_bytes < cluster { 512 } else { cluster };
        Ok(Some(Self {
            file: base.number(),
            root: root.clone(),
            blocks,
            block_bytes,
            unit,
        }))
    }

    fn bad(&self, what: &'static str) -> NtfsError {
        NtfsError::structure("index of record", self.file, what)
    }

    /// The value of the root attribute, with its place.
    #[must_use]
    pub const fn root_place(&self) -> &Resident {
        &self.root
    }

    /// The root node.
    #[must_use]
    pub fn root(&self) -> Node {
        Node {
            file: self.file,
            bytes: self.root.value.clone(),
            header: index::AT_ROOT_HEADER,
        }
    }

    /// Block `number`: the stream it lies in, and its offset there.
    fn block_at(&self, number: u64) -> Result<(&Stream, u64), NtfsError> {
        let blocks = self.blocks.as_ref();
        let blocks = blocks.ok_or_else(|| self.bad("it lacks its nodes"))?;
        let at = number
            .checked_mul(self.unit)
            .filter(|at| at % self.block_bytes == 0)
            .ok_or_else(|| self.bad("a node lies at no node's place"))?;
        Ok((blocks, at))
    }

    /// Reads block `number`.
    ///
    /// # Errors
    ///
    /// It is torn, or is another block.
    pub fn node(&self, volume: &Volume<'_>, number: u64) -> Result<Node, NtfsError> {
        let (blocks, at) = self.block_at(number)?;
        let mut bytes = blocks.read_metadata(volume, at, self.block_bytes)?;
        fixup::undo(&mut bytes, b"INDX")
            .map_err(|fault| self.bad(fault.what("a node does not begin with INDX")))?;
        if Fields(&bytes).u64(index::AT_BLOCK_VCN)? != number {
            return Err(self.bad("a node says that it is another"));
        }
        Ok(Node {
            file: self.file,
            bytes,
            header: index::AT_BLOCK_HEADER,
        })
    }

    /// Places of block `number` on the volume: offset and length in bytes.
    ///
    /// # Errors
    ///
    /// The index has no such block.
    pub fn places(&self, number: u64) -> Result<Vec<(u64, u64)>, NtfsError> {
        let (blocks, at) = self.block_at(number)?;
        let pieces = blocks.pieces(at, self.block_bytes)?;
        let hole = || self.bad("a node lies in a hole");
        pieces
            .into_iter()
            .map(|piece| Ok((piece.place.ok_or_else(hole)?, piece.len)))
            .collect()
    }

    /// Calls `look` for every entry with a key, node by node.
    ///
    /// # Errors
    ///
    /// The index is no tree of at most `most_nodes` blocks.
    pub fn each_entry(
        &self,
        volume: &Volume<'_>,
        most_nodes: usize,
        mut look: impl FnMut(&Entry, &[u8]),
    ) -> Result<(), NtfsError> {
        let mut todo = Vec::new();
        let mut seen = BTreeSet::new();
        let mut node = self.root();
        loop {
            for entry in node.entries()? {
                todo.extend(entry.child);
                if !entry.is_last {
                    look(&entry, node.get(&entry.key));
                }
            }
            let Some(number) = todo.pop() else {
                return Ok(());
            };
            if !seen.insert(number) || seen.len() > most_nodes {
                return Err(self.bad("it is no tree, or has too many nodes"));
            }
            node = self.node(volume, number)?;
        }
    }
}

impl Node {
    /// Content with the true words in place.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Content for changes in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The bytes of a range that came out of [`Self::entries`].
    #[must_use]
    pub fn get(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// The entries of the node, in order; the last one has no key.
    ///
    /// # Errors
    ///
    /// Lengths or offsets make no sense.
    pub fn entries(&self) -> Result<Vec<Entry>, NtfsError> {
        let bad = |what| NtfsError::structure("index of record", self.file, what);
        let fields = Fields(&self.bytes);
        let offset = |at: usize| usize::try_from(fields.u32(self.header + at).ok()?).ok();
        let (first, length) = offset(index::AT_FIRST)
            .zip(offset(index::AT_LENGTH))
            .ok_or(bad("a node has no header"))?;
        let end = self
            .header
            .checked_add(length)
            .filter(|end| *end <= self.bytes.len())
            .filter(|_| first >= index::HEADER_BYTES && first <= length)
            .ok_or(bad("the entries of a node leave it"))?;
        let mut at = self.header + first;
        let mut found = Vec::new();
        loop {
            let malformed = bad("an entry is malformed");
            let rest = Fields(self.bytes.get(at..end).unwrap_or_default());
            let Some(entry) = entry(rest, at) else {
                return Err(malformed);
            };
            at = entry.range.end;
            let is_last = entry.is_last;
            found.push(entry);
            if is_last {
                return Ok(found);
            }
        }
    }
}

/// The entry at the start of `rest`, which lies at `at` of its node.
fn entry(rest: Fields<'_>, at: usize) -> Option<Entry> {
    let length = usize::from(rest.u16(index::AT_ENTRY_LENGTH).ok()?);
    let flags = rest.u16(index::AT_ENTRY_FLAGS).ok()?;
    let has_child = flags & HAS_CHILD != 0;
    let room = length.checked_sub(if has_child { 8 } else { 0 })?;
    let bytes = Fields(rest.bytes(0, length).ok()?);
    if room < index::AT_ENTRY_KEY || length % 8 != 0 || flags & !(HAS_CHILD | IS_LAST) != 0 {
        return None;
    }
    let is_last = flags & IS_LAST != 0;
    let key = match is_last {
        true => 0,
        false => usize::from(bytes.u16(index::AT_ENTRY_KEY_LENGTH).ok()?),
    };
    if index::AT_ENTRY_KEY + key > room {
        return None;
    }
    let start = at + index::AT_ENTRY_KEY;
    Some(Entry {
        range: at..at + length,
        key: start..start + key,
        reference: Reference::from_bits(bytes.u64(index::AT_ENTRY_RECORD).ok()?),
        child: match has_child {
            true => Some(bytes.u64(room).ok()?),
            false => None,
        },
        is_last,
    })
}
