//! What a long assembly says while it works.

/// A stage of the work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Packages come from the archive; bytes of packages.
    Downloading,
    /// A package is unpacked; bytes of the package.
    Reading,
    /// The initramfs is written; bytes before compression.
    Packing,
    /// Files of an export are written; bytes.
    Writing,
}

impl Step {
    /// The word for bars and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Reading => "reading",
            Self::Packing => "packing",
            Self::Writing => "writing",
        }
    }
}

/// Where the work is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The stage.
    pub step: Step,
    /// What it works on: a package, a file.
    pub what: &'a str,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
}

/// Hears of progress. Called often: some thousand times in a run.
pub type Report<'a> = dyn FnMut(Progress<'_>) + 'a;
