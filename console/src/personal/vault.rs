//! Encryption of stored secrets.
//!
//! Owns the key, in a file that only the console's user may read; sealing with it (AES-256-GCM,
//! with the purpose of a value as authenticated data); and the keys derived from it for the seeds
//! of machines and for their reports. A copy of the database or its backup reveals nothing without
//! that file; a reader of the whole data directory can read the secrets. Values are wiped when
//! dropped and never logged.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use template::first_start::ReportKey;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
/// Length of a machine's seed in bytes.
const SEED_BYTES: usize = 12;
/// Largest secret in bytes; an offline-join blob has a few kilobytes.
pub(super) const MAX_SECRET_BYTES: usize = 64 << 10;

/// Errors of sealing and opening.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file cannot be made or read.
    #[error("key of the secrets {path}")]
    Key {
        /// Path of the file.
        path: String,
        /// Cause.
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// The value was sealed with another key or for another purpose, or is damaged.
    #[error("the stored value of {0} does not open: was secrets.key replaced?")]
    Damaged(String),
}

/// The key of the secrets, with the keys derived from it.
pub struct Vault {
    key: LessSafeKey,
    /// Key that the seeds of machines are derived with.
    seeds: Zeroizing<[u8; KEY_BYTES]>,
    /// Key that the keys of reports are derived with.
    reports: Zeroizing<[u8; KEY_BYTES]>,
}

impl Vault {
    /// Reads the key file, or makes one.
    ///
    /// # Errors
    /// [`VaultError::Key`]; [`VaultError::Random`] for a new key.
    pub fn open(path: &Path) -> Result<Self, VaultError> {
        let failed = |source| VaultError::Key {
            path: path.display().to_string(),
            source,
        };
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        let open = |path: &Path| OpenOptions::new().read(true).open(path);
        let read = |bytes: &mut [u8; KEY_BYTES]| open(path)?.read_exact(bytes);
        match read(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                getrandom::fill(bytes.as_mut_slice()).map_err(VaultError::Random)?;
                if !create(path, &bytes).map_err(failed)? {
                    // Another console made it meanwhile.
                    read(&mut bytes).map_err(failed)?;
                }
            }
            Err(error) => return Err(failed(error)),
        }
        Self::with_key(&bytes)
    }

    fn with_key(bytes: &[u8; KEY_BYTES]) -> Result<Self, VaultError> {
        let key = UnboundKey::new(&AES_256_GCM, bytes)
            .map_err(|_| VaultError::Damaged("secrets.key".to_owned()))?;
        let seeds = blake3::derive_key("diskcast console 2026 seeds of machines", bytes);
        let reports = blake3::derive_key("diskcast console 2026 reports of first starts", bytes);
        Ok(Self {
            key: LessSafeKey::new(key),
            seeds: Zeroizing::new(seeds),
            reports: Zeroizing::new(reports),
        })
    }

    /// Returns the seed of a target's identities. It is the same in every plan of this console, so
    /// that the identities shown in a plan are the ones written.
    pub fn seed(&self, target: &str) -> [u8; SEED_BYTES] {
        let hash = blake3::keyed_hash(&self.seeds, target.as_bytes());
        let mut seed = [0; SEED_BYTES];
        seed.iter_mut()
            .zip(hash.as_bytes())
            .for_each(|(to, from)| *to = *from);
        seed
    }

    /// Returns the key that signs the report of a target's first start. It differs for each job and
    /// target, and this console can compute it again.
    ///
    /// `created` separates a job from one with the same number in a new database.
    pub fn report_key(&self, job: u64, created: &str, target: &str) -> ReportKey {
        let mut hasher = blake3::Hasher::new_keyed(&self.reports);
        hasher.update(&job.to_le_bytes());
        // Lengths come before texts, so that different inputs never give the same bytes.
        for text in [created, target] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        ReportKey::new(*hasher.finalize().as_bytes())
    }

    /// Seals `value` for `purpose`.
    ///
    /// # Errors
    /// [`VaultError::Random`].
    pub fn seal(&self, purpose: &str, value: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(VaultError::Random)?;
        let mut sealed = nonce.to_vec();
        let mut body = value.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(purpose),
                &mut body,
            )
            .map_err(|_| VaultError::Damaged(purpose.to_owned()))?;
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens a value that was sealed for `purpose`.
    ///
    /// # Errors
    /// [`VaultError::Damaged`].
    pub fn unseal(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let damaged = || VaultError::Damaged(purpose.to_owned());
        let (nonce, body) = sealed
            .split_first_chunk::<NONCE_LEN>()
            .ok_or_else(damaged)?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(purpose),
                body.as_mut_slice(),
            )
            .map_err(|_| damaged())?
            .len();
        body.truncate(plain);
        Ok(body)
    }
}

