//! Bad clusters of exFAT: they are marked 0xFFFFFFF7 in the FAT, and used in the bitmap so that
//! nothing is stored there.
//!
//! The FAT is not maintained for a contiguous file (flag `NoFatChain`): its entries are left over
//! from an earlier use and may contain such a mark. So a mark counts only outside of contiguous
//! files, and all directories are read to find those; in a volume without marks only the FAT is
//! read. Always holds: after any inconsistency no cluster counts as bad, and all are read normally.

use super::Excluded;
use super::bits::Used;
use super::exfat::Geometry;
use super::stop::Stop;
use crate::extents::ExtentSet;
use crate::volume::{Fields, Volume};
use std::ops::Range;

/// FAT entry of a cluster that cannot be read.
const BAD: u32 = 0xFFFF_FFF7;

/// Number of bytes of the FAT that are read at once.
const WINDOW: u64 = 1 << 20;

/// Largest total size of directories that is read, in bytes; in a volume with more of them no
/// cluster counts as bad.
const DIRECTORIES_MAX: u64 = 64 << 20;

/// The clusters that a directory entry allocates.
#[derive(Clone, Copy)]
struct Stream {
    first: u32,
    bytes: u64,
    /// True if the clusters are contiguous, so the FAT is not maintained for them.
    contiguous: bool,
    directory: bool,
}

/// The bad clusters of a volume with its root directory in the clusters `root`. Clusters that are
/// unreadable but not listed here cause a read error at capture.
pub(super) fn excluded(
    volume: &Volume<'_>,
    geometry: &Geometry,
    root: &[u32],
    used: &mut Used,
) -> Vec<Excluded> {
    let bad = marked(volume, geometry, used).and_then(|marked| match marked.is_empty() {
        true => Ok(marked),
        false => without_files(volume, geometry, root, marked),
    });
    let bad = bad.unwrap_or_default();
    bad.iter()
        .take(Excluded::BAD_MAX)
        .map(Excluded::bad)
        .collect()
}

/// The used clusters with a mark in the FAT.
fn marked(volume: &Volume<'_>, geometry: &Geometry, used: &mut Used) -> Result<ExtentSet, Stop> {
    let mut marked = Vec::new();
    // Entries 0 and 1 do not stand for clusters.
    let end = (u64::from(geometry.clusters) + 2) * 4;
    let mut at = 8;
    while at < end && marked.len() < Excluded::BAD_MAX {
        let len = WINDOW.min(end - at);
        let table = volume.read(geometry.fat_at + at, len)?;
        for (number, entry) in (at / 4..).zip(table.chunks_exact(4)) {
            if *entry != BAD.to_le_bytes() {
                continue;
            }
            let start = geometry.heap_at + (number - 2) * geometry.cluster_bytes;
            marked.push(start..start + geometry.cluster_bytes);
        }
        at += len;
    }
    Ok(used.gathered(marked.into_iter()).collect())
}

/// Removes the clusters of contiguous files from the marked ones; the result is empty if there are
/// too many directories.
fn without_files(
    volume: &Volume<'_>,
    geometry: &Geometry,
    root: &[u32],
    mut marked: ExtentSet,
) -> Result<ExtentSet, Stop> {
    let mut left = DIRECTORIES_MAX;
    let mut streams = Vec::new();
    read_directory(volume, &pieces(geometry, root)?, &mut streams)?;
    while let Some(stream) = streams.pop() {
        let clusters = stream.bytes.div_ceil(geometry.cluster_bytes);
        if clusters == 0 {
            continue;
        }
        let mut at = Vec::new();
        if stream.contiguous {
            let range = geometry.run(stream.first, clusters)?;
            marked.remove(range.clone());
            at.push(range);
        }
        if !stream.directory {
            continue;
        }
        // This limit also ends directories that contain themselves.
        match left.checked_sub(clusters.saturating_mul(geometry.cluster_bytes)) {
            Some(rest) => left = rest,
            None => return Ok(ExtentSet::new()),
        }
        if !stream.contiguous {
            let chain = geometry.chain(volume, stream.first, stream.bytes)?;
            at = pieces(geometry, &chain)?;
        }
        read_directory(volume, &at, &mut streams)?;
    }
    Ok(marked)
}

fn pieces(geometry: &Geometry, clusters: &[u32]) -> Result<Vec<Range<u64>>, Stop> {
    let all = clusters.iter().map(|cluster| geometry.run(*cluster, 1));
    all.collect()
}

/// Adds the clusters allocated by a directory's entries to `streams`.
fn read_directory(
    volume: &Volume<'_>,
    pieces: &[Range<u64>],
    streams: &mut Vec<Stream>,
) -> Result<(), Stop> {
    const END: u8 = 0x00;
    const FILE: u8 = 0x85;
    const STREAM: u8 = 0xC0;
    const DIRECTORY: u16 = 0x10;
    // Bits of a secondary entry: in use and secondary; allocation possible; contiguous.
    const SECONDARY: u8 = 0xC0;
    const ALLOCATES: u8 = 1;
    const NO_FAT_CHAIN: u8 = 2;
    let mut directory = false;
    for piece in pieces {
        let mut at = piece.start;
        while at < piece.end {
            let len = WINDOW.min(piece.end - at);
            let bytes = volume.read(at, len)?;
            for entry in bytes.chunks_exact(32).map(Fields) {
                let kind = entry.u8(0)?;
                if kind == END {
                    return Ok(());
                } else if kind == FILE {
                    directory = entry.u16(4)? & DIRECTORY != 0;
                } else if kind & SECONDARY == SECONDARY && entry.u8(1)? & ALLOCATES != 0 {
                    streams.push(Stream {
                        first: entry.u32(20)?,
                        bytes: entry.u64(24)?,
                        contiguous: entry.u8(1)? & NO_FAT_CHAIN != 0,
                        directory: directory && kind == STREAM,
                    });
                }
            }
            at += len;
        }
    }
    Ok(())
}
