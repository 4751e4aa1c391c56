//! `image restore`: writes an image to a disk or file of this machine, with the same writer as the
//! agents.

use super::deployment::{ChunkFailure, Deployment};
use super::readback::ReadBack;
use super::{Cancelled, DiskError, OnProgress, container, device, share};
use imagefmt::{Image, Password, Root, Summary, Volume, volume_name};
use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Stage of a restore, for the progress line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Chunks are being written.
    Writing,
    /// Chunks are being read back.
    Verifying,
    /// The table is being written.
    Committing,
}

/// Result of a restore.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Root that was read back.
    pub root: Root,
    /// Number of bytes written.
    pub bytes_written: u64,
    /// Notes of the table planner.
    pub notes: Vec<String>,
}

/// Most volumes of one image: 4 TiB at the default size.
const VOLUMES_MAX: u32 = 1024;

/// Opens an image with all its volumes.
///
/// # Errors
/// [`DiskError::Io`] for a file that cannot be read, [`DiskError::Image`] for anything that is not
/// a whole, readable image.
pub fn open_image(path: &Path, password: Option<&str>) -> Result<Image<File>, DiskError> {
    let volumes = open_volumes(path)?;
    let password = password.map(Password::new);
    Image::open_volumes(volumes, password.as_ref()).map_err(|e| not_an_image(path, e))
}

/// The facts about an image that need no password.
///
/// # Errors
/// The errors of [`open_image`].
pub fn summary(path: &Path) -> Result<Summary, DiskError> {
    Image::summary(open_volumes(path)?).map_err(|e| not_an_image(path, e))
}

/// The error for a file that is not an image, with the name of its format if it is known.
fn not_an_image(path: &Path, error: imagefmt::FormatError) -> DiskError {
    let found = OpenOptions::new()
        .read(true)
        .open(path)
        .ok()
        .and_then(|file| {
            let size = file.metadata().ok()?.len();
            container::of_file(&file, size)
        });
    match found {
        Some(found) if !found.is_ours() => DiskError::refused(
            format!(
                "{} is {}, not an image of diskcast",
                path.display(),
                found.name
            ),
            found.hint(path),
        ),
        _ => DiskError::image(path, error),
    }
}

/// Refuses anything but a regular file as an image. Checked before it is opened: opening a FIFO
/// waits for its writer.
fn refuse_odd_image(path: &Path, meta: &Metadata) -> Result<(), DiskError> {
    let kind = meta.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO, and images are read at many places"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "a socket"
    };
    Err(DiskError::refused(
        format!("{} is {what}", path.display()),
        "name the file of an image",
    ))
}

/// The file at `path` and its further volumes beside it, in order, up to the first missing one.
pub fn volume_paths(path: &Path) -> Vec<PathBuf> {
    let further = (2..=VOLUMES_MAX).map(|number| volume_path(path, number));
    let there = further.take_while(|path| path.symlink_metadata().is_ok());
    std::iter::once(path.to_owned()).chain(there).collect()
}

/// Path of the volume of this number; volume 1 is the image itself.
pub fn volume_path(path: &Path, number: u32) -> PathBuf {
    // Appended to the path in the system's own form, which need not be text.
    let mut name = path.as_os_str().to_owned();
    name.push(volume_name("", number));
    name.into()
}

/// Opens the image at `path`: its file and, if it is divided, the further parts beside it, in
/// order, up to the first missing one or to its last. Other files with such names are not part of
/// it.
///
/// # Errors
/// [`DiskError::Io`] for a file that cannot be opened, [`DiskError::Refused`] for one that is not a
/// regular file.
pub fn open_volumes(path: &Path) -> Result<Vec<Volume<File>>, DiskError> {
    share::refuse_unmounted(path)?;
    let mut volumes = Vec::new();
    for path in volume_paths(path) {
        let volume = open_volume(&path)?;
        let divided = imagefmt::is_divided(&volume.reader, volume.len);
        volumes.push(volume);
        let ends = match volumes.as_slice() {
            [_] if matches!(divided, Ok(false)) => true,
            all => Image::summary(all.iter().map(borrowed).collect()).is_ok(),
        };
        if ends {
            break;
        }
    }
    Ok(volumes)
}

