//! MAC addresses of Ethernet cards, parsed in every spelling of firmware, iPXE, GRUB and people;
//! written in one.

use crate::{as_text, hex};
use std::fmt;
use std::str::FromStr;

/// MAC address of an Ethernet card. Written with colons, in lower case.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Mac(pub [u8; 6]);

/// The text is not a MAC address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a MAC address; write it as aa:bb:cc:dd:ee:ff")]
pub struct BadMac(String);

impl Mac {
    /// True for an address of a single card: not zero, not broadcast, not a group.
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

    /// Parses an address with colons, hyphens, dots or nothing between the digits. The prefix `01-`
    /// (the hardware type, as in `BOOTIF`) is accepted.
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.chars().take(40).collect());
        let mut parts = text.split([':', '-', '.']).map(str::len);
        let first = parts.next().unwrap_or_default();
        // A text like `aab:bc:c...` is a typing mistake, and the intended address is unknown.
        if first % 2 != 0 || parts.any(|part| part != first) {
            return Err(bad());
        }
        match *hex(text, &[':', '-', '.'], 7).ok_or_else(bad)? {
            [a, b, c, d, e, f] | [1, a, b, c, d, e, f] => Ok(Self([a, b, c, d, e, f])),
            _ => Err(bad()),
        }
    }
}

as_text!(Mac);

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
            "aab:bc:cd:de:ef:f",
            "aä:bb:cc:dd:ee:f",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text(text: String) {
            let _ = text.parse::<Mac>();
        }

        #[test]
        fn what_is_written_is_read(mac: [u8; 6]) {
            prop_assert_eq!(Mac(mac).to_string().parse(), Ok(Mac(mac)));
        }
    }
}
