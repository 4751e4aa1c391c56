//! The first MiB of a target disk, which belongs to diskcast until commit.
//!
//! The journal of a deployment lies there ([`super::journal`]), so what the image has in those bytes waits in memory
//! and is written last, before the table. A disk that was cut off half-way has no boot loader core either.
//!
//! Owns the chunks that begin in the first MiB, decoded. What always holds: none of them is on the disk before
//! [`Front::write`], and each has passed its check against the manifest.

use super::target_disk::TargetDisk;
use super::{DiskError, journal};
use imagefmt::Manifest;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Bytes at the start of a target disk that are diskcast's until commit.
pub(super) const FRONT_BYTES: u64 = 1 << 20;

/// Chunks of the first MiB, by their entry in the manifest.
#[derive(Default)]
pub(super) struct Front {
    held: Mutex<BTreeMap<usize, Vec<u8>>>,
}

impl Front {
    /// Keeps the used bytes of a chunk until [`Front::write`].
    pub(super) fn hold(&self, entry: usize, used: &[u8]) {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(entry, used.to_vec());
    }

    /// Makes the journal's place blank and writes what was held.
    pub(super) fn write(&self, target: &TargetDisk, manifest: &Manifest) -> Result<(), DiskError> {
        if let Some(area) = journal::area(target.size()) {
            target.zero(area)?;
        }
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (entry, used) in held
            .iter()
            .filter_map(|(index, used)| Some((manifest.entries.get(*index)?, used)))
        {
            let offset = manifest.geometry.chunk_offset(entry.chunk);
            let mut rest = used.as_slice();
            for run in entry.mask.runs() {
                let (part, tail) = rest.split_at((run.end - run.start) as usize);
                target.write_at(offset + u64::from(run.start), part)?;
                rest = tail;
            }
        }
        Ok(())
    }
}

/// Entries whose chunks begin in the first MiB: the first ones, since entries ascend.
pub(super) fn entries(manifest: &Manifest) -> Range<usize> {
    let count = manifest
        .entries
        .iter()
        .take_while(|entry| manifest.geometry.chunk_offset(entry.chunk) < FRONT_BYTES)
        .count();
    0..count
}
