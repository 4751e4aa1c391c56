//! Checks an image that does not open, by its records alone.

use super::words::{full_text, words};
use super::{Fault, Report};
use crate::{Cancelled, DiskError, OnProgress, missing};
use imagefmt::{ChunkId, FormatError, Image, Password, ReadAt, Volume};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;

/// Deep check of an image that does not open: tries to decode each chunk from its record.
pub(super) fn salvage(
    volumes: Vec<Volume<File>>,
    password: Option<&Password>,
    damage: &FormatError,
    progress: OnProgress,
    cancelled: Cancelled,
) -> Result<Result<Report, FormatError>, DiskError> {
    let total = volumes.iter().map(|volume| volume.len).sum();
    let mut before = 0;
    let volumes = volumes.into_iter().map(|Volume { reader, len }| {
        let reader = Watched {
            reader,
            before,
            total,
            progress,
            cancelled,
        };
        before += len;
        Volume { reader, len }
    });
    let rebuilt = Image::rebuild_volumes(volumes.collect(), password);
    if cancelled() {
        return Err(DiskError::Cancelled);
    }
    Ok(rebuilt.map(|rebuilt| {
        let manifest = rebuilt.image.manifest();
        let structure = |text| Fault { chunk: None, text };
        let mut faults = vec![structure(full_text(damage))];
        if rebuilt.meta_lost {
            faults.push(structure("its description (META) is lost".into()));
        }
        if rebuilt.table_lost {
            faults.push(structure("its partition table (TABLE) is lost".into()));
        }
        let mut lost: BTreeSet<ChunkId> = rebuilt.damaged.iter().copied().collect();
        lost.extend(rebuilt.missing.iter().flatten());
        faults.extend(lost.iter().map(|&chunk| {
            let error = FormatError::ChunkDamaged {
                chunk,
                reason: "no whole record of it is left",
            };
            Fault {
                chunk: Some(chunk),
                text: words(manifest.geometry, Some(manifest), chunk, &error),
            }
        }));
        Report {
            root: None,
            chunks: (manifest.entries.len() + lost.len()) as u64,
            holes: missing::lines(&manifest.meta),
            remarks: Vec::new(),
            faults,
        }
    }))
}

/// A volume whose reads report progress, and fail once the work is cancelled, which ends the work.
struct Watched<'a> {
    reader: File,
    before: u64,
    total: u64,
    progress: OnProgress<'a>,
    cancelled: Cancelled<'a>,
}

impl ReadAt for Watched<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.cancelled)() {
            return Err(io::Error::other("cancelled"));
        }
        (self.progress)(self.before.saturating_add(offset), self.total);
        self.reader.read_at(offset, buffer)
    }
}
