//! The three reasons why a reader of an allocation map stops early.
//!
//! Always holds: a structure that contradicts itself means that everything is captured, a device
//! that fails is an error, and the two are never confused.

use std::io;

use super::FsKind;
use crate::ntfs::NtfsError;
use crate::volume::ReadError;

/// The reason why a reader stopped early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The device returned an error.
    Io(io::Error),
    /// The file system is not understood or contradicts itself: everything must be captured.
    Raw(String),
    /// The file system was not cleanly closed: nothing is captured until the operator decides.
    Refused { reason: String, hint: String },
}

impl Stop {
    /// A stop with "capture everything, because ...".
    pub(super) fn raw(reason: impl Into<String>) -> Self {
        Self::Raw(reason.into())
    }

    /// A stop with "not cleanly closed, because ...; do ...".
    pub(super) fn refused(reason: impl Into<String>, what_to_do: &str) -> Self {
        Self::Refused {
            reason: reason.into(),
            hint: format!(
                "{what_to_do}, or capture this partition raw with --raw-partition NUMBER"
            ),
        }
    }
}

impl Stop {
    /// Adds the name of the structure being read to an error of the device.
    pub(super) fn named(self, structure: &str, kind: FsKind) -> Self {
        match self {
            Self::Io(error) => {
                let text = format!("the {structure} of its {kind} file system: {error}");
                Self::Io(io::Error::new(error.kind(), text))
            }
            other => other,
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Io(error),
            other => Self::Raw(other.to_string()),
        }
    }
}

impl From<NtfsError> for Stop {
    fn from(error: NtfsError) -> Self {
        match error {
            NtfsError::Read(error) => error.into(),
            other => Self::Raw(other.to_string()),
        }
    }
}
