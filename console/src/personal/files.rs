//! Files that templates bring to the machines.
//!
//! Owns their hashes and reading them for a target. A hash is computed once per file, for as long
//! as its size and ctime stay the same. A file that changed after it was hashed is an error and is
//! never sent under the old hash.

use api::{ApiError, ErrorCode};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use template::step::Payload;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::bytes::{Bytes, BytesMut};

/// Maximum number of files of one template, including each file of a driver package.
pub(super) const MAX_FILES: usize = 4096;
/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// Properties that identify the file that was hashed.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path, metadata: &fs::Metadata) -> Self {
        Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Hashes of the files read so far.
#[derive(Default)]
pub struct Hashes {
    known: Mutex<HashMap<Stamp, String>>,
}

impl Hashes {
    /// Returns the file as a payload. Reads all of it the first time: call it where blocking is
    /// allowed.
    ///
    /// # Errors
    /// `Refused` if the file is missing, is not a regular file, or cannot be read.
    pub fn payload(&self, path: &Path) -> Result<Payload, ApiError> {
        self.hashed(path).map_err(|error| {
            ApiError::new(
                ErrorCode::Refused,
                format!("file {}: {error}", path.display()),
            )
            .hint("the template names it; paths are those of the console's machine")
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the console hashes the files it will send"
    )]
    fn hashed(&self, path: &Path) -> io::Result<Payload> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let stamp = Stamp::of(path, &metadata);
        let known = self.lock().get(&stamp).cloned();
        let blake3 = match known {
            Some(known) => known,
            None => {
                let mut hasher = blake3::Hasher::new();
                let mut piece = vec![0; PIECE];
                let mut bytes = 0u64;
                loop {
                    let read = file.read(&mut piece)?;
                    if read == 0 {
                        break;
                    }
                    bytes += read as u64;
                    hasher.update(piece.get(..read).unwrap_or_default());
                }
                if bytes != stamp.size || Stamp::of(path, &file.metadata()?) != stamp {
                    return Err(io::Error::other("it changed while it was read"));
                }
                let hash = hasher.finalize().to_hex().to_string();
                let mut known = self.lock();
                // Bounds the memory to a few templates.
                if known.len() >= 4 * MAX_FILES {
                    known.clear();
                }
                known.insert(stamp.clone(), hash.clone());
                hash
            }
        };
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        Ok(Payload {
            name: name.into_owned(),
            blake3,
            bytes: stamp.size,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Stamp, String>> {
        // Each change is one insert or `clear`, so a poisoned map is whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Remaining part of a file, read piece by piece.
pub struct PartOf {
    file: tokio::fs::File,
    left: u64,
}

impl PartOf {
    /// Opens a file of `bytes` bytes for reading from offset `from`.
    ///
    /// # Errors
    /// The error of the file system, or a changed size.
    pub async fn open(path: &Path, bytes: u64, from: u64) -> io::Result<Self> {
        let mut file = tokio::fs::File::open(path).await?;
        let size = file.metadata().await?.len();
        if size != bytes {
            return Err(io::Error::other(format!(
                "it has {size} bytes now, {bytes} were planned"
            )));
        }
        let from = from.min(bytes);
        file.seek(io::SeekFrom::Start(from)).await?;
        Ok(Self {
            file,
            left: bytes - from,
        })
    }

    /// Returns the next piece; `None` at the end.
    ///
    /// # Errors
    /// The error of the file system; `UnexpectedEof` if the file ends early.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let len = self.left.min(PIECE as u64);
        // `len` is at most PIECE.
        let mut piece = BytesMut::with_capacity(usize::try_from(len).unwrap_or(PIECE));
        let read = (&mut self.file).take(len).read_buf(&mut piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(Some(piece.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_known_by_its_content_and_sent_from_where_it_broke_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.msi");
        let content: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
        fs::write(&path, &content).unwrap();
        let hashes = Hashes::default();
        let payload = hashes.payload(&path).unwrap();
        assert_eq!(payload.bytes, 700_000);
        assert_eq!(payload.blake3, blake3::hash(&content).to_hex().to_string());
        assert_eq!(hashes.payload(&path).unwrap(), payload);

        for from in [0, 1, 262_144, 699_999, 700_000, u64::MAX] {
            let mut part = PartOf::open(&path, 700_000, from).await.unwrap();
            let mut got = Vec::new();
            while let Some(piece) = part.next().await.unwrap() {
                got.extend_from_slice(&piece);
            }
            let from = usize::try_from(from).unwrap_or(usize::MAX).min(700_000);
            assert_eq!(got, content[from..]);
        }

        fs::write(&path, b"another").unwrap();
        assert!(PartOf::open(&path, 700_000, 0).await.is_err());
        assert_ne!(hashes.payload(&path).unwrap().blake3, payload.blake3);
        let missing = hashes.payload(&folder.path().join("none")).unwrap_err();
        assert_eq!(missing.code, ErrorCode::Refused);
        assert!(
            hashes.payload(folder.path()).is_err(),
            "a folder is no file"
        );
    }
}
