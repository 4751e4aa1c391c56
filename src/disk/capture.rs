//! From a master disk to an image: survey, then read, compress and write in parallel.
//!
//! Owns the pipeline. Workers claim chunks in device order, read their used blocks themselves, compress and hash;
//! the calling thread writes records in order. Memory is bounded: a worker never runs further than [`AHEAD`] chunks
//! in front of the writer.

use super::output::ImageOutput;
use super::survey::{Survey, SurveyOptions, blank, survey};
use super::{Cancelled, DiskError, OnProgress, device};
use diskmap::{ReadAt, TableKind};
use imagefmt::{
    ChunkId, EncodedChunk, Encoder, Geometry, Mask, Meta, NewPassword, Password, RecordSealer,
    Region, Root, SourceDisk, Writer, WriterOptions,
};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use zeroize::Zeroizing;

/// Chunks between the writer and the foremost worker: enough to hide a slow chunk, 64 MiB at most with 1 MiB chunks.
const AHEAD: usize = 32;

/// Chunks compressed before the capture starts, to foresee whether the image fits.
const SAMPLES: usize = 16;

/// Choices of a capture.
#[derive(Clone, Debug)]
pub struct CaptureOptions {
    /// What to take.
    pub survey: SurveyOptions,
    /// zstd level, 1 to 12.
    pub level: i32,
    /// Chunk size as a power of two, 18 to 22.
    pub chunk_log2: u8,
    /// Logical sector size; needed only for a regular file that holds the copy of a 4096-byte-sector disk.
    pub sector_size: Option<u32>,
    /// The technician's remark.
    pub note: Option<String>,
    /// Encrypt with this password.
    pub password: Option<Zeroizing<String>>,
    /// Date for the description, RFC 3339.
    pub created: String,
    /// Worker threads.
    pub threads: usize,
}

/// What a capture made.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Root of the image.
    pub root: Root,
    /// Bytes of the image file.
    pub file_bytes: u64,
    /// Device bytes it holds.
    pub used_bytes: u64,
    /// Bytes of the master disk.
    pub disk_bytes: u64,
    /// The description as written.
    pub meta: Meta,
}

/// Captures the disk at `source` into a new image at `image` (`-` is standard output).
///
/// # Errors
/// Everything [`survey`] refuses; [`DiskError::InUse`] for a mounted source; [`DiskError::Refused`] when the image
/// exists or would not fit; [`DiskError::Write`] and friends when a medium fails. No final file exists then.
pub fn capture(
    source: &Path,
    image: &Path,
    options: &CaptureOptions,
    progress: OnProgress,
    cancelled: Cancelled,
) -> Result<Captured, DiskError> {
    let facts = device::describe(source)?;
    let writers = device::writers_of(source);
    if !writers.is_empty() {
        return Err(DiskError::InUse {
            path: source.to_owned(),
            holders: writers,
        });
    }
    let file = OpenOptions::new()
        .read(true)
        .open(source)
        .map_err(|e| DiskError::io("opening", source, e))?;
    let sector_size = options.sector_size.unwrap_or(facts.logical_sector);
    if !facts.file_backed && sector_size != facts.logical_sector {
        return Err(DiskError::refused(
            format!(
                "{} has sectors of {} bytes, not {sector_size}",
                source.display(),
                facts.logical_sector
            ),
            "leave out --sector-size for a real disk",
        ));
    }
    let geometry = Geometry::new(facts.size, sector_size, options.chunk_log2)
        .map_err(|source_error| DiskError::image(source, source_error))?;
    let survey = survey(&file, facts.size, sector_size, source, &options.survey)?;
    let meta = Meta {
        tool: concat!("diskcast ", env!("CARGO_PKG_VERSION")).into(),
        created: options.created.clone(),
        note: options.note.clone(),
        source: SourceDisk {
            path: facts.path.clone(),
            model: facts.model.clone().unwrap_or_default(),
            serial: facts.serial.clone().unwrap_or_default(),
            size: facts.size,
            logical_sector: sector_size,
            physical_sector: facts.physical_sector.max(sector_size),
        },
        table_kind: match survey.table.kind {
            TableKind::Gpt => "gpt",
            TableKind::Mbr => "mbr",
            TableKind::None => "none",
        }
        .into(),
        firmware: None,
        partitions: survey.partitions.clone(),
        warnings: survey.warnings.clone(),
    };
    let mut output = ImageOutput::create(image)?;
    let job = Job {
        file: &file,
        path: source,
        geometry,
        survey: &survey,
        options,
    };
    match job.run(&mut output, image, &meta, progress, cancelled) {
        Ok((root, file_bytes, used_bytes)) => {
            output.finish()?;
            Ok(Captured {
                root,
                file_bytes,
                used_bytes,
                disk_bytes: facts.size,
                meta,
            })
        }
        Err(error) => {
            output.discard();
            Err(error)
        }
    }
}

