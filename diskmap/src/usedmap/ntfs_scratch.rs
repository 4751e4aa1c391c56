//! `pagefile.sys`, `swapfile.sys` and `hiberfil.sys` of a Windows volume.
//!
//! Owns two decisions: if Windows is hibernated (then the volume is refused), and which clusters of
//! these files are left out of the image. The names are searched in the root directory's index, as
//! Windows does. Always holds: only plain, complete, non-resident contents of files that are found
//! without an inconsistency are left out; a file with anything unusual is kept.
//!
//! The front of `hiberfil.sys` stays in the capture. It does not say "hibernated", because that is
//! refused, and it must replace an older one on the target that does.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Excluded;
use super::bits::Used;
use super::ntfs::Ntfs;
use super::ntfs_attr::{
    Content, DATA, INDEX_ALLOCATION, INDEX_ROOT, RECORD_NUMBER, Stream, undo_fixups,
};
use super::volume::{Fields, Stop, Volume, utf16};
use crate::extents::ExtentSet;

const RECORD_ROOT: u64 = 5;

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
        let number = reference & RECORD_NUMBER;
        let record = ntfs.mft.record(volume, &ntfs.geometry, number)?;
        if u64::from(record.sequence()?) != reference >> 48 || record.base()? != 0 {
            return Err(Stop::raw(format!(
                "NTFS root directory names {} in record {number}, which is another file",
                role.name()
            )));
        }
        let stream = ntfs
            .mft
            .stream(volume, &ntfs.geometry, &record, DATA, &[])?;
        if let Some(stream) = stream {
            found.push(Scratch {
                role,
                stream,
                hard_links: record.hard_links()?,
            });
        }
    }
    Ok(found)
}

/// Refuses a hibernated Windows: its memory holds newer metadata than the disk.
pub(super) fn check_not_hibernated(
    ntfs: &Ntfs,
    volume: &Volume<'_>,
    scratch: &[Scratch],
) -> Result<(), Stop> {
    for file in scratch.iter().filter(|file| file.role == Role::Hibernation) {
        let mark = front(ntfs, volume, file)?;
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
fn front(ntfs: &Ntfs, volume: &Volume<'_>, file: &Scratch) -> Result<[u8; 4], Stop> {
    let mut mark = [0; 4];
    if file.stream.initialised >= 4 {
        mark.copy_from_slice(Fields(&file.stream.read(volume, &ntfs.geometry, 0, 4)?).bytes(0, 4)?);
    }
    Ok(mark)
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
        let Some(ranges) = plain_ranges(ntfs, file) else {
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
            Role::Hibernation => HIBERFIL_FRONT.next_multiple_of(ntfs.geometry.cluster_bytes),
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
fn plain_ranges(ntfs: &Ntfs, file: &Scratch) -> Option<Vec<Range<u64>>> {
    let Content::Runs(runs) = &file.stream.content else {
        return None;
    };
    let whole = runs.iter().all(|run| run.lcn.is_some());
    (whole && file.stream.plain && file.hard_links == 1)
        .then(|| file.stream.ranges(&ntfs.geometry).collect())
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
fn names_in_root(ntfs: &Ntfs, volume: &Volume<'_>) -> Result<Vec<(Role, u64)>, Stop> {
    const I30: &[u8] = b"$\0I\x003\x000\0";
    let geometry = &ntfs.geometry;
    let record = ntfs.mft.record(volume, geometry, RECORD_ROOT)?;
    let root = ntfs
        .mft
        .stream(volume, geometry, &record, INDEX_ROOT, I30)?;
    let Some(Stream {
        content: Content::Resident(root),
        ..
    }) = root
    else {
        return Err(Stop::raw("NTFS root directory has no index"));
    };
    let nodes = ntfs
        .mft
        .stream(volume, geometry, &record, INDEX_ALLOCATION, I30)?;
    let node_bytes = u64::from(Fields(&root).u32(8)?);
    if !node_bytes.is_power_of_two() || !(512..=64 << 10).contains(&node_bytes) {
        return Err(Stop::raw(format!("NTFS index nodes of {node_bytes} bytes")));
    }
    // Nodes smaller than a cluster are numbered in units of 512 bytes.
    let unit = if node_bytes < geometry.cluster_bytes {
        512
    } else {
        geometry.cluster_bytes
    };

    let mut found = Vec::new();
    let mut todo = Vec::new();
    let mut seen = BTreeSet::new();
    entries(&root, 16, &mut found, &mut todo)?;
    while let Some(vcn) = todo.pop() {
        if !seen.insert(vcn) || seen.len() > MAX_NODES {
            return Err(Stop::raw(format!(
                "NTFS root directory index is not a tree of at most {MAX_NODES} nodes"
            )));
        }
        let nodes = nodes
            .as_ref()
            .ok_or_else(|| Stop::raw("NTFS root directory lacks its index nodes"))?;
        let at = vcn
            .checked_mul(unit)
            .ok_or_else(|| Stop::raw(format!("NTFS index node {vcn}")))?;
        let mut node = nodes.read(volume, geometry, at, node_bytes)?;
        undo_fixups(&mut node, b"INDX", "NTFS index node")?;
        if Fields(&node).u64(16)? != vcn {
            return Err(Stop::raw(format!("NTFS index node {vcn} is another")));
        }
        entries(&node, 24, &mut found, &mut todo)?;
    }
    Ok(found)
}

/// Reads the entries of one node with its index header at `header`.
fn entries(
    node: &[u8],
    header: usize,
    found: &mut Vec<(Role, u64)>,
    todo: &mut Vec<u64>,
) -> Result<(), Stop> {
    const HAS_SUBNODE: u16 = 1;
    const LAST: u16 = 2;
    let malformed = || Stop::raw("NTFS index entries are malformed");
    let offset = |at: u32| usize::try_from(at).map_err(|_| malformed());
    let index = Fields(node.get(header..).ok_or_else(malformed)?);
    let mut at = offset(index.u32(0)?)?;
    let end = offset(index.u32(4)?)?;
    let index = Fields(index.bytes(0, end)?);
    loop {
        let len = usize::from(index.u16(at.checked_add(8).ok_or_else(malformed)?)?);
        let entry = Fields(index.bytes(at, len)?);
        let flags = entry.u16(12)?;
        if len < 16 {
            return Err(malformed());
        }
        if flags & HAS_SUBNODE != 0 {
            todo.push(entry.u64(len.checked_sub(8).ok_or_else(malformed)?)?);
        }
        if flags & LAST != 0 {
            return Ok(());
        }
        // The key is a file name: its length in characters at 64, the characters at 66.
        let name = entry.bytes(16 + 66, usize::from(entry.u8(16 + 64)?) * 2)?;
        let name = utf16(name);
        if let Some(role) = ROLES
            .into_iter()
            .find(|role| role.name().eq_ignore_ascii_case(&name))
        {
            found.push((role, entry.u64(0)?));
        }
        at += len;
    }
}
