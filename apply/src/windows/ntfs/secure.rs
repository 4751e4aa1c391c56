//! `$Secure`: every security descriptor of the volume once, in `$SDS`; indexed by number in `$SII`,
//! by hash in `$SDH`.
//!
//! ```text
//! $SDS    256 KiB of entries, the same 256 KiB again as their mirror, and so on
//! entry   00 hash, 04 identifier, 08 offset in $SDS, 10 length with this header; descriptor;
//!         the next entry begins at a multiple of 16 bytes
//! $SII    key: identifier                data: the entry's header
//! $SDH    key: hash, identifier          data: the entry's header
//! ```

use super::descriptor::{self, MachinePart};
use super::index::Tree;
use super::{Changed, NtfsError, parts, system_stream};
use diskmap::Volume;
use diskmap::ntfs::{Mft, Stream, kind, number};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of an entry's header.
pub(crate) const ENTRY_HEADER: usize = 20;
/// Bytes of entries before their mirror.
const HALF: u64 = 0x4_0000;
/// The value of `HALF` as an offset in memory.
const HALF_LEN: usize = 0x4_0000;
/// Most bytes of `$SDS` that are read; 64 MiB hold some 200,000 descriptors with their mirror.
const MOST_SDS_BYTES: u64 = 64 << 20;

/// `$Secure` in memory, checked.
#[derive(Debug)]
pub(crate) struct Secure {
    stream: Stream,
    bytes: Vec<u8>,
    by_number: Tree,
    by_hash: Tree,
    entries: Vec<Entry>,
}

/// One descriptor in `$SDS`.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: usize,
    length: usize,
}

/// Changes that a rewrite of `$Secure` makes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Number of descriptors that named the old SID.
    pub(crate) descriptors: usize,
    /// Offsets on the volume, and the bytes for them.
    pub(crate) blocks: Vec<(u64, Vec<u8>)>,
}

impl Secure {
    /// Reads `$Secure` and checks its three parts against each other.
    pub(crate) fn read(volume: &Volume<'_>, mft: &Mft) -> Result<Self, NtfsError> {
        let record = mft.record(volume, number::SECURE)?;
        let stream = system_stream(mft, volume, &record, kind::DATA, "$SDS")?;
        let bytes = stream.read_all(volume, MOST_SDS_BYTES)?;
        let by_number = Tree::read(volume, mft, &record, "$SII", 4)?;
        let by_hash = Tree::read(volume, mft, &record, "$SDH", 8)?;
        let mut secure = Self {
            stream,
            bytes,
            by_number,
            by_hash,
            entries: Vec::new(),
        };
        secure.check()?;
        Ok(secure)
    }

    fn check(&mut self) -> Result<(), NtfsError> {
        let mut headers = BTreeSet::new();
        let mut before = None;
        for payload in self.by_number.payloads() {
            let number = u32_at(&payload, 0).unwrap_or(0);
            let header = payload.get(4..).unwrap_or_default();
            if before
                .replace(number)
                .is_some_and(|before| before >= number)
            {
                return Err(bad("$SII", number, "its order is wrong"));
            }
            self.entries.push(self.entry(number, header)?);
            headers.insert(header.to_vec());
        }
        let mut before = None;
        let by_hash = self.by_hash.payloads();
        for payload in &by_hash {
            let key = hash_key(payload);
            if before.replace(key).is_some_and(|before| before >= key) {
                return Err(bad("$SDH", key.1, "its order is wrong"));
            }
            let header = payload.get(8..).unwrap_or_default();
            let same = u32_at(header, 0) == Some(key.0) && u32_at(header, 4) == Some(key.1);
            if !same || !headers.contains(header) {
                return Err(bad("$SDH", key.1, "it and $SII disagree"));
            }
        }
        if by_hash.len() != headers.len() {
            return Err(bad("$SDH", 0, "it and $SII disagree"));
        }
        Ok(())
    }

