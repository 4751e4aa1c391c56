//! Names of machines: the pattern of a template, its expansion, and the rules a name must keep.
//!
//! Pure. Invariants: a name that passes [`check`] is accepted by the system it was checked
//! for, and by DNS.

use crate::values::{Word, as_text};
use facts::Mac;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Length limit of a NetBIOS name, in characters; its sixteenth byte is the service type.
pub const MAX_WINDOWS_NAME: usize = 15;
/// Length limit of a DNS label, in characters (RFC 1035 section 2.3.4).
pub const MAX_LABEL: usize = 63;

/// Limit of digits of a number: `{nnnnnn}`.
const MAX_DIGITS: usize = 6;

/// Names that Windows reserves or refuses as a computer name.
const RESERVED: [&str; 18] = [
    "anonymous",
    "authenticated-user",
    "batch",
    "builtin",
    "dialup",
    "domain",
    "enterprise",
    "gateway",
    "guest",
    "interactive",
    "internet",
    "local",
    "localhost",
    "network",
    "null",
    "proxy",
    "system",
    "users",
];

/// Case of the letters in a name.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// Capitals.
    Upper,
    /// Small letters.
    Lower,
    /// The case of the pattern and of the machine's own values.
    #[default]
    Keep,
}

impl Word for Case {
    const ALL: &'static [(&'static str, Self)] = &[
        ("upper", Self::Upper),
        ("lower", Self::Lower),
        ("keep", Self::Keep),
    ];
}

impl Case {
    /// The name in this case.
    pub fn apply(self, name: &str) -> String {
        match self {
            Self::Upper => name.to_ascii_uppercase(),
            Self::Lower => name.to_ascii_lowercase(),
            Self::Keep => name.to_owned(),
        }
    }
}

/// The system whose naming rules apply.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameRules {
    /// NetBIOS and DNS.
    #[default]
    Windows,
    /// DNS alone.
    Dns,
}

/// A placeholder in braces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Token {
    /// The machine's number, with at least this many digits.
    Number(usize),
    /// The last six hex digits of the MAC address.
    Mac6,
    /// SMBIOS serial number.
    Serial,
    /// SMBIOS asset tag.
    Asset,
    /// The first eight hex digits of the SMBIOS UUID.
    Uuid8,
    /// The last number of the IPv4 address.
    IpLast,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Text(String),
    Token(Token),
}

/// A machine lacks a fact that its name needs.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the machine has no {what} for {token}")]
pub struct FactMissing {
    what: &'static str,
    token: String,
}

/// The reason a text is no pattern of names.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// A letter that no name may have.
    #[error("{0:?} cannot be in the name of a machine; letters, digits and hyphens can")]
    Letter(char),
    /// A brace that is not closed.
    #[error("`{0}` has a `{{` without its `}}`")]
    Open(String),
    /// A brace that is not opened.
    #[error("`{0}` has a `}}` without its `{{`")]
    Closed(String),
    /// Names with too few or too many characters; the least number.
    #[error(
        "a name has 1 to {MAX_LABEL} characters ({MAX_WINDOWS_NAME} on Windows), this pattern gives {0} or more"
    )]
    Length(usize),
    /// A hyphen at an end.
    #[error("a name neither begins nor ends with a hyphen")]
    Hyphen,
    /// An unknown word in braces.
    #[error(
        "`{{{0}}}` is not known; use {{n}}, {{nn}}, {{nnn}}, {{mac6}}, {{serial}}, {{asset}}, {{uuid8}} or {{ip_last}}"
    )]
    Token(String),
}

/// Pattern of machine names: `LAB-{nn}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

/// The facts of a machine that a pattern may use.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameFacts<'a> {
    /// Number of the machine.
    pub number: Option<u32>,
    /// The card it is known by.
    pub mac: Option<Mac>,
    /// SMBIOS serial number.
    pub serial: Option<&'a str>,
    /// SMBIOS asset tag.
    pub asset: Option<&'a str>,
    /// SMBIOS UUID.
    pub uuid: Option<&'a str>,
    /// The address the machine gets.
    pub address: Option<Ipv4Addr>,
}

impl Pattern {
    /// True when the name contains a number.
    pub fn numbered(&self) -> bool {
        self.has(|token| matches!(token, Token::Number(_)))
    }

    /// True when the name contains a part of the address.
    pub fn needs_address(&self) -> bool {
        self.has(|token| token == Token::IpLast)
    }

    /// True when the pattern gives the same name for every machine.
    pub fn fixed(&self) -> bool {
        !self.has(|_| true)
    }

