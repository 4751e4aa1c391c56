//! The files of an image being written: one, or several on a file system that limits file sizes.
//!
//! Owns the division of an image and the names of its parts while they are written. Always holds:
//! the first part, which has the name of the image, gets its name last; a failed capture removes
//! every part it made and no other file.

use super::output::{ImageOutput, partial_of, refuse_existing, remove_unfinished};
use super::restore::volume_path;
use super::{DiskError, share};
use imagefmt::{DEFAULT_VOLUME_BYTES, VolumeSink};
use rustix::process::{Resource, getrlimit};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Magic number of FAT12, FAT16 and FAT32 in statfs(2): files of up to 4 GiB - 1.
const MSDOS_SUPER_MAGIC: u64 = 0x4d44;

/// Smallest part that the format allows, in bytes.
pub const VOLUME_MIN: u64 = 16 << 20;

type Part = Arc<Mutex<ImageOutput>>;

/// The parts of one image.
#[derive(Debug)]
pub struct Volumes {
    image: PathBuf,
    parts: Arc<Mutex<Vec<Part>>>,
    /// Bytes of a part; `None` for an image in one piece.
    cut: Option<u64>,
}

/// The part that is being written.
#[derive(Debug)]
pub struct PartWriter(Part);

impl PartWriter {
    /// Cuts the part to its first `len` bytes and continues behind them.
    ///
    /// # Errors
    /// The medium fails.
    pub fn cut(&mut self, len: u64) -> Result<(), DiskError> {
        lock(&self.0).cut(len)
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        lock(&self.0).flush()
    }
}

impl Volumes {
    /// Begins an image at `image`, divided at `asked` bytes, or by itself if the file system limits
    /// file sizes.
    ///
    /// # Errors
    /// [`DiskError::Refused`] when the image or its second part exists, or the limit is below 16
    /// MiB.
    pub fn create(image: &Path, asked: Option<u64>) -> Result<(Self, PartWriter), DiskError> {
        share::refuse_unmounted(image)?;
        let cut = [asked, file_limit(image)].into_iter().flatten().min();
        if cut.is_some_and(|cut| cut < VOLUME_MIN) {
            return Err(DiskError::refused(
                format!("files beside {} may not grow to 16 MiB", image.display()),
                "raise the limit (ulimit -f), or write the image elsewhere",
            ));
        }
        if cut.is_some() {
            refuse_existing(&volume_path(image, 2))?;
        }
        let first = Arc::new(Mutex::new(ImageOutput::create(image)?));
        let volumes = Self {
            image: image.to_owned(),
            parts: Arc::new(Mutex::new(vec![Arc::clone(&first)])),
            cut,
        };
        Ok((volumes, PartWriter(first)))
    }

    /// Opens the rest of an interrupted capture of an image in one piece, to continue it: the file,
    /// opened once more for reading, and its length. `None` when there is none, or when the file
    /// system limits file sizes.
    ///
    /// # Errors
    /// The errors of [`ImageOutput::reopen`].
    pub fn reopen(image: &Path) -> Result<Option<(Self, PartWriter, File, u64)>, DiskError> {
        if file_limit(image).is_some() {
            return Ok(None);
        }
        let Some((first, reader, len)) = ImageOutput::reopen(image)? else {
            return Ok(None);
        };
        let first = Arc::new(Mutex::new(first));
        let volumes = Self {
            image: image.to_owned(),
            parts: Arc::new(Mutex::new(vec![Arc::clone(&first)])),
            cut: None,
        };
        Ok(Some((volumes, PartWriter(first), reader, len)))
    }

    /// Writes everything so far to the medium.
    ///
    /// # Errors
    /// The medium is full or fails.
    pub fn sync(&self) -> Result<(), DiskError> {
        let parts = lock(&self.parts);
        parts.iter().try_for_each(|part| lock(part).sync())
    }

    /// Paths of the parts before they have their final names, in order.
    pub fn unnamed(&self) -> Vec<PathBuf> {
        let parts = lock(&self.parts);
        let paths = parts
            .iter()
            .map(|part| lock(part).partial().map(Path::to_owned));
        paths.flatten().collect()
    }

    /// Size in bytes at which the image is divided into volumes; `None` for an image in one piece.
    pub fn cut(&self) -> Option<u64> {
        self.cut
    }

    /// Free bytes on the medium of the image; `None` for a pipe.
    pub fn free_bytes(&self) -> Option<u64> {
        lock(&self.parts)
            .first()
            .and_then(|first| lock(first).free_bytes())
    }

    /// Opens the further parts, for the writer of the image.
    pub fn sink(&self) -> impl VolumeSink<PartWriter> + Send + 'static {
        let (image, parts) = (self.image.clone(), Arc::clone(&self.parts));
        move |mut finished: PartWriter, number: u32| {
            finished.flush()?;
            let path = volume_path(&image, number);
            let next = ImageOutput::create(&path).map_err(|e| io::Error::other(e.full()))?;
            let next = Arc::new(Mutex::new(next));
            lock(&parts).push(Arc::clone(&next));
            Ok(PartWriter(next))
        }
    }

    /// Gives every part its name, the first last, and removes further parts that a killed capture
    /// left.
    ///
    /// # Errors
    /// The medium is full or fails, or a name was taken meanwhile; the parts without a name are
    /// removed.
    pub fn finish(self) -> Result<u32, DiskError> {
        let parts = std::mem::take(&mut *lock(&self.parts));
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        for part in parts.iter().rev() {
            if let Err(error) = lock(part).publish() {
                for part in &parts {
                    lock(part).withdraw();
                }
                return Err(error);
            }
        }
        // A part that cannot be removed does no harm: it does not belong to this image.
        let _ = remove_unfinished_from(&self.image, count.saturating_add(1).max(2));
        Ok(count)
    }

    /// Removes every part after a failure.
    pub fn discard(&mut self) {
        for part in lock(&self.parts).iter() {
            lock(part).discard();
        }
    }
}

/// Removes all parts of an interrupted capture of the image at `image`.
///
/// # Errors
/// The errors of [`remove_unfinished`].
pub fn remove_unfinished_parts(image: &Path) -> Result<(), DiskError> {
    remove_unfinished(image)?;
    remove_unfinished_from(image, 2)
}

fn remove_unfinished_from(image: &Path, first: u32) -> Result<(), DiskError> {
    let parts = (first..).map(|number| volume_path(image, number));
    parts
        .take_while(|part| partial_of(part).symlink_metadata().is_ok())
        .try_for_each(|part| remove_unfinished(&part))
}

/// Largest file in bytes at `image`, if it is known to be limited.
pub fn file_limit(image: &Path) -> Option<u64> {
    if image == Path::new("-") {
        return None;
    }
    let folder = match image.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let fat = rustix::fs::statfs(folder)
        .is_ok_and(|stat| stat.f_type.cast_unsigned() == MSDOS_SUPER_MAGIC)
        .then_some(DEFAULT_VOLUME_BYTES);
    let process = getrlimit(Resource::Fsize).current;
    match (fat, process) {
        (Some(fat), Some(process)) => Some(fat.min(process)),
        (fat, process) => fat.or(process),
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
