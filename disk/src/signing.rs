//! Keys for signatures of images, as text in files and in the console's vault.
//!
//! `dcsk1-` and 64 hexadecimal digits is a private key, `dcpk1-` and 64 digits the public key that
//! belongs to it, so that one is not mistaken for the other.

use super::DiskError;
use facts::hex;
use imagefmt::{SigningKey, VerifyingKey};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zeroize::Zeroizing;

const SECRET: &str = "dcsk1-";
const PUBLIC: &str = "dcpk1-";
/// Longest key file that is read, in bytes.
const MAX_BYTES: u64 = 4096;

/// Text of a public key.
pub fn public_text(key: &VerifyingKey) -> String {
    format!("{PUBLIC}{}", hex::encode(&key.0))
}

/// Reads a public key from its text, or from the file of that name.
///
/// # Errors
/// [`DiskError::Usage`] for text that is neither a public key nor a path, [`DiskError::Refused`] for
/// a file without a key, [`DiskError::Io`] for a file that cannot be read.
pub fn public_key(text: &str) -> Result<VerifyingKey, DiskError> {
    const FORM: &str = "a public key is dcpk1- and 64 hexadecimal digits, or a file with that";
    let key = |words: &str| {
        let digits = words.strip_prefix(PUBLIC)?;
        hex::decode(digits).ok().map(VerifyingKey)
    };
    let no_key = || format!("{text} is no public key");
    if text.starts_with(PUBLIC) {
        return key(text).ok_or_else(|| DiskError::usage(no_key(), FORM));
    }
    match read(Path::new(text)) {
        // A word without a folder was probably meant as a key.
        Err(DiskError::Io { source, .. })
            if source.kind() == ErrorKind::NotFound && !text.contains('/') =>
        {
            Err(DiskError::usage(no_key(), FORM))
        }
        held => key(held?.trim()).ok_or_else(|| DiskError::refused(no_key(), FORM)),
    }
}

/// Reads a private key from its file.
///
/// # Errors
/// [`DiskError::Refused`] for a file without one, [`DiskError::Io`].
pub fn read_key(path: &Path) -> Result<SigningKey, DiskError> {
    let text = read(path)?;
    secret_key(&text).ok_or_else(|| {
        DiskError::refused(
            format!("{} holds no key that signs", path.display()),
            "`diskcast image sign --new-key FILE` makes one",
        )
    })
}

/// Parses a private key.
pub fn secret_key(text: &str) -> Option<SigningKey> {
    let bytes = hex::decode::<32>(text.trim().strip_prefix(SECRET)?).ok()?;
    Some(SigningKey::from_bytes(&Zeroizing::new(bytes)))
}

/// Makes a key: returns its text, and the public key that belongs to it.
///
/// # Errors
/// [`DiskError::Io`] when the system has no random numbers.
pub fn new_key() -> Result<(Zeroizing<String>, VerifyingKey), DiskError> {
    let mut secret = Zeroizing::new([0; 32]);
    super::capture::random(secret.as_mut_slice())?;
    let text = Zeroizing::new(format!("{SECRET}{}", hex::encode(secret.as_slice())));
    Ok((text, SigningKey::from_bytes(&secret).public()))
}

/// Makes a key in a new file that only its owner may read; returns its public key.
///
/// # Errors
/// [`DiskError::Refused`] when the file exists already, [`DiskError::Io`].
pub fn make_key(path: &Path) -> Result<VerifyingKey, DiskError> {
    let (text, public) = new_key()?;
    let io = |doing| move |error| DiskError::io(doing, path, error);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => DiskError::refused(
                format!("{} exists already", path.display()),
                "choose another name: a key is never overwritten",
            ),
            _ => io("creating")(error),
        })?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .map_err(io("writing"))?;
    Ok(public)
}

fn read(path: &Path) -> Result<Zeroizing<String>, DiskError> {
    let mut text = Zeroizing::new(String::new());
    OpenOptions::new()
        .read(true)
        .open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
        .map_err(|error| DiskError::io("reading", path, error))?;
    Ok(text)
}
