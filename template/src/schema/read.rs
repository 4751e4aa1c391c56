//! Reading of a template from text, with every mistake in it.

use super::reader::{OVERRIDE, Reader, Section};
use super::{
    Copy, Driver, FirstStart, Identity, Linux, MAX_CONSOLES, Membership, Network, Run, SCHEMA,
    Template, User, Windows, check, group, ok_codes, reboot_codes, to_toml,
};
use crate::mistake::Mistake;
use crate::values::{PREFIXES, parse_host};
use facts::order::Grow;
use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Size limit of a template, in bytes; far above any real one.
const MAX_TEXT: usize = 256 * 1024;
/// Limit of accounts, drivers, files or programs in a template, each.
const MAX_ENTRIES: usize = 256;

/// The result of a caller's parser of an option's text.
pub type Checked = Result<(), Box<dyn std::error::Error>>;

/// The caller's parsers of option texts; an error is the reason why the text is refused.
#[derive(Clone, Copy)]
pub struct Checks<'a> {
    /// Parser of `--rate`.
    pub rate: &'a dyn Fn(&str) -> Checked,
    /// Parser of `--start`.
    pub start: &'a dyn Fn(&str) -> Checked,
    /// Parser of `--stall-limit` and `--time-limit`.
    pub limit: &'a dyn Fn(&str) -> Checked,
}

impl Default for Checks<'_> {
    fn default() -> Self {
        Self {
            rate: &|_| Ok(()),
            start: &|_| Ok(()),
            limit: &|_| Ok(()),
        }
    }
}

/// The reason a value or a key is refused.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("{0:?} is not a DNS name; write it as lab.example")]
    DnsName(String),
    #[error("{0} is a NetBIOS name; write the DNS name of the domain, such as corp.example")]
    NetBios(String),
    #[error("{0:?} is not an address with a port; write it as 10.1.0.5:5003")]
    ConsoleAddress(String),
    #[error("{0:?} is not a locale; write it as en-US")]
    Locale(String),
    #[error("a key is needed, such as network.mode")]
    NoKey,
    #[error("{0} is a list; write {0}.1 for its first")]
    List(String),
    #[error("there is no {list}.{number}; {list} has {count}")]
    NoEntry {
        list: String,
        number: usize,
        count: usize,
    },
    #[error("{0} is not a table")]
    NoTable(String),
}

/// Reads a template.
///
/// # Errors
/// Every mistake, in the order of the text.
pub fn parse(text: &str) -> Result<Template, Vec<Mistake>> {
    parse_with(text, &[], &Checks::default())
}

/// Reads a template with keys set on the command line, `("network.mode", "dhcp")`, which override
/// the file.
///
/// A value is TOML where possible (`true`, `24`, `["10.0.0.1"]`), text otherwise. Tables of lists
/// count from 1: `user.1.name`; the number after the last adds a table.
///
/// # Errors
/// Every mistake: those of the command line first, with line 0, then those of the file in its
/// order.
pub fn parse_with(
    text: &str,
    set: &[(String, String)],
    checks: &Checks<'_>,
) -> Result<Template, Vec<Mistake>> {
    let mut reader = Reader::new(text, set);
    if text.len() > MAX_TEXT {
        reader.mistake(
            0..0,
            "",
            format!("the file has {} bytes; {MAX_TEXT} are the most", text.len()),
        );
        return Err(reader.finish());
    }
    let typed: Vec<String> = set
        .iter()
        .map(|(_, value)| format!("v = {value}"))
        .collect();
    let (mut document, faults) = DeTable::parse_recoverable(text);
    for fault in &faults {
        reader.mistake(
            fault.span().unwrap_or(0..0),
            "",
            format!("not TOML: {}", fault.message()),
        );
    }
    for (index, ((path, value), line)) in set.iter().zip(&typed).enumerate() {
        let at = OVERRIDE + index;
        let value = typed_value(value, line, at);
        if let Err(error) = place_value(document.get_mut(), path, value, at) {
            reader.mistake(at..at, path, error.to_string());
        }
    }
    let mut root = Section::root(document.get_ref());
    let template = template(&mut reader, &mut root, checks);
    root.finish(&mut reader);
    for found in check::contradictions(&template) {
        reader.contradiction(found);
    }
    if reader.is_clean() {
        Ok(template)
    } else {
        Err(reader.finish())
    }
}

