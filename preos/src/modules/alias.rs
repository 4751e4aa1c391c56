//! `modules.alias`: finds the modules for a device's modalias.
//!
//! ```text
//! alias pci:v00008086d000015F2sv*sd*bc02sc00i* igc
//! ```
//!
//! Owns pattern matching in the way of `fnmatch(3)` without flags: `*`, `?`, `[...]`. Patterns and
//! modaliases come from packages and devices and may be anything: no call panics, and matching
//! costs at most pattern times text.

use std::collections::HashMap;

/// Patterns, grouped by the part before the first `:` (the bus), which is never a wildcard.
#[derive(Debug, Default)]
pub struct Aliases {
    by_bus: HashMap<Vec<u8>, Vec<(Vec<u8>, String)>>,
}

impl Aliases {
    /// Parses the file; lines of another form are skipped. Module names are normalised.
    pub fn parse(text: &str) -> Self {
        let mut aliases = Self::default();
        for line in text.lines() {
            let mut fields = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) =
                (fields.next(), fields.next(), fields.next())
            {
                let pattern = pattern.as_bytes();
                aliases
                    .by_bus
                    .entry(bus(pattern))
                    .or_default()
                    .push((pattern.to_vec(), super::normal(module)));
            }
        }
        aliases
    }

    /// Modules with a matching pattern, in the order of the file, without repeats.
    pub fn modules(&self, modalias: &str) -> Vec<&str> {
        let modalias = modalias.as_bytes();
        let mut found: Vec<&str> = Vec::new();
        for (pattern, module) in self.by_bus.get(&bus(modalias)).into_iter().flatten() {
            if !found.contains(&module.as_str()) && matches(pattern, modalias) {
                found.push(module);
            }
        }
        found
    }
}

fn bus(text: &[u8]) -> Vec<u8> {
    text.split(|byte| *byte == b':')
        .next()
        .filter(|bus| bus.len() < text.len())
        .unwrap_or_default()
        .to_vec()
}

/// True when `pattern` matches all of `text`. A pattern that ends within brackets or after a `\`
/// matches nothing.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // The position to go on from when a match fails: after the last star, one byte further in the
    // text. Only the last star matters: an earlier one could not take more than it already leaves
    // to this one.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                p += 1;
                retry = Some((p, t));
                continue;
            }
            (Some(_), Some(byte)) => {
                if let Some(next) = one(pattern, p, *byte) {
                    p = next;
                    t += 1;
                    continue;
                }
            }
            (Some(_), None) => return false,
            (None, Some(_)) => {}
        }
        match retry {
            Some((behind, from)) => {
                t = from + 1;
                p = behind;
                retry = Some((behind, t));
                if t > text.len() {
                    return false;
                }
            }
            None => return false,
        }
    }
}

/// Matches `byte` against the element of `pattern` at `p`; returns the start of the next element,
/// `None` without a match.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => set(pattern, p + 1, byte),
        b'\\' => (*pattern.get(p + 1)? == byte).then_some(p + 2),
        literal => (*literal == byte).then_some(p + 1),
    }
}

/// Matches a set: `[abc]`, `[a-c]`, `[!a]`, `[^a]`. A `]` in first place is a literal.
fn set(pattern: &[u8], from: usize, byte: u8) -> Option<usize> {
    let mut p = from;
    let inverted = matches!(pattern.get(p), Some(b'!' | b'^'));
    if inverted {
        p += 1;
    }
    let first = p;
    let mut within = false;
    loop {
        let low = *pattern.get(p)?;
        if low == b']' && p > first {
            return (within != inverted).then_some(p + 1);
        }
        match (pattern.get(p + 1), pattern.get(p + 2)) {
            (Some(b'-'), Some(high)) if *high != b']' => {
                within |= (low..=*high).contains(&byte);
                p += 3;
            }
            _ => {
                within |= low == byte;
                p += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_card_finds_its_driver() {
        let aliases = Aliases::parse(
            "# Aliases extracted from modules themselves.\n\
             alias pci:v00008086d000015F2sv*sd*bc*sc*i* igc\n\
             alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio-pci\n\
             alias pci:v*d*sv*sd*bc01sc06i01* ahci\n\
             alias virtio:d00000001v* virtio_net\n\
             alias fs-vfat vfat\n\
             alias\nalias x\n",
        );
        let found = |modalias: &str| aliases.modules(modalias);
        assert_eq!(
            found("pci:v00008086d000015F2sv00008086sd00000000bc02sc00i00"),
            ["igc"]
        );
        assert_eq!(
            found("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00"),
            ["virtio_pci"]
        );
        assert_eq!(
            found("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"),
            ["ahci"]
        );
        assert_eq!(found("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(found("fs-vfat"), ["vfat"]);
        assert_eq!(found("usb:v1d6bp0002"), [""; 0]);
    }

    #[test]
    fn patterns_mean_what_fnmatch_says() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abcabc", true),
            ("*abc*abc", "abcabcab", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a]", "b", true),
            ("[]x]", "]", true),
            ("[a-]", "-", true),
            ("[ab", "a", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("\\", "", false),
            (
                "usb:v046Dp*d*dc*dsc*dp*ic0[1-3]isc*ip*in*",
                "usb:v046DpC52Bd1211dc00dsc00dp00ic03isc01ip01in00",
                true,
            ),
            ("a*b", "ab\n", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    /// A slow but obvious implementation, for comparison.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                slow(&pattern[1..], text) || (!text.is_empty() && slow(pattern, &text[1..]))
            }
            (Some(_), Some(byte)) => {
                one(pattern, 0, *byte).is_some_and(|next| slow(&pattern[next..], &text[1..]))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_quick_matcher_agrees_with_the_slow_one(pattern in "[ab*?\\[\\]!-]{0,12}", text in "[ab]{0,12}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_bytes_match_or_do_not(pattern in any::<Vec<u8>>(), text in any::<Vec<u8>>()) {
            matches(&pattern, &text);
        }
    }
}
