//! UUIDs of machines, parsed as SMBIOS, DHCP and people write them.

use crate::{as_text, hex};
use std::fmt;
use std::str::FromStr;

/// SMBIOS UUID of a machine, in the order of its text. Written with hyphens, in lower case.
///
/// All zeros and all ones mean that the board has no UUID (SMBIOS 7.2.1), and are not accepted.
/// Other values that many boards have in common are accepted: [`crate::identity`] finds out that
/// they are shared.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Uuid([u8; 16]);

/// The text is not a UUID.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not the UUID of one machine, which has 32 hex digits, not all of them 0 or F")]
pub struct BadUuid(String);

impl Uuid {
    /// Converts the bytes of SMBIOS and of DHCP option 97, whose first three fields are
    /// little-endian (RFC 4578 section 2.3). `None` for a board without a UUID.
    pub fn from_firmware(bytes: [u8; 16]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
        let [i, j, k, l, m, n, o, p] = rest;
        Self([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]).if_given()
    }

    /// The bytes in the order of firmware: the opposite of [`Uuid::from_firmware`].
    pub fn to_firmware(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let [i, j, k, l, m, n, o, p] = rest;
        [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
    }

    fn if_given(self) -> Option<Self> {
        (self.0 != [0; 16] && self.0 != [0xff; 16]).then_some(self)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Uuid {
    type Err = BadUuid;

    fn from_str(text: &str) -> Result<Self, BadUuid> {
        let bad = || BadUuid(text.chars().take(60).collect());
        let bytes = hex(text, &['-'], 16).ok_or_else(bad)?;
        let bytes: [u8; 16] = (*bytes).try_into().map_err(|_| bad())?;
        Self(bytes).if_given().ok_or_else(bad)
    }
}

as_text!(Uuid);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_uuid_reads_as_the_kernel_shows_it() {
        // The text that `dmidecode` and the kernel show for these SMBIOS bytes.
        let bytes = *b"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
        let uuid = Uuid::from_firmware(bytes).unwrap();
        assert_eq!(uuid.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
        assert_eq!("00112233445566778899AABBCCDDEEFF".parse(), Ok(uuid));
        assert_eq!(uuid.to_firmware(), bytes);
    }

    #[test]
    fn a_board_without_one_has_none() {
        assert_eq!(Uuid::from_firmware([0xff; 16]), None);
        assert_eq!(Uuid::from_firmware([0; 16]), None);
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "Not Settable",
            "",
        ] {
            assert!(text.parse::<Uuid>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text(text: String) {
            let _ = text.parse::<Uuid>();
        }

        #[test]
        fn what_is_written_is_read(uuid: [u8; 16]) {
            if let Some(uuid) = Uuid::from_firmware(uuid) {
                prop_assert_eq!(uuid.to_string().parse(), Ok(uuid));
            }
        }
    }
}
