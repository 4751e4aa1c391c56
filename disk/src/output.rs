//! The output of an image: a file that appears whole or not at all, or a pipe.
//!
//! Owns the `.partial` file. Always holds: the final name is never overwritten and never names an
//! unfinished image; a failed capture removes its `.partial`, a killed one leaves it to be replaced
//! by the next. A file of that name that is not from a capture is refused, never emptied or
//! removed.

use super::{DiskError, ground, restore};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of the buffer between records and the file: large writes, few system calls.
const WRITE_BUFFER: usize = 1 << 20;

/// An image being written.
#[derive(Debug)]
pub struct ImageOutput {
    writer: io::BufWriter<Sink>,
    partial: Option<PathBuf>,
    path: PathBuf,
}

#[derive(Debug)]
enum Sink {
    File(File),
    Pipe(io::Stdout),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Pipe(pipe) => pipe.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Pipe(pipe) => pipe.flush(),
        }
    }
}

impl Write for ImageOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl ImageOutput {
    /// Opens `PATH.partial` for a new image at `path`, or standard output for `-`.
    ///
    /// # Errors
    /// [`DiskError::Refused`] when `path` exists or another capture is writing to it.
    pub fn create(path: &Path) -> Result<Self, DiskError> {
        if path == Path::new("-") {
            let writer = io::BufWriter::with_capacity(WRITE_BUFFER, Sink::Pipe(io::stdout()));
            return Ok(Self {
                writer,
                partial: None,
                path: path.to_owned(),
            });
        }
        let (file, partial) = claim(path)?;
        refuse_whole(&partial)?;
        // The rest of a killed capture cannot be continued here. The lock shows that no other
        // process uses it, so it is replaced.
        file.set_len(0)
            .map_err(|e| DiskError::io("emptying", &partial, e))?;
        let writer = io::BufWriter::with_capacity(WRITE_BUFFER, Sink::File(file));
        Ok(Self {
            writer,
            partial: Some(partial),
            path: path.to_owned(),
        })
    }

    /// Opens the rest of an interrupted capture of the image at `path`, to continue it; `None` when
    /// there is none. The file is not changed before [`ImageOutput::cut`].
    ///
    /// # Errors
    /// [`DiskError::Refused`] when `path` exists or another capture is writing to it.
    pub fn reopen(path: &Path) -> Result<Option<(Self, File, u64)>, DiskError> {
        if !partial_of(path).exists() {
            return Ok(None);
        }
        let (file, partial) = claim(path)?;
        let io = |e| DiskError::io("opening", &partial, e);
        let reader = OpenOptions::new().read(true).open(&partial).map_err(io)?;
        let len = reader.metadata().map_err(io)?.len();
        let writer = io::BufWriter::with_capacity(WRITE_BUFFER, Sink::File(file));
        let output = Self {
            writer,
            partial: Some(partial),
            path: path.to_owned(),
        };
        Ok(Some((output, reader, len)))
    }

    /// Cuts the file to its first `len` bytes and continues behind them.
    ///
    /// # Errors
    /// The medium fails.
    pub fn cut(&mut self, len: u64) -> Result<(), DiskError> {
        let Sink::File(file) = self.writer.get_mut() else {
            return Ok(());
        };
        file.set_len(len)
            .and_then(|()| file.seek(SeekFrom::Start(len)))
            .map(drop)
            .map_err(|e| DiskError::io("cutting", &self.path, e))
    }

    /// Path of the image before it has its final name.
    pub fn partial(&self) -> Option<&Path> {
        self.partial.as_deref()
    }

    /// Writes everything so far to the medium.
    ///
    /// # Errors
    /// The medium is full or fails.
    pub fn sync(&mut self) -> Result<(), DiskError> {
        let io = |e| DiskError::io("syncing", &self.path, e);
        self.writer.flush().map_err(io)?;
        match self.writer.get_ref() {
            Sink::File(file) => file.sync_all().map_err(io),
            Sink::Pipe(_) => Ok(()),
        }
    }

