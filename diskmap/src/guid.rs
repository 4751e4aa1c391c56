//! GUIDs as GPT stores them: the first three fields little-endian, the rest in reading order.
//!
//! Owns the conversion between the sixteen bytes on a disk and the usual text form. Keeps the bytes
//! in on-disk order, so a GUID that was read is written back unchanged.

use std::fmt;
use std::str::FromStr;

/// A GUID in its on-disk byte order.
///
/// Its text form is that of sgdisk, sfdisk and Windows: `C12A7328-F81F-11D2-BA4B-00A0C93EC93B`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Guid(pub [u8; 16]);

/// Order of the on-disk bytes in the text.
const TEXT_ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

/// Indexes in `TEXT_ORDER` that have a dash before them in the text.
const DASH_BEFORE: [usize; 4] = [4, 6, 8, 10];

/// The error for a text that is not a GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a guid: {0:?} (expected 8-4-4-4-12 hexadecimal digits)")]
pub struct GuidError(String);

impl Guid {
    /// The GUID with all bytes zero, which means "not in use" as the type of a GPT entry.
    pub const ZERO: Self = Self([0; 16]);

    /// True if every byte is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, at) in TEXT_ORDER.into_iter().enumerate() {
            if DASH_BEFORE.contains(&position) {
                f.write_str("-")?;
            }
            write!(f, "{:02X}", self.0.get(at).copied().unwrap_or_default())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guid({self})")
    }
}

impl FromStr for Guid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        let error = || GuidError(text.chars().take(64).collect());
        let bare = text
            .strip_prefix('{')
            .and_then(|inner| inner.strip_suffix('}'))
            .unwrap_or(text);
        let mut bytes = [0; 16];
        let mut letters = bare.bytes();
        for (position, at) in TEXT_ORDER.into_iter().enumerate() {
            if DASH_BEFORE.contains(&position) && letters.next() != Some(b'-') {
                return Err(error());
            }
            let high = letters.next().and_then(hex_digit).ok_or_else(error)?;
            let low = letters.next().and_then(hex_digit).ok_or_else(error)?;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = high << 4 | low;
            }
        }
        match letters.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(error()),
        }
    }
}

impl serde::Serialize for Guid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Value of one hexadecimal digit.
fn hex_digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        b'A'..=b'F' => Some(letter - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_first_three_fields_byte_swapped() {
        let esp: Guid = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b".parse().unwrap();
        assert_eq!(esp.0[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
        assert_eq!(esp.to_string(), "C12A7328-F81F-11D2-BA4B-00A0C93EC93B");
        assert_eq!("{C12A7328-F81F-11D2-BA4B-00A0C93EC93B}".parse(), Ok(esp));
    }

    #[test]
    fn refuses_what_is_not_a_guid() {
        for text in [
            "",
            "c12a7328",
            "c12a7328f81f11d2ba4b00a0c93ec93b",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93b0",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93g",
        ] {
            assert!(text.parse::<Guid>().is_err(), "{text}");
        }
    }
}
