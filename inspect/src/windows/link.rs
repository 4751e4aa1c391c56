//! Targets of NTFS junctions and symbolic links.
//!
//! ```text
//! tag (4), length (2), 0 (2), then offset and length of the substitute name and of the printed one
//! (2 each), flags (4, symbolic links alone: 1 is relative), names in UTF-16
//! ```

/// Most bytes of a reparse point; Windows stops at 16 KiB.
pub(super) const MOST_BYTES: u64 = 16 << 10;
const JUNCTION: u32 = 0xa000_0003;
const SYMBOLIC_LINK: u32 = 0xa000_000c;

/// Target of a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Link {
    /// Full path without the prefix of the object manager: `D:\Users`, `Volume{..}\Users`.
    Absolute(String),
    /// Path relative to the folder that holds the link.
    Relative(String),
}

/// Reads a reparse point; `None` if it is no link (a packed file, a cloud file).
pub(super) fn read(bytes: &[u8]) -> Option<Link> {
    let tag = u32::from_le_bytes(*bytes.first_chunk()?);
    let word = |at: usize| {
        let pair = bytes.get(at..at + 2)?;
        Some(usize::from(u16::from_le_bytes(pair.try_into().ok()?)))
    };
    let (names, relative) = match tag {
        JUNCTION => (16, false),
        SYMBOLIC_LINK => (20, word(16)? & 1 != 0),
        _ => return None,
    };
    let start = names + word(8)?;
    let name = bytes.get(start..start + word(10)?)?;
    let units: Vec<u16> = name
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
        .collect();
    let name = String::from_utf16_lossy(&units);
    if relative {
        return Some(Link::Relative(name));
    }
    let name = name.strip_prefix(r"\??\").unwrap_or(&name);
    Some(Link::Absolute(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reparse(tag: u32, flags: &[u8], name: &str) -> Vec<u8> {
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut bytes = tag.to_le_bytes().to_vec();
        bytes.extend([0; 6]);
        bytes.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(flags);
        bytes.extend(name);
        bytes
    }

    #[test]
    fn links_say_where_they_lead() {
        let absolute = |text: &str| Some(Link::Absolute(text.into()));
        let junction = reparse(JUNCTION, &[], r"\??\D:\Users");
        assert_eq!(read(&junction), absolute(r"D:\Users"));
        let link = reparse(SYMBOLIC_LINK, &[0; 4], r"\??\C:\x");
        assert_eq!(read(&link), absolute(r"C:\x"));
        let link = reparse(SYMBOLIC_LINK, &[1, 0, 0, 0], r"..\x");
        assert_eq!(read(&link), Some(Link::Relative(r"..\x".into())));
        assert_eq!(read(&reparse(0x8000_0017, &[], "x")), None);
        for end in 0..junction.len() {
            assert_eq!(read(&junction[..end]), None, "{end}");
        }
    }
}
