//! An error in the API and in `--json`, with its exit code.

use facts::failure::{Failure, full_text};
use serde::{Deserialize, Serialize};

pub use facts::failure::ErrorCode;

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

impl<E: Failure> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self {
            code: error.code(),
            message: full_text(&error),
            hint: error.hint(),
        }
    }
}
