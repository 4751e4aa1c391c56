//! Passwords from files.
//!
//! A password on the command line is visible in every process list and shell history, so there is
//! no such option: it is read from a file of one line. Never logged, never in an error message.

use api::ApiError;
use std::io::Read;
use std::path::Path;
use terminal::exit::usage;
use zeroize::Zeroizing;

/// Longest password file that is accepted, in bytes.
const MAX_BYTES: u64 = 4096;

/// Reads the password in a file, or on stdin for `-`, without its line end.
///
/// # Errors
/// `Usage` when it cannot be read, is empty, too long, or not UTF-8.
pub fn read_password(file: &Path) -> Result<Zeroizing<String>, ApiError> {
    let name = file.display();
    let failed =
        |error: std::io::Error| usage(format!("reading the password file {name}: {error}"));
    let mut bytes = Zeroizing::new(Vec::with_capacity(256));
    if file == Path::new("-") {
        std::io::stdin()
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
    if bytes.len() as u64 > MAX_BYTES {
        return Err(usage(format!(
            "the password file {name} is longer than {MAX_BYTES} bytes"
        )));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| usage(format!("the password file {name} is not UTF-8")))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(usage(format!("the password file {name} is empty")));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Zeroizing<String>, ApiError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, bytes).unwrap();
        read_password(&file)
    }

    #[test]
    fn one_line_ending_is_taken_off() {
        assert_eq!(*read(b"s3cret\n").unwrap(), "s3cret");
        assert_eq!(*read(b" s3cret \r\n").unwrap(), " s3cret ");
        assert_eq!(
            *read("schl\u{fc}ssel".as_bytes()).unwrap(),
            "schl\u{fc}ssel"
        );
    }

    #[test]
    fn what_is_no_password_is_refused_without_showing_it() {
        assert!(read(b"").unwrap_err().message.contains("is empty"));
        assert!(read(b"\n").unwrap_err().message.contains("is empty"));
        assert!(
            read(&[b'x'; 5000])
                .unwrap_err()
                .message
                .contains("longer than 4096")
        );
        assert!(
            read(&[0xff, 0xfe])
                .unwrap_err()
                .message
                .contains("not UTF-8")
        );
        assert!(
            read_password(Path::new("/nonexistent/p"))
                .unwrap_err()
                .message
                .contains("/nonexistent/p")
        );
    }
}
