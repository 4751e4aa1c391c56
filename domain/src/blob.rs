//! Join blobs as written by `djoin /provision /savefile` and by Samba, and the facts that are
//! readable in them.
//!
//! ```text
//! file    FF FE, UTF-16LE: base64, a zero        also taken: UTF-8 or ASCII, and line ends
//! base64  NDR type serialisation 1 (MS-RPCE 2.2.6) of ODJ_PROVISION_DATA
//!           01 10 08 00 CC CC CC CC | length of the object, 0 | pointer
//!           version 1 | count | pointer | count, then (format, bytes, pointer) each | count and bytes of each
//!         format 1 is again a serialisation, of ODJ_WIN7BLOB:
//!           01 10 08 00 CC CC CC CC | length, 0
//!           pointers to domain, machine, password | 112 - 12 bytes of other numbers | the strings, in that order
//!         format 2, of Windows 8, is OP_PACKAGE, which holds the same object again, deep inside
//! ```
//!
//! Names are from Samba's `librpc/idl/ODJ.idl`. All reads are bounded by the available bytes; the
//! password is skipped, and no error repeats bytes of the blob.

use std::fmt;

/// Longest file in bytes. Blobs have 6 KiB; with certificates and policies they have some hundred.
const MAX_BYTES: usize = 1 << 20;
/// Largest number of parts in a blob.
const MAX_PARTS: u32 = 32;
/// Longest name in characters; a DNS domain has at most 255.
const MAX_NAME_UNITS: u32 = 256;

/// The header of every object of a serialisation (MS-RPCE 2.2.6.1): version 1, little endian, eight
/// bytes, filler.
const HEADER: [u8; 8] = [1, 0x10, 8, 0, 0xCC, 0xCC, 0xCC, 0xCC];
/// Format of the part that every Windows since 7 can read.
const FORMAT_WIN7: u32 = 1;
/// Number of bytes in ODJ_WIN7BLOB between the pointers to its three strings and the first string:
/// filler; three counted strings, a GUID and a pointer of the DNS domain; two pointers, a number, a
/// GUID, two pointers, a number and two pointers of the domain controller; options.
const WIN7_FIXED: usize = 4 + (3 * 8 + 16 + 4) + (3 * 4 + 16 + 5 * 4) + 4;

/// A blob that was parsed and checked. Its text is a secret, which `Debug` does not show.
#[derive(Clone, Eq, PartialEq)]
pub struct Blob {
    text: String,
    facts: BlobFacts,
}

/// The facts in a blob, without secrets.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct BlobFacts {
    /// Domain as given at provisioning: its NetBIOS or DNS name; `None` for a form of blob that is
    /// not read here.
    pub domain: Option<String>,
    /// Machine as given at provisioning; `None` for a form of blob that is not read here.
    pub machine: Option<String>,
    /// Number of parts, which have different formats.
    pub parts: u32,
}

/// The reason why bytes are not a join blob.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The file is too long.
    #[error("{0} bytes are more than a join blob can have")]
    TooLong(usize),
    /// The file is empty.
    #[error("the join blob is empty")]
    Empty,
    /// The text has characters that base64 does not use.
    #[error("not a join blob: it is not base64, as djoin and Samba write it")]
    NotBase64,
    /// The base64 encodes something else.
    #[error("not a join blob: {0}")]
    Structure(&'static str),
}

impl Blob {
    /// The base64 text in ASCII, for the answer file or a first-boot job.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The facts in the blob.
    pub fn facts(&self) -> &BlobFacts {
        &self.facts
    }