    /// Free bytes on the medium of the image; `None` for a pipe.
    pub fn free_bytes(&self) -> Option<u64> {
        let Sink::File(file) = self.writer.get_ref() else {
            return None;
        };
        let stat = rustix::fs::fstatvfs(file).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Finishes the image: syncs it, gives it its name, and syncs the directory.
    ///
    /// # Errors
    /// The medium is full or fails; the `.partial` is removed.
    pub fn finish(mut self) -> Result<(), DiskError> {
        let result = self.publish();
        if result.is_err() {
            self.discard();
        }
        result
    }

    /// Syncs one of several parts, gives it its name and syncs the directory, like
    /// [`ImageOutput::finish`]. Nothing is removed on failure.
    ///
    /// # Errors
    /// The medium is full or fails, or the name was taken.
    pub(super) fn publish(&mut self) -> Result<(), DiskError> {
        self.writer
            .flush()
            .map_err(|e| DiskError::io("writing", &self.path, e))?;
        let (Some(partial), Sink::File(file)) = (&self.partial, self.writer.get_ref()) else {
            return Ok(());
        };
        file.sync_all()
            .map_err(|e| DiskError::io("syncing", partial, e))?;
        if !is_at(file, partial) {
            return Err(DiskError::refused(
                format!("{} was replaced while it was written", partial.display()),
                "capture again under another name",
            ));
        }
        let here = rustix::fs::CWD;
        let renamed = rustix::fs::renameat_with(
            here,
            partial,
            here,
            &self.path,
            rustix::fs::RenameFlags::NOREPLACE,
        );
        match renamed {
            Err(rustix::io::Errno::EXIST) => return refuse_existing(&self.path),
            // File systems without RENAME_NOREPLACE (some network shares): a check, then a rename.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                refuse_existing(&self.path)?;
                std::fs::rename(partial, &self.path)
                    .map_err(|e| DiskError::io("renaming", partial, e))?;
            }
            other => other.map_err(|e| DiskError::io("renaming", partial, e.into()))?,
        }
        let directory = self
            .path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        OpenOptions::new()
            .read(true)
            .open(directory)
            .and_then(|d| d.sync_all())
            .map_err(|e| DiskError::io("syncing", directory, e))
    }

    /// Removes a part, even if it has its name already, because other parts of its image could not
    /// be finished.
    pub(super) fn withdraw(&mut self) {
        let ours = match self.writer.get_ref() {
            Sink::File(file) => is_at(file, &self.path),
            Sink::Pipe(_) => false,
        };
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "could not remove a part of an unfinished image");
        }
        self.discard();
    }

    /// Removes the `.partial` after a failure.
    pub fn discard(&mut self) {
        let Some(partial) = self.partial.take() else {
            return;
        };
        let removed = match self.writer.get_ref() {
            Sink::File(file) if is_at(file, &partial) => std::fs::remove_file(&partial),
            // The name leads to another file by now, which is not ours to remove.
            _ => Ok(()),
        };
        if let Err(error) = removed {
            tracing::warn!(file = %partial.display(), %error, "could not remove the unfinished image");
        }
    }
}

/// Path of an image before it has its final name.
pub fn partial_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".partial");
    PathBuf::from(name)
}

