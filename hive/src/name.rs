//! Names of keys and values: storage, comparison and hash.
//!
//! A name is UTF-16, not always well formed. If all of its units are below 256, it is stored with
//! one byte for each unit. Names are compared unit by unit in upper case, by the numbers of the
//! units.

/// Longest name of a key, in UTF-16 units.
pub(crate) const KEY_NAME_MAX: usize = 255;
/// Longest name of a value, in UTF-16 units.
pub(crate) const VALUE_NAME_MAX: usize = 16_383;

/// A name as stored in a hive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name<'a> {
    pub(crate) bytes: &'a [u8],
    /// True if the name is stored with one byte for each unit.
    pub(crate) compressed: bool,
}

impl<'a> Name<'a> {
    /// The UTF-16 units of the name.
    pub(crate) fn units(self) -> impl Iterator<Item = u16> + 'a {
        let step = if self.compressed { 1 } else { 2 };
        self.bytes.chunks_exact(step).map(|unit| match *unit {
            [low, high] => u16::from_le_bytes([low, high]),
            [low] => u16::from(low),
            _ => 0,
        })
    }

    /// The units in upper case, which determine order and hash.
    pub(crate) fn upper(self) -> impl Iterator<Item = u16> + 'a {
        self.units().map(upper)
    }

    /// True if the name is ASCII, so that all versions of Windows agree on its upper case.
    pub(crate) fn is_ascii(self) -> bool {
        self.units().all(|unit| unit < 0x80)
    }

    /// True if the names are equal except for case; `upper` must be in upper case.
    pub(crate) fn is(self, upper: &[u16]) -> bool {
        self.upper().eq(upper.iter().copied())
    }

    /// The name as text; an unpaired surrogate becomes U+FFFD.
    pub(crate) fn text(self) -> String {
        char::decode_utf16(self.units())
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    }

    /// Length of the name in bytes as UTF-16, the unit of the field for the longest name in a key.
    pub(crate) fn utf16_len(self) -> usize {
        if self.compressed {
            self.bytes.len() * 2
        } else {
            self.bytes.len()
        }
    }
}

/// Converts `text` to the units that [`Name::is`] compares.
pub(crate) fn upper_units(text: &str) -> Vec<u16> {
    text.encode_utf16().map(upper).collect()
}

/// The hash of a key in an `lh`, regf "Hash leaf".
pub(crate) fn hash(upper: impl Iterator<Item = u16>) -> u32 {
    upper.fold(0, |hash: u32, unit| {
        hash.wrapping_mul(37).wrapping_add(u32::from(unit))
    })
}

/// The hint of a key in an `lf`: the first four letters, or zero if one of them does not fit a
/// byte.
pub(crate) fn letters(name: Name<'_>) -> u32 {
    let mut letters = [0; 4];
    for (place, unit) in letters.iter_mut().zip(name.units()) {
        match u8::try_from(unit) {
            Ok(letter) => *place = letter,
            Err(_) => return 0,
        }
    }
    u32::from_le_bytes(letters)
}

/// Converts a new name to its stored form; true if it is compressed.
pub(crate) fn stored(text: &str) -> (Vec<u8>, bool) {
    let narrow: Option<Vec<u8>> = text
        .encode_utf16()
        .map(|unit| u8::try_from(unit).ok())
        .collect();
    match narrow {
        Some(bytes) => (bytes, true),
        None => (
            text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            false,
        ),
    }
}

/// Ranges of units that have an upper case in today's Unicode but not in the tables of Windows 7,
/// including units between them without one in either. Taken from the table that mkntfs writes.
const LEFT_ALONE: [(u16, u16); 33] = [
    (0x00b5, 0x00b5),
    (0x0131, 0x0131),
    (0x017f, 0x017f),
    (0x019b, 0x019b),
    (0x01c5, 0x01c5),
    (0x01c8, 0x01c8),
    (0x01cb, 0x01cb),
    (0x01f2, 0x01f2),
    (0x023f, 0x0240),
    (0x0252, 0x0252),
    (0x025c, 0x025c),
    (0x0261, 0x0261),
    (0x0264, 0x0266),
    (0x026a, 0x026a),
    (0x026c, 0x026c),
    (0x0282, 0x0282),
    (0x0287, 0x0287),
    (0x029d, 0x0345),
    (0x03c2, 0x03c2),
    (0x03d0, 0x03d6),
    (0x03f0, 0x03f1),
    (0x03f3, 0x03f5),
    (0x0525, 0x052f),
    (0x10d0, 0x1c8a),
    (0x1d8e, 0x1d8e),
    (0x1e9b, 0x1e9b),
    (0x1fbe, 0x1fbe),
    (0x2c5f, 0x2c5f),
    (0x2cec, 0x2cf3),
    (0x2d27, 0x2d2d),
    (0xa661, 0xa661),
    (0xa699, 0xa69b),
    (0xa791, 0xabbf),
];

/// Converts one unit to upper case as Windows does: one unit to one unit, surrogates unchanged.
///
/// Beyond ASCII, versions of Windows differ with the Unicode version of their time. Therefore the
/// validator does not report an order or a hash that differs only there.
pub(crate) fn upper(unit: u16) -> u16 {
    match unit {
        0x61..=0x7a => return unit - 32,
        0..0x80 => return unit,
        // Greek letters with an iota below are one letter in Windows and two in Unicode.
        0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7 => return unit + 8,
        0x1fb3 | 0x1fc3 | 0x1ff3 => return unit + 9,
        _ => {}
    }
    if LEFT_ALONE
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&unit))
    {
        return unit;
    }
    let Some(letter) = char::from_u32(u32::from(unit)) else {
        return unit;
    };
    let mut capital = letter.to_uppercase();
    match (capital.next(), capital.next()) {
        (Some(one), None) => u16::try_from(u32::from(one)).unwrap_or(unit),
        _ => unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capitals(text: &str) -> String {
        String::from_utf16(&upper_units(text)).unwrap()
    }

    #[test]
    fn one_unit_becomes_one_unit() {
        assert_eq!(capitals("azAZ_{09"), "AZAZ_{09");
        assert_eq!(capitals("äÿßéж"), "ÄŸßÉЖ");
        assert_eq!(capitals("µıſςა𐐸"), "µıſςა𐐸", "these stand for themselves");
        assert_eq!(capitals("ᾀᾳ"), "ᾈᾼ");
    }

    #[test]
    fn hash_and_letters() {
        assert_eq!(
            hash(upper_units("Select").into_iter()),
            hash(upper_units("SELECT").into_iter())
        );
        assert_eq!(hash([65, 66].into_iter()), 65 * 37 + 66);
        let (bytes, compressed) = stored("Se");
        assert!(compressed);
        assert_eq!(
            letters(Name {
                bytes: &bytes,
                compressed
            }),
            0x6553
        );
        let (bytes, compressed) = stored("a€b");
        assert!(!compressed);
        assert_eq!(
            letters(Name {
                bytes: &bytes,
                compressed
            }),
            0
        );
    }
}
