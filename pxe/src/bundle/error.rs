//! Errors of building the pre-OS or an export, as sentences for a technician.

use facts::failure::{ErrorCode, Failure};
use std::path::{Path, PathBuf};

/// A failure of assembly or export. `source()` returns the cause, [`BundleError::hint`] the next
/// thing to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file or folder of this machine cannot be used.
    #[error("{doing} {}", path.display())]
    Io {
        /// The action: `reading`, `writing`, ...
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A package cannot be read.
    #[error("{} is no usable Debian package", path.display())]
    Deb {
        /// Path of the package.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A program of this machine is needed and not installed.
    #[error("{program} is not installed")]
    NoProgram {
        /// The program.
        program: String,
        /// The next step for the technician.
        hint: String,
    },
    /// A program of this machine failed.
    #[error("{program} failed: {said}")]
    Program {
        /// The program and its first arguments.
        program: String,
        /// Its last words of output.
        said: String,
        /// The next step for the technician.
        hint: String,
    },
    /// Needed packages cannot be found.
    #[error("no package {} {place}", names.join(", "))]
    NoPackage {
        /// Names of the packages.
        names: Vec<String>,
        /// The place that was searched: `in DIR`, `known to apt`.
        place: String,
        /// The next step for the technician.
        hint: String,
    },
    /// A package lacks a file it should have.
    #[error("{package} has no {what}")]
    NotInPackage {
        /// The package, with its version.
        package: String,
        /// The file.
        what: String,
    },
    /// A program for the pre-OS would not run there.
    #[error("{program} would not run in the pre-OS: {what}")]
    WouldNotRun {
        /// The program.
        program: String,
        /// The reason.
        what: String,
        /// The next step for the technician.
        hint: String,
    },
    /// A refusal before anything was touched.
    #[error("{message}")]
    Refused {
        /// The subject and the reason.
        message: String,
        /// The next step for the technician.
        hint: String,
    },
}

impl Failure for BundleError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Io { source, .. } => ErrorCode::of_path(source),
            Self::Program { .. } => ErrorCode::Unexpected,
            Self::Deb { .. }
            | Self::NoProgram { .. }
            | Self::NoPackage { .. }
            | Self::NotInPackage { .. }
            | Self::WouldNotRun { .. }
            | Self::Refused { .. } => ErrorCode::Refused,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } | Self::NotInPackage { .. } => None,
            Self::Deb { .. } => Some("remove the file and get the package again".to_owned()),
            Self::NoProgram { hint, .. }
            | Self::Program { hint, .. }
            | Self::NoPackage { hint, .. }
            | Self::WouldNotRun { hint, .. }
            | Self::Refused { hint, .. } => Some(hint.clone()),
        }
    }
}

/// Adds the action and the file to an error.
pub(crate) fn at(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Io {
        doing,
        path,
        source,
    }
}
