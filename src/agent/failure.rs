//! Why a target's part in a job ended early, as one sentence.

use crate::disk::DiskError;

/// Why a job ended without being done, or a capture without an image.
pub(super) enum Failure {
    Disk(DiskError),
    Other(String),
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl Failure {
    /// The sentence for the technician, with what to try.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Other(text) => text.clone(),
            Self::Disk(error) => match error.hint() {
                Some(hint) => format!("{} ({hint})", error.full()),
                None => error.full(),
            },
        }
    }
}
