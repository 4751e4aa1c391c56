//! A folder of blobs, one for each machine: `NAME.blob`, or `NAME.txt` as `djoin /savefile` is often told to write it.
#![expect(
    clippy::disallowed_methods,
    reason = "reads a folder that people named"
)]

use crate::blob::{Blob, BlobError, validate_blob};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes of a file that is read for a blob; real ones have a few kilobytes.
const MAX_BYTES: u64 = 256 << 10;
/// Files of a folder that are looked at.
const MAX_FILES: usize = 65_536;
/// Endings of a blob's file, the one that counts more first.
const ENDINGS: [&str; 2] = ["blob", "txt"];

/// Reason why a machine has no blob in a folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The folder cannot be read.
    #[error("the folder of join blobs {folder}: {source}", folder = folder.display())]
    Folder {
        /// Folder.
        folder: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// No file of it is the machine's.
    #[error(
        "there is no {machine}.blob in {folder}; djoin /provision /machine {machine} /savefile makes one",
        folder = folder.display()
    )]
    Missing {
        /// Machine.
        machine: String,
        /// Folder.
        folder: PathBuf,
    },
    /// Its file cannot be read.
    #[error("the join blob {file}: {source}", file = file.display())]
    Unreadable {
        /// File.
        file: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Its file is too large.
    #[error("the join blob {file} has {bytes} bytes, too large for one; {MAX_BYTES} are the most", file = file.display())]
    TooLarge {
        /// File.
        file: PathBuf,
        /// Bytes it has.
        bytes: u64,
    },
    /// Its file is no blob.
    #[error("{file}: {source}; djoin /provision /savefile makes it anew", file = file.display())]
    NoBlob {
        /// File.
        file: PathBuf,
        /// Reason why the text is no blob.
        source: BlobError,
    },
    /// Its file is for another machine.
    #[error("the join blob {file} is for {named}, and not for {machine}", file = file.display())]
    OtherMachine {
        /// File.
        file: PathBuf,
        /// Machine whose name the file has.
        machine: String,
        /// Machine that the blob names.
        named: String,
    },
}

/// The machine that a file's name means, and its blob or why there is none.
pub type NamedBlob = (String, Result<Blob, FolderError>);

/// The blob of a machine, whatever the case of its file's name.
///
/// # Errors
/// Reason why no blob can be used.
pub fn blob_of(folder: &Path, machine: &str) -> Result<Blob, FolderError> {
    let found = files(folder)?
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(machine));
    match found {
        Some((_, file)) => read(&file, machine),
        None => Err(FolderError::Missing {
            machine: machine.to_owned(),
            folder: folder.to_owned(),
        }),
    }
}

/// Every blob of a folder, by the machine whose name its file has.
///
/// # Errors
/// When the folder itself cannot be read.
pub fn blobs(folder: &Path) -> Result<Vec<NamedBlob>, FolderError> {
    let files = files(folder)?.into_iter();
    Ok(files
        .map(|(machine, file)| {
            let blob = read(&file, &machine);
            (machine, blob)
        })
        .collect())
}

/// Files that have the name of a blob, with the machine they name; `NAME.blob` before `NAME.txt`.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>, FolderError> {
    let failed = |source| FolderError::Folder {
        folder: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)?.take(MAX_FILES) {
        let path = entry.map_err(failed)?.path();
        let (Some(name), Some(ending)) = (path.file_stem(), path.extension()) else {
            continue;
        };
        let rank = ENDINGS
            .iter()
            .position(|known| ending.eq_ignore_ascii_case(known));
        if let (Some(name), Some(rank)) = (name.to_str(), rank) {
            found.push((rank, name.to_owned(), path));
        }
    }
    found.sort();
    Ok(found
        .into_iter()
        .map(|(_, name, path)| (name, path))
        .collect())
}

fn read(file: &Path, machine: &str) -> Result<Blob, FolderError> {
    let unreadable = |source| FolderError::Unreadable {
        file: file.to_owned(),
        source,
    };
    // A pipe or a device would never end, and not even open.
    let metadata = fs::metadata(file).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).map_err(unreadable)?;
    opened
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FolderError::TooLarge {
            file: file.to_owned(),
            bytes: metadata.len(),
        });
    }
    let blob = validate_blob(&bytes).map_err(|source| FolderError::NoBlob {
        file: file.to_owned(),
        source,
    })?;
    match blob.is_for(machine) {
        true => Ok(blob),
        false => Err(FolderError::OtherMachine {
            file: file.to_owned(),
            machine: machine.to_owned(),
            named: blob.facts().machine.clone().unwrap_or_default(),
        }),
    }
}
