//! Mistakes of a template file, and their places.
//!
//! Owns: places in a text as line and column, and did-you-mean. Never holds the value of a secret:
//! a mistake about one names the key alone.

use std::fmt;
use std::ops::Range;

/// One mistake of a template.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Mistake {
    /// Line, from 1; 0 when the mistake is in a `--set` and not in the file.
    pub line: usize,
    /// Column in characters, from 1; 0 with line 0.
    pub column: usize,
    /// Byte range of the text it is about; empty with line 0.
    #[serde(skip)]
    pub span: Range<usize>,
    /// Path of the key: `network.mode`, `copy.2.to` (tables of a list count from 1); empty for the
    /// file as a whole.
    pub key: String,
    /// The mistake, and the values that are accepted.
    pub message: String,
    /// The word that was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(meant) => write!(f, "; did you mean `{meant}`?"),
            None => Ok(()),
        }
    }
}

/// Line and column of a byte of a text, both from 1. An offset past the end counts as the end.
pub(crate) fn place(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = text.get(..offset).unwrap_or_default();
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The word of `known` that `given` is probably a misspelling of.
pub(crate) fn nearest<'w>(given: &str, known: impl IntoIterator<Item = &'w str>) -> Option<String> {
    let given = given.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&given, word), word))
        // A third of the letters may be wrong; beyond that the guess is noise.
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_and_stay_inside() {
        let text = "a\nüb\n";
        assert_eq!(place(text, 0), (1, 1));
        assert_eq!(place(text, 2), (2, 1));
        // An offset inside a character gives the place of that character.
        assert_eq!(place(text, 3), (2, 1));
        assert_eq!(place(text, 4), (2, 2));
        assert_eq!(place(text, 999), (3, 1));
        assert_eq!(place("", 7), (1, 1));
    }

    #[test]
    fn suggestions_are_near_or_none() {
        let known = ["hostname", "start", "case", "list"];
        assert_eq!(nearest("hostnme", known), Some("hostname".into()));
        assert_eq!(nearest("Start", known), Some("start".into()));
        assert_eq!(nearest("lsit", known), Some("list".into()));
        assert_eq!(nearest("colour", known), None);
    }
}
