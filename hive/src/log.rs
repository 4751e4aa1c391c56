//! Transaction logs, which complete a hive whose last write did not finish.
//!
//! The new format (Windows 8.1 and later), regf "New format", has the first sector of a base block,
//! then entries of whole pages with hashes over them. The number of each entry is one above the
//! last; two files are used in turn.
//!
//! ```text
//! HvLE  size  flags  number  bytes of bins  pages  hash of the rest (8)  hash of these 32 (8)
//! (offset, length) of each page, then the pages
//! ```
//!
//! Entries with a lower number than the primary file were applied before. From the first newer one
//! on, entries are applied as long as their numbers have no gap and their hashes match; entries
//! behind a torn one are void. The hive is then complete, with the number after the last entry.
//!
//! The old format, regf "Old format", has one set of pages, which is valid for a primary file with
//! the same last write time.
//!
//! ```text
//! sector 0: base block    sector 1: DIRT, a bit for each 512 bytes of bins    next sector: those pages
//! ```

use crate::base::{self, BLOCK, Base, file_type};
use crate::cells::{VOLATILE, bin_at};
use crate::error::HiveError;
use crate::scan::{Scan, index};

const SECTOR: usize = 512;
const ENTRY_HEADER: usize = 40;

/// The result of the log replay in [`crate::Hive::open`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Number of applied entries; an old log counts as one. 0 means that the hive was complete.
    pub entries: u32,
    /// Number of pages that were written.
    pub pages: u32,
    /// Numbers of the first and the last applied entry.
    pub numbers: Option<(u32, u32)>,
    /// The reason why later entries were not applied; `None` if there were none.
    pub stopped: Option<Stop>,
}

/// The reason why the replay stopped before the end of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// A hash does not match or the entry is cut short, because its write did not finish.
    Torn,
    /// The number is not the next one.
    Gap,
}

/// An entry with valid hashes.
struct Entry<'a> {
    number: u32,
    bins_len: u32,
    /// Pages as pairs of the offset in the bins and the bytes.
    pages: Vec<(u32, &'a [u8])>,
}

/// Completes `bytes`, the primary file with the base block `base`, from its logs.
pub(crate) fn replay(
    bytes: &mut Vec<u8>,
    base: Base,
    logs: &[&[u8]],
) -> Result<Recovery, HiveError> {
    let dirty = |why| HiveError::Dirty { why };
    let valid = |log: &&[u8]| Base::parse(log).filter(|base| base.checksum_fits);
    let heads: Vec<(Base, &[u8])> = logs
        .iter()
        .filter_map(|log| valid(log).map(|head| (head, *log)))
        .collect();
    if heads.is_empty() {
        return Err(dirty("there is no valid log"));
    }
    let new = |(head, _): &&(Base, &[u8])| head.file_type == file_type::LOG_NEW;
    let new: Vec<&(Base, &[u8])> = heads.iter().filter(new).collect();
    if !new.is_empty() {
        return replay_new(bytes, base, &new);
    }
    let whole = |(head, _): &&(Base, &[u8])| {
        file_type::LOG_OLD.contains(&head.file_type) && head.sequence_1 == head.sequence_2
    };
    let mut old = heads.iter().filter(whole).peekable();
    if old.peek().is_none() {
        return Err(dirty("no log was written completely"));
    }
    // A torn base block has no valid time; the first bin has a copy.
    let time = if base.checksum_fits {
        Some(base.time)
    } else {
        bytes.get(BLOCK + 20..).and_then(|bin| Scan(bin).u64())
    };
    let belongs = old.find(|(head, _)| time == Some(head.time));
    let &(head, log) = belongs.ok_or(dirty("the log belongs to another write"))?;
    replay_old(bytes, base, head, log)
}

