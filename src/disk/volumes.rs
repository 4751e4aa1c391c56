//! The files of an image being written: one, or several where a file may not grow large enough.
//!
//! Owns where an image is cut and the names of its parts while they are written. What always holds: the first part, by whose
//! name an image goes, gets its name last; a failed capture removes every part it made and no other file.

use super::output::{ImageOutput, partial_of, refuse_existing, remove_unfinished};
use super::restore::volume_path;
use super::{DiskError, share};
use imagefmt::{DEFAULT_VOLUME_BYTES, VolumeSink};
use rustix::process::{Resource, getrlimit};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// FAT12, FAT16 and FAT32 by statfs(2): files of up to 4 GiB - 1.
const MSDOS_SUPER_MAGIC: u64 = 0x4d44;

/// Smallest part that makes sense, as the format says.
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
    /// Cuts the part to its first `len` bytes and goes on behind them.
    ///
    /// # Errors
    /// When the medium fails.
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
    /// Begins an image at `image`, cut at `asked` bytes, or by itself where files cannot grow as they like.
    ///
    /// # Errors
    /// [`DiskError::Refused`] when the image or its second part exists, or where files stay below 16 MiB.
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

    /// What an earlier capture left of an image in one piece, to go on with it: the file, opened once more for reading, and its
    /// length. `None` when there is nothing, or where files cannot grow as they like.
    ///
    /// # Errors
    /// As [`ImageOutput::reopen`].
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

    /// Everything written so far is on the medium.
    ///
    /// # Errors
    /// When the medium is full or fails.
    pub fn sync(&self) -> Result<(), DiskError> {
        let parts = lock(&self.parts);
        parts.iter().try_for_each(|part| lock(part).sync())
    }

    /// Where the parts are before they have their names, in order.
    pub fn unnamed(&self) -> Vec<PathBuf> {
        let parts = lock(&self.parts);
        let paths = parts
            .iter()
            .map(|part| lock(part).partial().map(Path::to_owned));
        paths.flatten().collect()
    }

    /// Size in bytes at which the image is cut into volumes; `None` for an image in one piece.
    pub fn cut(&self) -> Option<u64> {
        self.cut
    }

    /// Bytes free where the image goes; `None` for a pipe.
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

    /// Gives every part its name, the first last, and removes what a killed capture left of further ones.
    ///
    /// # Errors
    /// When the medium is full or fails, or a name was taken meanwhile; the parts that have no name yet are removed.
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
        // What cannot be removed is in nobody's way: it is not of this image.
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

/// Removes what a capture left of the image at `image`, all its parts.
///
/// # Errors
/// As [`remove_unfinished`].
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

/// Bytes a file may have at `image`, when that is known to be limited.
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
