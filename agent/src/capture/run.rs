//! The thread of a capture: a survey, then as many attempts as needed, then the console's answer.

use super::upload::{UploadError, Uploader};
use super::{Event, Runner};
use crate::failure::Failure;
use crate::pulse::Pulse;
use disk::master::{MasterDisk, MasterOptions};
use disk::survey::SurveyOptions;
use disk::{DiskError, device, pipeline};
use facts::disk_rule::titles;
use facts::hex;
use facts::same_disk::same_disk;
use facts::target::{DiskFacts, TargetState};
use facts::units;
use hyper::body::Bytes;
use imagefmt::{ContentId, Encoder, Entry, IdKey, content_id};
use protocol::capture::{CaptureEnd, frame, hold};
use protocol::control::{CaptureBegin, CaptureBegun, Outcome, TableSectors};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{PoisonError, mpsc::TryRecvError};
use std::time::Duration;
use tokio::sync::mpsc::channel;

/// Frames between the disk and the network. With the pipeline's own they take 40 MiB at most for 1
/// MiB chunks.
const IN_FLIGHT: usize = 4;
/// First and longest pause between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// Attempts in a row without progress before the capture is given up: about half an hour.
const TRIES: u32 = 400;

/// Bytes read between two updates of the note about a survey.
const SURVEY_NOTE_BYTES: u64 = 64 << 20;

/// The reason an attempt ended early.
enum Cut {
    /// The connection broke: try again.
    Lost(String),
    /// The console's chunks differ from the disk: start again at once, from the first chunk.
    Differs,
    /// No further attempt can succeed.
    Over(Failure),
}

impl From<UploadError> for Cut {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Lost(reason) => Self::Lost(reason),
            UploadError::Refused(reason) => Self::Over(Failure::Other(reason)),
        }
    }
}

impl From<DiskError> for Cut {
    fn from(error: DiskError) -> Self {
        Self::Over(error.into())
    }
}

/// The disk, and the facts known about it so far.
struct Source {
    disk: MasterDisk,
    begin: CaptureBegin,
    id_key: Option<IdKey>,
    /// Content ids of the first chunks, in device order, as this process read them.
    ids: Vec<ContentId>,
}

impl Runner {
    pub(super) fn run(mut self) {
        self.reporter.state_is(TargetState::Joined);
        let ended = self.work();
        let failure = ended.as_ref().err();
        let reason = failure.map(Failure::reason);
        // A disk that cannot be read is the same failure in the survey, in the samples and in the
        // chunks: never a refusal.
        let step = failure.map(|failure| match failure.is_of_reading() {
            true => TargetState::Capturing,
            false => self.reporter.state(),
        });
        let outcome = Outcome {
            job: self.order.job.clone(),
            state: if reason.is_some() {
                TargetState::Failed
            } else {
                TargetState::Done
            },
            step,
            reason: reason.clone(),
            disk: self.order.disk.path.clone(),
            disk_now: None,
            bytes_written: 0,
            seconds: self.reporter.seconds(),
            root: None,
            counters: self.reporter.counters(),
        };
        match reason {
            Some(reason) => {
                tracing::warn!(job = self.order.job, reason, "the capture ends");
                self.reporter.outcome(outcome);
            }
            // The console reported this end, and knows what it stored.
            None => self.reporter.shown(outcome),
        }
    }