fn replay_new(
    bytes: &mut Vec<u8>,
    base: Base,
    logs: &[&(Base, &[u8])],
) -> Result<Recovery, HiveError> {
    let dirty = |why| HiveError::Dirty { why };
    let from = if base.checksum_fits {
        base.sequence_1
    } else {
        // The base block itself was being written; the log with the lowest first number has the
        // matching copy.
        let copy = logs.iter().min_by_key(|(head, _)| head.sequence_1);
        let (head, log) = copy.ok_or(dirty("there is no valid log"))?;
        restore_base(bytes, log);
        head.sequence_1
    };
    // The base block of a log has the number of its first entry.
    let mut rows: Vec<_> = logs
        .iter()
        .map(|(head, log)| (head.sequence_1, entries(log)))
        .collect();
    rows.sort_by_key(|(number, _)| *number);
    let mut recovery = Recovery::default();
    'rows: for (number, (row, torn)) in &rows {
        for entry in row.iter().filter(|entry| entry.number >= from) {
            let (first, last) = recovery.numbers.unwrap_or((entry.number, entry.number));
            if recovery.numbers.is_some() && last.checked_add(1) != Some(entry.number) {
                recovery.stopped = Some(Stop::Gap);
                break 'rows;
            }
            if !apply(bytes, entry) {
                recovery.stopped = Some(Stop::Torn);
                break 'rows;
            }
            recovery.numbers = Some((first, entry.number));
            recovery.entries += 1;
            recovery.pages += u32::try_from(entry.pages.len()).unwrap_or(u32::MAX);
        }
        let next = row
            .last()
            .map_or(*number, |last| last.number.saturating_add(1));
        // A torn entry ends the replay, because the entries of the other file come after it. This
        // does not apply if it is so old that it was applied before.
        if *torn && next >= from {
            recovery.stopped = Some(Stop::Torn);
            break;
        }
    }
    let (_, last) = recovery
        .numbers
        .ok_or(dirty("no log entry follows its last write"))?;
    base::seal(bytes, last.wrapping_add(1));
    Ok(recovery)
}

/// Replaces a torn base block by the log's copy.
fn restore_base(bytes: &mut [u8], log: &[u8]) {
    if let (Some(place), Some(copy)) = (bytes.get_mut(..SECTOR), log.get(..SECTOR)) {
        place.copy_from_slice(copy);
    }
    base::set_primary(bytes);
}

/// The consecutive entries of one log, and true if an invalid one ended them.
fn entries(log: &[u8]) -> (Vec<Entry<'_>>, bool) {
    let mut found: Vec<Entry<'_>> = Vec::new();
    let mut at = SECTOR;
    loop {
        let rest = log.get(at..).unwrap_or_default();
        if !rest.starts_with(b"HvLE") {
            return (found, false);
        }
        let Some((entry, size)) = entry(rest) else {
            return (found, true);
        };
        // A log is reused from its start, so later bytes may belong to an earlier use.
        if found
            .last()
            .is_some_and(|last| last.number.checked_add(1) != Some(entry.number))
        {
            return (found, false);
        }
        found.push(entry);
        at += size;
    }
}

/// The entry at the start of `rest` and its length, if its hashes match.
fn entry(rest: &[u8]) -> Option<(Entry<'_>, usize)> {
    let mut scan = Scan(rest);
    scan.take(4)?;
    let size = index(scan.u32()?);
    scan.take(4)?;
    let number = scan.u32()?;
    let bins_len = scan.u32()?;
    let count = index(scan.u32()?);
    let hash_rest = scan.u64()?;
    let hash_head = scan.u64()?;
    let body = rest.get(ENTRY_HEADER..size)?;
    let whole = size.is_multiple_of(SECTOR)
        && bins_len != 0
        && index(bins_len).is_multiple_of(BLOCK)
        && bins_len < VOLATILE;
    if !whole || marvin32(rest.get(..32)?) != hash_head || marvin32(body) != hash_rest {
        return None;
    }
    let mut references = Scan(body);
    let mut data = Scan(body.get(count.checked_mul(8)?..)?);
    let mut pages = Vec::new();
    for _ in 0..count {
        let (offset, len) = (references.u32()?, references.u32()?);
        offset.checked_add(len).filter(|&end| end <= bins_len)?;
        pages.push((offset, data.take(index(len))?));
    }
    Some((
        Entry {
            number,
            bins_len,
            pages,
        },
        size,
    ))
}

/// Writes the pages. Returns false and writes nothing if the bins would end behind both the file
/// and the pages; new bins are always in the log.
fn apply(bytes: &mut Vec<u8>, entry: &Entry<'_>) -> bool {
    let end = entry
        .pages
        .iter()
        .map(|(offset, page)| index(*offset) + page.len())
        .max();
    let bins_end = BLOCK + index(entry.bins_len);
    if bytes.len().max(BLOCK + end.unwrap_or(0)) < bins_end {
        return false;
    }
    if bytes.len() < bins_end {
        bytes.resize(bins_end, 0);
    }
    for (offset, page) in &entry.pages {
        let start = BLOCK + index(*offset);
        if let Some(place) = bytes.get_mut(start..start + page.len()) {
            place.copy_from_slice(page);
        }
    }
    base::set_bins_len(bytes, entry.bins_len);
    true
}