/// Sets a key of a template by its path, like [`parse_with`].
///
/// # Errors
/// The mistakes of the key or value, or the contradictions of the changed template. The template is
/// unchanged then.
pub fn set(template: &mut Template, path: &str, value: &str) -> Result<(), Vec<Mistake>> {
    let text = to_toml(template);
    *template = parse_with(
        &text,
        &[(path.to_owned(), value.to_owned())],
        &Checks::default(),
    )?;
    Ok(())
}

fn template(reader: &mut Reader<'_>, root: &mut Section<'_, '_>, checks: &Checks<'_>) -> Template {
    root.missing(reader, "schema");
    let schema: Option<u32> = root.integer(reader, "schema", 0..=i64::from(u32::MAX));
    if let Some(other) = schema.filter(|schema| *schema != SCHEMA) {
        root.wrong(
            reader,
            "schema",
            format!("schema {other} is not known to this version; it reads schema {SCHEMA}"),
        );
    }
    let mut template = Template {
        schema: SCHEMA,
        name: root.line(reader, "name", "the name"),
        image: root.line(reader, "image", "the path"),
        share_user: root.line(reader, "share_user", "the account"),
        share_password: root.parsed(reader, "share_password"),
        disk: root.parsed(reader, "disk"),
        grow: grow(reader, root),
        partitions: partitions(reader, root),
        onto: root.integer(reader, "onto", 1..=8192),
        reuse: root.word(reader, "reuse").unwrap_or_default(),
        pace: root.word(reader, "pace").unwrap_or_default(),
        rate: option(reader, root, "rate", checks.rate),
        start: option(reader, root, "start", checks.start),
        stall_limit: option(reader, root, "stall_limit", checks.limit),
        time_limit: option(reader, root, "time_limit", checks.limit),
        accept_holes: root.boolean(reader, "accept_holes").unwrap_or(false),
        end: root.word(reader, "end").unwrap_or_default(),
        ..Template::default()
    };
    let section = root.section(reader, "identity");
    template.identity = identity(reader, section);
    let section = root.section(reader, "network");
    template.network = network(reader, section);
    let section = root.section(reader, "membership");
    template.membership = membership(reader, section);
    let section = root.section(reader, "windows");
    template.windows = windows(reader, section);
    let section = root.section(reader, "linux");
    template.linux = linux(reader, section);
    let section = root.section(reader, "first_start");
    template.first_start = first_start(reader, section);
    template.users = entries(reader, root, "user", user);
    template.drivers = entries(reader, root, "driver", driver);
    template.copies = entries(reader, root, "copy", copy);
    template.runs = entries(reader, root, "run", run);
    template
}

/// An option that is kept as text after a check.
fn option(
    reader: &mut Reader<'_>,
    section: &mut Section<'_, '_>,
    key: &'static str,
    check: &dyn Fn(&str) -> Checked,
) -> Option<String> {
    let text = section.line(reader, key, "the value")?;
    if let Err(error) = check(&text) {
        section.wrong(reader, key, error.to_string());
    }
    Some(text)
}

/// Reads `last` or a number, which may be a TOML integer or text.
fn grow(reader: &mut Reader<'_>, root: &mut Section<'_, '_>) -> Option<Grow> {
    let read = match root.number_or_text(reader, "grow")? {
        Ok(number) => number.to_string().parse(),
        Err(text) => text.parse(),
    };
    match read {
        Ok(Grow::Last) => return Some(Grow::Last),
        Ok(Grow::Number(number @ 1..=8192)) => return Some(Grow::Number(number)),
        _ => root.wrong(reader, "grow", "use last or a partition number, 1 to 8192"),
    }
    None
}

