//! Descriptions of packages (deb-control(5)), and the order of versions (deb-version(7)).
//!
//! Pure. Never panics.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Fields of one package, by lower-case name. Folded lines are joined by spaces.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stanza {
    fields: BTreeMap<String, String>,
}

impl Stanza {
    /// Parses the stanzas of a text, which empty lines separate.
    pub(crate) fn parse_all(text: &str) -> Vec<Self> {
        let mut all = Vec::new();
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut last: Option<String> = None;
        for line in text.lines().chain([""]) {
            if line.trim().is_empty() {
                if !fields.is_empty() {
                    all.push(Self {
                        fields: std::mem::take(&mut fields),
                    });
                }
                last = None;
            } else if line.starts_with([' ', '\t']) {
                if let Some(value) = last.as_ref().and_then(|name| fields.get_mut(name)) {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                let name = name.trim().to_ascii_lowercase();
                fields.insert(name.clone(), value.trim().to_owned());
                last = Some(name);
            }
        }
        all
    }

    /// The value of a field, by lower-case name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// The source package and its version: `Source: NAME (VERSION)`. A missing half is that of the
    /// binary package.
    pub(crate) fn source(&self) -> (String, String) {
        let package = self.get("package").unwrap_or_default();
        let version = self.get("version").unwrap_or_default();
        let source = self.get("source").unwrap_or(package);
        match source.split_once(" (") {
            Some((name, rest)) => (name.to_owned(), rest.trim_end_matches(')').to_owned()),
            None => (source.to_owned(), version.to_owned()),
        }
    }

    /// Packages it depends on: each with its alternatives, names only.
    pub(crate) fn depends(&self) -> Vec<Vec<String>> {
        let name = |word: &str| {
            let end = word.find([' ', '(', ':', '[']).unwrap_or(word.len());
            word.get(..end).unwrap_or_default().to_owned()
        };
        ["pre-depends", "depends"]
            .into_iter()
            .filter_map(|field| self.get(field))
            .flat_map(|value| value.split(','))
            .map(|group| group.split('|').map(|word| name(word.trim())).collect())
            .collect()
    }
}

/// Compares two versions; the newer one is greater.
pub(crate) fn compare_versions(a: &str, b: &str) -> Ordering {
    fn split(version: &str) -> (u64, &str, &str) {
        let (epoch, rest) = match version.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
            None => (0, version),
        };
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch, upstream, revision)
    }
    let (a, b) = (split(a), split(b));
    a.0.cmp(&b.0)
        .then_with(|| compare_part(a.1, b.1))
        .then_with(|| compare_part(a.2, b.2))
}

/// Compares text and numbers in turn. `~` sorts before the end, letters before other characters.
fn compare_part(a: &str, b: &str) -> Ordering {
    fn weight(byte: Option<u8>) -> i32 {
        match byte {
            Some(b'~') => -1,
            None => 0,
            Some(byte) if byte.is_ascii_digit() => 0,
            Some(byte) if byte.is_ascii_alphabetic() => i32::from(byte),
            Some(byte) => i32::from(byte) + 256,
        }
    }
    fn number(bytes: &mut &[u8]) -> (usize, Vec<u8>) {
        let len = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = bytes.split_at(len);
        *bytes = rest;
        let digits: Vec<u8> = digits.iter().copied().skip_while(|b| *b == b'0').collect();
        // Without leading zeros the longer number is larger; comparing text cannot overflow.
        (digits.len(), digits)
    }
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        while a.first().is_some_and(|c| !c.is_ascii_digit())
            || b.first().is_some_and(|c| !c.is_ascii_digit())
        {
            let order = weight(a.first().copied()).cmp(&weight(b.first().copied()));
            if order != Ordering::Equal {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let order = number(&mut a).cmp(&number(&mut b));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_with_folded_lines() {
        let all = Stanza::parse_all(
            "Package: a\nVersion: 1:2-3\nSource: sa (2-2)\nPre-Depends: libc6 (>= 2.34), x | y:any\nDescription: d\n more\n\n\nPackage: b\nVersion: 7\n",
        );
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("description"), Some("d more"));
        assert_eq!(all[0].source(), ("sa".to_owned(), "2-2".to_owned()));
        assert_eq!(all[1].source(), ("b".to_owned(), "7".to_owned()));
        assert_eq!(all[0].depends(), [vec!["libc6"], vec!["x", "y"]]);
        assert!(Stanza::parse_all(" folded first\n:\n").len() <= 1);
    }

    #[test]
    fn versions_in_dpkgs_order() {
        // Ascending; each pair was checked with `dpkg --compare-versions`.
        let order = [
            "1.0~beta1-1",
            "1.0-1",
            "1.0-1+deb12u1",
            "1.0-1.1",
            "1.0a-1",
            "1.0+x-1",
            "1.9-1",
            "1.10-1",
            "6.1.176-1",
            "6.1.192-2",
            "1:0.1-1",
        ];
        for (i, a) in order.iter().enumerate() {
            for (j, b) in order.iter().enumerate() {
                assert_eq!(compare_versions(a, b), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(compare_versions("1.00", "1.0"), Ordering::Equal);
    }
}
