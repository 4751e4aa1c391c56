//! Reading of a TOML document key by key, which continues after a mistake.
//!
//! Owns: checks of value types, the keys read from each table (all others are unknown), and the
//! place of each key. Values of the command line are treated alike; their mistakes have no line.

use super::check::Contradiction;
use crate::mistake::{Mistake, nearest, place};
use crate::values::Word;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Limit of mistakes that are kept: more than a person reads at once, and a bound for hostile
/// files.
const MAX_MISTAKES: usize = 200;

/// First offset of keys and values from the command line; no text is that long.
pub(super) const OVERRIDE: usize = usize::MAX / 2;

/// Mistakes found so far, and the places of keys.
pub(super) struct Reader<'t> {
    text: &'t str,
    /// Values of `--set` as typed, by index: a value at `OVERRIDE + i` is the i-th.
    overrides: &'t [(String, String)],
    mistakes: Vec<Mistake>,
    spots: BTreeMap<String, Range<usize>>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, overrides: &'t [(String, String)]) -> Self {
        Self {
            text,
            overrides,
            mistakes: Vec::new(),
            spots: BTreeMap::new(),
        }
    }

    /// The value of `--set` at this place, as typed.
    fn typed(&self, span: &Range<usize>) -> Option<&'t str> {
        let index = span.start.checked_sub(OVERRIDE)?;
        self.overrides.get(index).map(|(_, value)| value.as_str())
    }

    /// Adds a mistake at a place of the text.
    pub(super) fn mistake(&mut self, span: Range<usize>, key: &str, message: impl Into<String>) {
        self.suggest(span, key, message, None);
    }

    fn suggest(
        &mut self,
        span: Range<usize>,
        key: &str,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        if self.mistakes.len() >= MAX_MISTAKES {
            return;
        }
        let (span, (line, column)) = if span.start >= OVERRIDE {
            (0..0, (0, 0))
        } else {
            let end = span.end.min(self.text.len());
            let start = span.start.min(end);
            (start..end, place(self.text, start))
        };
        self.mistakes.push(Mistake {
            line,
            column,
            span,
            key: key.to_owned(),
            message: message.into(),
            suggestion,
        });
    }

    /// Adds a contradiction, at its key or at the nearest table around it. It is dropped when its
    /// key, or a key it follows from, has a mistake already.
    pub(super) fn contradiction(&mut self, found: Contradiction) {
        let told = |key: &str| self.mistakes.iter().any(|mistake| mistake.key == key);
        if told(&found.key) || found.from.iter().any(|key| told(key)) {
            return;
        }
        let mut around = found.key.as_str();
        let span = loop {
            if let Some(span) = self.spots.get(around) {
                break span.clone();
            }
            match around.rsplit_once('.') {
                Some((parent, _)) => around = parent,
                None => break 0..0,
            }
        };
        self.mistake(span, &found.key, found.message);
    }

    pub(super) fn is_clean(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// Every mistake, in the order of the text; those of the command line first.
    pub(super) fn finish(mut self) -> Vec<Mistake> {
        self.mistakes
            .sort_by_key(|mistake| (mistake.line, mistake.column));
        self.mistakes
    }
}

/// A table that is being read.
pub(super) struct Section<'d, 'i> {
    path: String,
    table: Option<&'d DeTable<'i>>,
    span: Range<usize>,
    asked: Vec<&'static str>,
}

impl<'d, 'i> Section<'d, 'i> {
    pub(super) fn root(table: &'d DeTable<'i>) -> Self {
        Self {
            path: String::new(),
            table: Some(table),
            span: 0..0,
            asked: Vec::new(),
        }
    }

