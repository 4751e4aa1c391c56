//! Selectors of targets.
//!
//! ```text
//! selector := term *( "," term )          comma is union
//! term     := [ "!" ] word                "!" excludes, at any place
//! word     := "all" | GLOB | "name:" GLOB | "id:" GLOB | "mac:" GLOB | "ip:" ADDRESS [ "/" BITS ] | "state:" STATE
//! GLOB     := text with "*" and "?"
//! ```
//!
//! Owns: the grammar and its meaning. Pure. A selector of `!` terms alone excludes from `all`.
//! Invariants: a word that names one target exactly also matches a target that is off; all others
//! match connected machines only (unless the state is `discovered`). The caller refuses an empty
//! result.

use crate::TargetView;
use facts::target::TargetState;
use std::net::IpAddr;

/// Length limit of a selector in bytes; a list of a thousand names fits.
const MAX_SELECTOR_BYTES: usize = 64 << 10;

/// The reason why a selector is not understood.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectorError {
    /// A word is empty: no text between two commas, or no text at all.
    #[error("empty selector word; say all to mean every connected target")]
    Empty,
    /// The prefix before `:` is unknown.
    #[error("unknown selector {0}:, known are name:, id:, mac:, ip: and state:")]
    UnknownPrefix(String),
    /// The state is unknown.
    #[error("unknown state {0}")]
    UnknownState(String),
    /// The text is neither an address nor a CIDR range.
    #[error("{0} is not an address or a range such as 10.0.0.0/24")]
    Address(String),
    /// The selector is longer than `MAX_SELECTOR_BYTES`; its length in bytes.
    #[error("selector of {0} bytes, limit {MAX_SELECTOR_BYTES}")]
    TooLong(usize),
}

#[derive(Clone, Debug)]
enum Word {
    All,
    Plain(String),
    Name(String),
    Id(String),
    Mac(String),
    Ip(IpAddr, u32),
    State(TargetState),
}

/// A parsed selector.
#[derive(Clone, Debug)]
pub struct Selector {
    union: Vec<Word>,
    minus: Vec<Word>,
}

impl std::str::FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_SELECTOR_BYTES {
            return Err(SelectorError::TooLong(text.len()));
        }
        let (mut union, mut minus) = (Vec::new(), Vec::new());
        for term in text.split(',') {
            let term = term.trim();
            match term.strip_prefix('!') {
                Some(word) => minus.push(Word::parse(word.trim())?),
                None => union.push(Word::parse(term)?),
            }
        }
        if union.is_empty() {
            union.push(Word::All);
        }
        Ok(Self { union, minus })
    }
}

impl Selector {
    /// True when the selector matches this target.
    pub fn matches(&self, target: &TargetView) -> bool {
        self.union.iter().any(|word| word.selects(target))
            && !self.minus.iter().any(|word| word.fits(target))
    }
}

impl Word {
    fn parse(word: &str) -> Result<Self, SelectorError> {
        let Some((prefix, value)) = word.split_once(':') else {
            return match word {
                "" => Err(SelectorError::Empty),
                "all" => Ok(Self::All),
                name => Ok(Self::Plain(name.to_ascii_lowercase())),
            };
        };
        if value.is_empty() {
            return Err(SelectorError::Empty);
        }
        let lower = value.to_ascii_lowercase();
        match prefix {
            "name" => Ok(Self::Name(lower)),
            "id" => Ok(Self::Id(lower)),
            "mac" => Ok(Self::Mac(lower.replace('-', ":"))),
            "ip" => Self::parse_range(value),
            "state" => state(&lower)
                .map(Self::State)
                .ok_or(SelectorError::UnknownState(lower)),
            other => Err(SelectorError::UnknownPrefix(other.to_owned())),
        }
    }

    fn parse_range(text: &str) -> Result<Self, SelectorError> {
        let wrong = || SelectorError::Address(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        if bits > width {
            Err(wrong())
        } else {
            Ok(Self::Ip(address, bits))
        }
    }

    /// True when the word adds this target to the union: only exact words match targets that are
    /// not connected.
    fn selects(&self, target: &TargetView) -> bool {
        let reaches_absent = match self {
            Self::Plain(text) | Self::Name(text) | Self::Id(text) | Self::Mac(text) => {
                !text.contains(['*', '?'])
            }
            Self::State(state) => *state == TargetState::Discovered,
            Self::All | Self::Ip(..) => false,
        };
        (target.connected || reaches_absent) && self.fits(target)
    }

    fn fits(&self, target: &TargetView) -> bool {
        let named = |pattern: &str| glob(pattern, &target.name.to_ascii_lowercase());
        let identified = |pattern: &str| glob(pattern, &target.id.to_ascii_lowercase());
        match self {
            Self::All => true,
            Self::Plain(text) => named(text) || *text == target.id.to_ascii_lowercase(),
            Self::Name(text) => named(text),
            Self::Id(text) => identified(text),
            Self::Mac(text) => target
                .facts
                .nics
                .iter()
                .any(|nic| glob(text, &nic.mac.to_ascii_lowercase().replace('-', ":"))),
            Self::Ip(network, bits) => {
                addresses(target).any(|address| in_range(address, *network, *bits))
            }
            Self::State(state) => target.state == *state,
        }
    }
}

fn state(word: &str) -> Option<TargetState> {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).ok()
}