    /// The entry that an index header names, if descriptor, hash and mirror agree with the header.
    fn entry(&self, number: u32, header: &[u8]) -> Result<Entry, NtfsError> {
        let offset = u64_at(header, 8).unwrap_or(u64::MAX);
        let length = u32_at(header, 16).unwrap_or(0);
        // Lengths with the header: 40 for the smallest descriptor of 20 bytes; 128 KiB, twice the
        // 64 KiB that an access control list can have.
        let sound = (40..=0x2_0000).contains(&length)
            && offset.is_multiple_of(16)
            && (offset / HALF).is_multiple_of(2)
            && offset % HALF + u64::from(length) <= HALF;
        let inside = |offset: u64| {
            let (at, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
            Some((at, length, self.bytes.get(at..at.checked_add(length)?)?))
        };
        let (Some((at, length, entry)), Some((_, _, mirror)), true) = (
            inside(offset),
            offset.checked_add(HALF).and_then(inside),
            sound,
        ) else {
            return Err(bad("$SII", number, "an entry leaves $SDS"));
        };
        if !entry.starts_with(header) || u32_at(header, 4) != Some(number) {
            return Err(bad("$SDS", number, "an entry and $SII disagree"));
        }
        if entry != mirror {
            return Err(bad("$SDS", number, "an entry and its mirror differ"));
        }
        let descriptor = entry.get(ENTRY_HEADER..).unwrap_or_default();
        if u32_at(entry, 0) != Some(descriptor::hash(descriptor)) {
            return Err(bad("$SDS", number, "an entry's hash is wrong"));
        }
        Ok(Entry { at, length })
    }

    /// Number of places in `$SDS` where `part` stands in a SID, inside entries or outside of them.
    pub(crate) fn traces(&self, part: &MachinePart) -> usize {
        descriptor::places(&self.bytes, part).count()
    }

    /// Replaces the machine part in every descriptor, and updates hashes, both copies and both
    /// trees.
    pub(crate) fn rewrite(
        mut self,
        changed: &mut Changed<'_>,
        old: &MachinePart,
        new: &MachinePart,
    ) -> Result<Changes, NtfsError> {
        let mut changes = Changes::default();
        let mut hashes = BTreeMap::new();
        let mut touched: Vec<(usize, usize)> = Vec::new();
        for Entry { at, length } in std::mem::take(&mut self.entries) {
            let Some(entry) = self.bytes.get_mut(at..at + length) else {
                continue;
            };
            let (header, text) = entry.split_at_mut(ENTRY_HEADER);
            if descriptor::replace(text, old, new) == 0 {
                continue;
            }
            let hash = descriptor::hash(text);
            header[..4].copy_from_slice(&hash.to_le_bytes());
            hashes.insert(u32_at(header, 4).unwrap_or(0), hash);
            self.bytes.copy_within(at..at + length, at + HALF_LEN);
            touched.extend([(at, length), (at + HALF_LEN, length)]);
        }
        changes.descriptors = hashes.len();
        // The rest lies outside of every entry: remains of entries that no index names. They are
        // never looked up by hash.
        let remains: Vec<_> = descriptor::places(&self.bytes, old).collect();
        descriptor::replace(&mut self.bytes, old, new);
        touched.extend(remains.into_iter().map(|at| (at, new.len())));
        for (at, length) in touched {
            let bytes = self.bytes.get(at..at + length).unwrap_or_default();
            changes
                .blocks
                .extend(parts(&self.stream, at as u64, bytes)?);
        }
        let mut payloads = self.by_number.payloads();
        for payload in &mut payloads {
            if let Some(hash) = hashes.get(&u32_at(payload, 0).unwrap_or(0)) {
                payload[4..8].copy_from_slice(&hash.to_le_bytes());
            }
        }
        self.by_number.set_payloads(&payloads);
        let mut payloads = self.by_hash.payloads();
        for payload in &mut payloads {
            if let Some(hash) = hashes.get(&hash_key(payload).1) {
                payload[..4].copy_from_slice(&hash.to_le_bytes());
                payload[8..12].copy_from_slice(&hash.to_le_bytes());
            }
        }
        payloads.sort_by_key(|payload| hash_key(payload));
        self.by_hash.set_payloads(&payloads);
        for tree in [&self.by_number, &self.by_hash] {
            tree.changes(changed, &mut changes.blocks)?;
        }
        Ok(changes)
    }
}

/// Key of `$SDH`, in its sort order.
fn hash_key(payload: &[u8]) -> (u32, u32) {
    (
        u32_at(payload, 0).unwrap_or(0),
        u32_at(payload, 4).unwrap_or(0),
    )
}

fn bad(part: &'static str, number: u32, what: &'static str) -> NtfsError {
    NtfsError::structure(part, u64::from(number), what)
}

/// Little-endian number at `offset`; `None` beyond the end.
fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Little-endian number at `offset`; `None` beyond the end.
fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
