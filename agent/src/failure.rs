//! The reason a target's part in a job ended early, as one sentence.

use disk::DiskError;

/// The reason a job ended without being done, or a capture without an image.
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
    /// True for a disk that cannot be read.
    pub(super) fn is_of_reading(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_of_reading())
    }

    /// The sentence for the technician, with the next step.
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
