//! Small values of a template: each a type without invalid values, with one text form.
//!
//! Takes text and gives a value, and back. An error is one sentence: the fault, and what is
//! accepted. The same text form is used in the file, in JSON and in `--set`.

use facts::Mac;
use facts::mac::BadMac;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Implements serde and JSON Schema through `FromStr` and `Display`.
macro_rules! as_text {
    ($type:ty, $name:literal, $describe:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $describe })
            }
        }
    };
}
pub(crate) use as_text;

/// A choice from a fixed set of words.
pub(crate) trait Word: Copy + PartialEq + 'static {
    /// Every word with its value, in the order of help texts.
    const ALL: &'static [(&'static str, Self)];

    /// The word of a value.
    fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, value)| *value == self)
            .map_or("", |(word, _)| word)
    }

    /// The value of a word; `None` for an unknown word.
    fn of(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, value)| *value)
    }
}

/// The reason a text is not the value it should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Not a MAC address.
    #[error(transparent)]
    Mac(#[from] BadMac),
    /// A MAC address that no card has.
    #[error("`{0}` is the address of no card")]
    NoCard(String),
    /// Not an IPv4 address.
    #[error("`{0}` is not an IPv4 address; write it as 10.20.0.1")]
    Address(String),
    /// An IPv4 address that no machine can have.
    #[error("{0} is not an address of a machine")]
    NoHost(Ipv4Addr),
    /// A range whose end lies before its beginning.
    #[error("the range ends at {0}, before it begins")]
    Backward(Ipv4Addr),
    /// A range of more than [`MAX_RANGE`] addresses; their number.
    #[error("the range holds {0} addresses; {MAX_RANGE} are the most")]
    LongRange(u32),
    /// Not a choice of cards.
    #[error("`{0}` is not one of boot, all, mac:aa:bb:cc:dd:ee:ff")]
    Cards(String),
    /// Not a duration.
    #[error("`{0}` is not a duration; write it as 90s, 20m or 1h30m")]
    Duration(String),
    /// A duration out of its range.
    #[error("`{0}` is out of range; 1s is the least and 24h the most")]
    DurationRange(String),
    /// Not a reference to a secret. The text is not kept: it may be the password itself.
    #[error(
        "a password is never written into a template, where everyone who may read the file reads it; keep it \
         in the console's store and write ref:NAME, or use env:NAME, file:PATH or ask"
    )]
    LiteralSecret,
    /// A reference to a file without a path.
    #[error("file: needs the path of a file")]
    SecretFile,
    /// A reference of this kind with a wrong name.
    #[error("{0}: needs a name of letters, digits, `-`, `_` and `.`, at most 64 characters")]
    SecretName(&'static str),
}

/// Parses the MAC address of a network card, in any common spelling.
pub(crate) fn card(text: &str) -> Result<Mac, ValueError> {
    let mac: Mac = text.parse()?;
    if mac.is_card() {
        Ok(mac)
    } else {
        Err(ValueError::NoCard(text.to_owned()))
    }
}

/// Limit of addresses in one range: a /16.
pub const MAX_RANGE: u32 = 65_536;

/// Range of consecutive addresses, both ends included. Text: `10.20.0.50-10.20.0.99`, or one
/// address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AddressRange {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address; not before the first.
    pub last: Ipv4Addr,
}

impl AddressRange {
    /// Number of addresses, 1..=[`MAX_RANGE`].
    pub fn count(&self) -> u32 {
        (u32::from(self.last) - u32::from(self.first)).saturating_add(1)
    }

    /// Every address, lowest first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        (u32::from(self.first)..=u32::from(self.last)).map(Ipv4Addr::from)
    }

    /// True when the address lies in the range.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

impl FromStr for AddressRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let first = parse_host(first.trim())?;
        let last = parse_host(last.trim())?;
        if last < first {
            return Err(ValueError::Backward(last));
        }
        let range = Self { first, last };
        if range.count() > MAX_RANGE {
            return Err(ValueError::LongRange(range.count()));
        }
        Ok(range)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

as_text!(
    AddressRange,
    "AddressRange",
    "First and last address, `10.20.0.50-10.20.0.99`."
);

/// Parses an IPv4 address that a machine can have.
pub(crate) fn parse_host(text: &str) -> Result<Ipv4Addr, ValueError> {
    let address: Ipv4Addr = text
        .parse()
        .map_err(|_| ValueError::Address(text.to_owned()))?;
    let [first, ..] = address.octets();
    if first == 0 || first == 127 || first >= 224 {
        return Err(ValueError::NoHost(address));
    }
    Ok(address)
}

/// Network cards that are configured. Text: `boot`, `all`, `mac:aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum NicChoice {
    /// The card the machine is deployed through.
    #[default]
    Boot,
    /// Every card the machine has.
    All,
    /// The card with this MAC address.
    Mac(Mac),
}

impl FromStr for NicChoice {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "boot" => Ok(Self::Boot),
            "all" => Ok(Self::All),
            other => match other.strip_prefix("mac:") {
                Some(mac) => card(mac).map(Self::Mac),
                None => Err(ValueError::Cards(other.to_owned())),
            },
        }
    }
}

impl fmt::Display for NicChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot => f.write_str("boot"),
            Self::All => f.write_str("all"),
            Self::Mac(mac) => write!(f, "mac:{mac}"),
        }
    }
}

as_text!(
    NicChoice,
    "NicChoice",
    "Which network cards: `boot` (the one the machine was deployed through), `all`, or `mac:aa:bb:cc:dd:ee:ff`."
);

/// Time limit of a program. Text: `90s`, `20m`, `1h30m`; 1 second to 24 hours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeout(u32);