/// Creates the key file whole, so that a console that is killed meanwhile leaves none. Returns false
/// if the file exists already.
fn create(path: &Path, bytes: &[u8; KEY_BYTES]) -> io::Result<bool> {
    let partial = path.with_extension("key.partial");
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // Unlike a rename, a link never replaces a key that secrets were sealed with.
    let linked = match std::fs::hard_link(&partial, path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    std::fs::remove_file(&partial)?;
    if let Some(folder) = path.parent() {
        OpenOptions::new().read(true).open(folder)?.sync_all()?;
    }
    Ok(linked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_seed_is_the_consoles_and_the_targets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        let [one, again] = [(); 2].map(|()| Vault::open(&path).unwrap());
        assert_eq!(one.seed("a"), again.seed("a"));
        assert_ne!(one.seed("a"), one.seed("b"));
        let other = Vault::open(&folder.path().join("other.key")).unwrap();
        assert_ne!(other.seed("a"), one.seed("a"));
    }

    #[test]
    fn a_report_key_is_the_jobs_and_the_targets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        let [one, again] = [(); 2].map(|()| Vault::open(&path).unwrap());
        let other = Vault::open(&folder.path().join("other.key")).unwrap();
        let key = one.report_key(7, "2030-01-01T00:00:00Z", "a");
        assert_eq!(again.report_key(7, "2030-01-01T00:00:00Z", "a"), key);
        for different in [
            one.report_key(8, "2030-01-01T00:00:00Z", "a"),
            one.report_key(7, "2030-01-01T00:00:01Z", "a"),
            one.report_key(7, "2030-01-01T00:00:00Z", "b"),
            one.report_key(7, "2030-01-01T00:00:00Za", ""),
            other.report_key(7, "2030-01-01T00:00:00Z", "a"),
        ] {
            assert_ne!(different, key);
        }
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        let sealed = Vault::open(&path)
            .unwrap()
            .seal("secret lab", b"hunter2")
            .unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        let again = Vault::open(&path).unwrap();
        assert_eq!(
            again.unseal("secret lab", &sealed).unwrap().as_slice(),
            b"hunter2"
        );
        assert!(again.unseal("secret other", &sealed).is_err());
        for byte in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[byte] ^= 1;
            assert!(again.unseal("secret lab", &damaged).is_err());
        }
        assert!(again.unseal("secret lab", &sealed[..5]).is_err());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = Vault::open(&folder.path().join("other.key")).unwrap();
        assert!(other.unseal("secret lab", &sealed).is_err());
    }

    #[test]
    fn a_key_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        let partial = folder.path().join("secrets.key.partial");
        // Left by a console that was killed in the middle of writing.
        std::fs::write(&partial, "cut").unwrap();
        let sealed = Vault::open(&path).unwrap().seal("x", b"value").unwrap();
        assert!(!partial.exists());
        assert_eq!(std::fs::read(&path).unwrap().len(), KEY_BYTES);
        let mode = std::fs::metadata(&path).unwrap().permissions();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode);
        assert_eq!(mode & 0o777, 0o600);
        let again = Vault::open(&path).unwrap();
        assert_eq!(again.unseal("x", &sealed).unwrap().as_slice(), b"value");
        assert!(!create(&path, &[7; KEY_BYTES]).unwrap());
        assert_ne!(std::fs::read(&path).unwrap(), [7; KEY_BYTES]);
    }
}