    fn has(&self, wanted: impl Fn(Token) -> bool) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Token(token) if wanted(*token)))
    }

    /// The name of one machine.
    ///
    /// # Errors
    /// The fact that the machine does not have.
    pub fn expand(&self, facts: &NameFacts<'_>) -> Result<String, FactMissing> {
        let mut name = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Token(token) => name.push_str(&token.value(facts)?),
            }
        }
        Ok(name)
    }
}

impl Token {
    fn value(self, facts: &NameFacts<'_>) -> Result<String, FactMissing> {
        let none = |what: &'static str| FactMissing {
            what,
            token: self.to_string(),
        };
        match self {
            Self::Number(width) => {
                let number = facts.number.ok_or_else(|| none("number"))?;
                Ok(format!("{number:0width$}"))
            }
            Self::Mac6 => {
                let [_, _, _, a, b, c] = facts.mac.ok_or_else(|| none("MAC address"))?.0;
                Ok(format!("{a:02x}{b:02x}{c:02x}"))
            }
            Self::Serial => spelled(facts.serial).ok_or_else(|| none("serial number")),
            Self::Asset => spelled(facts.asset).ok_or_else(|| none("asset tag")),
            Self::Uuid8 => facts
                .uuid
                .and_then(|uuid| uuid.get(..8))
                .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
                .map(str::to_ascii_lowercase)
                .ok_or_else(|| none("UUID")),
            Self::IpLast => {
                let [.., last] = facts.address.ok_or_else(|| none("address"))?.octets();
                Ok(last.to_string())
            }
        }
    }
}

/// A firmware string in the letters a name may have: all others become one hyphen.
fn spelled(text: Option<&str>) -> Option<String> {
    let words: Vec<&str> = text?
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    (!words.is_empty()).then(|| words.join("-"))
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(width) => write!(f, "{{{}}}", "n".repeat(*width)),
            Self::Mac6 => f.write_str("{mac6}"),
            Self::Serial => f.write_str("{serial}"),
            Self::Asset => f.write_str("{asset}"),
            Self::Uuid8 => f.write_str("{uuid8}"),
            Self::IpLast => f.write_str("{ip_last}"),
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (plain, tail) = rest.split_at(rest.find(['{', '}']).unwrap_or(rest.len()));
            if let Some(bad) = plain
                .chars()
                .find(|c| !(c.is_ascii_alphanumeric() || *c == '-'))
            {
                return Err(PatternError::Letter(bad));
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(plain.to_owned()));
            }
            rest = tail;
            if let Some(inner) = rest.strip_prefix('{') {
                let (word, tail) = inner
                    .split_once('}')
                    .ok_or_else(|| PatternError::Open(text.to_owned()))?;
                pieces.push(Piece::Token(token(word)?));
                rest = tail;
            } else if rest.starts_with('}') {
                return Err(PatternError::Closed(text.to_owned()));
            }
        }
        let least: usize = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.len(),
                Piece::Token(Token::Number(width)) => *width,
                Piece::Token(Token::Mac6) => 6,
                Piece::Token(Token::Uuid8) => 8,
                Piece::Token(_) => 1,
            })
            .sum();
        if least == 0 || least > MAX_LABEL {
            return Err(PatternError::Length(least));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(PatternError::Hyphen);
        }
        Ok(Self {
            text: text.to_owned(),
            pieces,
        })
    }
}

fn token(word: &str) -> Result<Token, PatternError> {
    match word {
        "mac6" => Ok(Token::Mac6),
        "serial" => Ok(Token::Serial),
        "asset" => Ok(Token::Asset),
        "uuid8" => Ok(Token::Uuid8),
        "ip_last" => Ok(Token::IpLast),
        n if !n.is_empty() && n.len() <= MAX_DIGITS && n.bytes().all(|b| b == b'n') => {
            Ok(Token::Number(n.len()))
        }
        other => Err(PatternError::Token(other.to_owned())),
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

as_text!(
    Pattern,
    "Pattern",
    "Name of each machine, with {n} {nn} {nnn} (its number), {mac6}, {serial}, {asset}, {uuid8} or {ip_last}: `LAB-{nn}`."
);

/// The reason a machine cannot have a name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No name.
    #[error("the name is empty")]
    Empty,
    /// More characters than may be.
    #[error("the name {name} has {length} characters, {} takes {most}", whose(*most))]
    Long {
        /// The name.
        name: String,
        /// Its characters.
        length: usize,
        /// The most.
        most: usize,
    },
    /// A letter that no name may have.
    #[error("the name {name:?} has {letter:?} in it; letters, digits and hyphens are accepted")]
    Letter {
        /// The name.
        name: String,
        /// The letter.
        letter: char,
    },
    /// A hyphen at an end.
    #[error("the name {0} begins or ends with a hyphen")]
    Hyphen(String),
    /// Digits only.
    #[error("the name {0} has digits only and would be taken for an address")]
    Digits(String),
    /// A name with a meaning of its own.
    #[error("the name {0} is reserved")]
    Reserved(String),
}

/// The system that has this limit.
fn whose(most: usize) -> &'static str {
    match most {
        MAX_WINDOWS_NAME => "Windows",
        _ => "DNS",
    }
}

