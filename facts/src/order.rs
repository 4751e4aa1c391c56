//! Words of an order: what is read back, what is used again, and what the machine does afterwards.
//!
//! The same words appear in requests, orders, reports and the CLI. Values only.

use serde::{Deserialize, Serialize};

/// What a machine does after its job.
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

/// How much of the disk is read back before commit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Every chunk: the only mode that ends in `done`.
    #[default]
    Full,
}

/// Whether a target looks for the image on its own disk before it asks for it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reuse {
    /// When a sample of it is there.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// Everything is sent and written.
    Never,
}

impl Reuse {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}