/// Removes the rest of an interrupted capture of the image at `path`, if there is one.
///
/// # Errors
/// [`DiskError::Refused`] for a file that is not from a capture, or that a capture is writing.
pub fn remove_unfinished(path: &Path) -> Result<(), DiskError> {
    let partial = partial_of(path);
    match open_partial(&partial, false) {
        Ok(_claimed) => {
            std::fs::remove_file(&partial).map_err(|e| DiskError::io("removing", &partial, e))
        }
        Err(DiskError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens or makes `PATH.partial` for this process alone.
fn claim(path: &Path) -> Result<(File, PathBuf), DiskError> {
    refuse_existing(path)?;
    let partial = partial_of(path);
    let file = open_partial(&partial, true)?;
    // Between the first check and the lock another capture may have finished its image.
    refuse_existing(path)?;
    Ok((file, partial))
}

/// Opens an unfinished image for this process alone. An existing file has to be from a capture:
/// empty, or with the signature of an image; and it may have no other name.
fn open_partial(partial: &Path, create: bool) -> Result<File, DiskError> {
    // A symbolic link is not followed, and a FIFO does not block.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .custom_flags(flags.bits().cast_signed())
        .open(partial);
    let file = match opened {
        Ok(file) => file,
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
                || error.kind() == io::ErrorKind::IsADirectory =>
        {
            return Err(foreign(partial, "is no regular file"));
        }
        Err(error) => return Err(DiskError::io("creating", partial, error)),
    };
    let meta = file
        .metadata()
        .map_err(|e| DiskError::io("looking at", partial, e))?;
    if !meta.is_file() {
        return Err(foreign(partial, "is no regular file"));
    }
    lock_alone(&file, partial)?;
    // The former holder of the lock may have renamed or removed it.
    if !is_at(&file, partial) {
        return Err(DiskError::refused(
            format!("another capture has just ended with {}", partial.display()),
            "look whether the image is there now, or capture again",
        ));
    }
    if meta.nlink() > 1 {
        return Err(foreign(
            partial,
            "has another name, which would lose its content",
        ));
    }
    if meta.len() > 0 && !is_beginning(&file) {
        return Err(foreign(
            partial,
            "is there and is not what a capture left behind",
        ));
    }
    Ok(file)
}

/// Locks a file for this process alone.
///
/// # Errors
/// [`DiskError::Refused`] when another process has locked it.
pub(super) fn lock_alone(file: &File, path: &Path) -> Result<(), DiskError> {
    if rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(DiskError::refused(
            format!("another process is writing {}", path.display()),
            "wait for it, or choose another name",
        ));
    }
    Ok(())
}

/// True when a file begins with the signature of an image, or ends within it after correct bytes.
fn is_beginning(file: &File) -> bool {
    let mut head = [0; imagefmt::SIGNATURE.len()];
    let read = file.read_at(&mut head, 0).unwrap_or(0);
    imagefmt::SIGNATURE.starts_with(&head[..read])
}

/// True when `path` is a name of this very file; a symbolic link to it is not.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn foreign(partial: &Path, why: &str) -> DiskError {
    DiskError::refused(
        format!(
            "{} {why}; an image of this name would be written there first",
            partial.display()
        ),
        "choose another name for the image, or move the file away",
    )
}

/// Refuses to start again over a complete image that only lacks its name.
fn refuse_whole(partial: &Path) -> Result<(), DiskError> {
    let whole = restore::open_volumes(partial)
        .ok()
        .and_then(|volumes| imagefmt::Image::summary(volumes).ok());
    let Some(whole) = whole else {
        return Ok(());
    };
    Err(DiskError::refused(
        format!(
            "{} is a whole image (root {}), which would be overwritten",
            partial.display(),
            whole.root
        ),
        "give it a name without .partial to keep it, or remove it",
    ))
}

/// Refuses to write the image of `source` over the source, or onto the disk that is read.
///
/// # Errors
/// [`DiskError::Refused`] with both names.
pub fn keep_source(source: &Path, image: &Path) -> Result<(), DiskError> {
    if image == Path::new("-") {
        return ground::keep_inputs(Path::new("/proc/self/fd/1"), [source]);
    }
    for place in [image.to_owned(), partial_of(image)] {
        ground::keep_inputs(&place, [source])?;
    }
    let folder = match image.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // The folder is no file of the source, but the disk below it may be.
    let below = ground::Ground::below(folder).unwrap_or_default();
    if ground::Ground::of(source).is_ok_and(|read| read.shares(&below)) {
        return Err(DiskError::refused(
            format!(
                "{} would lie on {}, the disk that is captured",
                image.display(),
                source.display()
            ),
            "write the image to another disk",
        ));
    }
    Ok(())
}

/// Refuses an existing path: images are never overwritten.
///
/// # Errors
/// [`DiskError::Refused`].
pub fn refuse_existing(path: &Path) -> Result<(), DiskError> {
    if path.symlink_metadata().is_ok() {
        return Err(DiskError::refused(
            format!("{} exists already", path.display()),
            "choose another name, or remove it first: images are never overwritten",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_name_appears_only_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.dcimg");
        let mut output = ImageOutput::create(&path).unwrap();
        output.write_all(b"image").unwrap();
        assert!(!path.exists());
        output.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"image");
        assert!(!dir.path().join("a.dcimg.partial").exists());
    }

    #[test]
    fn an_image_is_never_overwritten_even_when_it_appears_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.dcimg");
        let mut output = ImageOutput::create(&path).unwrap();
        output.write_all(b"mine").unwrap();
        std::fs::write(&path, b"theirs").unwrap();
        assert!(output.finish().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
        assert!(!dir.path().join("a.dcimg.partial").exists());
        assert!(ImageOutput::create(&path).is_err());
    }

    #[test]
    fn a_partial_file_that_is_not_of_a_capture_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a.dcimg"), dir.path().join("other"));
        let partial = dir.path().join("a.dcimg.partial");
        let refused = |what: &str| {
            let error = ImageOutput::create(&path).map(drop).unwrap_err();
            assert!(
                matches!(error, DiskError::Refused { .. }),
                "{what}: {error}"
            );
            assert!(error.to_string().contains(".partial"), "{what}: {error}");
            assert!(remove_unfinished(&path).is_err(), "{what}");
            assert!(partial.symlink_metadata().is_ok(), "{what} was removed");
        };
        std::fs::write(&partial, b"a disk, or a thesis").unwrap();
        refused("a file of somebody");
        assert_eq!(std::fs::read(&partial).unwrap(), b"a disk, or a thesis");
        std::fs::remove_file(&partial).unwrap();

        std::fs::write(&other, imagefmt::SIGNATURE).unwrap();
        std::os::unix::fs::symlink(&other, &partial).unwrap();
        refused("a symbolic link");
        std::fs::remove_file(&partial).unwrap();
        std::fs::hard_link(&other, &partial).unwrap();
        refused("a hard link");
        assert_eq!(std::fs::read(&other).unwrap(), imagefmt::SIGNATURE);
        std::fs::remove_file(&partial).unwrap();
        std::fs::create_dir(&partial).unwrap();
        refused("a folder");
        std::fs::remove_dir(&partial).unwrap();

        // The rest of a killed capture is replaced or removed.
        std::fs::write(&partial, imagefmt::SIGNATURE).unwrap();
        ImageOutput::create(&path).unwrap();
        remove_unfinished(&path).unwrap();
        assert!(!partial.exists());
        remove_unfinished(&path).unwrap();
    }

    #[test]
    fn two_captures_do_not_share_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.dcimg");
        let _first = ImageOutput::create(&path).unwrap();
        assert!(ImageOutput::create(&path).is_err());
    }
}
