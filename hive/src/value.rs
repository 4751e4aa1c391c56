//! Values for callers, and data in the forms used by Windows.

/// The common types of values. A value's type may be any number: SAM stores user ids there.
pub mod kind {
    /// No type.
    pub const NONE: u32 = 0;
    /// A string in UTF-16 with a zero at its end.
    pub const SZ: u32 = 1;
    /// A string that contains `%VARIABLES%`.
    pub const EXPAND_SZ: u32 = 2;
    /// Bytes.
    pub const BINARY: u32 = 3;
    /// 32 bits, little-endian.
    pub const DWORD: u32 = 4;
    /// Several strings, each with a zero at its end, and another zero after the last.
    pub const MULTI_SZ: u32 = 7;
    /// 64 bits, little-endian.
    pub const QWORD: u32 = 11;
}

/// A value as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Name of the value; empty for the default value of a key.
    pub name: String,
    /// Type of the value: one of [`kind`], or any other number.
    pub kind: u32,
    /// Data of the value. Strings are UTF-16.
    pub data: Vec<u8>,
}

impl Value {
    /// The text of a string value up to its first zero; `None` for other types.
    #[must_use]
    pub fn as_string(&self) -> Option<String> {
        matches!(self.kind, kind::SZ | kind::EXPAND_SZ).then(|| utf16_text(&self.data))
    }

    /// The number in a DWORD value; `None` for other types or lengths.
    #[must_use]
    pub fn as_u32(&self) -> Option<u32> {
        let bytes = self.data.as_slice().try_into().ok()?;
        (self.kind == kind::DWORD).then_some(u32::from_le_bytes(bytes))
    }

    /// The number in a QWORD value; `None` for other types or lengths.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        let bytes = self.data.as_slice().try_into().ok()?;
        (self.kind == kind::QWORD).then_some(u64::from_le_bytes(bytes))
    }

    /// The strings in a MULTI_SZ value; `None` for other types. Missing zeros at its end are
    /// accepted, as in Windows.
    #[must_use]
    pub fn as_multi_string(&self) -> Option<Vec<String>> {
        if self.kind != kind::MULTI_SZ {
            return None;
        }
        let units: Vec<u16> = units(&self.data).collect();
        let strings = units
            .split(|&unit| unit == 0)
            .take_while(|string| !string.is_empty());
        Some(strings.map(String::from_utf16_lossy).collect())
    }
}

fn units(data: &[u8]) -> impl Iterator<Item = u16> {
    data.chunks_exact(2)
        .filter_map(|unit| Some(u16::from_le_bytes(unit.try_into().ok()?)))
}

fn utf16_text(data: &[u8]) -> String {
    let units: Vec<u16> = units(data).take_while(|&unit| unit != 0).collect();
    String::from_utf16_lossy(&units)
}

/// Makes the data of a string value.
#[must_use]
pub fn sz(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

/// Makes the data of a MULTI_SZ value. Empty strings are left out, because an empty string would
/// end the value.
#[must_use]
pub fn multi_sz<S: AsRef<str>>(texts: &[S]) -> Vec<u8> {
    let texts = texts
        .iter()
        .map(AsRef::as_ref)
        .filter(|text| !text.is_empty());
    texts.flat_map(sz).chain([0, 0]).collect()
}

/// Makes the data of a DWORD value.
#[must_use]
pub fn dword(number: u32) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

/// Makes the data of a QWORD value.
#[must_use]
pub fn qword(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: u32, data: Vec<u8>) -> Value {
        Value {
            name: String::new(),
            kind,
            data,
        }
    }

    #[test]
    fn strings_come_back() {
        assert_eq!(value(kind::SZ, sz("PC-01")).as_string().unwrap(), "PC-01");
        let unterminated = value(kind::SZ, b"P\0C\0".to_vec());
        assert_eq!(unterminated.as_string().unwrap(), "PC");
        let two = value(kind::MULTI_SZ, multi_sz(&["10.0.0.1", "", "10.0.0.2"]));
        assert_eq!(two.data.len(), 38);
        assert_eq!(two.as_multi_string().unwrap(), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(value(kind::MULTI_SZ, multi_sz::<&str>(&[])).data, [0, 0]);
    }

    #[test]
    fn a_number_has_its_type_and_its_length() {
        assert_eq!(value(kind::DWORD, dword(7)).as_u32(), Some(7));
        assert_eq!(value(kind::BINARY, dword(7)).as_u32(), None);
        assert_eq!(value(kind::DWORD, vec![7]).as_u32(), None);
        assert_eq!(value(kind::QWORD, qword(7)).as_u64(), Some(7));
        assert_eq!(value(kind::DWORD, dword(7)).as_string(), None);
    }
}
