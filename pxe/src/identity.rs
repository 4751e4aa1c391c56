//! What a machine is known by: its card's address and the UUID its firmware tells.
//!
//! Owns: reading both in every spelling firmware, iPXE, GRUB and people use, and writing them in one. The UUID comes first where there is one: a dock or a
//! USB card carries its MAC from machine to machine.

use std::fmt;
use std::str::FromStr;

/// Address of an Ethernet card. Written with colons, in lower case.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Mac(pub [u8; 6]);

/// What is no address of a card.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no hardware address; it looks like 52:54:00:12:34:56")]
pub struct BadMac(String);

/// UUID of a machine as SMBIOS has it, in the order it is written. Written with hyphens, in lower case.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Uuid([u8; 16]);

/// What is no UUID.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no UUID; it has 32 hex digits")]
pub struct BadUuid(String);

impl Mac {
    /// A card's own address: not zero, not broadcast, no group.
    pub fn is_card(self) -> bool {
        self.0 != [0; 6] && self.0[0] & 1 == 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = BadMac;

    /// Colons, hyphens, dots or nothing between the digits; `01-` (the hardware type, as in `BOOTIF`) may stand in front.
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.chars().take(40).collect());
        match *hex(text, &[':', '-', '.'], 7).ok_or_else(bad)? {
            [a, b, c, d, e, f] | [1, a, b, c, d, e, f] => Ok(Self([a, b, c, d, e, f])),
            _ => Err(bad()),
        }
    }
}

impl Uuid {
    /// From the bytes of SMBIOS and of DHCP option 97, whose first three fields have their lowest byte first (RFC 4578 section 2.3).
    ///
    /// Nothing for the values of boards that were never given one: many of them would be one machine.
    pub fn from_firmware(bytes: [u8; 16]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
        let [i, j, k, l, m, n, o, p] = rest;
        Self([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]).if_given()
    }

    /// The bytes as firmware has them: the opposite of [`Uuid::from_firmware`].
    pub fn to_firmware(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let [i, j, k, l, m, n, o, p] = rest;
        [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
    }

    fn if_given(self) -> Option<Self> {
        // AMI's sample value, on thousands of boards.
        const SAMPLE: [u8; 16] = [3, 0, 2, 0, 4, 0, 5, 0, 0, 6, 0, 7, 0, 8, 0, 9];
        (![[0; 16], [0xff; 16], SAMPLE].contains(&self.0)).then_some(self)
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

/// Pairs of hex digits with or without marks between them; at most `most` bytes.
fn hex(text: &str, marks: &[char], most: usize) -> Option<Box<[u8]>> {
    // Nothing longer can be right, so nothing longer is looked at.
    if text.len() > 3 * most {
        return None;
    }
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !marks.contains(c))
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let (pairs, odd) = digits.as_chunks::<2>();
    (odd.is_empty() && pairs.len() <= most).then(|| pairs.iter().map(|[a, b]| a << 4 | b).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_of_an_address_is_one() {
        let mac = Mac([0x52, 0x54, 0, 0x12, 0xab, 0xcd]);
        for text in [
            "52:54:00:12:ab:cd",
            "52-54-00-12-AB-CD",
            "5254.0012.abcd",
            "52540012abcd",
            "01-52-54-00-12-ab-cd",
            "01:52:54:00:12:AB:CD",
        ] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        assert_eq!(mac.to_string(), "52:54:00:12:ab:cd");
        for text in [
            "",
            "52:54:00:12:ab",
            "02-52-54-00-12-ab-cd",
            "52:54:00:12:ab:cg",
            "5:2",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_uuid_reads_as_the_kernel_shows_it() {
        // What `dmidecode` and the kernel say for these bytes of SMBIOS.
        let bytes = *b"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
        let uuid = Uuid::from_firmware(bytes).unwrap();
        assert_eq!(uuid.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
        assert_eq!("00112233445566778899AABBCCDDEEFF".parse(), Ok(uuid));
        assert_eq!(uuid.to_firmware(), bytes);
        assert_eq!(Uuid::from_firmware([0xff; 16]), None, "a board without one");
        assert!(
            "00000000-0000-0000-0000-000000000000"
                .parse::<Uuid>()
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn any_text(text: String) {
            let _ = text.parse::<Mac>();
            let _ = text.parse::<Uuid>();
        }

        #[test]
        fn what_is_written_is_read(mac: [u8; 6], uuid: [u8; 16]) {
            prop_assert_eq!(Mac(mac).to_string().parse(), Ok(Mac(mac)));
            if let Some(uuid) = Uuid::from_firmware(uuid) {
                prop_assert_eq!(uuid.to_string().parse(), Ok(uuid));
            }
        }
    }
}
