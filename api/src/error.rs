//! An error as the API and `--json` show it, and the exit code it becomes.

use serde::{Deserialize, Serialize};

/// An error as the API and `--json` show it.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Which exit code it becomes.
    pub code: ErrorCode,
    /// What went wrong, with names and numbers.
    pub message: String,
    /// What to try next.
    #[serde(default)]
    pub hint: Option<String>,
}

/// Kinds of failure, one to an exit code (DESIGN section 10).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// 1
    Unexpected,
    /// 2
    Usage,
    /// 3
    TargetsFailed,
    /// 4
    NothingMatched,
    /// 5
    Refused,
    /// 6
    Unreachable,
    /// 7
    Integrity,
    /// 124
    TimedOut,
    /// 130
    Interrupted,
}

impl ErrorCode {
    /// The process exit code.
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
    /// An error of a kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// The same with what to try next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
