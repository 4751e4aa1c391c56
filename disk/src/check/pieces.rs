//! The pieces of a check, on all processors: entries of the index, and records that no entry names.

use super::words::{full_text, words};
use super::{Depth, Fault, chunk_records};
use crate::{Cancelled, DiskError, OnProgress};
use imagefmt::{Decoder, FormatError, Image, Manifest, RecordKind, Records};
use std::fs::File;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The image under check.
pub(super) struct Subject<'a> {
    /// The opened image, if it opens.
    pub(super) image: Option<&'a Image<File>>,
    pub(super) records: &'a Records<File>,
    pub(super) depth: Depth,
}

/// One piece of the work.
#[derive(Clone, Copy)]
enum Piece {
    /// An entry of the index.
    Entry(usize),
    /// A record that no entry of the index names.
    Record(usize),
}

impl Subject<'_> {
    fn manifest(&self) -> Option<&Manifest> {
        self.image.map(Image::manifest)
    }

    /// Faults found from the headers and their places.
    pub(super) fn structure(&self, damage: Option<&FormatError>) -> Vec<Fault> {
        let mut known = self
            .image
            .map(|image| image.positions().to_vec())
            .unwrap_or_default();
        known.sort_unstable();
        let refused = self.records.refused();
        let holes = self.records.gaps().iter().filter(|gap| {
            // A broken rule at that place is the better message.
            if refused.iter().any(|(at, _)| *at == gap.position) {
                return false;
            }
            // A chunk that the index places in the hole is reported as damaged by itself.
            let next = known.get(known.partition_point(|position| *position < gap.position));
            next.is_none_or(|next| {
                next.volume != gap.position.volume || next.offset - gap.position.offset >= gap.bytes
            })
        });
        let hole = |gap: &imagefmt::Gap| {
            let (volume, start) = (gap.position.volume.saturating_add(1), gap.position.offset);
            format!(
                "no record in bytes {start}..{} of volume {volume}",
                start.saturating_add(gap.bytes)
            )
        };
        let mut texts: Vec<String> = damage.map(full_text).into_iter().collect();
        texts.extend(holes.map(hole));
        texts.extend(refused.iter().map(|(_, error)| full_text(error)));
        texts.extend(self.records.faults().iter().map(full_text));
        if let Some(image) = self.image {
            let faults = image.disagreements(self.records);
            texts.extend(faults.iter().map(full_text));
        }
        if let (None, false, Ok(summary)) = (
            self.image,
            self.records.gaps().is_empty(),
            self.records.summary(),
        ) {
            let found = chunk_records(self.records);
            if found != summary.chunks {
                texts.push(format!(
                    "{found} of the {} chunks its trailer counts were found",
                    summary.chunks
                ));
            }
        }
        if let (None, None, Err(error)) = (damage, self.image, self.records.summary()) {
            texts.push(full_text(&error));
        }
        texts
            .into_iter()
            .map(|text| Fault { chunk: None, text })
            .collect()
    }

    /// The pieces of work, and the number of bytes that each accounts for.
    fn pieces(&self) -> Vec<(Piece, u64)> {
        let mut pieces = Vec::new();
        if let Some(manifest) = self.manifest() {
            let entries = manifest.entries.iter().enumerate();
            pieces.extend(
                entries.map(|(i, entry)| (Piece::Entry(i), u64::from(entry.mask.used_bytes()))),
            );
        }
        let named = |record: &imagefmt::Record| {
            let image = self.image?;
            let (index, _) = image.manifest().find(record.chunk)?;
            (record.kind == RecordKind::Chunk
                && image.positions().get(index) == Some(&record.position))
            .then_some(())
        };
        let others = self
            .records
            .records()
            .iter()
            .enumerate()
            .filter(|(_, record)| named(record).is_none());
        pieces.extend(others.map(|(i, record)| (Piece::Record(i), record.bytes)));
        pieces
    }

    pub(super) fn check(
        &self,
        threads: usize,
        progress: OnProgress,
        cancelled: Cancelled,
    ) -> Result<Vec<Fault>, DiskError> {
        let pieces = self.pieces();
        let total = pieces.iter().map(|(_, bytes)| bytes).sum();
        let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
        let faults = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    let mut scratch = Scratch::default();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some((piece, bytes)) = pieces.get(index).filter(|_| !cancelled())
                        else {
                            return;
                        };
                        if let Some(fault) = self.check_piece(*piece, &mut scratch) {
                            faults
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(fault);
                        }
                        progress(done.fetch_add(*bytes, Ordering::Relaxed) + bytes, total);
                    }
                });
            }
        });
        if cancelled() {
            return Err(DiskError::Cancelled);
        }
        Ok(faults.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn check_piece(&self, piece: Piece, scratch: &mut Scratch) -> Option<Fault> {
        match piece {
            Piece::Entry(index) => {
                let image = self.image?;
                let entry = image.manifest().entries.get(index)?;
                let error = self.check_entry(image, index, scratch).err()?;
                let text = words(
                    image.manifest().geometry,
                    self.manifest(),
                    entry.chunk,
                    &error,
                );
                Some(Fault {
                    chunk: Some(entry.chunk),
                    text,
                })
            }
            Piece::Record(index) => {
                let record = self.records.records().get(index)?;
                let error = self
                    .records
                    .check(record.position, &mut scratch.body)
                    .err()?;
                if record.kind != RecordKind::Chunk {
                    return Some(Fault {
                        chunk: None,
                        text: full_text(&error),
                    });
                }
                let text = words(
                    self.records.geometry(),
                    self.manifest(),
                    record.chunk,
                    &error,
                );
                Some(Fault {
                    chunk: Some(record.chunk),
                    text,
                })
            }
        }
    }

    fn check_entry(
        &self,
        image: &Image<File>,
        index: usize,
        scratch: &mut Scratch,
    ) -> Result<(), FormatError> {
        if self.depth != Depth::Deep {
            return image.read_body(index, &mut scratch.body);
        }
        let decoder = match &mut scratch.decoder {
            Some(decoder) => decoder,
            none => none.insert(image.decoder()?),
        };
        image
            .read_chunk(index, decoder, &mut scratch.body, &mut scratch.plain)
            .map(drop)
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    decoder: Option<Decoder>,
    body: Vec<u8>,
    plain: Vec<u8>,
}