struct Job<'a> {
    file: &'a std::fs::File,
    path: &'a Path,
    geometry: Geometry,
    survey: &'a Survey,
    options: &'a CaptureOptions,
}

impl Job<'_> {
    fn run(
        &self,
        output: &mut ImageOutput,
        image: &Path,
        meta: &Meta,
        progress: OnProgress,
        cancelled: Cancelled,
    ) -> Result<(Root, u64, u64), DiskError> {
        let chunks = self.chunks();
        let used: u64 = chunks
            .iter()
            .map(|(_, mask)| u64::from(mask.used_bytes()))
            .sum();
        self.check_space(output, image, &chunks, used)?;
        let bad = |e| DiskError::image(image, e);
        let mut writer = Writer::create(output, self.writer_options()?).map_err(bad)?;
        writer.meta(meta).map_err(bad)?;
        let regions: Vec<Region> = self
            .survey
            .table
            .regions
            .iter()
            .map(|r| Region {
                offset: r.offset,
                bytes: r.bytes.clone(),
            })
            .collect();
        writer.table(&regions).map_err(bad)?;
        let sealer = writer.sealer();

        let gate = Gate::default();
        let next = AtomicUsize::new(0);
        let done = AtomicU64::new(0);
        let (sender, receiver) = sync_channel(AHEAD);
        let outcome = std::thread::scope(|scope| {
            for _ in 0..self.options.threads.max(1) {
                let sender = sender.clone();
                let (next, done, gate, chunks, sealer) = (&next, &done, &gate, &chunks, &sealer);
                scope.spawn(move || {
                    self.work(chunks, sealer, next, gate, &sender, &|bytes| {
                        progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, used);
                    });
                });
            }
            drop(sender);
            let result = write_in_order(&mut writer, &receiver, &gate, image, cancelled);
            // Whatever happened, nobody may wait for the writer any more.
            gate.open();
            drop(receiver);
            result
        });
        outcome?;
        let written = writer.finish().map_err(bad)?;
        Ok((written.root, written.bytes, used))
    }

    /// Chunks that hold anything, with their masks, in device order.
    fn chunks(&self) -> Vec<(ChunkId, Mask)> {
        let mut chunks: Vec<(ChunkId, Mask)> = Vec::new();
        let size = u64::from(self.geometry.chunk_size());
        for extent in self.survey.used.iter() {
            let mut at = extent.start;
            while at < extent.end {
                let Some(chunk) = self.geometry.chunk_at(at) else {
                    break;
                };
                let base = self.geometry.chunk_offset(chunk);
                let end = extent.end.min(base + size);
                if chunks.last().is_none_or(|(last, _)| *last != chunk) {
                    chunks.push((chunk, Mask::empty(self.geometry.chunk_len(chunk))));
                }
                if let (Some((_, mask)), Ok(from), Ok(to)) = (
                    chunks.last_mut(),
                    u32::try_from(at - base),
                    u32::try_from(end - base),
                ) {
                    mask.set_range(from..to);
                }
                at = end;
            }
        }
        chunks
    }

    /// Compresses a few chunks spread over the disk and refuses when the image surely does not fit.
    fn check_space(
        &self,
        output: &ImageOutput,
        image: &Path,
        chunks: &[(ChunkId, Mask)],
        used: u64,
    ) -> Result<(), DiskError> {
        let Some(free) = output.free_bytes().filter(|free| *free < used) else {
            return Ok(());
        };
        let mut encoder =
            Encoder::new(self.options.level, None).map_err(|e| DiskError::image(image, e))?;
        let mut buffer = Vec::new();
        let (mut plain, mut stored) = (0u64, 0u64);
        for (chunk, mask) in chunks.iter().step_by((chunks.len() / SAMPLES).max(1)) {
            self.read_chunk(*chunk, mask, &mut buffer)?;
            let body = encoder
                .encode(mask, &buffer)
                .map_err(|e| DiskError::image(image, e))?;
            plain += buffer.len() as u64;
            stored += body.bytes.len() as u64;
        }
        // A sample may be off; refuse only when the image would miss by more than a quarter.
        let expected = u128::from(used) * u128::from(stored) / u128::from(plain.max(1));
        if expected * 3 / 4 > u128::from(free) {
            return Err(DiskError::refused(
                format!(
                    "the image needs about {expected} bytes, {} has {free} free",
                    image.display()
                ),
                "free some space, or write it elsewhere",
            ));
        }
        Ok(())
    }

    fn writer_options(&self) -> Result<WriterOptions, DiskError> {
        let mut image_uuid = [0u8; 16];
        random(&mut image_uuid, self.path)?;
        let password = match &self.options.password {
            None => None,
            Some(password) => {
                let (mut salt, mut key, mut nonce_seed) = ([0u8; 16], [0u8; 32], [0u8; 32]);
                random(&mut salt, self.path)?;
                random(&mut key, self.path)?;
                random(&mut nonce_seed, self.path)?;
                Some(NewPassword {
                    password: Password::new(password.as_bytes()),
                    salt,
                    key,
                    nonce_seed,
                })
            }
        };
        Ok(WriterOptions {
            password,
            ..WriterOptions::new(self.geometry, image_uuid)
        })
    }

    fn work(
        &self,
        chunks: &[(ChunkId, Mask)],
        sealer: &RecordSealer,
        next: &AtomicUsize,
        gate: &Gate,
        sender: &SyncSender<(usize, Result<EncodedChunk, DiskError>)>,
        progress: &dyn Fn(u64),
    ) {
        let mut encoder = match Encoder::new(self.options.level, sealer.id_key().cloned()) {
            Ok(encoder) => encoder,
            Err(error) => {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let _ = sender.send((at, Err(DiskError::image(self.path, error))));
                return;
            }
        };
        let mut buffer = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((chunk, mask)) = chunks.get(index) else {
                return;
            };
            if !gate.wait_for(index) {
                return;
            }
            let encoded = self.read_chunk(*chunk, mask, &mut buffer).and_then(|()| {
                encoder
                    .encode(mask, &buffer)
                    .and_then(|body| sealer.seal(*chunk, mask, &body))
                    .map_err(|e| DiskError::image(self.path, e))
            });
            let failed = encoded.is_err();
            // The receiver is gone only when the writer failed; its error is the one to show.
            if sender.send((index, encoded)).is_err() || failed {
                return;
            }
            progress(buffer.len() as u64);
        }
    }

    /// The used blocks of a chunk, table sectors blanked.
    fn read_chunk(
        &self,
        chunk: ChunkId,
        mask: &Mask,
        buffer: &mut Vec<u8>,
    ) -> Result<(), DiskError> {
        let base = self.geometry.chunk_offset(chunk);
        buffer.resize(mask.used_bytes() as usize, 0);
        let mut rest = buffer.as_mut_slice();
        for run in mask.runs() {
            let (part, tail) = rest.split_at_mut((run.end - run.start) as usize);
            let at = base + u64::from(run.start);
            self.file
                .read_exact_at(at, part)
                .map_err(|source| DiskError::Read {
                    path: self.path.to_owned(),
                    offset: at,
                    source,
                })?;
            for region in &self.survey.table.regions {
                blank(part, at, region.offset, region.bytes.len());
            }
            rest = tail;
        }
        Ok(())
    }
}

