//! Paths of files, read from the MFT of an unmounted volume.
//!
//! Owns the search for registry hives, recognised by their first bytes, and for names that a caller
//! wants, each with its path. A walk through the folders of a mount would open every file; the MFT
//! is read from one end to the other instead, and only files whose length a hive can have are
//! opened, in the order of their positions on the volume. Every path is one that a mount shows.
//! Links and junctions are not followed: their targets on this volume are found at their own
//! places.

use super::NtfsError;
use super::record::{Body, REFERENCE_NUMBER, Record, kind};
use super::scan::each_record;
use super::stream::{Mft, extensions, first_place};
use super::volume::{Volume, u32_at, u64_at};
use std::collections::BTreeMap;

/// Record of the root folder, and the last of the records that are the file system's own.
const ROOT: u64 = 5;
const LAST_OF_SYSTEM: u64 = 15;
/// Offsets in `$FILE_NAME`: flags (a folder), length, kind of name, the name.
const FLAGS: usize = 0x38;
const LENGTH: usize = 0x40;
const SPACE: usize = 0x41;
const NAME: usize = 0x42;
const FOLDER: u32 = 0x1000_0000;
/// Kind of a short name that exists beside a long one.
const SPACE_DOS: u8 = 2;
/// A hive is a base block and bins, each of whole 4 KiB.
const HIVE_BLOCK: u64 = 4096;
/// Most folders of one volume: several times the number on a full system.
const MOST_FOLDERS: usize = 2_000_000;
/// Most folders above a file.
const MOST_DEPTH: usize = 1024;
/// Most matching names, and most hives, of one volume.
const MOST_FOUND: usize = 100_000;

/// Result of a search, as paths below the root such as `/Users/pat/NTUSER.DAT`.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Found {
    /// Files that begin like a hive, and compressed ones that may.
    pub(crate) hives: Vec<String>,
    /// Files and folders with a wanted name.
    pub(crate) named: Vec<String>,
}

/// Number of the parent folder, and the name in it.
type Entry = (u64, Vec<u16>);

/// Searches the whole volume for hives, and for names that `wanted` accepts.
///
/// # Errors
/// Structures contradict each other, there are more folders than any system has, or a found name is
/// no valid Unicode.
pub(crate) fn search(
    volume: &dyn Volume,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Found, NtfsError> {
    let mft = Mft::open(volume)?;
    let mut folders = BTreeMap::new();
    let mut named = Vec::new();
    let mut candidates = Vec::new();
    each_record(volume, &mft, |record| {
        let base = base_of(record);
        if base <= LAST_OF_SYSTEM && base != ROOT {
            return Ok(());
        }
        for attribute in record.attributes()? {
            match &attribute.body {
                Body::Resident(range) if attribute.kind == kind::FILE_NAME => {
                    let bytes = record.bytes.get(range.clone()).unwrap_or_default();
                    let Some((parent, name)) = entry(bytes) else {
                        continue;
                    };
                    if wanted(&String::from_utf16_lossy(&name)) {
                        named.push((parent, name.clone()));
                    }
                    if u32_at(bytes, FLAGS).is_some_and(|flags| flags & FOLDER != 0) {
                        folders.insert(base, (parent, name));
                    }
                }
                Body::NonResident {
                    first: 0,
                    runs,
                    size,
                    initialised,
                    encoded,
                } if attribute.kind == kind::DATA && attribute.name.is_empty() => {
                    if *size >= 2 * HIVE_BLOCK
                        && size.is_multiple_of(HIVE_BLOCK)
                        && *initialised > 0
                        && let Some(place) = first_place(record, runs.clone(), &mft.geometry)?
                    {
                        candidates.push((place, base, *encoded));
                    }
                }
                _ => {}
            }
        }
        if folders.len() > MOST_FOLDERS || named.len() > MOST_FOUND {
            return Err(NtfsError::Refused("it has more folders than any system"));
        }
        Ok(())
    })?;
    candidates.sort_unstable();
    let mut found = Found::default();
    for (place, base, encoded) in candidates {
        if !begins_like_a_hive(volume, place, encoded)? {
            continue;
        }
        if let Some((parent, name)) = any_name(volume, &mft, base)? {
            found.hives.extend(path(&folders, parent, &name)?);
        }
        if found.hives.len() > MOST_FOUND {
            return Err(NtfsError::Refused("it has more hives than any system"));
        }
    }
    for (parent, name) in named {
        found.named.extend(path(&folders, parent, &name)?);
    }
    found.hives.sort();
    found.named.sort();
    Ok(found)
}

/// Number of the base record of a record's file.
fn base_of(record: &Record) -> u64 {
    match u64_at(&record.bytes, 0x20).unwrap_or(0) {
        0 => record.number,
        base => base & REFERENCE_NUMBER,
    }
}

/// Folder and name of a `$FILE_NAME`; `None` for a short name or invalid bytes.
fn entry(bytes: &[u8]) -> Option<Entry> {
    let parent = u64_at(bytes, 0)? & REFERENCE_NUMBER;
    let length = usize::from(*bytes.get(LENGTH)?) * 2;
    if *bytes.get(SPACE)? == SPACE_DOS {
        return None;
    }
    let name = bytes.get(NAME..NAME + length)?.chunks_exact(2);
    let name = name.map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    Some((parent, name.collect()))
}

/// One of the names of a file, from any of its records.
fn any_name(volume: &dyn Volume, mft: &Mft, number: u64) -> Result<Option<Entry>, NtfsError> {
    let base = mft.record(volume, number)?;
    let mut records = Vec::new();
    for extension in extensions(volume, mft, &base, kind::FILE_NAME)? {
        records.push(mft.record(volume, extension)?);
    }
    for record in std::iter::once(&base).chain(&records) {
        for attribute in record.attributes()? {
            if let (kind::FILE_NAME, Body::Resident(range)) = (attribute.kind, attribute.body)
                && let Some(found) = entry(record.bytes.get(range).unwrap_or_default())
            {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// True if a file begins like a hive. In a compressed unit the first bytes follow the header of a
/// chunk, and in a packed chunk also a byte of flags: bytes without an earlier occurrence are
/// stored unchanged.
fn begins_like_a_hive(volume: &dyn Volume, place: u64, encoded: bool) -> Result<bool, NtfsError> {
    const MAGIC: &[u8] = b"regf";
    let mut start = [0; 8];
    volume.read_at(place, &mut start)?;
    let behind: &[usize] = if encoded { &[0, 2, 3] } else { &[0] };
    let is = |at: &usize| start.get(*at..).is_some_and(|rest| rest.starts_with(MAGIC));
    Ok(behind.iter().any(is))
}

/// Path of a name; `None` if a mount does not show it.
fn path(
    folders: &BTreeMap<u64, Entry>,
    parent: u64,
    name: &[u16],
) -> Result<Option<String>, NtfsError> {
    let mut parts = vec![name];
    let mut at = parent;
    while at != ROOT {
        let Some((above, name)) = folders.get(&at).filter(|_| parts.len() < MOST_DEPTH) else {
            return Ok(None);
        };
        parts.push(name);
        at = *above;
    }
    let mut path = String::new();
    let mut whole = true;
    for part in parts.iter().rev() {
        path.push('/');
        let text = String::from_utf16(part);
        whole &= text.is_ok();
        path.push_str(&text.unwrap_or_else(|_| String::from_utf16_lossy(part)));
    }
    match whole {
        true => Ok(Some(path)),
        false => Err(NtfsError::Name { path }),
    }
}
