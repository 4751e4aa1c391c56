//! Names for numbers that an older reader does not know, so its error message can contain more than
//! a bit number.
//!
//! The table is in the prologue and has entries of 32 bytes: class, number, 30 bytes of name
//! (UTF-8, padded with zeros). Names are only for messages: an invalid entry is ignored, never
//! refused.

use std::fmt;

/// Length of an entry in bytes.
const ENTRY_BYTES: usize = 32;
/// Number of entries in the table.
const ENTRIES: usize = 24;
/// Length of the table in bytes.
pub(crate) const NAMES_BYTES: usize = ENTRIES * ENTRY_BYTES;

/// The kinds of numbers that have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Bit of the read-only compatible features.
    ReadOnly,
    /// Bit of the incompatible features.
    Incompatible,
    /// Type of a record.
    Record,
    /// Codec of a body.
    Codec,
    /// Cipher of a record.
    Cipher,
    /// Hash of ids and roots.
    Hash,
    /// Kind of a key slot.
    KeySlot,
}

impl Class {
    fn code(self) -> u8 {
        // 1 stands for a bit of the compatible features, which no message contains.
        match self {
            Self::ReadOnly => 2,
            Self::Incompatible => 3,
            Self::Record => 4,
            Self::Codec => 5,
            Self::Cipher => 6,
            Self::Hash => 7,
            Self::KeySlot => 8,
        }
    }

    /// The word for this kind in messages.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ReadOnly | Self::Incompatible => "feature",
            Self::Record => "record type",
            Self::Codec => "codec",
            Self::Cipher => "cipher",
            Self::Hash => "hash",
            Self::KeySlot => "key slot kind",
        }
    }
}

/// The name of a number in the image. It prints as ` (name)`, or as nothing if there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name(Option<String>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}

/// The table of names of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names(Vec<(u8, u8, String)>);

impl Names {
    /// Reads the table; invalid entries are ignored.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
        let entry = |entry: &[u8; ENTRY_BYTES]| {
            let &[class, number, ref name @ ..] = entry;
            let name = std::str::from_utf8(name).ok()?.trim_end_matches('\0');
            let plain = !name.is_empty() && !name.chars().any(char::is_control);
            (class != 0 && plain).then(|| (class, number, name.to_owned()))
        };
        Self(entries.iter().take(ENTRIES).filter_map(entry).collect())
    }

    /// The stored form of the table.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(NAMES_BYTES);
        for (class, number, name) in &self.0 {
            let start = out.len();
            out.extend_from_slice(&[*class, *number]);
            out.extend_from_slice(name.as_bytes());
            out.resize(start + ENTRY_BYTES, 0);
        }
        out.resize(NAMES_BYTES, 0);
        out
    }

    pub(crate) fn name(&self, class: Class, number: u64) -> Name {
        let found = self
            .0
            .iter()
            .find(|(its, at, _)| *its == class.code() && u64::from(*at) == number);
        Name(found.map(|(_, _, name)| name.clone()))
    }

    /// The feature bits of a class as text, with their names.
    pub(crate) fn features(&self, class: Class, bits: u64) -> String {
        let words: Vec<String> = (0..64)
            .filter(|bit| bits >> bit & 1 == 1)
            .map(|bit| format!("bit {bit}{}", self.name(class, bit)))
            .collect();
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_nonsense_is_passed_over() {
        let mut bytes = vec![0; NAMES_BYTES];
        bytes[..8].copy_from_slice(b"\x03\x05delta\0");
        bytes[32..40].copy_from_slice(b"\x04\x09\xff\xfe\xfd\xfc\xfb\xfa");
        bytes[64..72].copy_from_slice(b"\x04\x0ab\x1b[2J\0");
        bytes[96..98].copy_from_slice(&[4, 11]);
        bytes[128..].fill(b'x');
        let names = Names::parse(&bytes);
        assert_eq!(
            names.features(Class::Incompatible, 1 << 5 | 1 << 9),
            "bit 5 (delta), bit 9"
        );
        for number in [9, 10, 11] {
            assert_eq!(names.name(Class::Record, number).to_string(), "");
        }
        assert_eq!(Names::parse(&names.to_bytes()), names);
    }
}
