//! Names of keys and values: how they are stored, compared and hashed.
//!
//! A name is UTF-16, not always well formed. When each of its units is below 256 it is stored in one byte
//! a unit. Names are compared unit by unit in upper case; the unit's number decides the order.

/// Length of a key's name, in UTF-16 units.
pub(crate) const KEY_NAME_MAX: usize = 255;
/// Length of a value's name, in UTF-16 units.
pub(crate) const VALUE_NAME_MAX: usize = 16_383;

/// A name as it lies in a hive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name<'a> {
    pub(crate) bytes: &'a [u8],
    /// One byte a unit.
    pub(crate) compressed: bool,
}

impl<'a> Name<'a> {
    /// Its UTF-16 units.
    pub(crate) fn units(self) -> impl Iterator<Item = u16> + 'a {
        let step = if self.compressed { 1 } else { 2 };
        self.bytes.chunks_exact(step).map(|unit| match *unit {
            [low, high] => u16::from_le_bytes([low, high]),
            [low] => u16::from(low),
            _ => 0,
        })
    }

    /// Its units in upper case, which is what order and hash go by.
    pub(crate) fn upper(self) -> impl Iterator<Item = u16> + 'a {
        self.units().map(upper)
    }

    /// The same but for case.
    pub(crate) fn is(self, upper: &[u16]) -> bool {
        self.upper().eq(upper.iter().copied())
    }

    /// Half a surrogate pair becomes U+FFFD.
    pub(crate) fn text(self) -> String {
        char::decode_utf16(self.units())
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    }

    /// Its length in bytes as UTF-16, which is how a key remembers the longest below it.
    pub(crate) fn utf16_len(self) -> usize {
        if self.compressed {
            self.bytes.len() * 2
        } else {
            self.bytes.len()
        }
    }
}

/// `text` in the units that [`Name::is`] compares.
pub(crate) fn upper_units(text: &str) -> Vec<u16> {
    text.encode_utf16().map(upper).collect()
}

/// One unit in upper case, as Windows does it: one unit to one unit, surrogates to themselves.
pub(crate) fn upper(unit: u16) -> u16 {
    if unit < 0x80 {
        return match unit {
            0x61..=0x7a => unit - 32,
            _ => unit,
        };
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