/// The address the target connects from, and those of its interfaces.
fn addresses(target: &TargetView) -> impl Iterator<Item = IpAddr> + '_ {
    let peer = target.address.iter().filter_map(|text| {
        text.parse::<std::net::SocketAddr>()
            .map(|a| a.ip())
            .or_else(|_| text.parse::<IpAddr>())
            .ok()
    });
    let own = target.facts.nics.iter().flat_map(|nic| &nic.addresses);
    // Agents may send a prefix length with the address.
    peer.chain(own.filter_map(|text| text.split('/').next()?.parse().ok()))
}

fn in_range(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (a, n, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    // A shift by the whole width (a range of /0) leaves nothing to compare.
    let shift = width - bits.min(width);
    a.checked_shr(shift).unwrap_or(0) == n.checked_shr(shift).unwrap_or(0)
}

/// Matches a pattern: `*` is any run of characters, `?` any one. Takes at most pattern times text
/// steps, whatever the pattern.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Positions to continue from when the last star has to match one character more.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || Some(&c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, swallowed)) => {
                    star = Some((at, swallowed + 1));
                    p = at + 1;
                    t = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::target::{Facts, NicFacts};

    fn target(name: &str, connected: bool) -> TargetView {
        TargetView {
            id: format!("t-{name}"),
            name: name.to_owned(),
            state: if connected {
                TargetState::Ready
            } else {
                TargetState::Discovered
            },
            connected,
            address: connected.then(|| "10.1.2.3:40000".to_owned()),
            multicast: true,
            job: None,
            last_seen: String::new(),
            boot: None,
            first_start: None,
            asks: None,
            identity: Default::default(),
            facts_time: String::new(),
            facts: Facts {
                nics: vec![NicFacts {
                    mac: format!("52:54:00:00:00:{:02x}", name.len()),
                    addresses: vec!["fd00::7/64".to_owned()],
                    ..NicFacts::default()
                }],
                ..Facts::default()
            },
        }
    }

    fn chosen(selector: &str, targets: &[TargetView]) -> Vec<String> {
        let selector: Selector = selector.parse().unwrap();
        targets
            .iter()
            .filter(|t| selector.matches(t))
            .map(|t| t.name.clone())
            .collect()
    }

    #[test]
    fn words_unions_and_what_is_taken_away() {
        let room = [
            target("pc-1", true),
            target("pc-2", true),
            target("pc-30", true),
            target("server", false),
        ];
        for (selector, expected) in [
            ("all", vec!["pc-1", "pc-2", "pc-30"]),
            ("all,server", vec!["pc-1", "pc-2", "pc-30", "server"]),
            ("!pc-2", vec!["pc-1", "pc-30"]),
            ("pc-?", vec!["pc-1", "pc-2"]),
            ("PC-*, !*0", vec!["pc-1", "pc-2"]),
            ("*er*", vec![]),
            ("server", vec!["server"]),
            ("id:t-server", vec!["server"]),
            ("t-pc-1", vec!["pc-1"]),
            ("mac:52-54-00-00-00-05", vec!["pc-30"]),
            ("mac:*:04", vec!["pc-1", "pc-2"]),
            ("ip:10.1.0.0/16", vec!["pc-1", "pc-2", "pc-30"]),
            ("ip:10.1.2.4", vec![]),
            ("ip:0.0.0.0/0", vec!["pc-1", "pc-2", "pc-30"]),
            ("ip:fd00::/16", vec!["pc-1", "pc-2", "pc-30"]),
            ("state:ready", vec!["pc-1", "pc-2", "pc-30"]),
            ("state:discovered", vec!["server"]),
            ("nobody", vec![]),
            ("name:pc-1,name:pc-1", vec!["pc-1"]),
        ] {
            assert_eq!(chosen(selector, &room), expected, "{selector}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (selector, error) in [
            ("", SelectorError::Empty),
            ("pc-1,,pc-2", SelectorError::Empty),
            ("!", SelectorError::Empty),
            ("mac:", SelectorError::Empty),
            (
                "group:lab",
                SelectorError::UnknownPrefix("group".to_owned()),
            ),
            (
                "state:happy",
                SelectorError::UnknownState("happy".to_owned()),
            ),
            (
                "ip:10.0.0.0/33",
                SelectorError::Address("10.0.0.0/33".to_owned()),
            ),
            ("ip:lab", SelectorError::Address("lab".to_owned())),
        ] {
            assert_eq!(
                selector.parse::<Selector>().unwrap_err(),
                error,
                "{selector}"
            );
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends() {
        assert!(!glob(&"*a".repeat(40), &"a".repeat(39)));
        assert!(glob(&"*a".repeat(40), &"a".repeat(40)));
        assert!(glob("*", ""));
        assert!(!glob("?", ""));
    }
}
