//! `image restore`: an image onto a disk or file of this machine, by the same writer the agents use.

use super::deployment::{ChunkFailure, Deployment};
use super::{Cancelled, DiskError, OnProgress, device};
use imagefmt::{Image, Password, Root};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Where the work stands, for the progress line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Chunks are being written.
    Writing,
    /// Chunks are being read back.
    Verifying,
    /// The table is being written.
    Committing,
}

/// What a restore did.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Root read back.
    pub root: Root,
    /// Bytes written.
    pub bytes_written: u64,
    /// Remarks of the table planner.
    pub notes: Vec<String>,
}

/// Opens an image file.
///
/// # Errors
/// [`DiskError::Image`] for anything that is not a whole, readable image.
pub fn open_image(path: &Path, password: Option<&str>) -> Result<Image<File>, DiskError> {
    let file = OpenOptions::new().read(true).open(path).map_err(|e| DiskError::io("opening", path, e))?;
    let len = file.metadata().map_err(|e| DiskError::io("looking at", path, e))?.len();
    let password = password.map(Password::new);
    Image::open(file, len, password.as_ref()).map_err(|e| DiskError::image(path, e))
}

/// Makes the target ready to be opened: a path that does not exist becomes a sparse file of the master's size.
///
/// # Errors
/// When the file cannot be made, or the disk cannot be described.
pub fn target_facts(path: &Path, disk_size: u64) -> Result<crate::target::DiskFacts, DiskError> {
    if !path.exists() {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|e| DiskError::io("creating", path, e))?;
        file.set_len(disk_size).map_err(|e| DiskError::io("growing", path, e))?;
    }
    device::describe(path)
}

/// Writes `image` onto `target`, reads it back and commits it.
///
/// # Errors
/// As [`Deployment`]; after a failure the target has no partition table.
pub fn restore(
    image: &Image<File>,
    image_path: &Path,
    deployment: &Deployment,
    threads: usize,
    progress: &(dyn Fn(Stage, u64, u64) + Sync),
    cancelled: Cancelled,
) -> Result<Restored, DiskError> {
    deployment.wipe()?;
    let bytes_written =
        write_all(image, image_path, deployment, threads, &|done, total| progress(Stage::Writing, done, total), cancelled)?;
    deployment.flush()?;
    let proof = deployment.verify(threads, &|done, total| progress(Stage::Verifying, done, total), cancelled)?;
    progress(Stage::Committing, 0, 1);
    deployment.commit(&proof)?;
    progress(Stage::Committing, 1, 1);
    Ok(Restored { root: proof.root(), bytes_written, notes: deployment.notes().to_vec() })
}

fn write_all(
    image: &Image<File>,
    image_path: &Path,
    deployment: &Deployment,
    threads: usize,
    progress: OnProgress,
    cancelled: Cancelled,
) -> Result<u64, DiskError> {
    let total = deployment.total_bytes();
    let entries = image.manifest().entries.len();
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let failure: Mutex<Option<DiskError>> = Mutex::new(None);
    let fail = |error| {
        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut writer = match deployment.writer() {
                    Ok(writer) => writer,
                    Err(failure) => return fail(disk_error(failure, image_path)),
                };
                let mut body = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= entries || failure.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                        return;
                    }
                    if cancelled() {
                        return fail(DiskError::Cancelled);
                    }
                    let outcome = image
                        .read_body(index, &mut body)
                        .map_err(ChunkFailure::Corrupt)
                        .and_then(|()| writer.write(index, &body));
                    match outcome {
                        Ok(bytes) => progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, total),
                        Err(failure) => return fail(disk_error(failure, image_path)),
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(done.into_inner()),
    }
}

fn disk_error(failure: ChunkFailure, image_path: &Path) -> DiskError {
    match failure {
        ChunkFailure::Corrupt(error) => DiskError::image(image_path, error),
        ChunkFailure::Disk(error) => error,
    }
}
