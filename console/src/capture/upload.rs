//! The state that connections on TCP 5003 and a capture's task share: the intake, and the upload
//! that may write to it.
//!
//! Owns the turn: the newest upload has it, and an older one still on the wire is refused as soon
//! as the next begins. Invariant: the survey is stored before its first chunk is taken, so that a
//! restarted console knows the survey of its file.

use super::intake::{Finished, Intake, Refused, Wanted};
use api::CaptureView;
use disk::DiskError;
use disk::volumes::remove_unfinished_parts;
use imagefmt::{Entry, Geometry};
use jobs::row::CaptureRecord;
use protocol::capture::CaptureEnd;
use protocol::control::{CaptureBegin, CaptureBegun};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The receiving side of a capture.
#[derive(Debug)]
pub struct Upload {
    wanted: Wanted,
    inner: Mutex<Inner>,
    /// Copy of the progress, readable without waiting for a disk.
    seen: Mutex<Standing>,
    /// Notification of the task about a failure or a complete upload.
    pub(super) changed: Notify,
    received_chunks: AtomicU64,
    received_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    intake: Option<Intake>,
    /// Size of the ordered disk in bytes; uploads are refused before it is set.
    disk_bytes: Option<u64>,
    /// Hash of the survey that the intake belongs to.
    survey: Option<String>,
    upload: u64,
    state: State,
    kept: u64,
    total: (u64, u64),
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    /// All chunks have arrived.
    Complete,
    /// The console's own disk failed.
    Failed(DiskError),
    /// The capture has ended.
    Closed,
}

/// Progress of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Chunks and used bytes of the whole image.
    pub total: (u64, u64),
    /// Chunks and used bytes that the image holds.
    pub held: (u64, u64),
    /// Chunks and bytes received over the network.
    pub received: (u64, u64),
    /// Chunks of an earlier upload, found when the job's task began.
    pub kept: u64,
    /// Hash of the survey that the chunks belong to.
    pub survey: Option<String>,
    /// Size of the disk in bytes; 0 before its survey.
    pub disk_bytes: u64,
    /// True after all chunks have arrived.
    pub complete: bool,
}

