//! Kinds of failure, each with its exit code, and the rule that gives every error its kind.
//!
//! The table of exit codes is [`ErrorCode`]. An error type says by [`Failure`] which kind each of its
//! cases is; commands and the console turn any such error into their own with `?` and decide nothing
//! a second time.

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::io;

/// Kinds of failure (`docs/operations.md`, Exit codes).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// Exit code 1: an unexpected failure of this machine.
    Unexpected,
    /// Exit code 2: wrong usage, or a password or confirmation is missing.
    Usage,
    /// Exit code 3: some targets failed.
    TargetsFailed,
    /// Exit code 4: nothing matched, or nothing has that name.
    NothingMatched,
    /// Exit code 5: refused before any change; a path that is not there is one reason.
    Refused,
    /// Exit code 6: the console is unreachable.
    Unreachable,
    /// Exit code 6: access is not authorised, for example with a wrong password.
    NotAuthorised,
    /// Exit code 7: a damaged image, or a disk that does not read back.
    Integrity,
    /// Exit code 124: timed out.
    TimedOut,
    /// Exit code 130: interrupted.
    Interrupted,
}

impl ErrorCode {
    /// Exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::TargetsFailed => 3,
            Self::NothingMatched => 4,
            Self::Refused => 5,
            Self::Unreachable | Self::NotAuthorised => 6,
            Self::Integrity => 7,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
        }
    }

    /// The kind of an error of the operating system about a path that somebody named: `Refused`
    /// when the path is not there, is of the wrong kind, is taken or may not be used.
    pub fn of_path(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::AlreadyExists
            | Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem => Self::Refused,
            _ => Self::Unexpected,
        }
    }
}

/// An error that ends a command.
pub trait Failure: Error {
    /// The kind of the failure.
    fn code(&self) -> ErrorCode;

    /// Advice on what to try next, if there is any.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// The text of an error and its causes, in one line.
pub fn full_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        // Some errors repeat their cause.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading {0}")]
    struct Reading(&'static str, #[source] io::Error);

    #[test]
    fn causes_are_told_once() {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(
            full_text(&Reading("x", missing())),
            format!("reading x: {}", missing())
        );
        assert_eq!(full_text(&missing()), missing().to_string());
    }

    #[test]
    fn a_path_that_cannot_be_used_is_refused_and_a_failing_disk_is_not() {
        let code = |kind: io::ErrorKind| ErrorCode::of_path(&kind.into());
        assert_eq!(code(io::ErrorKind::NotFound), ErrorCode::Refused);
        assert_eq!(code(io::ErrorKind::IsADirectory), ErrorCode::Refused);
        let failing = io::Error::from_raw_os_error(5);
        assert_eq!(ErrorCode::of_path(&failing), ErrorCode::Unexpected);
    }

    #[test]
    fn words_of_the_api_stay() {
        let word = |code: ErrorCode| serde_json::to_string(&code).unwrap();
        assert_eq!(word(ErrorCode::NothingMatched), "\"nothing-matched\"");
        assert_eq!(word(ErrorCode::NotAuthorised), "\"not-authorised\"");
        assert_eq!(ErrorCode::NotAuthorised.exit_code(), 6);
    }
}
