//! Where an image goes: a file that appears whole or not at all, or a pipe.
//!
//! Owns the `.partial` file. What always holds: the final name is never overwritten and never names an unfinished
//! image; a failed capture removes its `.partial`, a killed one leaves it to be replaced by the next.

use super::DiskError;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Buffer between records and the file: large writes, few system calls.
const WRITE_BUFFER: usize = 1 << 20;

/// An image being written.
pub struct ImageOutput {
    writer: io::BufWriter<Sink>,
    partial: Option<PathBuf>,
    path: PathBuf,
}

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
        // What a killed capture left here is nothing anybody goes on with; it is replaced, now that it is surely nobody's.
        file.set_len(0)
            .map_err(|e| DiskError::io("emptying", &partial, e))?;
        let writer = io::BufWriter::with_capacity(WRITE_BUFFER, Sink::File(file));
        Ok(Self {
            writer,
            partial: Some(partial),
            path: path.to_owned(),
        })
    }

    /// Opens what a cut capture left of the image at `path`, to be gone on with; `None` when there is nothing. Nothing of it
    /// is changed before [`ImageOutput::cut`].
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

    /// Cuts the file to its first `len` bytes and goes on behind them.
    ///
    /// # Errors
    /// When the medium fails.
    pub fn cut(&mut self, len: u64) -> Result<(), DiskError> {
        let Sink::File(file) = self.writer.get_mut() else {
            return Ok(());
        };
        file.set_len(len)
            .and_then(|()| file.seek(SeekFrom::Start(len)))
            .map(drop)
            .map_err(|e| DiskError::io("cutting", &self.path, e))
    }

    /// Where the image is before it has its name.
    pub fn partial(&self) -> Option<&Path> {
        self.partial.as_deref()
    }

    /// Everything written so far is on the medium.
    ///
    /// # Errors
    /// When the medium is full or fails.
    pub fn sync(&mut self) -> Result<(), DiskError> {
        let io = |e| DiskError::io("syncing", &self.path, e);
        self.writer.flush().map_err(io)?;
        match self.writer.get_ref() {
            Sink::File(file) => file.sync_all().map_err(io),
            Sink::Pipe(_) => Ok(()),
        }
    }

    /// Bytes free where the image goes; `None` for a pipe.
    pub fn free_bytes(&self) -> Option<u64> {
        let Sink::File(file) = self.writer.get_ref() else {
            return None;
        };
        let stat = rustix::fs::fstatvfs(file).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Everything is written: sync, then give it its name, then sync the directory.
    ///
    /// # Errors
    /// When the medium is full or fails; the `.partial` is removed.
    pub fn finish(mut self) -> Result<(), DiskError> {
        let result = self.publish();
        if result.is_err() {
            self.discard();
        }
        result
    }

    fn publish(&mut self) -> Result<(), DiskError> {
        self.writer
            .flush()
            .map_err(|e| DiskError::io("writing", &self.path, e))?;
        let (Some(partial), Sink::File(file)) = (&self.partial, self.writer.get_ref()) else {
            return Ok(());
        };
        file.sync_all()
            .map_err(|e| DiskError::io("syncing", partial, e))?;
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
            // File systems without RENAME_NOREPLACE (some network shares): look, then rename.
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

    /// Removes the `.partial` after a failure.
    pub fn discard(&mut self) {
        if let Some(partial) = self.partial.take()
            && let Err(error) = std::fs::remove_file(&partial)
        {
            tracing::warn!(file = %partial.display(), %error, "could not remove the unfinished image");
        }
    }
}

/// Where an image is before it has its name.
pub fn partial_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".partial");
    PathBuf::from(name)
}

/// Opens or makes `PATH.partial` for this process alone.
fn claim(path: &Path) -> Result<(File, PathBuf), DiskError> {
    refuse_existing(path)?;
    let partial = partial_of(path);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&partial)
        .map_err(|e| DiskError::io("creating", &partial, e))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
        |_| {
            DiskError::refused(
                format!("another capture is writing {}", partial.display()),
                "wait for it, or choose another name",
            )
        },
    )?;
    Ok((file, partial))
}

/// Refuses a name that is taken: images are never overwritten.
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
    fn two_captures_do_not_share_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.dcimg");
        let _first = ImageOutput::create(&path).unwrap();
        assert!(ImageOutput::create(&path).is_err());
    }
}
