//! The text of an `.inf`: encodings, lines, sections, strings.
//!
//! Invariants: memory is bounded by the size of the file and [`MAX_EXPANSION`].

use super::MAX_INF_BYTES;
use std::cell::Cell;
use std::collections::BTreeMap;

/// Limit of bytes that expanded strings add; without it a small file could expand to gigabytes.
const MAX_EXPANSION: usize = 4 * MAX_INF_BYTES;

/// Decodes UTF-16 with or without its mark, UTF-8, or a code page read as Latin-1.
pub(super) fn decode(bytes: &[u8]) -> String {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes
            .chunks_exact(2)
            .filter_map(|pair| pair.try_into().ok().map(unit))
            .collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        // UTF-16 may be saved without its mark: every second byte of ASCII is then zero.
        [_, 0, _, 0, ..] => wide(bytes, u16::from_le_bytes),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().copied().map(char::from).collect(),
        },
    }
}

/// An entry `key = value, value` with its strings expanded.
#[derive(Debug)]
pub(super) struct Entry {
    /// Key in lower case.
    pub(super) key: String,
    pub(super) raw_key: String,
    pub(super) values: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Section {
    pub(super) entries: Vec<Entry>,
    /// Index of the first entry of each key.
    first: BTreeMap<String, usize>,
}

impl Section {
    pub(super) fn value(&self, key: &str) -> Option<String> {
        self.entry(key)?.values.first().cloned()
    }

    /// The first entry of a key, which is given in lower case.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(*self.first.get(key)?)
    }
}

/// Sections by name in lower case. Sections of the same name are merged.
pub(super) struct Sections(BTreeMap<String, Section>);

static EMPTY: Section = Section {
    entries: Vec::new(),
    first: BTreeMap::new(),
};

impl Sections {
    pub(super) fn of(text: &str) -> Self {
        let lines = logical_lines(text);
        let strings = Strings::of(&lines);
        let mut sections: BTreeMap<String, Section> = BTreeMap::new();
        let mut current = String::new();
        for line in &lines {
            if let Some(name) = heading(line) {
                current = name;
                sections.entry(current.clone()).or_default();
                continue;
            }
            // `[Strings]` has been read already, and its translations are long.
            if current == "strings" || current.starts_with("strings.") {
                continue;
            }
            let (key, value) = split_key(line);
            let key = strings.expand(key.trim());
            let values = value.map_or_else(Vec::new, |value| {
                fields(value)
                    .iter()
                    .map(|field| strings.expand(field))
                    .collect()
            });
            if let Some(section) = sections.get_mut(&current) {
                let entry = Entry {
                    key: key.to_lowercase(),
                    raw_key: key,
                    values,
                };
                let index = section.entries.len();
                section.first.entry(entry.key.clone()).or_insert(index);
                section.entries.push(entry);
            }
        }
        Self(sections)
    }

    /// True when the section is there, with or without entries.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(&name.to_lowercase())
    }

    pub(super) fn get(&self, name: &str) -> &Section {
        self.0.get(&name.to_lowercase()).unwrap_or(&EMPTY)
    }
}

/// Lines without comments; lines that end with `\` are joined with the next.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        let mut quoted = false;
        let end = line
            .char_indices()
            .find(|(_, c)| {
                quoted ^= *c == '"';
                *c == ';' && !quoted
            })
            .map_or(line.len(), |(at, _)| at);
        let line = line.get(..end).unwrap_or_default().trim();
        match line.strip_suffix('\\') {
            // A folder at the end of a value ends with `\`, too. The line goes on only after a
            // separator.
            Some(part) if part.trim_end().ends_with(',') || part.is_empty() => open.push_str(part),
            _ => {
                open.push_str(line);
                if !open.is_empty() {
                    lines.push(std::mem::take(&mut open));
                }
            }
        }
    }
    if !open.is_empty() {
        lines.push(open);
    }
    lines
}

fn heading(line: &str) -> Option<String> {
    let name = line.strip_prefix('[')?.split(']').next()?;
    Some(name.trim().trim_matches('"').to_lowercase())
}

/// Key and value of an entry; a quoted key may contain `=`.
fn split_key(line: &str) -> (&str, Option<&str>) {
    let mut quoted = false;
    let at = line.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == '=' && !quoted
    });
    match at {
        Some((at, _)) => (
            line.get(..at).unwrap_or_default().trim().trim_matches('"'),
            line.get(at + 1..),
        ),
        None => (line.trim_matches('"'), None),
    }
}

/// Values between commas, without their quotes.
fn fields(text: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field).trim().to_owned()),
            other => field.push(other),
        }
    }
    fields.push(field.trim().to_owned());
    fields
}

/// `[Strings]`, by key in lower case. Translations (`[Strings.0407]`) are ignored: they name the
/// same devices.
struct Strings {
    values: BTreeMap<String, String>,
    /// Bytes that expansion may still add.
    room: Cell<usize>,
}

impl Strings {
    fn of(lines: &[String]) -> Self {
        let mut values = BTreeMap::new();
        let mut inside = false;
        for line in lines {
            if let Some(name) = heading(line) {
                inside = name == "strings";
            } else if inside && let (key, Some(value)) = split_key(line) {
                let value = fields(value).into_iter().next().unwrap_or_default();
                values.entry(key.to_lowercase()).or_insert(value);
            }
        }
        Self {
            values,
            room: Cell::new(MAX_EXPANSION),
        }
    }

    /// Expands each `%key%` once: strings do not contain strings. Unknown keys such as `%12%` stay.
    fn expand(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, tail)) = rest.split_once('%') {
            out.push_str(before);
            match self.found(tail) {
                Some((value, after)) => {
                    out.push_str(value);
                    rest = after;
                }
                None => {
                    out.push('%');
                    rest = tail;
                }
            }
        }
        out.push_str(rest);
        out
    }

    /// Splits a text after `key%`. Returns the string of that key and the rest.
    fn found<'t>(&self, text: &'t str) -> Option<(&str, &'t str)> {
        let (key, after) = text.split_once('%')?;
        let value = self.values.get(&key.to_lowercase())?;
        self.room.set(self.room.get().checked_sub(value.len())?);
        Some((value, after))
    }
}