    /// True when the file has the table.
    pub(super) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn value(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<&'d Spanned<DeValue<'i>>> {
        self.asked.push(key);
        let (name, value) = self.table?.get_key_value(key)?;
        let span = match value.get_ref() {
            // The span of a table is its header or braces; the span of its key is the better place.
            DeValue::Table(_) => name.span(),
            _ => value.span(),
        };
        reader.spots.insert(self.key(key), span);
        Some(value)
    }

    fn wrong_type(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        want: &str,
    ) {
        let found = value.get_ref().type_str();
        reader.mistake(
            value.span(),
            &self.key(key),
            format!("expected {want}, found {} {found}", article(found)),
        );
    }

    /// Reads a text.
    pub(super) fn string(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<String> {
        let value = self.value(reader, key)?;
        let text = text_of(reader, value);
        if text.is_none() {
            self.wrong_type(reader, key, value, "a string");
        }
        text
    }

    /// Reads a text that is not empty and has no control characters. `what` names the value in
    /// messages.
    pub(super) fn line(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        what: &str,
    ) -> Option<String> {
        let text = self.string(reader, key)?;
        if text.trim().is_empty() {
            self.wrong(reader, key, format!("{what} is empty"));
            return None;
        }
        if text.chars().any(char::is_control) {
            self.wrong(reader, key, format!("{what} has a control character in it"));
            return None;
        }
        Some(text)
    }

    /// Reads a text and parses it.
    pub(super) fn parsed<T: FromStr<Err: Display>>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<T> {
        let text = self.string(reader, key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(reader, key, error.to_string());
                None
            }
        }
    }

    /// Reads a word of a fixed set.
    pub(super) fn word<W: Word>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<W> {
        let text = self.string(reader, key)?;
        let found = W::of(&text);
        if found.is_none() {
            let span = self.span_of(reader, key);
            self.unknown_word::<W>(reader, span, key, &text);
        }
        found
    }

    fn unknown_word<W: Word>(
        &self,
        reader: &mut Reader<'_>,
        span: Range<usize>,
        key: &str,
        text: &str,
    ) {
        let words: Vec<&str> = W::ALL.iter().map(|(word, _)| *word).collect();
        let accepted = match words.as_slice() {
            [only] => format!("only {only} is accepted"),
            more => format!("use one of {}", more.join(", ")),
        };
        reader.suggest(
            span,
            &self.key(key),
            format!("{text:?} is not known; {accepted}"),
            nearest(text, words.iter().copied()),
        );
    }

    /// Reads `true` or `false`.
    pub(super) fn boolean(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<bool> {
        let value = self.value(reader, key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong_type(reader, key, value, "true or false");
        }
        found
    }

    /// Reads a whole number within bounds.
    pub(super) fn integer<T: TryFrom<i64>>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        bounds: std::ops::RangeInclusive<i64>,
    ) -> Option<T> {
        let value = self.value(reader, key)?;
        let Some(number) = integer_of(value) else {
            self.wrong_type(reader, key, value, "a whole number");
            return None;
        };
        let fits = bounds
            .contains(&number)
            .then(|| T::try_from(number).ok())
            .flatten();
        if fits.is_none() {
            self.wrong(
                reader,
                key,
                format!(
                    "{number} is out of range; {} is the least and {} the most",
                    bounds.start(),
                    bounds.end()
                ),
            );
        }
        fits
    }

    /// Reads a whole number, or a text.
    pub(super) fn number_or_text(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<Result<i64, String>> {
        let value = self.value(reader, key)?;
        if let Some(number) = integer_of(value) {
            return Some(Ok(number));
        }
        let text = text_of(reader, value);
        if text.is_none() {
            self.wrong_type(reader, key, value, "a string or a whole number");
        }
        text.map(Err)
    }

    /// Reads a list of 32-bit whole numbers.
    pub(super) fn integers(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<Vec<i32>> {
        self.list(
            reader,
            key,
            "a list of whole numbers",
            |this, reader, item| {
                let number = integer_of(item).and_then(|number| i32::try_from(number).ok());
                if number.is_none() {
                    this.wrong_type(reader, key, item, "a whole number of 32 bits");
                }
                number
            },
        )
    }

    /// Reads a list of texts and parses each; a fault is reported at its item.
    pub(super) fn parsed_list<T, E: Display>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        self.list(reader, key, "a list of strings", |this, reader, item| {
            let Some(text) = text_of(reader, item) else {
                this.wrong_type(reader, key, item, "a string");
                return None;
            };
            parse(&text)
                .map_err(|error| reader.mistake(item.span(), &this.key(key), error.to_string()))
                .ok()
        })
    }

    /// Reads a list of words of a fixed set.
    pub(super) fn words<W: Word>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<Vec<W>> {
        self.list(reader, key, "a list of strings", |this, reader, item| {
            let Some(text) = text_of(reader, item) else {
                this.wrong_type(reader, key, item, "a string");
                return None;
            };
            let found = W::of(&text);
            if found.is_none() {
                this.unknown_word::<W>(reader, item.span(), key, &text);
            }
            found
        })
    }

    /// Reads a list. Text from `--set` or the guide in place of a list is split at commas:
    /// `10.20.0.2, 10.20.0.3`.
    fn list<T>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        want: &str,
        mut item: impl FnMut(&Self, &mut Reader<'_>, &Spanned<DeValue<'_>>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = self.value(reader, key)?;
        let span = value.span();
        let typed;
        let entries: &[Spanned<DeValue<'_>>] = match (value.get_ref(), reader.typed(&span)) {
            (DeValue::Array(array), _) => array,
            (DeValue::Table(_), _) | (_, None) => {
                self.wrong_type(reader, key, value, want);
                return None;
            }
            (_, Some(text)) => {
                typed = apart(text, &span);
                &typed
            }
        };
        // Wrong items are reported and left out, so that the others are checked, too.
        Some(
            entries
                .iter()
                .filter_map(|entry| item(self, reader, entry))
                .collect(),
        )
    }

    /// The table below this one; an empty one when the file has none.
    pub(super) fn section(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Section<'d, 'i> {
        let path = self.key(key);
        let value = self.value(reader, key);
        let table = value.and_then(|value| value.get_ref().as_table());
        if let (Some(value), None) = (value, table) {
            self.wrong_type(reader, key, value, &format!("a table, [{path}]"));
        }
        Section {
            span: reader.spots.get(&path).cloned().unwrap_or(0..0),
            path,
            table,
            asked: Vec::new(),
        }
    }

    /// The tables of a list, `[[key]]`.
    pub(super) fn sections(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Vec<Section<'d, 'i>> {
        let Some(value) = self.value(reader, key) else {
            return Vec::new();
        };
        let path = self.key(key);
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(reader, key, value, &format!("tables, [[{path}]]"));
            return Vec::new();
        };
        let mut found = Vec::new();
        for (index, entry) in array.iter().enumerate() {
            let path = format!("{path}.{}", index + 1);
            let Some(table) = entry.get_ref().as_table() else {
                self.wrong_type(reader, key, entry, &format!("a table, [[{key}]]"));
                continue;
            };
            reader.spots.insert(path.clone(), entry.span());
            found.push(Section {
                path,
                table: Some(table),
                span: entry.span(),
                asked: Vec::new(),
            });
        }
        found
    }

    /// Span of a key's value, or of the table when the key is missing.
    fn span_of(&self, reader: &Reader<'_>, key: &str) -> Range<usize> {
        reader
            .spots
            .get(&self.key(key))
            .cloned()
            .unwrap_or_else(|| self.span.clone())
    }

    /// Adds a mistake about a key's value.
    pub(super) fn wrong(&self, reader: &mut Reader<'_>, key: &str, message: impl Into<String>) {
        let span = self.span_of(reader, key);
        reader.mistake(span, &self.key(key), message);
    }

    /// Adds a mistake when a required key is missing.
    pub(super) fn missing(&self, reader: &mut Reader<'_>, key: &'static str) {
        if self.table.is_some_and(|table| !table.contains_key(key)) {
            let span = self.span.clone();
            reader.mistake(span, &self.key(key), "is missing");
        }
    }

    /// Ends the table: every key that was not read is unknown.
    pub(super) fn finish(self, reader: &mut Reader<'_>) {
        let Some(table) = self.table else { return };
        for name in table.keys() {
            let key = name.get_ref().as_ref();
            if self.asked.contains(&key) {
                continue;
            }
            let place = match self.path.as_str() {
                "" => "at the top of a template".to_owned(),
                path => match path.rsplit_once('.') {
                    Some((list, _)) => format!("in [[{list}]]"),
                    None => format!("in [{path}]"),
                },
            };
            reader.suggest(
                name.span(),
                &self.key(key),
                format!("unknown key {place}"),
                nearest(key, self.asked.iter().copied()),
            );
        }
    }
}

/// The text of a value. A value of `--set` counts as text wherever text is expected:
/// `--set identity.hostname=101`.
fn text_of(reader: &Reader<'_>, value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref().as_str() {
        Some(text) => Some(text.to_owned()),
        None => reader.typed(&value.span()).map(str::to_owned),
    }
}

/// Items of a list typed on the command line: whole numbers stay numbers, all else is text.
fn apart<'t>(typed: &'t str, span: &Range<usize>) -> Vec<Spanned<DeValue<'t>>> {
    let parts = typed
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let number = part.bytes().all(|byte| byte.is_ascii_digit());
            let number = number.then(|| DeValue::parse(part).ok()).flatten();
            let value = number.map_or_else(|| DeValue::String(part.into()), Spanned::into_inner);
            Spanned::new(span.clone(), value)
        })
        .collect()
}

fn integer_of(value: &Spanned<DeValue<'_>>) -> Option<i64> {
    let integer = value.get_ref().as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}
