//! `pagefile.sys`, `swapfile.sys` and `hiberfil.sys` of a Windows volume.
//!
//! Owns two decisions: if Windows is hibernated (then the volume is refused), and which clusters of
//! these files are left out of the image. The names are searched in the root directory's index, as
//! Windows does. Always holds: only plain, complete, non-resident contents of files that are found
//! without an inconsistency are left out; a file with anything unusual is kept.
//!
//! The front of `hiberfil.sys` stays in the capture. It does not say "hibernated", because that is
//! refused, and it must replace an older one on the target that does.

use std::ops::Range;

use super::Excluded;
use super::bits::Used;
use super::ntfs::Ntfs;
use super::stop::Stop;
use crate::extents::ExtentSet;
use crate::ntfs::{FileName, I30, Index, Reference, Stream, kind, number};
use crate::volume::Volume;

/// Largest number of index nodes of a root directory that are read: at 4 KiB each, about a million
/// names.
const MAX_NODES: usize = 1 << 14;

/// Length in bytes of the front of `hiberfil.sys` that stays in the capture.
const HIBERFIL_FRONT: u64 = 4096;

/// One of the three kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Page,
    Swap,
    Hibernation,
}

const ROLES: [Role; 3] = [Role::Page, Role::Swap, Role::Hibernation];

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Page => "pagefile.sys",
            Self::Swap => "swapfile.sys",
            Self::Hibernation => "hiberfil.sys",
        }
    }
}

/// One of the files, found on the volume.
pub(super) struct Scratch {
    role: Role,
    stream: Stream,
    hard_links: u16,
}

/// Finds the files in the root directory. A name that does not lead to a file is an inconsistency.
pub(super) fn find(ntfs: &Ntfs, volume: &Volume<'_>) -> Result<Vec<Scratch>, Stop> {
    let mut found = Vec::new();
    for (role, reference) in names_in_root(ntfs, volume)? {
        let record = ntfs.mft.file(volume, reference)?;
        let stream = ntfs.mft.find(volume, &record, kind::DATA, "")?;
        if let Some(stream) = stream {
            found.push(Scratch {
                role,
                stream,
                hard_links: record.hard_links(),
            });
        }
    }
    Ok(found)
}

/// Refuses a hibernated Windows: its memory holds newer metadata than the disk.
pub(super) fn check_not_hibernated(volume: &Volume<'_>, scratch: &[Scratch]) -> Result<(), Stop> {
    for file in scratch.iter().filter(|file| file.role == Role::Hibernation) {
        let mark = front(volume, file)?;
        if matches!(
            &mark,
            b"hibr" | b"HIBR" | b"rstr" | b"RSTR" | b"HORM" | b"horm"
        ) {
            return Err(Stop::refused(
                format!(
                    "Windows is hibernated (hiberfil.sys says {})",
                    mark.escape_ascii()
                ),
                "boot Windows and shut it down with `shutdown /s /t 0` (Fast Startup hibernates at \
                 a normal shutdown)",
            ));
        }
    }
    Ok(())
}

/// The first four bytes of a file; zeros if it is shorter.
fn front(volume: &Volume<'_>, file: &Scratch) -> Result<[u8; 4], Stop> {
    if file.stream.size() < 4 {
        return Ok([0; 4]);
    }
    let bytes = file.stream.read(volume, 0, 4)?;
    Ok(bytes.first_chunk().copied().unwrap_or_default())
}

/// The ranges that need not be captured. `used` holds the clusters used in the bitmap, `metadata`
/// the ranges that must stay.
pub(super) fn excluded(
    ntfs: &Ntfs,
    scratch: &[Scratch],
    metadata: &ExtentSet,
    used: &mut Used,
) -> Result<Vec<Excluded>, Stop> {
    let mut found = Vec::new();
    let mut taken = metadata.clone();
    for file in scratch {
        let Some(ranges) = plain_ranges(file) else {
            continue;
        };
        let set: ExtentSet = ranges.iter().cloned().collect();
        let clusters: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        // A cluster that appears twice in a file, or in two files, may hold other data.
        if set.total() != clusters || !set.intersection(&taken).is_empty() {
            return Err(Stop::raw(format!("{} shares clusters", file.role.name())));
        }
        if used.first_missing(&set).is_some() {
            return Err(Stop::raw(format!(
                "{} lies on free clusters",
                file.role.name()
            )));
        }
        taken = taken.union(&set);
        let keep = match file.role {
            Role::Hibernation => {
                HIBERFIL_FRONT.next_multiple_of(ntfs.mft.geometry().cluster_bytes())
            }
            Role::Page | Role::Swap => 0,
        };
        found.extend(after(keep, &ranges).map(|range| Excluded {
            range,
            what: file.role.name().into(),
        }));
    }
    found.sort_by_key(|excluded| excluded.range.start);
    Ok(found)
}

/// The ranges of a file that has only plain clusters and a single name; otherwise `None`.
fn plain_ranges(file: &Scratch) -> Option<Vec<Range<u64>>> {
    let stream = &file.stream;
    let plain = stream.resident().is_none() && stream.is_plain() && !stream.has_holes();
    (plain && file.hard_links == 1).then(|| stream.ranges().collect())
}

/// `ranges` without their first `keep` bytes.
fn after(keep: u64, ranges: &[Range<u64>]) -> impl Iterator<Item = Range<u64>> {
    let mut left = keep;
    ranges.iter().filter_map(move |range| {
        let skip = left.min(range.end - range.start);
        left -= skip;
        let rest = range.start + skip..range.end;
        (rest.start < rest.end).then_some(rest)
    })
}

/// Searches the whole index of the root directory for the three names.
fn names_in_root(ntfs: &Ntfs, volume: &Volume<'_>) -> Result<Vec<(Role, Reference)>, Stop> {
    let root = ntfs.mft.record(volume, number::ROOT)?;
    let index = Index::open(&ntfs.mft, volume, &root, I30)?
        .ok_or_else(|| Stop::raw("NTFS root directory has no index"))?;
    let mut found = Vec::new();
    let mut malformed = false;
    index.each_entry(volume, MAX_NODES, |entry, key| {
        let Some(name) = FileName::parse(key) else {
            malformed = true;
            return;
        };
        let text = name.text();
        let role = ROLES
            .into_iter()
            .find(|role| role.name().eq_ignore_ascii_case(&text));
        found.extend(role.map(|role| (role, entry.reference)));
    })?;
    match malformed {
        false => Ok(found),
        true => Err(Stop::raw("NTFS index entries are malformed")),
    }
}