fn replay_old(
    bytes: &mut Vec<u8>,
    base: Base,
    head: Base,
    log: &[u8],
) -> Result<Recovery, HiveError> {
    let dirty = |why| HiveError::Dirty { why };
    let fits = head.bins_len != 0 && index(head.bins_len).is_multiple_of(BLOCK);
    if !fits || head.bins_len >= VOLATILE {
        return Err(dirty("the log's length of bins is wrong"));
    }
    let sector = SECTOR * index(head.clustering.clamp(1, 8));
    let bits_len = index(head.bins_len) / SECTOR / 8;
    let vector = log.get(sector..sector + 4 + bits_len);
    let vector = vector.filter(|vector| vector.starts_with(b"DIRT"));
    let vector = vector
        .and_then(|vector| vector.get(4..))
        .ok_or(dirty("the log is cut short"))?;
    let dirty_pages = vector.iter().enumerate().flat_map(|(byte, bits)| {
        (0..8)
            .filter(move |bit| bits >> bit & 1 == 1)
            .map(move |bit| byte * 8 + bit)
    });
    let dirty_pages: Vec<usize> = dirty_pages.collect();
    let first = (sector + 4 + bits_len).next_multiple_of(sector);
    let pages = log.get(first..first + dirty_pages.len() * SECTOR);
    let pages = pages.ok_or(dirty("the log is cut short"))?;
    if dirty_pages.is_empty() {
        return Err(dirty("the log has no pages"));
    }
    let last_end = dirty_pages.last().map_or(0, |page| (page + 1) * SECTOR);
    let bins_end = BLOCK + index(head.bins_len);
    if bytes.len().max(BLOCK + last_end) < bins_end {
        return Err(dirty("the log's bins reach beyond the hive"));
    }

    if bytes.len() < bins_end {
        bytes.resize(bins_end, 0);
    }
    for (page, data) in dirty_pages.iter().zip(pages.chunks_exact(SECTOR)) {
        let start = BLOCK + page * SECTOR;
        if let Some(place) = bytes.get_mut(start..start + SECTOR) {
            place.copy_from_slice(data);
        }
    }
    let bins = bytes.get(BLOCK..bins_end).unwrap_or_default();
    if bin_at(bins, 0).is_err() {
        return Err(dirty("the log's pages make no bins"));
    }
    restore_base(bytes, log);
    let known = if base.checksum_fits {
        base.sequence_1
    } else {
        0
    };
    base::seal(bytes, known.max(head.sequence_1).wrapping_add(1));
    let count = u32::try_from(dirty_pages.len()).unwrap_or(u32::MAX);
    Ok(Recovery {
        entries: 1,
        pages: count,
        numbers: None,
        stopped: None,
    })
}

/// Marvin32 with the seed of the registry. (The decimal seed in regf note 3 is this number with
/// reversed bytes; verified on logs written by Windows.)
fn marvin32(bytes: &[u8]) -> u64 {
    const SEED: (u32, u32) = (0x7a4e_55c5, 0x82ef_4d88);
    fn mix((mut low, mut high): (u32, u32), word: u32) -> (u32, u32) {
        low = low.wrapping_add(word);
        high ^= low;
        low = low.rotate_left(20).wrapping_add(high);
        high = high.rotate_left(9) ^ low;
        low = low.rotate_left(27).wrapping_add(high);
        (low, high.rotate_left(19))
    }
    let words = bytes.chunks_exact(4);
    let end = words
        .remainder()
        .iter()
        .rev()
        .fold(0x80, |end, &byte| end << 8 | u32::from(byte));
    let state = words.filter_map(|word| Scan(word).u32()).fold(SEED, mix);
    let (low, high) = mix(mix(state, end), 0);
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first 32 bytes of a log entry written by Windows 10, and the hash stored behind them.
    #[test]
    fn the_hash_is_the_one_windows_stores() {
        let mut head = *b"HvLE\x00\x1e\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x50\x00\x00\x01\x00\x00\x00\x5d\x1e\x70\x07\x17\xa8\x46\x47";
        assert_eq!(marvin32(&head), 0xe637_dcaf_f687_7267);
        head[12] ^= 1;
        assert_ne!(marvin32(&head), 0xe637_dcaf_f687_7267);
    }
}
