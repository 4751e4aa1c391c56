//! Paths of files, read from the MFT of an unmounted volume.
//!
//! Owns the search for registry hives, recognised by their first bytes, and for names that a caller
//! wants, each with its path. A walk through the folders of a mount would open every file; the MFT
//! is read from one end to the other instead, and only files whose length a hive can have are
//! opened, in the order of their positions on the volume. Every path is one that a mount shows.
//! Links and junctions are not followed: their targets on this volume are found at their own
//! places.

use super::NtfsError;
use super::device::{Device, volume_of};
use diskmap::Volume;
use diskmap::ntfs::{self, Body, FileName, Mft, kind, number};
use std::collections::BTreeMap;

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

/// Searches the whole volume for hives, and for names that `wanted` accepts.
///
/// # Errors
/// Structures contradict each other, there are more folders than any system has, or a found name is
/// no valid Unicode.
pub(crate) fn search(
    device: &dyn Device,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Found, NtfsError> {
    let volume = volume_of(device)?;
    let mft = Mft::open(&volume)?;
    let mut folders = BTreeMap::new();
    let mut named = Vec::new();
    let mut candidates = Vec::new();
    mft.each_record(&volume, |record| {
        let record = record?;
        let base = record.file();
        if base <= number::LAST_OF_SYSTEM && base != number::ROOT {
            return Ok(());
        }
        for name in FileName::in_record(&record)? {
            if wanted(&name.text()) {
                named.push(name.clone());
            }
            if name.is_folder {
                folders.insert(base, name);
            }
        }
        for attribute in record.attributes()? {
            if let Body::Clusters(clusters) = &attribute.body
                && attribute.is(kind::DATA, "")
                && clusters.lowest == 0
                && clusters.size >= 2 * HIVE_BLOCK
                && clusters.size.is_multiple_of(HIVE_BLOCK)
                && clusters.initialised > 0
                && let Some(place) = clusters.first_place(mft.geometry())?
            {
                let encoded = attribute.is_compressed() || attribute.is_encrypted();
                candidates.push((place, base, encoded));
            }
        }
        match folders.len() > MOST_FOLDERS || named.len() > MOST_FOUND {
            true => Err(NtfsError::Refused("it has more folders than any system")),
            false => Ok(()),
        }
    })?;
    candidates.sort_unstable();
    let mut found = Found::default();
    for (place, base, encoded) in candidates {
        if !begins_like_a_hive(&volume, place, encoded)? {
            continue;
        }
        let record = mft.record(&volume, base)?;
        if let Some(name) = mft.names(&volume, &record)?.first() {
            found.hives.extend(path(&folders, name)?);
        }
        if found.hives.len() > MOST_FOUND {
            return Err(NtfsError::Refused("it has more hives than any system"));
        }
    }
    for name in &named {
        found.named.extend(path(&folders, name)?);
    }
    found.hives.sort();
    found.named.sort();
    Ok(found)
}

/// True if a file begins like a hive. In a compressed unit the first bytes follow the header of a
/// chunk, and in a packed chunk also a byte of flags: bytes without an earlier occurrence are
/// stored unchanged.
fn begins_like_a_hive(volume: &Volume<'_>, place: u64, encoded: bool) -> Result<bool, NtfsError> {
    const MAGIC: &[u8] = b"regf";
    let mut start = [0; 8];
    volume
        .read_into(place, &mut start)
        .map_err(ntfs::NtfsError::from)?;
    let behind: &[usize] = if encoded { &[0, 2, 3] } else { &[0] };
    let is = |at: &usize| start.get(*at..).is_some_and(|rest| rest.starts_with(MAGIC));
    Ok(behind.iter().any(is))
}

/// Path of a name; `None` if a mount does not show it.
fn path(folders: &BTreeMap<u64, FileName>, name: &FileName) -> Result<Option<String>, NtfsError> {
    let mut parts = vec![&name.name];
    let mut at = name.folder.number;
    while at != number::ROOT {
        let above = folders.get(&at).filter(|_| parts.len() < MOST_DEPTH);
        let Some(above) = above else {
            return Ok(None);
        };
        parts.push(&above.name);
        at = above.folder.number;
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