    /// True if the blob is for this machine, ignoring case; also true if its machine is unknown.
    pub fn is_for(&self, machine: &str) -> bool {
        let named = self.facts.machine.as_deref();
        named.is_none_or(|name| name.trim_end_matches('$').eq_ignore_ascii_case(machine))
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// Parses and checks a blob from any source: a file written by `djoin /provision /savefile`, or its
/// base64 as text.
///
/// # Errors
/// [`BlobError`] if the bytes are not a join blob.
pub fn validate_blob(bytes: &[u8]) -> Result<Blob, BlobError> {
    if bytes.len() > MAX_BYTES {
        return Err(BlobError::TooLong(bytes.len()));
    }
    let text = ascii(bytes).ok_or(BlobError::NotBase64)?;
    if text.is_empty() {
        return Err(BlobError::Empty);
    }
    let facts = provision_data(&decode(&text).ok_or(BlobError::NotBase64)?)?;
    Ok(Blob { text, facts })
}

/// The characters of the file without byte order mark, final zeros and white space; `None` if they
/// are not ASCII.
fn ascii(bytes: &[u8]) -> Option<String> {
    let narrow: Vec<u8> = match bytes {
        [0xFF, 0xFE, rest @ ..] => {
            let (units, odd) = rest.as_chunks::<2>();
            let units: Option<Vec<u8>> = units
                .iter()
                .map(|[low, high]| (*high == 0).then_some(*low))
                .collect();
            units.filter(|_| odd.is_empty())?
        }
        [0xEF, 0xBB, 0xBF, rest @ ..] => rest.to_vec(),
        _ => bytes.to_vec(),
    };
    let end = narrow
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    let text = narrow
        .get(..end)?
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace());
    text.map(|byte| byte.is_ascii_graphic().then_some(char::from(*byte)))
        .collect()
}

/// Decodes standard base64 with its padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for character in body.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            let [.., low] = (bits >> count).to_be_bytes();
            out.push(low);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

/// A reader of NDR in little endian: every number is aligned to its size, counted from the start of
/// the object.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

const CUT: BlobError = BlobError::Structure("it was cut");

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BlobError> {
        let end = self.at.checked_add(count).ok_or(CUT)?;
        let bytes = self.bytes.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, BlobError> {
        self.at = self.at.checked_next_multiple_of(4).ok_or(CUT)?;
        let bytes = self.take(4)?.first_chunk::<4>().ok_or(CUT)?;
        Ok(u32::from_le_bytes(*bytes))
    }

    fn short(&mut self) -> Result<u16, BlobError> {
        let bytes = self.take(2)?.first_chunk::<2>().ok_or(CUT)?;
        Ok(u16::from_le_bytes(*bytes))
    }

    /// A reader of the object behind the two headers of a serialisation.
    fn object(bytes: &'a [u8]) -> Result<Self, BlobError> {
        let mut reader = Self { bytes, at: 0 };
        if reader.take(8)? != HEADER {
            return Err(BlobError::Structure("it does not begin as one"));
        }
        let length = usize::try_from(reader.number()?).map_err(|_| CUT)?;
        reader.number()?;
        let bytes = bytes
            .get(16..)
            .and_then(|rest| rest.get(..length))
            .ok_or(CUT)?;
        Ok(Self { bytes, at: 0 })
    }

    /// Reads a zero-terminated string behind its three counts; the final zero is not returned.
    fn string(&mut self) -> Result<String, BlobError> {
        let most = self.number()?;
        let offset = self.number()?;
        let count = self.number()?;
        if offset != 0 || count > most || count > MAX_NAME_UNITS {
            return Err(BlobError::Structure("a name in it is too long"));
        }
        let units: Result<Vec<u16>, BlobError> = (0..count).map(|_| self.short()).collect();
        let mut units = units?;
        while units.last() == Some(&0) {
            units.pop();
        }
        let name = String::from_utf16(&units)
            .map_err(|_| BlobError::Structure("a name in it is no text"))?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(BlobError::Structure("a name in it is no name"));
        }
        Ok(name)
    }
}

/// Reads ODJ_PROVISION_DATA.
fn provision_data(bytes: &[u8]) -> Result<BlobFacts, BlobError> {
    let mut object = Reader::object(bytes)?;
    if object.number()? == 0 {
        return Err(BlobError::Structure("nothing is in it"));
    }
    if object.number()? != 1 {
        return Err(BlobError::Structure("it is of an unknown version"));
    }
    let count = object.number()?;
    if object.number()? == 0 || !(1..=MAX_PARTS).contains(&count) || object.number()? != count {
        return Err(BlobError::Structure("it has no parts, or too many"));
    }
    let mut heads = Vec::new();
    for _ in 0..count {
        heads.push((object.number()?, object.number()?, object.number()?));
    }
    let mut facts = BlobFacts {
        parts: count,
        ..BlobFacts::default()
    };
    for (format, length, pointer) in heads {
        if pointer == 0 {
            continue;
        }
        if object.number()? != length {
            return Err(BlobError::Structure("a part has two lengths"));
        }
        let part = object.take(usize::try_from(length).map_err(|_| CUT)?)?;
        let names = match format {
            FORMAT_WIN7 => Some(win7(part)?),
            _ if facts.machine.is_none() => package(part),
            _ => None,
        };
        if let Some((domain, machine)) = names {
            facts.domain = Some(domain);
            facts.machine = Some(machine);
        }
    }
    Ok(facts)
}

/// Finds the names in a package of Windows 8, if a blob has nothing else: those of the first object
/// inside that is a valid ODJ_WIN7BLOB.
fn package(bytes: &[u8]) -> Option<(String, String)> {
    let starts = bytes.windows(HEADER.len()).enumerate();
    let starts = starts
        .filter(|(_, window)| *window == HEADER)
        .map(|(at, _)| at);
    starts.take(64).find_map(|at| win7(bytes.get(at..)?).ok())
}

