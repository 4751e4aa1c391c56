//! The threads between received blocks and the disk: restore from parity, decompress, check, write.
//!
//! Owns the worker threads of one job and the queue before them. A block goes in as received
//! symbols or as plain bytes, and comes out as written, corrupt (no wrong byte of it was written),
//! or with a disk error. Blocks leave the queue in the order of the disk, round and round, so that
//! late repairs do not send a hard disk's head back and forth; as many writes are in flight as
//! there are workers.

use super::load::Load;
use super::pieces::Pieces;
use disk::DiskError;
use disk::deployment::{ChunkFailure, ChunkWriter, Deployment};
use disk::readback::ReadBack;
use multicast::{BlockBuffer, Decoder, Layout};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The data of a block.
pub(super) enum Source {
    /// Symbols from the multicast session, in the receiver's slot.
    Slot(u16, BlockBuffer),
    /// Bytes from TCP 5003.
    Bulk(Vec<u8>),
}

/// A block on its way to the disk.
pub(super) struct Work {
    pub(super) block: u32,
    /// Number of the session that the slot belongs to.
    pub(super) generation: u64,
    pub(super) source: Source,
}

/// The result of a block.
pub(super) struct Finished {
    pub(super) block: u32,
    pub(super) generation: u64,
    /// The slot's buffer, to be returned to the receiver.
    pub(super) slot: Option<(u16, BlockBuffer)>,
    pub(super) result: Result<u64, BlockFailure>,
}

/// The reason a block did not reach the disk.
pub(super) enum BlockFailure {
    /// It authenticated but does not match the manifest.
    Corrupt(String),
    /// The disk failed.
    Disk(DiskError),
}

/// Blocks waiting for a worker. Bounded by its sources: the receiver's slots, and one batch of TCP
/// 5003.
#[derive(Default)]
struct Queue {
    inner: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    blocks: BTreeMap<(u32, u64), Work>,
    pushed: u64,
    /// Position of the workers on the disk, a block number.
    position: u32,
    closed: bool,
}

impl Waiting {
    /// The next block at or after the position, or the first one when there is none.
    fn next(&mut self) -> Option<Work> {
        let key = *self
            .blocks
            .range((self.position, 0)..)
            .next()
            .or_else(|| self.blocks.iter().next())?
            .0;
        self.position = key.0;
        self.blocks.remove(&key)
    }
}