fn partitions(reader: &mut Reader<'_>, root: &mut Section<'_, '_>) -> BTreeSet<u32> {
    let numbers = root.integers(reader, "partitions").unwrap_or_default();
    let known = numbers
        .iter()
        .filter_map(|number| u32::try_from(*number).ok())
        .filter(|number| (1..=8192).contains(number));
    let chosen: BTreeSet<u32> = known.collect();
    if chosen.len() != numbers.len() {
        root.wrong(
            reader,
            "partitions",
            "use partition numbers, 1 to 8192, each once",
        );
    }
    chosen
}

fn identity(reader: &mut Reader<'_>, mut section: Section<'_, '_>) -> Identity {
    let identity = Identity {
        hostname: section.parsed(reader, "hostname"),
        start: section.integer(reader, "start", 0..=999_999).unwrap_or(1),
        case: section.word(reader, "case").unwrap_or_default(),
        list: section.line(reader, "list", "the path"),
    };
    section.finish(reader);
    identity
}

fn network(reader: &mut Reader<'_>, mut section: Section<'_, '_>) -> Network {
    let host = |text: String| parse_host(&text);
    let mut address = |reader: &mut Reader<'_>, key| {
        let text = section.string(reader, key)?;
        host(text)
            .map_err(|error| section.wrong(reader, key, error.to_string()))
            .ok()
    };
    let gateway = address(reader, "gateway");
    let network = Network {
        mode: section.word(reader, "mode").unwrap_or_default(),
        range: section.parsed(reader, "range"),
        prefix: section.integer(reader, "prefix", PREFIXES),
        gateway,
        dns: section
            .parsed_list(reader, "dns", parse_host)
            .unwrap_or_default(),
        suffix: section.string(reader, "suffix").and_then(|text| {
            domain_name(&text)
                .map_err(|error| section.wrong(reader, "suffix", error.to_string()))
                .ok()
        }),
        search: section
            .parsed_list(reader, "search", domain_name)
            .unwrap_or_default(),
        nic: section.parsed(reader, "nic").unwrap_or_default(),
    };
    section.finish(reader);
    network
}

/// Checks a DNS name (RFC 1123 section 2.1).
fn domain_name(text: &str) -> Result<String, ReadError> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(ReadError::DnsName(text.to_owned()))
    }
}

fn first_start(reader: &mut Reader<'_>, mut section: Section<'_, '_>) -> FirstStart {
    let first_start = FirstStart {
        report: section.boolean(reader, "report"),
        console: section
            .parsed_list(reader, "console", console_address)
            .unwrap_or_default(),
    };
    if first_start.console.len() > MAX_CONSOLES {
        let message = format!("{MAX_CONSOLES} addresses are the most");
        section.wrong(reader, "console", message);
    }
    section.finish(reader);
    first_start
}

/// Parses an address of the console: IPv4 address and port of its bulk service.
fn console_address(text: &str) -> Result<SocketAddrV4, ReadError> {
    text.parse()
        .ok()
        .filter(|address: &SocketAddrV4| address.port() != 0 && !address.ip().is_unspecified())
        .ok_or_else(|| ReadError::ConsoleAddress(text.to_owned()))
}

fn membership(reader: &mut Reader<'_>, mut section: Section<'_, '_>) -> Membership {
    let membership = Membership {
        workgroup: section.line(reader, "workgroup", "the name"),
        domain: section.string(reader, "domain").and_then(|text| {
            let error = match domain_name(&text) {
                Ok(name) if name.contains('.') => return Some(name),
                Ok(name) => ReadError::NetBios(name),
                Err(error) => error,
            };
            section.wrong(reader, "domain", error.to_string());
            None
        }),
        ou: section.line(reader, "ou", "the name"),
        method: section.word(reader, "method").unwrap_or_default(),
        blobs: section.line(reader, "blobs", "the path"),
        credential: section.parsed(reader, "credential"),
    };
    section.finish(reader);
    membership
}

fn windows(reader: &mut Reader<'_>, mut section: Section<'_, '_>) -> Option<Windows> {
    let there = section.is_there();
    let windows = Windows {
        partition: section.integer(reader, "partition", 1..=8192),
        sid: section.word(reader, "sid").unwrap_or_default(),
        allow_duplicate_sid: section
            .boolean(reader, "allow_duplicate_sid")
            .unwrap_or(false),
        regenerate_ids: section.boolean(reader, "regenerate_ids").unwrap_or(true),
        discard_hibernation: section
            .boolean(reader, "discard_hibernation")
            .unwrap_or(false),
        locale: section.parsed::<Locale>(reader, "locale").map(|l| l.0),
    };
    section.finish(reader);
    there.then_some(windows)
}