/// Writes records in device order although workers finish in any order.
fn write_in_order<W: Write>(
    writer: &mut Writer<W>,
    receiver: &Receiver<(usize, Result<EncodedChunk, DiskError>)>,
    gate: &Gate,
    image: &Path,
    cancelled: Cancelled,
) -> Result<(), DiskError> {
    let mut waiting: BTreeMap<usize, EncodedChunk> = BTreeMap::new();
    let mut next = 0;
    for (index, encoded) in receiver {
        waiting.insert(index, encoded?);
        while let Some(chunk) = waiting.remove(&next) {
            writer
                .write(&chunk)
                .map_err(|e| DiskError::image(image, e))?;
            next += 1;
            gate.advance(next);
        }
        if cancelled() {
            return Err(DiskError::Cancelled);
        }
    }
    Ok(())
}

/// Keeps workers from running away from the writer.
#[derive(Default)]
struct Gate {
    written: Mutex<GateState>,
    moved: Condvar,
}

#[derive(Default)]
struct GateState {
    written: usize,
    open: bool,
}

impl Gate {
    /// Blocks until chunk `index` is within reach; false when the capture is over.
    fn wait_for(&self, index: usize) -> bool {
        let state = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self
            .moved
            .wait_while(state, |s| !s.open && index >= s.written + AHEAD)
            .unwrap_or_else(PoisonError::into_inner);
        !state.open
    }

    fn advance(&self, written: usize) {
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .written = written;
        self.moved.notify_all();
    }

    fn open(&self) {
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open = true;
        self.moved.notify_all();
    }
}

fn random(bytes: &mut [u8], path: &Path) -> Result<(), DiskError> {
    getrandom::fill(bytes)
        .map_err(|e| DiskError::io("drawing random bytes for", path, std::io::Error::other(e)))
}
