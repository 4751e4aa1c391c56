//! An error in the API and in `--json`, with its exit code.

use serde::{Deserialize, Serialize};

/// An error in the API and in `--json`.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Kind of the failure, which decides the exit code.
    pub code: ErrorCode,
    /// The failure, with names and numbers.
    pub message: String,
    /// Advice on what to try next.
    #[serde(default)]
    pub hint: Option<String>,
}

/// Kinds of failure, one for each exit code (`docs/operations.md`, Exit codes).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// Exit code 1: an unexpected failure of this machine.
    Unexpected,
    /// Exit code 2: wrong usage, or a confirmation is missing.
    Usage,
    /// Exit code 3: some targets failed.
    TargetsFailed,
    /// Exit code 4: nothing matched.
    NothingMatched,
    /// Exit code 5: refused before any change.
    Refused,
    /// Exit code 6: the console is unreachable, or access is not authorised.
    Unreachable,
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
            Self::Unreachable => 6,
            Self::Integrity => 7,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
        }
    }
}

impl ApiError {
    /// Makes an error of this kind without a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds advice on what to try next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