    fn work(&mut self) -> Result<(), Failure> {
        let mut source = self.open()?;
        self.reporter.total(source.disk.used_bytes());
        let (mut wait, mut tries, mut known) = (RETRY.0, TRIES, 0);
        loop {
            match self.attempt(&mut source) {
                Ok(()) => {
                    if self.wait_for_word()? {
                        return Ok(());
                    }
                    // Another console took over before the image had its name, and requests what it
                    // lacks.
                    (wait, tries) = (RETRY.0, TRIES);
                }
                Err(Cut::Differs) => {
                    source.begin.fresh =
                        Some("what was read before is not what the disk holds now".to_owned());
                    source.ids.clear();
                    known = 0;
                }
                Err(Cut::Over(failure)) => return Err(failure),
                Err(Cut::Lost(reason)) => {
                    if source.ids.len() > known {
                        known = source.ids.len();
                        (wait, tries) = (RETRY.0, TRIES);
                    }
                    tries = tries.saturating_sub(1);
                    if tries == 0 {
                        return Err(Failure::Other(format!("the upload is given up: {reason}")));
                    }
                    tracing::info!(%reason, "the upload is tried again");
                    self.reporter
                        .note(Some(format!("uploading again: {reason}")));
                    if self.pause(wait)? {
                        return Ok(());
                    }
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    /// Finds the disk of the order, and surveys it.
    fn open(&self) -> Result<Source, Failure> {
        let order = &self.order;
        let facts = self.offered()?;
        self.reporter.log(format!("reading {}", facts.title()));
        // The survey of a large disk counts no bytes, so the pulse shows that it goes on.
        let _pulse = Pulse::of_this_thread(&self.reporter, Path::new(&facts.path));
        let options = MasterOptions {
            survey: SurveyOptions {
                raw_partitions: order.wishes.raw_partitions.clone(),
                keep_page_files: order.wishes.keep_page_files,
                all_gaps: order.wishes.all_gaps,
                raw: order.wishes.raw,
                rescue: order.wishes.rescue,
            },
            chunk_log2: order.wishes.chunk_log2,
            sector_size: order.wishes.sector_size,
        };
        let (said, reporter, token) = (AtomicU64::new(0), &self.reporter, &self.cancelled);
        let progress = |read: u64, _| {
            if read / SURVEY_NOTE_BYTES
                > said.fetch_max(read / SURVEY_NOTE_BYTES, Ordering::Relaxed)
            {
                reporter.note(Some(format!(
                    "looking at the disk: {} read",
                    units::bytes(read)
                )));
            }
        };
        let stop = || token.is_cancelled();
        let disk = MasterDisk::open(Path::new(&facts.path), &options, &progress, &stop);
        self.is_wanted()?;
        let disk = disk?;
        self.reporter.note(None);
        let begin = CaptureBegin {
            survey: disk.digest()?.to_hex().to_string(),
            disk_bytes: disk.geometry().disk_size,
            sector_size: disk.geometry().sector_size,
            chunk_log2: disk.geometry().chunk_log2,
            chunks: disk.chunks().len() as u64,
            used_bytes: disk.used_bytes(),
            // At a slow level the estimate itself takes seconds and improves by a few percent; too
            // large an estimate is safe.
            expected_bytes: disk.estimate(order.wishes.level.min(imagefmt::DEFAULT_LEVEL))?,
            meta: disk.meta().clone(),
            table: disk
                .regions()
                .iter()
                .map(|region| TableSectors {
                    offset: region.offset,
                    bytes: hex::encode(&region.bytes),
                })
                .collect(),
            fresh: None,
        };
        Ok(Source {
            disk,
            begin,
            id_key: None,
            ids: Vec::new(),
        })
    }

    /// Finds the disk of the order among those on offer.
    fn offered(&self) -> Result<DiskFacts, Failure> {
        let wanted = &self.order.disk;
        let disks = self.offers.clone().unwrap_or_else(device::list);
        same_disk(&disks, wanted.name()).cloned().ok_or_else(|| {
            let path = &wanted.path;
            Failure::Other(format!(
                "the disk that was chosen ({path}, {} bytes) is not there; this machine has: {}",
                wanted.size,
                titles(&disks)
            ))
        })
    }

    /// Makes one upload: reads again what the console holds, and sends the rest.
    fn attempt(&self, source: &mut Source) -> Result<(), Cut> {
        // A failing disk may take minutes for one sector and hours for one chunk.
        let rescue = self.order.wishes.rescue;
        let _pulse = rescue.then(|| Pulse::of_this_thread(&self.reporter, source.disk.path()));
        let access = self
            .access
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut uploader = Uploader::new(access, std::sync::Arc::clone(&self.tls), &self.order.job);
        let begun = self.wait_on(uploader.begin(&source.begin))??;
        source.begin.fresh = None;
        let id_key = match &begun.id_key {
            None => None,
            Some(text) => Some(IdKey::from_bytes(hex::decode(text).map_err(|_| {
                Cut::Over(Failure::Other(
                    "the console's key of content ids is no key".into(),
                ))
            })?)),
        };
        if id_key != source.id_key {
            // Another image: the known ids were made with another key.
            source.ids.clear();
            source.id_key = id_key;
        }
        self.reporter.state_is(TargetState::Capturing);
        if let Some(note) = &begun.note {
            tracing::info!(note, "the capture begins anew");
        }
        let held = self.prove_held(source, &begun)?;
        self.reporter.note(None);
        let uploader = self.send(source, uploader, begun.upload, held)?;
        let mut uploader = uploader;
        source.disk.confirm_unchanged()?;
        // This process has read every chunk by now, so it knows every hole, including those in
        // chunks sent by an earlier process.
        let end = CaptureEnd {
            holes: source.disk.holes(),
        };
        self.wait_on(uploader.end(begun.upload, &end))??;
        self.reporter
            .note(Some("sent; the console checks".to_owned()));
        Ok(())
    }

    /// Checks that the console's chunks equal the disk's, and reads those that this process has not
    /// read yet. Returns the number of chunks that the console holds.
    fn prove_held(&self, source: &mut Source, begun: &CaptureBegun) -> Result<usize, Cut> {
        let held = usize::try_from(begun.held).unwrap_or(usize::MAX);
        if held > source.disk.chunks().len() {
            return Err(Cut::Differs);
        }
        let known = source.ids.len().min(held);
        if known < held {
            self.reporter
                .note(Some("reading again what the console holds".to_owned()));
        }
        let Source {
            disk, id_key, ids, ..
        } = source;
        let disk = &*disk;
        let mut done = used(disk, known);
        let worker = || {
            let mut buffer = Vec::new();
            let id_key = id_key.clone();
            Ok(move |index: usize| {
                disk.read_chunk(index, &mut buffer)?;
                let mask = &disk.chunks()[index].1;
                Ok::<_, Cut>(content_id(id_key.as_ref(), mask, &buffer))
            })
        };
        let take = |index: usize, id| {
            self.is_wanted().map_err(Cut::Over)?;
            ids.push(id);
            done += u64::from(disk.chunks()[index].1.used_bytes());
            self.reporter.done(done);
            Ok(())
        };
        pipeline::in_order(known..held, self.threads(), worker, take)?;
        let mut digest = blake3::Hasher::new();
        for ((chunk, _), id) in disk.chunks().iter().zip(ids.iter()).take(held) {
            hold(&mut digest, *chunk, *id);
        }
        if digest.finalize().to_hex().as_str() != begun.held_digest {
            return Err(Cut::Differs);
        }
        self.reporter.done(used(disk, held));
        Ok(held)
    }

    /// Sends the chunks from index `from` on.
    fn send(
        &self,
        source: &mut Source,
        mut uploader: Uploader,
        upload: u64,
        from: usize,
    ) -> Result<Uploader, Cut> {
        let Source {
            disk, id_key, ids, ..
        } = source;
        let disk = &*disk;
        ids.truncate(from);
        let (frames, stream) = channel::<Bytes>(IN_FLIGHT);
        let cancelled = self.cancelled.clone();
        let sending = self.runtime.spawn(async move {
            let sent = tokio::select! {
                sent = uploader.chunks(upload, stream) => sent,
                () = cancelled.cancelled() => Err(UploadError::Lost("cancelled".to_owned())),
            };
            (uploader, sent)
        });
        let level = self.order.wishes.level;
        let worker = || {
            let wrong = |error| DiskError::image(disk.path(), error);
            let mut encoder = Encoder::new(level, id_key.clone()).map_err(wrong)?;
            let mut buffer = Vec::new();
            Ok(move |index: usize| {
                disk.read_chunk(index, &mut buffer)?;
                let (chunk, mask) = &disk.chunks()[index];
                let body = encoder
                    .encode(mask, &buffer)
                    .map_err(|error| DiskError::image(disk.path(), error))?;
                let entry = Entry {
                    chunk: *chunk,
                    codec: body.codec,
                    // A body is no longer than a chunk and its mask, so it fits.
                    body_len: u32::try_from(body.bytes.len()).unwrap_or(u32::MAX),
                    mask: mask.clone(),
                    id: body.id,
                };
                Ok::<_, Cut>((body.id, frame(&entry, body.bytes)))
            })
        };
        let mut done = used(disk, from);
        let take = |index: usize, (id, bytes): (ContentId, Vec<u8>)| {
            // The stream ends when the console refuses or the connection breaks; the request's
            // result says which.
            frames
                .blocking_send(bytes.into())
                .map_err(|_| Cut::Lost(String::new()))?;
            ids.push(id);
            done += u64::from(disk.chunks()[index].1.used_bytes());
            self.reporter.done(done);
            Ok(())
        };
        let count = disk.chunks().len();
        let read = pipeline::in_order(from..count, self.threads(), worker, take);
        drop(frames);
        let (uploader, sent) = self
            .runtime
            .block_on(sending)
            .map_err(|error| Cut::Lost(error.to_string()))?;
        self.is_wanted().map_err(Cut::Over)?;
        match (read, sent) {
            (Err(Cut::Over(failure)), _) => Err(Cut::Over(failure)),
            (_, Err(error)) => Err(error.into()),
            (Err(cut), Ok(())) => Err(cut),
            (Ok(()), Ok(())) => Ok(uploader),
        }
    }

    fn threads(&self) -> usize {
        let asked = self.order.wishes.threads.filter(|n| *n > 0);
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        // Each thread holds a chunk and its compressed form: more threads than twice the processors
        // would only cost memory.
        asked
            .unwrap_or(processors)
            .min(processors.saturating_mul(2))
    }

    /// Runs a request until it ends or the capture is cancelled.
    fn wait_on<T>(
        &self,
        work: impl Future<Output = Result<T, UploadError>>,
    ) -> Result<Result<T, UploadError>, Cut> {
        let cancelled = self.cancelled.clone();
        let done = self.runtime.block_on(async {
            tokio::select! {
                done = work => Some(done),
                () = cancelled.cancelled() => None,
            }
        });
        match done {
            Some(done) => Ok(done),
            None => {
                self.is_wanted().map_err(Cut::Over)?;
                Err(Cut::Over(Failure::Other("cancelled".to_owned())))
            }
        }
    }

    /// Fails if the capture was cancelled.
    fn is_wanted(&self) -> Result<(), Failure> {
        if !self.cancelled.is_cancelled() {
            return Ok(());
        }
        loop {
            match self.inbox.try_recv() {
                Ok(Event::Cancel(reason)) => {
                    return Err(Failure::Other(format!("cancelled: {reason}")));
                }
                Ok(_) => {}
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                    return Err(Failure::Other("cancelled".to_owned()));
                }
            }
        }
    }

    /// Waits before another attempt; a new order ends the wait. True if the console recorded the
    /// end meanwhile.
    fn pause(&self, wait: Duration) -> Result<bool, Failure> {
        match self.inbox.recv_timeout(wait) {
            Ok(Event::Cancel(reason)) => Err(Failure::Other(format!("cancelled: {reason}"))),
            Ok(Event::Recorded) => Ok(true),
            Ok(Event::Order) | Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Failure::Other("the agent is ending".to_owned()))
            }
        }
    }

    /// Waits after everything is sent: true when the console recorded the end, false when it sent
    /// the order again.
    fn wait_for_word(&self) -> Result<bool, Failure> {
        match self.inbox.recv() {
            Ok(Event::Recorded) => Ok(true),
            Ok(Event::Order) => Ok(false),
            Ok(Event::Cancel(reason)) => Err(Failure::Other(format!("cancelled: {reason}"))),
            Err(_) => Err(Failure::Other("the agent is ending".to_owned())),
        }
    }
}

/// Used bytes in the first `count` chunks.
fn used(disk: &MasterDisk, count: usize) -> u64 {
    let bytes = disk.chunks().iter().take(count);
    bytes.map(|(_, mask)| u64::from(mask.used_bytes())).sum()
}
