//! Errors that several commands share.

use facts::failure::{ErrorCode, Failure};
use std::io;
use std::path::{Path, PathBuf};

/// A path that somebody named cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", path.display())]
pub(super) struct PathError {
    /// The action: `reading`, `writing`, ...
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl PathError {
    /// Wraps an error of the operating system with the action and the path.
    pub(super) fn of(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

impl Failure for PathError {
    fn code(&self) -> ErrorCode {
        ErrorCode::of_path(&self.source)
    }
}
