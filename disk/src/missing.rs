//! Holes of an image: bytes of the master that could not be read.
//!
//! Owns the limit of their number and the messages about them. A failing disk may have more holes
//! than an image lists: then neighbours are joined, so that too much is called unreadable and never
//! too little.

use diskmap::ExtentSet;
use facts::units;
use imagefmt::{HOLES_MAX, Hole, Meta};

/// The reason an image with holes is refused by default.
pub const SHORT: &str = "its master could not be read everywhere";
/// Advice for an image with holes.
pub const HINT: &str =
    "capture the master again from a sound disk, or take what there is with --accept-holes";

/// Most holes shown one by one.
const SHOWN: usize = 20;

/// The ranges in the form an image lists them.
pub fn listed(mut holes: ExtentSet) -> Vec<Hole> {
    let mut gap = 4096_u64;
    while holes.len() as u64 > HOLES_MAX {
        holes = joined(&holes, gap);
        gap = gap.saturating_mul(2);
    }
    holes
        .iter()
        .map(|range| Hole {
            start: range.start,
            length: range.end - range.start,
        })
        .collect()
}

/// The set with gaps of up to `gap` bytes closed.
fn joined(holes: &ExtentSet, gap: u64) -> ExtentSet {
    let mut ranges = holes.as_slice().to_vec();
    ranges.dedup_by(|next, kept| {
        let near = next.start <= kept.end.saturating_add(gap);
        if near {
            kept.end = kept.end.max(next.end);
        }
        near
    });
    ExtentSet::from(ranges)
}

/// One line about all holes of an image, and one for each of the first ones; empty for an image
/// without holes.
pub fn lines(meta: &Meta) -> Vec<String> {
    if meta.holes.is_empty() {
        return Vec::new();
    }
    let bytes: u64 = meta.holes.iter().map(|hole| hole.length).sum();
    let mut lines = vec![format!(
        "{} of the master could not be read, in {}; they are zeros in the image",
        units::bytes(bytes),
        match meta.holes.len() {
            1 => "1 place".to_owned(),
            count => format!("{count} places"),
        }
    )];
    lines.extend(meta.holes.iter().take(SHOWN).map(|hole| {
        format!(
            "not read: bytes {}..{}, {}",
            hole.start,
            hole.start.saturating_add(hole.length),
            place(meta, hole.start)
        )
    }));
    let more = meta.holes.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.push(format!("not read: {more} more places"));
    }
    lines
}

/// Place of byte `at` of the disk in words: its partition and file system, or that it is outside
/// the partitions.
pub fn place(meta: &Meta, at: u64) -> String {
    let part = meta
        .partitions
        .iter()
        .find(|part| (part.start..part.start.saturating_add(part.length)).contains(&at));
    match part {
        None => "outside the partitions".to_owned(),
        Some(part) => {
            let name = match part.number {
                0 => "the whole disk".to_owned(),
                number => format!("partition {number}"),
            };
            match &part.fs {
                Some(fs) => format!("{name} ({}), byte {} of it", fs.kind, at - part.start),
                None => format!("{name}, byte {} of it", at - part.start),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_holes_become_larger_ones_and_lose_nothing() {
        let all: Vec<_> = (0..200_000_u64).map(|n| n * 8192..n * 8192 + 512).collect();
        let holes = ExtentSet::from(all.clone());
        let listed = listed(holes);
        assert!(listed.len() as u64 <= HOLES_MAX);
        let set: ExtentSet = listed
            .iter()
            .map(|hole| hole.start..hole.start + hole.length)
            .collect();
        assert!(all.into_iter().all(|range| set.contains(range)));
    }
}
