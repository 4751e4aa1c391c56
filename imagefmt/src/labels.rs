//! LABELS: texts of the technician that may change later. They are part of neither root and of no
//! signature.
//!
//! The record is one JSON object of texts. It is written behind the index, and again behind the end
//! whenever it changes. The last one counts, so an edit never changes existing bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{FormatError, Result, at_most};

/// Largest number of labels of an image.
pub const LABELS_MAX: u64 = 64;
/// Longest name of a label, in bytes.
const NAME_MAX: usize = 64;
/// Longest text of a label, in bytes.
const TEXT_MAX: u64 = 4096;
/// Largest LABELS body in bytes: every label at its limits, each byte written as `\u0000`.
pub(crate) const LABELS_BYTES_MAX: u64 = LABELS_MAX * (NAME_MAX as u64 + TEXT_MAX) * 6;

/// The labels of an image by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// The labels, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// True if there are no labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a label, or removes it if `text` is empty.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] for a name with characters other than `a-z 0-9 . _ -`,
    /// [`FormatError::LimitExceeded`] for too many labels or too long a text.
    pub fn set(&mut self, name: &str, text: &str) -> Result<()> {
        let mut changed = self.clone();
        changed.0.remove(name);
        if !text.is_empty() {
            changed.0.insert(name.to_owned(), text.to_owned());
        }
        changed.validate()?;
        *self = changed;
        Ok(())
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        self.validate()?;
        serde_json::to_vec(self).map_err(FormatError::Meta)
    }

    pub(crate) fn from_json(json: &[u8]) -> Result<Self> {
        at_most("labels size", json.len() as u64, LABELS_BYTES_MAX)?;
        let labels: Self = serde_json::from_slice(json).map_err(FormatError::Meta)?;
        labels.validate()?;
        Ok(labels)
    }

    fn validate(&self) -> Result<()> {
        at_most("number of labels", self.0.len() as u64, LABELS_MAX)?;
        for (name, text) in &self.0 {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
            if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain) {
                return Err(FormatError::Unwritable {
                    what: "the name of a label is 1 to 64 of a-z, 0-9, dot, hyphen and underscore",
                });
            }
            at_most("length of a label", text.len() as u64, TEXT_MAX)?;
        }
        Ok(())
    }
}
