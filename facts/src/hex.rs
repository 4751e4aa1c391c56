//! Hexadecimal text of keys, digests and identities.
//!
//! Owns: lower-case hex of byte strings and of arrays with a fixed length. The length of the array
//! decides what is allocated, never the text. No call panics.

/// The reason why a text is not the hex of an array of a given length.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HexError {
    /// The number of digits is wrong.
    #[error("{actual} hex digits, expected {expected}")]
    Length {
        /// Expected number of digits.
        expected: usize,
        /// Number of digits found.
        actual: usize,
    },
    /// A character is not one of `0-9`, `a-f`, `A-F`; its position from 0.
    #[error("not a hex digit at position {0}")]
    Digit(usize),
}

/// Lower-case hex of bytes, two digits for each.
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    // A nibble is at most 15, so both lookups are inside the table.
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .collect()
}

/// Parses the hex of an array; upper and lower case are the same.
///
/// # Errors
/// The text has another length, or a character that is not a hex digit.
pub fn decode<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return Err(HexError::Length {
            expected: N * 2,
            actual: digits.len(),
        });
    }
    let mut out = [0; N];
    for (index, (byte, pair)) in out.iter_mut().zip(digits.chunks_exact(2)).enumerate() {
        let high = nibble(pair[0]).ok_or(HexError::Digit(index * 2))?;
        let low = nibble(pair[1]).ok_or(HexError::Digit(index * 2 + 1))?;
        *byte = high << 4 | low;
    }
    Ok(out)
}

/// Parses the hex of any number of bytes; `None` when it is malformed.
pub fn decode_any(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?))
        .collect()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        assert_eq!(encode(&[0x00, 0x1f, 0xa9]), "001fa9");
        assert_eq!(decode::<3>("001FA9"), Ok([0x00, 0x1f, 0xa9]));
        assert_eq!(
            decode::<3>("001f"),
            Err(HexError::Length {
                expected: 6,
                actual: 4
            })
        );
        assert_eq!(decode::<3>("001fag"), Err(HexError::Digit(5)));
        // A character of two bytes makes the length right, but is not a hex digit.
        assert_eq!(decode::<1>("é"), Err(HexError::Digit(0)));
        assert_eq!(decode::<0>(""), Ok([]));
    }
}