impl Timeout {
    /// Time limit in seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl Default for Timeout {
    fn default() -> Self {
        Self(20 * 60)
    }
}

impl FromStr for Timeout {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bad = || ValueError::Duration(text.to_owned());
        let mut total: u32 = 0;
        let mut digits = String::new();
        for letter in text.chars() {
            let unit = match letter {
                '0'..='9' => {
                    digits.push(letter);
                    continue;
                }
                's' => 1,
                'm' => 60,
                'h' => 3600,
                _ => return Err(bad()),
            };
            let count: u32 = digits.parse().map_err(|_| bad())?;
            total = count
                .checked_mul(unit)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(bad)?;
            digits.clear();
        }
        if !digits.is_empty() || text.is_empty() {
            return Err(bad());
        }
        if !(1..=86_400).contains(&total) {
            return Err(ValueError::DurationRange(text.to_owned()));
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        for (count, unit) in [(hours, 'h'), (minutes, 'm'), (seconds, 's')] {
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

as_text!(
    Timeout,
    "Timeout",
    "How long it may take: `90s`, `20m`, `1h30m`; at most 24 hours."
);

/// Source of a secret; never the secret itself. Text: `ref:NAME`, `env:NAME`, `file:PATH`, `ask`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SecretRef {
    /// A secret of the console's encrypted store.
    Ref(String),
    /// An environment variable of the command that starts the deployment.
    Env(String),
    /// The first line of a file.
    File(String),
    /// A prompt when the deployment starts.
    Ask,
}

impl FromStr for SecretRef {
    type Err = ValueError;

    /// Parses the text form. The error never repeats the text: it may be the password itself.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "ask" {
            return Ok(Self::Ask);
        }
        let (kind, value) = match text.split_once(':') {
            Some(("ref", name)) => ("ref", name),
            Some(("env", name)) => ("env", name),
            Some(("file", path)) => ("file", path),
            _ => return Err(ValueError::LiteralSecret),
        };
        let named = !value.is_empty()
            && value.len() <= 64
            && value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        match kind {
            "file" if value.is_empty() || value.chars().any(char::is_control) => {
                Err(ValueError::SecretFile)
            }
            "file" => Ok(Self::File(value.into())),
            _ if !named => Err(ValueError::SecretName(kind)),
            "env" => Ok(Self::Env(value.into())),
            _ => Ok(Self::Ref(value.into())),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ref(name) => write!(f, "ref:{name}"),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Ask => f.write_str("ask"),
        }
    }
}

as_text!(
    SecretRef,
    "SecretRef",
    "Where a secret comes from: `ref:NAME` (the console's store), `env:NAME`, `file:PATH` or `ask`. Never the secret itself."
);

/// Prefix lengths of a network with room for several machines, in bits.
pub(crate) const PREFIXES: std::ops::RangeInclusive<i64> = 1..=30;

/// An IPv4 network: an address inside it and its prefix length.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Net {
    address: Ipv4Addr,
    prefix: u8,
}

impl Net {
    pub(crate) fn new(address: Ipv4Addr, prefix: u8) -> Self {
        Self {
            address,
            prefix: prefix.min(32),
        }
    }

    fn mask(self) -> u32 {
        u32::MAX
            .checked_shl(32 - u32::from(self.prefix))
            .unwrap_or(0)
    }

    /// Network address.
    pub(crate) fn network(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) & self.mask())
    }

    /// Broadcast address.
    pub(crate) fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) | !self.mask())
    }

    /// True when the address lies in the network.
    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == u32::from(self.network())
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_both_ends() {
        let range: AddressRange = "10.0.0.9 - 10.0.0.11".parse().unwrap();
        assert_eq!(
            (range.count(), range.to_string().as_str()),
            (3, "10.0.0.9-10.0.0.11")
        );
        assert_eq!(range.addresses().count(), 3);
        assert_eq!("10.0.0.9".parse::<AddressRange>().unwrap().count(), 1);
        for text in [
            "",
            "10.0.0.9-",
            "10.0.0.9-10.0.0.1",
            "1.0.0.0-200.0.0.0",
            "127.0.0.1",
            "10.0.0.300",
        ] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn timeouts() {
        for (text, seconds, back) in [
            ("90s", 90, "1m30s"),
            ("20m", 1200, "20m"),
            ("1h30m", 5400, "1h30m"),
            ("24h", 86_400, "24h"),
        ] {
            let timeout: Timeout = text.parse().unwrap();
            assert_eq!(
                (timeout.seconds(), timeout.to_string().as_str()),
                (seconds, back)
            );
        }
        for text in ["", "20", "m", "0s", "25h", "5d", "-1m", "99999999999h"] {
            assert!(text.parse::<Timeout>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_literal_password_is_refused_and_not_repeated() {
        for text in [
            "hunter2",
            "plain:hunter2",
            "ref:",
            "ref:a b hunter2",
            "file:",
        ] {
            let error = text.parse::<SecretRef>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        for text in ["ref:lab-admin", "env:PW", "file:/run/pw", "ask"] {
            assert_eq!(text.parse::<SecretRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn networks() {
        let net = Net::new(Ipv4Addr::new(10, 20, 0, 77), 24);
        assert_eq!(net.to_string(), "10.20.0.0/24");
        assert_eq!(net.broadcast(), Ipv4Addr::new(10, 20, 0, 255));
        assert!(!net.contains(Ipv4Addr::new(10, 20, 1, 0)));
        assert_eq!(
            Net::new(Ipv4Addr::new(10, 0, 0, 1), 0).network(),
            Ipv4Addr::UNSPECIFIED
        );
    }
}
