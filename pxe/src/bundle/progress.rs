//! Progress reports of a long assembly.

/// A stage of the work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Packages are downloaded; counts bytes of packages.
    Downloading,
    /// A package is unpacked; counts bytes of the package.
    Reading,
    /// The initramfs is written; counts bytes before compression.
    Packing,
    /// Files of an export are written; counts bytes.
    Writing,
}

impl Step {
    /// The word for progress bars and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Reading => "reading",
            Self::Packing => "packing",
            Self::Writing => "writing",
        }
    }
}

/// The progress of a stage.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The stage.
    pub step: Step,
    /// The package or file it works on.
    pub what: &'a str,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, if known.
    pub total: Option<u64>,
}

/// Receives progress reports. Called some thousand times in a run.
pub type Report<'a> = dyn FnMut(Progress<'_>) + 'a;
