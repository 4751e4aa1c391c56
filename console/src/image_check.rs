//! Image check before the first disk is wiped: every stored byte is compared with its hash, once
//! per file.
//!
//! ```text
//! deploy, job begins --> recorded for this very file? --yes--> go on
//!                                  | no
//!                          read-ahead of all chunks, by several threads, shared by everyone who waits
//!                                  +--> whole: recorded     damaged: refused with chunk, partition and bytes
//! ```
//!
//! Owns the running checks, and the records of those without a fault. Invariants: a record is about
//! one state of the files (path, root, and per volume device, inode, size and mtime), so a copy or
//! a change is checked again; damage is never recorded; a record is deleted when a session finds
//! damage.

use super::context::Console;
use super::master::{ChunkFault, MasterImage};
use super::shares::Wanted;
use super::time::now_text;
use api::{ApiError, CheckRequest, ErrorCode, ImageCheck};
use facts::target::Choice;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Number of threads that read and hash: enough for a disk array, while the console has other work.
const THREADS: usize = 4;
/// Number of faults after which a check ends.
const MAX_FAULTS: usize = 32;
/// Age after which a result is not reused: after damage, the cable may have been changed.
const STALE: Duration = Duration::from_secs(30);
/// Longest time before a request for a check answers with its progress.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// State of one file of an image.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FileStamp {
    /// Device number; 0 for a file on a share.
    pub device: u64,
    /// Inode number on that device.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl FileStamp {
    /// Returns the stamp of an open file.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            mtime_ns: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
        }
    }

    /// Returns the stamp without the device, for a file on a share: each mount has another device
    /// number.
    pub fn on_share(self) -> Self {
        Self { device: 0, ..self }
    }
}

/// Record of a check without a fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckRecord {
    /// Path of the image.
    pub path: String,
    /// Root of the image.
    pub root: String,
    /// Stamps of the image's files.
    pub files: Vec<FileStamp>,
    /// End of the check, RFC 3339.
    pub checked: String,
}

/// Result of a check: its end, and the damage it found.
#[derive(Clone, Debug)]
struct Found {
    checked: String,
    faults: Arc<Vec<ChunkFault>>,
    at: Instant,
}

/// A check that runs, or one that ended a moment ago.
pub struct RunningCheck {
    root: String,
    files: Vec<FileStamp>,
    total_bytes: u64,
    done_bytes: AtomicU64,
    found: watch::Sender<Option<Found>>,
}

impl RunningCheck {
    /// Returns the bytes checked so far, and in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.done_bytes.load(Ordering::Relaxed), self.total_bytes)
    }

    /// Returns the result of an ended check: its time, or a text about the damage of the parts that
    /// `choice` takes.
    pub fn verdict(&self, image: &MasterImage, choice: &Choice) -> Option<Result<String, String>> {
        let found = self.found.borrow().clone()?;
        Some(match image.damage_of(choice, &found.faults) {
            None => Ok(found.checked),
            Some(text) => Err(text),
        })
    }

    async fn ended(&self) {
        // This value holds the sender, so the wait cannot fail.
        let _ = self.found.subscribe().wait_for(Option::is_some).await;
    }

    fn is_of(&self, image: &MasterImage) -> bool {
        let found = self.found.borrow();
        let stale = found
            .as_ref()
            .is_some_and(|found| found.at.elapsed() > STALE);
        !stale && self.root == image.root() && self.files == image.files()
    }

    /// Reads every chunk, and returns the faults.
    fn look(&self, image: &MasterImage) -> Vec<ChunkFault> {
        let next = AtomicUsize::new(0);
        let faults = Mutex::new(Vec::new());
        let count = image.image().manifest().entries.len();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let mut body = Vec::new();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            return;
                        }
                        let bytes = match image.read_chunk_body(index, &mut body) {
                            Ok(()) => body.len() as u64,
                            Err(fault) => {
                                let mut faults =
                                    faults.lock().unwrap_or_else(PoisonError::into_inner);
                                faults.push(fault);
                                if faults.len() >= MAX_FAULTS {
                                    next.store(count, Ordering::Relaxed);
                                }
                                continue;
                            }
                        };
                        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
                    }
                });
            }
        });
        let mut faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
        faults.sort_by_key(|fault| fault.chunk);
        faults
    }
}

/// The checks of a running console, by path of the image.
#[derive(Default)]
pub struct Checks {
    running: Mutex<BTreeMap<String, Arc<RunningCheck>>>,
}