impl Queue {
    /// Waits for work; `None` when the job is over.
    fn take(&self, load: &Load) -> Option<Work> {
        let mut waiting = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(work) = waiting.next() {
                load.queued(waiting.blocks.len());
                return Some(work);
            }
            if waiting.closed {
                return None;
            }
            waiting = self
                .changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The worker threads of one job; dropping it ends them.
pub(super) struct Writers {
    queue: Arc<Queue>,
}

impl Writers {
    /// Starts `threads` workers that report to `done`, and pass written entries to `read_back`.
    pub(super) fn start(
        deployment: &Arc<Deployment>,
        layout: &Arc<Layout>,
        read_back: &Arc<ReadBack>,
        load: &Arc<Load>,
        threads: usize,
        done: impl Fn(Finished) + Send + Clone + 'static,
    ) -> std::io::Result<Self> {
        let writers = Self {
            queue: Arc::default(),
        };
        let pieces = Arc::new(Mutex::new(Pieces::default()));
        for number in 0..threads.max(1) {
            let worker = Worker {
                deployment: Arc::clone(deployment),
                layout: Arc::clone(layout),
                read_back: Arc::clone(read_back),
                load: Arc::clone(load),
                pieces: Arc::clone(&pieces),
                parity: Decoder::new(),
            };
            let (queue, done) = (Arc::clone(&writers.queue), done.clone());
            std::thread::Builder::new()
                .name(format!("write-{number}"))
                .spawn(move || worker.run(&queue, &done))?;
        }
        Ok(writers)
    }

    /// Queues a block.
    pub(super) fn push(&self, work: Work) {
        let mut waiting = self
            .queue
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.pushed += 1;
        let key = (work.block, waiting.pushed);
        waiting.blocks.insert(key, work);
        self.queue.changed.notify_one();
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        let mut waiting = self
            .queue
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.closed = true;
        waiting.blocks.clear();
        self.queue.changed.notify_all();
    }
}

struct Worker {
    deployment: Arc<Deployment>,
    layout: Arc<Layout>,
    read_back: Arc<ReadBack>,
    load: Arc<Load>,
    pieces: Arc<Mutex<Pieces>>,
    parity: Decoder,
}

impl Worker {
    fn run(mut self, queue: &Queue, done: &impl Fn(Finished)) {
        let deployment = Arc::clone(&self.deployment);
        let mut writer = deployment.writer();
        while let Some(work) = queue.take(&self.load) {
            let Work {
                block,
                generation,
                source,
            } = work;
            let load = Arc::clone(&self.load);
            let busy = load.begin();
            let (slot, result) = match (source, &mut writer) {
                (Source::Slot(slot, mut buffer), Ok(writer)) => {
                    let result = self.write_symbols(writer, block, &mut buffer);
                    (Some((slot, buffer)), result)
                }
                (Source::Bulk(bytes), Ok(writer)) => (None, self.write(writer, block, &bytes)),
                (Source::Slot(slot, buffer), Err(error)) => (
                    Some((slot, buffer)),
                    Err(BlockFailure::Corrupt(error.to_string())),
                ),
                (Source::Bulk(_), Err(error)) => {
                    (None, Err(BlockFailure::Corrupt(error.to_string())))
                }
            };
            let stored = self
                .layout
                .blocks()
                .get(block as usize)
                .map_or(0, |shape| shape.len);
            let on_disk = writer
                .as_mut()
                .map_or_else(|_| Default::default(), ChunkWriter::take_disk_time);
            busy.end(u64::from(stored), on_disk);
            done(Finished {
                block,
                generation,
                slot,
                result,
            });
        }
    }

    fn write_symbols(
        &mut self,
        writer: &mut ChunkWriter<'_>,
        block: u32,
        buffer: &mut BlockBuffer,
    ) -> Result<u64, BlockFailure> {
        let len = self
            .layout
            .blocks()
            .get(block as usize)
            .map_or(0, |shape| shape.len);
        let mut parity = std::mem::take(&mut self.parity);
        let result = match buffer.finish(&mut parity, len) {
            Ok(bytes) => self.write(writer, block, bytes),
            Err(error) => Err(BlockFailure::Corrupt(error.to_string())),
        };
        self.parity = parity;
        result
    }

    fn write(
        &self,
        writer: &mut ChunkWriter<'_>,
        block: u32,
        bytes: &[u8],
    ) -> Result<u64, BlockFailure> {
        let mut written = 0;
        let entries = &self.deployment.manifest().entries;
        let wanted = |piece: u32| self.deployment.wants(piece as usize);
        for part in self.layout.parts(block).filter(|part| wanted(part.piece)) {
            let (at, len) = (part.block_offset as usize, part.len as usize);
            let Some(share) = at.checked_add(len).and_then(|end| bytes.get(at..end)) else {
                return Err(BlockFailure::Corrupt(format!(
                    "block of {} bytes is too short",
                    bytes.len()
                )));
            };
            let whole = entries
                .get(part.piece as usize)
                .map_or(0, |entry| entry.body_len as usize);
            let outcome = if part.len as usize == whole {
                self.put(writer, part.piece as usize, share)
            } else {
                let complete = self
                    .pieces
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .add(&part, whole, share);
                match complete {
                    Some(body) => self.put(writer, part.piece as usize, &body),
                    None => Ok(0),
                }
            };
            written += outcome.map_err(|failure| match failure {
                ChunkFailure::Corrupt(error) => BlockFailure::Corrupt(error.to_string()),
                ChunkFailure::Disk(error) => BlockFailure::Disk(error),
            })?;
        }
        Ok(written)
    }

    fn put(
        &self,
        writer: &mut ChunkWriter<'_>,
        piece: usize,
        body: &[u8],
    ) -> Result<u64, ChunkFailure> {
        let written = writer.write(piece, body)?;
        self.read_back.written(piece);
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::capture::{CaptureOptions, capture};
    use disk::fit::Fit;
    use disk::survey::SurveyOptions;
    use disk::{device, restore};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    const DISK: usize = 3 << 20;

    /// A block can pass the session's seal and still be wrong, because an insider has the key. It
    /// must not reach the disk.
    #[test]
    fn a_block_that_is_not_what_the_manifest_says_is_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let [master, image, target] = ["master", "image", "target"].map(|n| folder.path().join(n));
        let content: Vec<u8> = (0..DISK)
            .map(|at| (at * 31 % 251).to_le_bytes()[0])
            .collect();
        std::fs::write(&master, &content).unwrap();
        std::fs::write(&target, vec![0xa5; DISK]).unwrap();
        let options = CaptureOptions {
            survey: SurveyOptions::default(),
            level: 3,
            chunk_log2: 20,
            sector_size: None,
            note: None,
            set: None,
            password: None,
            created: "2026-01-01T00:00:00Z".into(),
            threads: 1,
            volume_bytes: None,
        };
        capture(&master, &image, &options, &|_, _| {}, &|| false).unwrap();
        let image = restore::open_image(&image, None).unwrap();
        let manifest = Arc::new(image.manifest().clone());
        let facts = device::describe(&target).unwrap();
        let deployment = Arc::new(
            Deployment::prepare(&facts, Arc::clone(&manifest), None, &Fit::default()).unwrap(),
        );
        deployment.wipe().unwrap();
        let blank = std::fs::read(&target).unwrap();

        let layout = Arc::new(multicast::pack(manifest.entries.iter().map(|e| e.body_len)));
        assert_eq!(
            layout.block_count(),
            1,
            "the sample compresses into one block"
        );
        let mut block = Vec::new();
        let mut body = Vec::new();
        for index in 0..manifest.entries.len() {
            image.read_body(index, &mut body).unwrap();
            block.extend_from_slice(&body);
        }
        let (report, finished) = channel();
        let read_back =
            ReadBack::start(&deployment, 1, None, Vec::new(), Box::new(|_, _| {})).unwrap();
        let (read_back, load) = (Arc::new(read_back), Arc::new(Load::default()));
        let report = move |done| {
            let _ = report.send(done);
        };
        let writers = Writers::start(&deployment, &layout, &read_back, &load, 2, report).unwrap();
        let offer = |bytes: Vec<u8>| {
            writers.push(Work {
                block: 0,
                generation: 1,
                source: Source::Bulk(bytes),
            });
            finished
                .recv_timeout(Duration::from_secs(120))
                .unwrap()
                .result
        };
        let first = manifest.entries[0].body_len as usize;
        let mut wrong = block.clone();
        wrong[first / 2] ^= 1;
        assert!(matches!(offer(wrong), Err(BlockFailure::Corrupt(_))));
        assert!(matches!(
            offer(block[..first / 2].to_vec()),
            Err(BlockFailure::Corrupt(_))
        ));
        assert!(
            std::fs::read(&target).unwrap() == blank,
            "bytes of a wrong block are on the disk"
        );

        assert!(matches!(offer(block), Ok(bytes) if bytes == DISK as u64));
        let proof = read_back.finish(&|_, _| {}, &|| false).unwrap();
        assert_eq!(proof.root(), manifest.root());
        let written = std::fs::read(&target).unwrap();
        assert!(
            written[512..] == content[512..],
            "the right block is not on the disk"
        );
        assert_eq!(
            written[..512],
            [0; 512],
            "the boot sector came before the commit"
        );
    }
}
