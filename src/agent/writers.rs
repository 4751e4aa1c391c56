//! The threads between received blocks and the disk: restore from parity, decompress, check, write.
//!
//! Owns the worker threads of one job. A block goes in as received symbols or as plain bytes, and comes out as written,
//! corrupt (nothing of it was written that should not be), or a disk error.

use super::pieces::Pieces;
use crate::disk::DiskError;
use crate::disk::deployment::{ChunkFailure, ChunkWriter, Deployment};
use multicast::{BlockBuffer, Decoder, Layout};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Blocks waiting for a worker; beyond that the job waits, and the receiver runs out of buffers and says so.
const QUEUE: usize = 64;

/// What a block is made of.
pub(super) enum Source {
    /// Symbols from the multicast session, in the receiver's slot.
    Slot(u16, BlockBuffer),
    /// Bytes from TCP 5003.
    Bulk(Vec<u8>),
}

/// A block on its way to the disk.
pub(super) struct Work {
    pub(super) block: u32,
    /// Session of the job the slot belongs to.
    pub(super) generation: u64,
    pub(super) source: Source,
}

/// What became of it.
pub(super) struct Finished {
    pub(super) block: u32,
    pub(super) generation: u64,
    /// The slot's buffer, to be given back.
    pub(super) slot: Option<(u16, BlockBuffer)>,
    pub(super) result: Result<u64, BlockFailure>,
}

/// Why a block did not reach the disk.
pub(super) enum BlockFailure {
    /// It authenticated but is not what the manifest promises.
    Corrupt(String),
    /// The disk failed.
    Disk(DiskError),
}

/// The worker threads of one job; they end when this is dropped.
pub(super) struct Writers {
    queue: SyncSender<Work>,
}

impl Writers {
    /// Starts `threads` workers that report to `done`.
    pub(super) fn start(
        deployment: &Arc<Deployment>,
        layout: &Arc<Layout>,
        threads: usize,
        done: impl Fn(Finished) + Send + Clone + 'static,
    ) -> std::io::Result<Self> {
        let (queue, work) = sync_channel(QUEUE);
        let work = Arc::new(Mutex::new(work));
        let pieces = Arc::new(Mutex::new(Pieces::default()));
        for number in 0..threads.max(1) {
            let worker = Worker {
                deployment: Arc::clone(deployment),
                layout: Arc::clone(layout),
                pieces: Arc::clone(&pieces),
                parity: Decoder::new(),
            };
            let (work, done) = (Arc::clone(&work), done.clone());
            std::thread::Builder::new()
                .name(format!("write-{number}"))
                .spawn(move || worker.run(&work, &done))?;
        }
        Ok(Self { queue })
    }

    /// Hands a block over; blocks while all workers are busy and the queue is full.
    pub(super) fn push(&self, work: Work) {
        // The workers live as long as the queue's sender, which is `self`.
        let _ = self.queue.send(work);
    }
}

struct Worker {
    deployment: Arc<Deployment>,
    layout: Arc<Layout>,
    pieces: Arc<Mutex<Pieces>>,
    parity: Decoder,
}

impl Worker {
    fn run(mut self, work: &Mutex<Receiver<Work>>, done: &impl Fn(Finished)) {
        let deployment = Arc::clone(&self.deployment);
        let mut writer = deployment.writer();
        loop {
            let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Work {
                block,
                generation,
                source,
            }) = next
            else {
                return;
            };
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
        for part in self.layout.parts(block) {
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
                writer.write(part.piece as usize, share)
            } else {
                let complete = self
                    .pieces
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .add(&part, whole, share);
                match complete {
                    Some(body) => writer.write(part.piece as usize, &body),
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::capture::{CaptureOptions, capture};
    use crate::disk::survey::SurveyOptions;
    use crate::disk::{device, restore};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    const DISK: usize = 3 << 20;

    /// A block can pass the session's seal and still be wrong: an insider has the key. It must not reach the disk.
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
            password: None,
            created: "2026-01-01T00:00:00Z".into(),
            threads: 1,
        };
        capture(&master, &image, &options, &|_, _| {}, &|| false).unwrap();
        let image = restore::open_image(&image, None).unwrap();
        let manifest = Arc::new(image.manifest().clone());
        let facts = device::describe(&target).unwrap();
        let deployment =
            Arc::new(Deployment::prepare(&facts, None, Arc::clone(&manifest), None, None).unwrap());
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
        let writers = Writers::start(&deployment, &layout, 2, move |done| {
            let _ = report.send(done);
        })
        .unwrap();
        let offer = |bytes: Vec<u8>| {
            writers.push(Work {
                block: 0,
                generation: 1,
                source: Source::Bulk(bytes),
            });
            finished
                .recv_timeout(Duration::from_secs(20))
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
