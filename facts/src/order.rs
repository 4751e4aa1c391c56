//! Words of an order: what is read back, what is reused, and what the machine does afterwards.
//!
//! The same words appear in requests, orders, reports and the CLI. Values only.

use serde::{Deserialize, Serialize};

/// Action of a machine after its job.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndAction {
    /// Stay in the pre-OS.
    #[default]
    None,
    /// Restart from the disk.
    Restart,
    /// Power off.
    Shutdown,
}

/// Part of the disk that is read back before commit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Every chunk: the only mode that ends in `done`.
    #[default]
    Full,
}

/// Search for the image on the target's own disk before it is requested.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reuse {
    /// Search when a sample of the image is on the disk.
    #[default]
    Auto,
    /// Search in any case.
    Always,
    /// Send and write everything.
    Never,
}

impl Reuse {
    /// The word in output and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}