/// Reads domain and machine from ODJ_WIN7BLOB.
fn win7(bytes: &[u8]) -> Result<(String, String), BlobError> {
    let mut blob = Reader::object(bytes)?;
    for _ in 0..3 {
        if blob.number()? == 0 {
            return Err(BlobError::Structure(
                "domain, machine or password is missing",
            ));
        }
    }
    blob.take(WIN7_FIXED)?;
    Ok((blob.string()?, blob.string()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = String::new();
        for chunk in bytes.chunks(3) {
            let three = [
                chunk[0],
                *chunk.get(1).unwrap_or(&0),
                *chunk.get(2).unwrap_or(&0),
            ];
            let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            for at in 0..4 {
                let value = usize::try_from(bits >> (18 - 6 * at) & 63).unwrap();
                out.push(if at > chunk.len() {
                    '='
                } else {
                    char::from(ALPHABET[value])
                });
            }
        }
        out
    }

    fn serialised(object: &[u8]) -> Vec<u8> {
        let length = u32::try_from(object.len()).unwrap().to_le_bytes();
        [&HEADER[..], &length, &[0; 4], object].concat()
    }

    fn string(text: &str) -> Vec<u8> {
        let units: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let count = u32::try_from(units.len()).unwrap().to_le_bytes();
        let mut out = [count, [0; 4], count].concat();
        out.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn win7_part(domain: &str, machine: &str) -> Vec<u8> {
        let mut object = [0, 0, 2, 0].repeat(3);
        object.extend([0xFF; WIN7_FIXED]);
        object.extend([string(domain), string(machine), string("password")].concat());
        serialised(&object)
    }

    fn provision(parts: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let count = u32::try_from(parts.len()).unwrap();
        let mut numbers = vec![0x20000, 1, count, 0x20004, count];
        for (at, (format, part)) in (2_u32..).zip(parts) {
            numbers.extend([
                *format,
                u32::try_from(part.len()).unwrap(),
                0x20000 + 4 * at,
            ]);
        }
        let mut object: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        for (_, part) in parts {
            object.resize(object.len().next_multiple_of(4), 0);
            object.extend(u32::try_from(part.len()).unwrap().to_le_bytes());
            object.extend(part);
        }
        serialised(&object)
    }

    fn sample() -> Vec<u8> {
        provision(&[
            (1, win7_part("corp.example", "LAB-01")),
            (2, serialised(&[0; 40])),
        ])
    }

    #[test]
    fn domain_and_machine_are_found_in_every_form_of_file() {
        let text = encode(&sample());
        let wide: Vec<u8> = [0xFEFF]
            .into_iter()
            .chain(text.encode_utf16())
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect();
        let lines = text
            .as_bytes()
            .chunks(64)
            .collect::<Vec<_>>()
            .join(&b"\r\n"[..]);
        let marked = [&b"\xEF\xBB\xBF"[..], text.as_bytes(), b"\n"].concat();
        for file in [text.clone().into_bytes(), wide, lines, marked] {
            let blob = validate_blob(&file).unwrap();
            assert_eq!(blob.text(), text);
            assert_eq!(blob.facts().domain.as_deref(), Some("corp.example"));
            assert_eq!(blob.facts().parts, 2);
            assert!(blob.is_for("lab-01") && !blob.is_for("lab-02"));
            assert!(!format!("{blob:?}").contains(&text));
        }
    }

    #[test]
    fn names_are_found_in_a_package_too() {
        let inside = [
            &[7; 24][..],
            &serialised(&[0; 8]),
            &win7_part("CORP", "LAB-02"),
        ]
        .concat();
        let blob =
            validate_blob(encode(&provision(&[(2, serialised(&inside))])).as_bytes()).unwrap();
        assert_eq!(blob.facts().machine.as_deref(), Some("LAB-02"));
        // A blob of an unknown form is accepted all the same.
        let blob = validate_blob(encode(&provision(&[(9, vec![1, 2, 3])])).as_bytes()).unwrap();
        assert_eq!(blob.facts().machine, None);
        assert!(blob.is_for("anything"));
    }

    #[test]
    fn what_is_no_blob_is_refused_by_reason() {
        let mut other_version = sample();
        other_version[20] = 2;
        let cases: [(Vec<u8>, &str); 8] = [
            (Vec::new(), "empty"),
            (b"\xFF\xFE\0\0".to_vec(), "empty"),
            (b"<html>not found</html>".to_vec(), "not base64"),
            (vec![0x89, b'P', b'N', b'G', 0, 1], "not base64"),
            (b"SGVsbG8sIHdvcmxkIQ==".to_vec(), "does not begin"),
            (encode(&sample()[..sample().len() - 3]).into_bytes(), "cut"),
            (encode(&other_version).into_bytes(), "unknown version"),
            (vec![b'A'; MAX_BYTES + 1], "more than"),
        ];
        for (bytes, expected) in cases {
            let error = validate_blob(&bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_into_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = validate_blob(&bytes);
            let _ = validate_blob(encode(&bytes).as_bytes());
            let _ = provision_data(&serialised(&bytes));
            let _ = win7(&serialised(&bytes));
        }

        #[test]
        fn a_damaged_blob_is_looked_into_without_a_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = sample();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = provision_data(&bytes);
        }

        #[test]
        fn base64_is_read_as_it_was_written(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
