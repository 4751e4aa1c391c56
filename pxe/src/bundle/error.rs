//! What can go wrong while the pre-OS or an export is made, in sentences for a technician.

use std::path::{Path, PathBuf};

/// A failure of assembly or export. `source()` carries the cause, [`BundleError::hint`] the next thing to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file or folder of this machine.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done: `reading`, `writing`, ...
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A package that cannot be read.
    #[error("{} is no usable Debian package", path.display())]
    Deb {
        /// The package.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A program of this machine is needed and not there.
    #[error("{program} is not installed")]
    NoProgram {
        /// The program.
        program: String,
        /// What to do.
        hint: String,
    },
    /// A program of this machine failed.
    #[error("{program} failed: {said}")]
    Program {
        /// The program and its first words.
        program: String,
        /// Its last words.
        said: String,
        /// What to try.
        hint: String,
    },
    /// Packages that are needed and nowhere to be had.
    #[error("no package {} {place}", names.join(", "))]
    NoPackage {
        /// The packages.
        names: Vec<String>,
        /// Where they were looked for: `in DIR`, `known to apt`.
        place: String,
        /// What to do.
        hint: String,
    },
    /// Something a package should hold.
    #[error("{package} has no {what}")]
    NotInPackage {
        /// The package, with its version.
        package: String,
        /// The file.
        what: String,
    },
    /// A program that goes into the pre-OS and would not run there.
    #[error("{program} would not run in the pre-OS: {what}")]
    WouldNotRun {
        /// The program.
        program: String,
        /// Why.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A refusal before anything was touched.
    #[error("{message}")]
    Refused {
        /// What and why.
        message: String,
        /// What to do.
        hint: String,
    },
}

impl BundleError {
    /// The next thing to try, where there is one.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Io { .. } | Self::NotInPackage { .. } => None,
            Self::Deb { .. } => Some("remove the file and get the package again"),
            Self::NoProgram { hint, .. }
            | Self::Program { hint, .. }
            | Self::NoPackage { hint, .. }
            | Self::WouldNotRun { hint, .. }
            | Self::Refused { hint, .. } => Some(hint),
        }
    }
}

/// Adds what was being done to which file.
pub(crate) fn at(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Io {
        doing,
        path,
        source,
    }
}
