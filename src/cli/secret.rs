//! Passwords from files.
//!
//! A password on the command line is visible in every process list and shell history, so there is
//! no such option: it is read from a file of one line. Never logged, never in an error message.

use facts::failure::{ErrorCode, Failure};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest password file that is accepted, in bytes.
const MAX_BYTES: u64 = 4096;

/// The reason a file gives no password; its content is never part of it.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("reading the password file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file holds no password.
    #[error("the password file {} {fault}", path.display())]
    NoPassword {
        /// The file.
        path: PathBuf,
        /// The fault of its content.
        fault: PasswordFault,
    },
}

/// The fault of a password file's content.
#[derive(Debug, thiserror::Error)]
pub enum PasswordFault {
    /// It has more bytes than a password may have.
    #[error("is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Its bytes are no text.
    #[error("is not UTF-8")]
    NotText,
    /// There is nothing in it.
    #[error("is empty")]
    Empty,
}

impl Failure for PasswordError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Read { source, .. } => ErrorCode::of_path(source),
            Self::NoPassword { .. } => ErrorCode::Usage,
        }
    }
}

/// Reads the password in a file, or on stdin for `-`, without its line end.
///
/// # Errors
/// [`PasswordError`] when it cannot be read, is empty, too long, or not UTF-8.
pub fn read_password(file: &Path) -> Result<Zeroizing<String>, PasswordError> {
    let failed = |source| PasswordError::Read {
        path: file.to_owned(),
        source,
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(256));
    if file == Path::new("-") {
        io::stdin()
            .lock()
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    } else {
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .open(file)
            .map_err(failed)?;
        opened
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    }
    password_in(&bytes).map_err(|fault| PasswordError::NoPassword {
        path: file.to_owned(),
        fault,
    })
}

fn password_in(bytes: &[u8]) -> Result<Zeroizing<String>, PasswordFault> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(PasswordFault::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| PasswordFault::NotText)?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line.is_empty() {
        true => Err(PasswordFault::Empty),
        false => Ok(Zeroizing::new(line.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_ending_is_taken_off() {
        for (bytes, password) in [
            (&b"s3cret\n"[..], "s3cret"),
            (b" s3cret \r\n", " s3cret "),
            ("schl\u{fc}ssel".as_bytes(), "schl\u{fc}ssel"),
        ] {
            assert_eq!(*password_in(bytes).unwrap(), password);
        }
    }

    #[test]
    fn what_is_no_password_is_refused_without_showing_it() {
        assert!(matches!(password_in(b""), Err(PasswordFault::Empty)));
        assert!(matches!(password_in(b"\n"), Err(PasswordFault::Empty)));
        assert!(matches!(
            password_in(&[b'x'; 5000]),
            Err(PasswordFault::TooLong)
        ));
        assert!(matches!(
            password_in(&[0xff, 0xfe]),
            Err(PasswordFault::NotText)
        ));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, vec![b'x'; 5000]).unwrap();
        let error = read_password(&file).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Usage);
        assert!(
            error
                .to_string()
                .ends_with("password is longer than 4096 bytes")
        );
        let error = read_password(Path::new("/nonexistent/p")).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Refused);
        assert!(error.to_string().contains("/nonexistent/p"));
    }
}