/// A language tag as Windows writes it: `en-US`, `de-DE`, `zh-Hans-CN`.
struct Locale(String);

impl std::str::FromStr for Locale {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        let mut parts = text.split('-');
        let part = |part: &str, longest| {
            (2..=longest).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        if parts.next().is_some_and(|p| part(p, 3))
            && text.contains('-')
            && parts.all(|p| part(p, 8))
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(ReadError::Locale(text.to_owned()))
        }
    }
}

fn linux(reader: &mut Reader<'_>, mut section: Section<'_, '_>) -> Option<Linux> {
    let there = section.is_there();
    let linux = Linux {
        partition: section.integer(reader, "partition", 1..=8192),
        method: section.word(reader, "method").unwrap_or_default(),
        regenerate: section
            .words(reader, "regenerate")
            .unwrap_or_else(super::everything),
    };
    section.finish(reader);
    there.then_some(linux)
}

/// Every table of a list, including those with mistakes: later messages count tables by number.
fn entries<T>(
    reader: &mut Reader<'_>,
    root: &mut Section<'_, '_>,
    key: &'static str,
    read: fn(&mut Reader<'_>, &mut Section<'_, '_>) -> T,
) -> Vec<T> {
    let sections = root.sections(reader, key);
    if sections.len() > MAX_ENTRIES {
        root.wrong(
            reader,
            key,
            format!("{} entries; {MAX_ENTRIES} are the most", sections.len()),
        );
        return Vec::new();
    }
    let mut found = Vec::new();
    for mut section in sections {
        found.push(read(reader, &mut section));
        section.finish(reader);
    }
    found
}

fn user(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> User {
    section.missing(reader, "name");
    let name = section.line(reader, "name", "the name");
    if let Some(fault) = name.as_deref().and_then(account_fault) {
        section.wrong(reader, "name", fault);
    }
    let user = User {
        name: name.unwrap_or_default(),
        full_name: section.line(reader, "full_name", "the name"),
        groups: section
            .parsed_list(reader, "groups", |text| match account_fault(text) {
                Some(fault) => Err(fault),
                None => Ok(group(text.to_owned())),
            })
            .unwrap_or_default(),
        password: section.parsed(reader, "password"),
        on_exists: section.word(reader, "on_exists").unwrap_or_default(),
    };
    // `:` and `,` separate the fields of passwd, which holds the full name.
    if user
        .full_name
        .as_deref()
        .is_some_and(|name| name.contains([':', ',']))
    {
        section.wrong(reader, "full_name", "neither `:` nor `,` can be in it");
    }
    user
}

/// The fault of an account or group name that no system accepts. Rules of a single system are
/// checked when the image is known.
fn account_fault(name: &str) -> Option<String> {
    if name.is_empty() || name.chars().count() > 256 {
        return Some("a name has 1 to 256 characters".into());
    }
    let bad = name
        .chars()
        .find(|c| c.is_control() || r#""/\[]:;|=,+*?<>@"#.contains(*c))?;
    Some(format!(
        "{bad:?} cannot be in the name of an account or group"
    ))
}

fn driver(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> Driver {
    section.missing(reader, "path");
    let path = section.line(reader, "path", "the path");
    Driver {
        path: path.unwrap_or_default(),
        boot_critical: section.boolean(reader, "boot_critical").unwrap_or(false),
        when: section.word(reader, "match").unwrap_or_default(),
    }
}

fn copy(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> Copy {
    section.missing(reader, "from");
    section.missing(reader, "to");
    let from = section.line(reader, "from", "the path");
    let to = section.line(reader, "to", "the path");
    let copy = Copy {
        from: from.unwrap_or_default(),
        to: to.unwrap_or_default(),
        execute: section.boolean(reader, "execute").unwrap_or(false),
        arguments: section.string(reader, "arguments").unwrap_or_default(),
    };
    if copy.arguments.chars().any(char::is_control) {
        section.wrong(reader, "arguments", "a control character is in it");
    }
    copy
}

fn run(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> Run {
    section.missing(reader, "command");
    let command = section.line(reader, "command", "the command");
    Run {
        phase: section.word(reader, "phase").unwrap_or_default(),
        command: command.unwrap_or_default(),
        timeout: section.parsed(reader, "timeout").unwrap_or_default(),
        ok_codes: section
            .integers(reader, "ok_codes")
            .unwrap_or_else(ok_codes),
        reboot_codes: section
            .integers(reader, "reboot_codes")
            .unwrap_or_else(reboot_codes),
        on_error: section.word(reader, "on_error").unwrap_or_default(),
    }
}

/// Puts a value of the command line at its place in the document. All its spans are `at`.
fn place_value<'i>(
    document: &mut DeTable<'i>,
    path: &str,
    value: Spanned<DeValue<'i>>,
    at: usize,
) -> Result<(), ReadError> {
    let mut table = document;
    let mut parts: Vec<&str> = path.split('.').collect();
    let Some(last) = parts.pop().filter(|last| !last.is_empty()) else {
        return Err(ReadError::NoKey);
    };
    let mut parts = parts.into_iter().peekable();
    while let Some(part) = parts.next() {
        let next = parts.peek().copied().unwrap_or(last);
        let numbered = next.parse::<usize>().is_ok();
        let entry = table
            .entry(Spanned::new(at..at, part.to_owned().into()))
            .or_insert_with(|| {
                let empty = if numbered {
                    DeValue::Array(DeArray::new())
                } else {
                    DeValue::Table(DeTable::new())
                };
                Spanned::new(at..at, empty)
            });
        table = match entry.get_mut() {
            DeValue::Table(inner) => inner,
            DeValue::Array(array) => {
                let number = parts
                    .next()
                    .and_then(|number| number.parse::<usize>().ok())
                    .ok_or_else(|| ReadError::List(part.to_owned()))?;
                if number == array.len() + 1 {
                    array.push(Spanned::new(at..at, DeValue::Table(DeTable::new())));
                }
                let count = array.len();
                let entry = number.checked_sub(1).and_then(|index| array.get_mut(index));
                match entry.map(Spanned::get_mut) {
                    Some(DeValue::Table(inner)) => inner,
                    _ => {
                        return Err(ReadError::NoEntry {
                            list: part.to_owned(),
                            number,
                            count,
                        });
                    }
                }
            }
            _ => return Err(ReadError::NoTable(part.to_owned())),
        };
    }
    // An existing key would keep its old span, so it is removed first.
    table.remove(last);
    table.insert(Spanned::new(at..at, last.to_owned().into()), value);
    Ok(())
}

/// Reads a typed value: as TOML if possible (`line` is `v = typed`), as text otherwise.
fn typed_value<'i>(typed: &'i str, line: &'i str, at: usize) -> Spanned<DeValue<'i>> {
    DeTable::parse(line)
        .ok()
        // A line break in the value would start another key.
        .filter(|parsed| parsed.get_ref().len() == 1)
        .and_then(|parsed| {
            let value = parsed.get_ref().get("v")?;
            Some(moved(value.get_ref(), &(at..at)))
        })
        .unwrap_or_else(|| Spanned::new(at..at, DeValue::String(typed.into())))
}

/// The value with all spans replaced.
fn moved<'i>(value: &DeValue<'i>, span: &Range<usize>) -> Spanned<DeValue<'i>> {
    let moved = match value {
        DeValue::Array(array) => {
            let mut out = DeArray::new();
            for item in array.iter() {
                out.push(moved(item.get_ref(), span));
            }
            DeValue::Array(out)
        }
        DeValue::Table(table) => {
            let mut out = DeTable::new();
            for (key, value) in table {
                let key = Spanned::new(span.clone(), key.get_ref().clone());
                out.insert(key, moved(value.get_ref(), span));
            }
            DeValue::Table(out)
        }
        plain => plain.clone(),
    };
    Spanned::new(span.clone(), moved)
}
