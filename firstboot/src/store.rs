//! The two files of a job: its text, and the journal beside it.
//!
//! Owns reading them, adding to the journal so that it survives a power cut, and overwriting
//! secrets in place. On Windows both are in `C:\ProgramData\diskcast`, which only SYSTEM and
//! Administrators may read. Overwriting reaches the same clusters on NTFS; old copies inside a
//! solid-state disk are out of reach for any program.

use crate::journal::{Entry, Journal};
use crate::text::{decode, secret_spans};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, ErrorKind::InvalidData, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Largest journal that is read, in bytes: that of a job with 256 steps and every kind of failure
/// stays below 1 MiB.
const MAX_JOURNAL_BYTES: u64 = 16 << 20;

/// A job file and its journal.
#[derive(Clone, Debug)]
pub struct Store {
    job: PathBuf,
    journal: PathBuf,
}

impl Store {
    /// The files of the job at a path. Opens nothing.
    #[must_use]
    pub fn new(job: &Path) -> Self {
        Self {
            job: job.to_path_buf(),
            journal: job.with_extension("journal"),
        }
    }

    /// Path of the job.
    #[must_use]
    pub fn job_path(&self) -> &Path {
        &self.job
    }

    /// Path of the journal.
    #[must_use]
    pub fn journal_path(&self) -> &Path {
        &self.journal
    }

    /// Text of the job, for [`crate::Job::parse`].
    ///
    /// # Errors
    /// `InvalidData` if it is no text or longer than any job; otherwise the error of the read.
    pub fn read_job(&self) -> io::Result<String> {
        decode(&self.job_bytes()?).map_err(|error| at(InvalidData, "job", &self.job, &error))
    }

    fn job_bytes(&self) -> io::Result<Vec<u8>> {
        let most = u64::try_from(crate::job::MAX_TEXT_BYTES).unwrap_or(u64::MAX);
        read_bytes(&self.job, most)
    }

    /// The journal; empty if there is no file.
    ///
    /// # Errors
    /// The file exists and cannot be read: the state of the job is then unknown, and nothing may be
    /// done.
    pub fn read_journal(&self) -> io::Result<Journal> {
        match read_bytes(&self.journal, MAX_JOURNAL_BYTES) {
            Ok(bytes) => Ok(Journal::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Journal::default()),
            Err(error) => Err(error),
        }
    }

    /// Adds an entry and returns after it is on the disk.
    ///
    /// # Errors
    /// The entry cannot be written or flushed.
    pub fn record(&self, entry: &Entry) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&self.journal)
            .map_err(|error| at(error.kind(), "journal", &self.journal, &error))?;
        let mut line = String::new();
        if file.seek(SeekFrom::End(0))? > 0 {
            // A line that was cut is closed first: it stays unreadable, and the new entry has a
            // line of its own.
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0_u8; 1];
            file.read_exact(&mut last)?;
            if last != [b'\n'] {
                line.push('\n');
            }
        }
        line.push_str(&entry.line());
        file.seek(SeekFrom::End(0))?;
        file.write_all(line.as_bytes())?;
        file.sync_all()
    }

    /// Overwrites the secrets of these steps in place, and reads them back.
    ///
    /// # Errors
    /// A secret may still be in the file.
    pub fn wipe(&self, ids: &[&str]) -> io::Result<()> {
        let bytes = self.job_bytes()?;
        let mut file = OpenOptions::new().write(true).open(&self.job)?;
        for (id, span) in secret_spans(&bytes) {
            if ids.contains(&id.as_str()) {
                file.seek(SeekFrom::Start(span.start as u64))?;
                file.write_all("*".repeat(span.len()).as_bytes())?;
            }
        }
        file.sync_all()?;
        let bytes = self.job_bytes()?;
        let stays = |(id, span): (String, std::ops::Range<usize>)| {
            let value = bytes.get(span).unwrap_or_default();
            ids.contains(&id.as_str()) && value.iter().any(|byte| *byte != b'*')
        };
        if secret_spans(&bytes).into_iter().any(stays) {
            return Err(io::Error::new(
                ErrorKind::Other,
                "a secret is still in the job file",
            ));
        }
        Ok(())
    }

    /// Overwrites the whole job file and removes it: at the end, and for a job that cannot be read,
    /// because the places of its secrets are then unknown. A missing file is no error.
    ///
    /// # Errors
    /// The file remains.
    pub fn remove_job(&self) -> io::Result<()> {
        let mut file = match OpenOptions::new().write(true).open(&self.job) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at(error.kind(), "job", &self.job, &error)),
        };
        let mut left = file.metadata()?.len();
        let zeros = [0_u8; 4096];
        while left > 0 {
            let part = usize::try_from(left)
                .unwrap_or(zeros.len())
                .min(zeros.len());
            file.write_all(zeros.get(..part).unwrap_or(&zeros))?;
            left = left.saturating_sub(part as u64);
        }
        file.sync_all()?;
        drop(file);
        std::fs::remove_file(&self.job)
    }
}

#[allow(clippy::disallowed_methods)] // The edge of this crate: it owns these two files.
fn read_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(at(
            InvalidData,
            "file",
            path,
            &format!("longer than {most} bytes"),
        ));
    }
    Ok(bytes)
}

fn at(kind: ErrorKind, what: &str, path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(kind, format!("{what} {}: {error}", path.display()))
}
