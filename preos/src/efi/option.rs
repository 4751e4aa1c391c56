//! Load options: the content of `Boot####` (UEFI 2.10 section 3.1.3).
//!
//! ```text
//! | attributes, 4 | bytes of the device paths, 2 | description, UCS-2, zero | device paths | optional data |
//! ```

use super::path::{self, Node};

/// Attribute of an entry that may be started.
pub const ACTIVE: u32 = 1;

/// A boot entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoadOption {
    /// Attribute bits.
    pub attributes: u32,
    /// Name shown in the firmware's menu.
    pub description: String,
    /// First device path: the program or disk to start.
    pub path: Vec<Node>,
}

impl LoadOption {
    /// Parses an entry; `None` when it is damaged.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (attributes, rest) = bytes.split_first_chunk::<4>()?;
        let (path_bytes, rest) = rest.split_first_chunk::<2>()?;
        let (pairs, _) = rest.as_chunks::<2>();
        let end = pairs.iter().position(|pair| *pair == [0, 0])?;
        let units: Vec<u16> = pairs
            .get(..end)?
            .iter()
            .map(|pair| u16::from_le_bytes(*pair))
            .collect();
        let from = (end + 1) * 2;
        let to = from + usize::from(u16::from_le_bytes(*path_bytes));
        Some(Self {
            attributes: u32::from_le_bytes(*attributes),
            description: String::from_utf16_lossy(&units),
            path: path::parse(rest.get(from..to)?)?,
        })
    }

    /// The bytes of an entry; `None` when its path is longer than the length field allows.
    pub fn emit(&self) -> Option<Vec<u8>> {
        let path = path::emit(&self.path);
        let mut out = self.attributes.to_le_bytes().to_vec();
        out.extend(u16::try_from(path.len()).ok()?.to_le_bytes());
        out.extend(
            self.description
                .encode_utf16()
                .filter(|unit| *unit != 0)
                .chain([0])
                .flat_map(u16::to_le_bytes),
        );
        out.extend(path);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_is_read_and_written_back() {
        let option = LoadOption {
            attributes: ACTIVE,
            description: "debian".into(),
            path: vec![Node::Pci {
                device: 3,
                function: 0,
            }],
        };
        let mut bytes = option.emit().unwrap();
        assert_eq!(LoadOption::parse(&bytes), Some(option.clone()));
        bytes.extend(b"optional data of its loader");
        assert_eq!(LoadOption::parse(&bytes), Some(option));
        assert_eq!(LoadOption::parse(&bytes[..20]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = LoadOption::parse(&bytes);
        }
    }
}
