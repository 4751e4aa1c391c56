//! The first MiB of a target disk, which belongs to diskcast until commit.
//!
//! The journal of a deployment lies there ([`super::journal`]), so the image's content of these
//! bytes waits in memory and is written last, before the table. A disk whose deployment was cut
//! half-way therefore has no boot loader core either. If one partition goes onto another there is
//! no journal, and the first MiB of the partition waits in the same way: until then it has no file
//! system.
//!
//! Owns the chunks of the first MiB, decoded. Always holds: none of them is on the disk before
//! [`Front::write`], and each has passed its check against the manifest.

use super::DiskError;
use super::place::Place;
use super::target_disk::TargetDisk;
use imagefmt::Manifest;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Bytes at the start of a target disk that belong to diskcast until commit.
pub(super) const FRONT_BYTES: u64 = 1 << 20;

/// Used bytes of chunks, by their entry in the manifest: chunks of the first MiB, and chunks with
/// bytes that have no place on the target and cannot be read back from it.
#[derive(Default)]
pub(super) struct Front {
    held: Mutex<BTreeMap<usize, Vec<u8>>>,
}

impl Front {
    /// Keeps the used bytes of a chunk.
    pub(super) fn hold(&self, entry: usize, used: &[u8]) {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(entry, used.to_vec());
    }

    /// Copies the kept bytes of a chunk; false when none are kept, or their length differs.
    pub(super) fn copy(&self, entry: usize, into: &mut [u8]) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get(&entry) {
            Some(used) if used.len() == into.len() => {
                into.copy_from_slice(used);
                true
            }
            _ => false,
        }
    }

    /// Writes the kept bytes of these entries.
    pub(super) fn write(
        &self,
        target: &TargetDisk,
        manifest: &Manifest,
        place: &Place,
        entries: Range<usize>,
    ) -> Result<(), DiskError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (entry, used) in held
            .range(entries)
            .filter_map(|(index, used)| Some((manifest.entries.get(*index)?, used)))
        {
            let offset = manifest.geometry.chunk_offset(entry.chunk);
            let mut rest = used.as_slice();
            for run in entry.mask.runs() {
                let (bytes, tail) = rest.split_at((run.end - run.start) as usize);
                rest = tail;
                let run = offset + u64::from(run.start)..offset + u64::from(run.end);
                if let Some((part, at)) = place.of(run) {
                    target.write_at(at, bytes.get(part).unwrap_or_default())?;
                }
            }
        }
        Ok(())
    }
}

/// Entries in the first MiB of a place: all up to its end, since entries ascend.
pub(super) fn entries(manifest: &Manifest, place: &Place) -> Range<usize> {
    let front = place.front(FRONT_BYTES);
    let chunk = u64::from(manifest.geometry.chunk_size());
    let offset = |entry: &imagefmt::Entry| manifest.geometry.chunk_offset(entry.chunk);
    let entries = &manifest.entries;
    let from = entries.partition_point(|entry| offset(entry) + chunk <= front.start);
    let to = entries.partition_point(|entry| offset(entry) < front.end);
    from..to.max(from)
}
