//! Words of an order: what is read back, what is reused, which partition grows, and what the
//! machine does afterwards.
//!
//! The same words appear in requests, orders, reports and the CLI. Values only.

use crate::as_text;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

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

/// Partition whose entry in the table grows into free space. Written as `last` or its number.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Grow {
    /// The partition that ends last.
    Last,
    /// The partition with this number.
    Number(u32),
}

/// The text names no partition that grows.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no partition that grows; write `last` or a partition number")]
pub struct BadGrow(String);

impl FromStr for Grow {
    type Err = BadGrow;

    fn from_str(text: &str) -> Result<Self, BadGrow> {
        match (text, text.parse::<NonZeroU32>()) {
            ("last", _) => Ok(Self::Last),
            (_, Ok(number)) => Ok(Self::Number(number.get())),
            (_, Err(_)) => Err(BadGrow(text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Grow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

as_text!(Grow);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_one_partition() {
        for (text, grow) in [("last", Grow::Last), ("3", Grow::Number(3))] {
            assert_eq!(text.parse(), Ok(grow));
            assert_eq!(grow.to_string(), text);
            assert_eq!(serde_json::to_string(&grow).unwrap(), format!("{text:?}"));
        }
        for text in ["0", "first", "-1", "", "4294967296"] {
            assert!(text.parse::<Grow>().is_err(), "{text}");
        }
    }
}