/// Opens one file of an image.
pub(super) fn open_volume(path: &Path) -> Result<Volume<File>, DiskError> {
    let failed = |error| DiskError::io("opening", path, error);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    refuse_odd_image(path, &metadata)?;
    let reader = OpenOptions::new().read(true).open(path).map_err(failed)?;
    let metadata = reader.metadata().map_err(failed)?;
    Ok(Volume {
        reader,
        len: metadata.len(),
    })
}

fn borrowed(volume: &Volume<File>) -> Volume<&File> {
    Volume {
        reader: &volume.reader,
        len: volume.len,
    }
}

/// Prepares the target for opening: a path that does not exist becomes a sparse file of the
/// master's size.
///
/// # Errors
/// [`DiskError::Refused`] for a mistyped device name, and for a file that is a container of a disk;
/// an error when the file cannot be made, or the disk cannot be described.
pub fn target_facts(path: &Path, disk_size: u64) -> Result<facts::target::DiskFacts, DiskError> {
    device::refuse_new_device(path)?;
    if !path.exists() {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|e| DiskError::io("creating", path, e))?;
        file.set_len(disk_size)
            .map_err(|e| DiskError::io("growing", path, e))?;
    }
    let facts = device::describe(path)?;
    if facts.file_backed {
        container::refuse_target(path, facts.size)?;
    }
    Ok(facts)
}

/// Writes `image` to `target`, reads it back and commits it.
///
/// # Errors
/// The errors of [`Deployment`]; after a failure the target has no partition table.
pub fn restore(
    image: &Image<File>,
    image_path: &Path,
    deployment: &Arc<Deployment>,
    threads: usize,
    progress: &(dyn Fn(Stage, u64, u64) + Sync),
    cancelled: Cancelled,
) -> Result<Restored, DiskError> {
    deployment.wipe()?;
    let read_back = ReadBack::start(deployment, threads, None, Vec::new(), Box::new(|_, _| {}))
        .map_err(|e| DiskError::io("starting to read back", deployment.target().path(), e))?;
    let bytes_written = write_all(
        image,
        image_path,
        deployment,
        &read_back,
        threads,
        &|done, total| progress(Stage::Writing, done, total),
        cancelled,
    )?;
    let proof = read_back.finish(
        &|done, total| progress(Stage::Verifying, done, total),
        cancelled,
    )?;
    progress(Stage::Committing, 0, 1);
    deployment.commit(&proof)?;
    progress(Stage::Committing, 1, 1);
    Ok(Restored {
        root: proof.root(),
        bytes_written,
        notes: deployment.notes().to_vec(),
    })
}

fn write_all(
    image: &Image<File>,
    image_path: &Path,
    deployment: &Deployment,
    read_back: &ReadBack,
    threads: usize,
    progress: OnProgress,
    cancelled: Cancelled,
) -> Result<u64, DiskError> {
    let total = deployment.total_bytes();
    let entries = image.manifest().entries.len();
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let failure: Mutex<Option<DiskError>> = Mutex::new(None);
    let fail = |error| {
        failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    };
    std::thread::scope(|scope| {
        // A direct write blocks its thread: two more threads keep the processors busy meanwhile.
        for _ in 0..threads.max(1) + 2 {
            scope.spawn(|| {
                let mut writer = match deployment.writer() {
                    Ok(writer) => writer,
                    Err(failure) => return fail(disk_error(failure, image_path)),
                };
                let mut body = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= entries
                        || failure
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .is_some()
                    {
                        return;
                    }
                    if cancelled() {
                        return fail(DiskError::Cancelled);
                    }
                    if !deployment.wants(index) {
                        continue;
                    }
                    let outcome = image
                        .read_body(index, &mut body)
                        .map_err(ChunkFailure::Corrupt)
                        .and_then(|()| writer.write(index, &body));
                    match outcome {
                        Ok(bytes) => {
                            read_back.written(index);
                            if let Some(error) = read_back.take_failure() {
                                return fail(error);
                            }
                            progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, total)
                        }
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
