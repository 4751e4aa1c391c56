//! `image check` on all processors, cancellable, naming what is damaged and which partition it hits.

use super::restore::open_image;
use super::{Cancelled, DiskError, OnProgress};
use imagefmt::{ChunkId, FormatError, Image, Manifest, Root};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How deep a check goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// Structure: prologue, index, trailer, META.
    Quick,
    /// Every stored byte against its hash; needs no password.
    Standard,
    /// Every chunk decompressed and its content compared.
    Deep,
}

impl Depth {
    /// The word of `--json` and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Deep => "deep",
        }
    }
}

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// Root of the image, when its index could be read.
    pub root: Option<Root>,
    /// Chunks looked at.
    pub chunks: u64,
    /// Damaged chunks, in disk order.
    pub faults: Vec<Fault>,
}

/// A damaged chunk.
#[derive(Debug)]
pub struct Fault {
    /// Chunk.
    pub chunk: ChunkId,
    /// What is damaged, where on the disk, and which partition that is.
    pub text: String,
}

/// Checks the image at `path` on `threads` threads.
///
/// # Errors
/// [`DiskError::Image`] when the structure itself is damaged, [`DiskError::Cancelled`]. Damaged chunks are not an
/// error here but the report's content.
pub fn check(
    path: &Path,
    password: Option<&str>,
    depth: Depth,
    threads: usize,
    progress: OnProgress,
    cancelled: Cancelled,
) -> Result<Report, DiskError> {
    let image = open_image(path, password)?;
    let manifest = image.manifest();
    let chunks = manifest.entries.len() as u64;
    let mut faults = Vec::new();
    if depth != Depth::Quick {
        faults = check_chunks(&image, depth, threads, progress, cancelled)?;
    }
    faults.sort_by_key(|fault| fault.chunk);
    Ok(Report { root: Some(image.root()), chunks, faults })
}

fn check_chunks(
    image: &Image<File>,
    depth: Depth,
    threads: usize,
    progress: OnProgress,
    cancelled: Cancelled,
) -> Result<Vec<Fault>, DiskError> {
    let manifest = image.manifest();
    let total = manifest.used_bytes();
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut decoder = image.decoder();
                let (mut body, mut plain) = (Vec::new(), Vec::new());
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(entry) = manifest.entries.get(index).filter(|_| !cancelled()) else { return };
                    let outcome = match (&mut decoder, depth) {
                        (Ok(decoder), Depth::Deep) => {
                            image.read_chunk(index, decoder, &mut body, &mut plain).map(drop)
                        }
                        _ => image.read_body(index, &mut body),
                    };
                    if let Err(error) = outcome {
                        let fault = Fault { chunk: entry.chunk, text: describe(manifest, entry.chunk, &error) };
                        faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
                    }
                    let bytes = u64::from(entry.mask.used_bytes());
                    progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
                }
            });
        }
    });
    if cancelled() {
        return Err(DiskError::Cancelled);
    }
    Ok(faults.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The fault in words: chunk, disk range, and whose data that is.
fn describe(manifest: &Manifest, chunk: ChunkId, error: &FormatError) -> String {
    let start = manifest.geometry.chunk_offset(chunk);
    let end = start + u64::from(manifest.geometry.chunk_len(chunk));
    let hit: Vec<String> = manifest
        .meta
        .partitions
        .iter()
        .filter(|p| p.start < end && start < p.start.saturating_add(p.length))
        .map(|p| {
            let fs = p.fs.as_ref().map_or("unknown content", |fs| fs.kind.as_str());
            let (from, to) = (start.saturating_sub(p.start), (end - p.start).min(p.length));
            match p.number {
                0 => format!("the disk's {fs}, bytes {from}..{to}"),
                number => format!("partition {number} ({fs}), bytes {from}..{to} of it"),
            }
        })
        .collect();
    let place = if hit.is_empty() { "outside partitions".to_owned() } else { hit.join("; ") };
    format!("{error}: disk bytes {start}..{end}, {place}")
}