impl Upload {
    /// Makes an empty upload; `survey` is the hash of the survey that an unfinished file belongs
    /// to.
    pub fn new(wanted: Wanted, survey: Option<String>) -> Self {
        Self {
            wanted,
            inner: Mutex::new(Inner {
                survey,
                ..Inner::default()
            }),
            seen: Mutex::default(),
            changed: Notify::new(),
            received_chunks: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic between two changes is a bug; the agent still checks the intake's digest.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Standing> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies the progress for readers.
    fn show(&self, inner: &Inner) {
        let mut seen = self.seen();
        seen.total = inner.total;
        seen.kept = inner.kept;
        seen.survey.clone_from(&inner.survey);
        seen.complete = matches!(inner.state, State::Complete);
        if let Some(intake) = &inner.intake {
            seen.held = intake.held();
            seen.disk_bytes = intake.geometry().disk_size;
        }
    }

    /// Returns the properties of the image to make.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Reads the unfinished image of an earlier capture, if its survey is known. Returns its number
    /// of chunks.
    ///
    /// Blocks for as long as reading takes.
    ///
    /// # Errors
    /// The errors of [`Intake::resume`].
    pub fn prepare(&self) -> Result<u64, DiskError> {
        if self.lock().survey.is_none() {
            return Ok(0);
        }
        // Reading may take minutes, so the lock is not held; no upload begins before it ends.
        let resumed = Intake::resume(&self.wanted)?;
        let mut inner = self.lock();
        if !matches!(inner.state, State::Open) || inner.intake.is_some() {
            return Ok(0);
        }
        inner.intake = resumed;
        inner.kept = inner.intake.as_ref().map_or(0, |intake| intake.held().0);
        if inner.intake.is_none() {
            inner.survey = None;
        }
        self.show(&inner);
        Ok(inner.kept)
    }

    /// Accepts uploads of a disk of this size only.
    pub fn open(&self, disk_bytes: u64) {
        self.lock().disk_bytes = Some(disk_bytes);
    }

    /// Begins an upload with a survey; it takes the turn. Blocks.
    ///
    /// # Errors
    /// [`Refused`] if the capture takes no uploads now, or the survey is invalid or of another
    /// disk.
    pub fn begin(&self, begin: &CaptureBegin) -> Result<CaptureBegun, Refused> {
        let mut inner = self.lock();
        inner.open()?;
        if inner.disk_bytes != Some(begin.disk_bytes) {
            return Err(Refused::Nonsense("another disk than was ordered".into()));
        }
        if begin.survey.len() != 64 {
            return Err(Refused::Nonsense("a survey without its hash".into()));
        }
        let survey = Some(begin.survey.clone());
        let stale = match (&begin.fresh, &inner.survey) {
            (Some(why), Some(_)) => Some(why.chars().take(200).collect()),
            (None, known) if known.is_some() && *known != survey => {
                Some("the disk is not as it was surveyed before".to_owned())
            }
            _ => None,
        };
        let note = match (stale, &inner.intake) {
            (Some(why), Some(_)) => Some(format!("{why}: it begins anew")),
            _ => None,
        };
        if note.is_some() {
            inner.intake = None;
            inner.kept = 0;
        }
        let known = inner.intake.take();
        let was_there = known.is_some();
        let mut intake = match known {
            Some(intake) => intake,
            None => Intake::create(&self.wanted, begin)?,
        };
        if let Err(refused) = intake.announce(begin) {
            // An image that existed before stays for an agent with the right survey; one made for
            // this survey goes.
            if was_there {
                inner.intake = Some(intake);
            }
            return Err(refused);
        }
        inner.upload += 1;
        inner.survey = survey;
        inner.total = (begin.chunks, begin.used_bytes);
        let begun = intake.begun(inner.upload, note);
        inner.intake = Some(intake);
        self.show(&inner);
        Ok(begun)
    }

    /// Returns the geometry of the upload's chunks.
    ///
    /// # Errors
    /// [`Refused::Untimely`] if another upload has the turn.
    pub fn geometry(&self, upload: u64) -> Result<Geometry, Refused> {
        let mut inner = self.lock();
        Ok(inner.turn(upload)?.geometry())
    }

    /// Stores a chunk. Blocks.
    ///
    /// # Errors
    /// After [`Refused::Nonsense`] nothing has changed. A fault of the console's disk ends the
    /// capture and is returned as [`Refused::Untimely`].
    pub fn store(&self, upload: u64, entry: Entry, body: &[u8]) -> Result<(), Refused> {
        let mut inner = self.lock();
        match inner.turn(upload)?.store(entry, body) {
            Ok(()) => {
                self.show(&inner);
                self.received_chunks.fetch_add(1, Ordering::Relaxed);
                self.received_bytes
                    .fetch_add(body.len() as u64, Ordering::Relaxed);
                Ok(())
            }
            Err(Refused::Here(error)) => {
                let text = error.full();
                // The file must be read again before it is trusted.
                inner.intake = None;
                inner.state = State::Failed(error);
                drop(inner);
                self.changed.notify_one();
                Err(Refused::Untimely(text))
            }
            Err(refused) => Err(refused),
        }
    }

    /// Ends the upload at the agent's request.
    ///
    /// # Errors
    /// [`Refused`] if chunks are missing, the list of unreadable ranges is invalid, or another
    /// upload has the turn.
    pub fn end(&self, upload: u64, end: CaptureEnd) -> Result<(), Refused> {
        let mut inner = self.lock();
        let intake = inner.turn(upload)?;
        end.check(&self.wanted.request.wishes, &intake.geometry())
            .map_err(|error| Refused::Nonsense(error.to_string()))?;
        if !intake.is_complete() {
            let (chunks, _) = intake.held();
            let text = format!("only {chunks} chunks came, more were announced");
            return Err(Refused::Nonsense(text));
        }
        intake.has_holes(end.holes);
        inner.state = State::Complete;
        self.show(&inner);
        drop(inner);
        self.changed.notify_one();
        Ok(())
    }

    /// Returns the present progress.
    pub fn standing(&self) -> Standing {
        let mut standing = self.seen().clone();
        standing.received = (
            self.received_chunks.load(Ordering::Relaxed),
            self.received_bytes.load(Ordering::Relaxed),
        );
        standing
    }

    /// Returns the capture's record for the store.
    pub fn record(&self) -> CaptureRecord {
        let standing = self.standing();
        CaptureRecord {
            request: self.wanted.request.clone(),
            view: CaptureView {
                encrypted: self.wanted.password.is_some(),
                disk_bytes: standing.disk_bytes,
                used_bytes: standing.total.1,
                chunks: standing.total.0,
                received_chunks: standing.received.0,
                received_bytes: standing.received.1,
                kept_chunks: standing.kept,
                file_bytes: 0,
                volumes: 0,
                meta: None,
            },
            survey: standing.survey,
        }
    }

    /// Takes the error of the console's own disk; the upload is closed then.
    pub fn take_failure(&self) -> Option<DiskError> {
        let mut inner = self.lock();
        match std::mem::take(&mut inner.state) {
            State::Failed(error) => {
                inner.state = State::Closed;
                Some(error)
            }
            other => {
                inner.state = other;
                None
            }
        }
    }

    /// Finishes the image. Blocks for as long as reading it back takes.
    ///
    /// # Errors
    /// The errors of [`Intake::finish`]; [`DiskError::Cancelled`] without an intake.
    pub fn finish(
        &self,
        progress: disk::OnProgress,
        cancelled: disk::Cancelled,
    ) -> Result<Finished, DiskError> {
        let intake = {
            let mut inner = self.lock();
            inner.state = State::Closed;
            inner.intake.take()
        };
        match intake {
            Some(intake) => intake.finish(progress, cancelled),
            None => Err(DiskError::Cancelled),
        }
    }

    /// Closes the upload; with `remove` also deletes the unfinished image.
    pub fn close(&self, remove: bool) {
        let mut inner = self.lock();
        let held = inner.intake.take().is_some() || inner.survey.is_some();
        inner.state = State::Closed;
        if remove
            && held
            && let Err(error) = remove_unfinished_parts(&self.wanted.image)
        {
            tracing::warn!(error = %error.full(), "could not remove the unfinished image");
        }
    }
}

impl Inner {
    fn open(&self) -> Result<(), Refused> {
        match &self.state {
            State::Open => Ok(()),
            State::Complete => Err(Refused::Untimely("the image is being checked".into())),
            State::Failed(error) => Err(Refused::Untimely(error.full())),
            State::Closed => Err(Refused::Untimely("the capture is over".into())),
        }
    }

    /// Returns the intake if this upload has the turn.
    fn turn(&mut self, upload: u64) -> Result<&mut Intake, Refused> {
        self.open()?;
        if upload == 0 || upload != self.upload {
            return Err(Refused::Untimely("another upload has taken over".into()));
        }
        self.intake
            .as_mut()
            .ok_or_else(|| Refused::Untimely("no survey came before".into()))
    }
}