/// Checks that a machine may have this name.
///
/// # Errors
/// [`NameError`], with the name and what is wrong with it.
pub fn check(name: &str, rules: NameRules) -> Result<(), NameError> {
    let most = match rules {
        NameRules::Windows => MAX_WINDOWS_NAME,
        NameRules::Dns => MAX_LABEL,
    };
    let own = || name.to_owned();
    let length = name.chars().count();
    if length == 0 {
        return Err(NameError::Empty);
    }
    if length > most {
        return Err(NameError::Long {
            name: own(),
            length,
            most,
        });
    }
    let strange = |c: &char| !(c.is_ascii_alphanumeric() || *c == '-');
    if let Some(letter) = name.chars().find(strange) {
        return Err(NameError::Letter {
            name: own(),
            letter,
        });
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Err(NameError::Hyphen(own()));
    }
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NameError::Digits(own()));
    }
    if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(NameError::Reserved(own()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts() -> NameFacts<'static> {
        NameFacts {
            number: Some(7),
            mac: Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0xab])),
            serial: Some(" 5CG/12 34 "),
            asset: None,
            uuid: Some("A1B2C3D4-0000-0000-0000-000000000000"),
            address: Some(Ipv4Addr::new(10, 20, 0, 57)),
        }
    }

    #[test]
    fn patterns_expand() {
        for (pattern, want) in [
            ("LAB-{n}", "LAB-7"),
            ("LAB-{nn}", "LAB-07"),
            ("{nnn}", "007"),
            ("pc{mac6}", "pc1234ab"),
            ("{serial}", "5CG-12-34"),
            ("w{uuid8}", "wa1b2c3d4"),
            ("r{ip_last}-{n}", "r57-7"),
        ] {
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(pattern.expand(&facts()).unwrap(), want);
        }
        let pattern: Pattern = "{asset}".parse().unwrap();
        assert_eq!(
            pattern.expand(&facts()).unwrap_err().to_string(),
            "the machine has no asset tag for {asset}"
        );
    }

    #[test]
    fn bad_patterns_say_why() {
        for (text, why) in [
            ("", "1 to 63"),
            ("LAB_{nn}", "'_'"),
            ("LAB-{nn", "without its `}`"),
            ("LAB-nn}", "without its `{`"),
            ("{number}", "not known"),
            ("{nnnnnnn}", "not known"),
            ("-{n}", "hyphen"),
            ("lab.{n}", "'.'"),
        ] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn names_are_checked() {
        for name in ["LAB-01", "a", "0a", "PC-123456789-ABC"] {
            assert_eq!(
                check(name, NameRules::Windows).is_ok(),
                name.len() <= MAX_WINDOWS_NAME,
                "{name}"
            );
        }
        for (name, why) in [
            ("", "empty"),
            ("sixteen-letters-", "16 characters"),
            ("lab_1", "'_'"),
            ("-lab", "hyphen"),
            ("lab-", "hyphen"),
            ("12345", "digits only"),
            ("LocalHost", "reserved"),
            ("läb", "'ä'"),
        ] {
            let error = check(name, NameRules::Windows).unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
        assert!(check("a-name-of-more-than-fifteen", NameRules::Dns).is_ok());
        assert!(check(&"a".repeat(64), NameRules::Dns).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_a_reason(text in "\\PC{0,40}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                prop_assert_eq!(pattern.to_string(), text);
                let _ = pattern.expand(&facts());
            }
        }

        #[test]
        fn a_checked_name_is_a_label(text in "[a-zA-Z0-9-]{1,20}") {
            if check(&text, NameRules::Windows).is_ok() {
                prop_assert!(text.len() <= 15 && check(&text, NameRules::Dns).is_ok());
            }
        }

        #[test]
        fn numbers_make_distinct_names(a in 0u32..5000, b in 0u32..5000) {
            let pattern: Pattern = "x{nn}y".parse().unwrap();
            let name = |n| pattern.expand(&NameFacts { number: Some(n), ..facts() }).unwrap();
            prop_assert_eq!(a == b, name(a) == name(b));
        }
    }
}