impl Console {
    /// Returns the time of the recorded check of the image in its present state, RFC 3339.
    pub async fn recorded_check(&self, image: &MasterImage) -> Option<String> {
        let record = match self.store.image_check(image.summary().path.clone()).await {
            Ok(record) => record?,
            Err(error) => {
                tracing::warn!(%error, "the record of checked images cannot be read; the image is checked again");
                return None;
            }
        };
        let same = record.root == image.root() && record.files == image.files();
        same.then_some(record.checked)
    }

    /// Returns the running check of this image, or begins one.
    pub fn begin_check(self: &Arc<Self>, image: &Arc<MasterImage>) -> Arc<RunningCheck> {
        let path = image.summary().path.clone();
        let mut running = self
            .checks
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = running.get(&path).filter(|known| known.is_of(image)) {
            return Arc::clone(known);
        }
        let check = Arc::new(RunningCheck {
            root: image.root().to_owned(),
            files: image.files(),
            total_bytes: image.image().manifest().body_bytes(),
            done_bytes: AtomicU64::new(0),
            found: watch::Sender::new(None),
        });
        running.insert(path, Arc::clone(&check));
        drop(running);
        let (console, image, own) = (Arc::clone(self), Arc::clone(image), Arc::clone(&check));
        tokio::spawn(async move { console.run_check(image, own).await });
        check
    }

    async fn run_check(&self, image: Arc<MasterImage>, check: Arc<RunningCheck>) {
        let path = image.summary().path.clone();
        tracing::info!(image = path, "checking the image before it is sent");
        let (own, looked) = (Arc::clone(&check), Arc::clone(&image));
        let looking = tokio::task::spawn_blocking(move || own.look(&looked)).await;
        let faults = looking.unwrap_or_else(|error| {
            let text = format!("image {path} could not be checked: {error}");
            vec![ChunkFault::of_image(text)]
        });
        let checked = now_text();
        // A file that changed during the check was not checked in its present state.
        if faults.is_empty() && image.files() == check.files {
            let record = CheckRecord {
                path: path.clone(),
                root: check.root.clone(),
                files: check.files.clone(),
                checked: checked.clone(),
            };
            if let Err(error) = self.store.save_image_check(record).await {
                tracing::warn!(image = path, %error, "the check is not recorded; the image will be checked again");
            }
        }
        for fault in &faults {
            tracing::error!(image = path, "{}", fault.text);
        }
        check.found.send_replace(Some(Found {
            checked,
            faults: Arc::new(faults),
            at: Instant::now(),
        }));
    }

    /// Deletes the record of a check, because a session found damage.
    pub async fn forget_check(&self, image: &MasterImage) {
        let path = image.summary().path.clone();
        self.checks
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&path);
        if let Err(error) = self.store.delete_image_check(path.clone()).await {
            tracing::error!(image = path, %error, "the image still counts as checked");
        }
    }

    /// Checks an image. Returns the time of the check, or its progress if it needs longer than a
    /// moment.
    ///
    /// # Errors
    /// `Integrity` for damage of parts that the choice takes; those of opening the image.
    pub async fn check_image(
        self: &Arc<Self>,
        request: CheckRequest,
    ) -> Result<ImageCheck, ApiError> {
        let choice = &request.choice;
        let wanted = Wanted {
            image: &request.image,
            share: request.share.as_ref(),
            secrets: &request.secrets,
        };
        let image = self.open_image(wanted, request.password.clone()).await?;
        if let Some(checked) = self.recorded_check(&image).await {
            return Ok(ImageCheck::Checked { checked });
        }
        let check = self.begin_check(&image);
        // After the limit the answer is the progress, not an error.
        let _ = tokio::time::timeout(ANSWER_WITHIN, check.ended()).await;
        match check.verdict(&image, choice) {
            Some(Ok(checked)) => Ok(ImageCheck::Checked { checked }),
            Some(Err(text)) => Err(damaged(&image, &text)),
            None => {
                let (done_bytes, total_bytes) = check.progress();
                Ok(ImageCheck::Checking {
                    done_bytes,
                    total_bytes,
                })
            }
        }
    }
}

/// Returns the refusal of a damaged image.
fn damaged(image: &MasterImage, text: &str) -> ApiError {
    let message = format!("{}: {text}; nothing was written", image.summary().path);
    ApiError::new(ErrorCode::Integrity, message)
        .hint("diskcast image check names all of the damage; deploy another copy, or capture again")
}
