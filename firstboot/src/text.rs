//! Writing and reading the text of a job. The format is described in [`crate::job`].
//!
//! Owns lines, escapes, keys. Does not judge values: `Job::check` does. Never repeats a value in an
//! error.

use crate::job::{
    Action, End, Group, Job, JobError, Network, OnError, OnExists, ReportTo, Run, Secret,
    StaticAddress, Step, User, MAX_LIST, MAX_STEPS, MAX_TEXT_BYTES, REPORT_ID,
};
use std::ops::Range;
use std::str::FromStr;

const MAGIC: &str = "diskcast-firstboot";
const VERSION: &str = "1";

pub(crate) fn encode(job: &Job) -> String {
    let mut out = String::new();
    line(&mut out, MAGIC, VERSION);
    line(&mut out, "end", end_word(job.end));
    if let Some(report) = &job.report {
        out.push('\n');
        line(&mut out, REPORT_ID, &report.job.to_string());
        for console in &report.consoles {
            line(&mut out, "console", &console.to_string());
        }
        line(&mut out, "target", &report.target);
        secret(&mut out, "key", &report.key);
    }
    for step in &job.steps {
        out.push('\n');
        encode_step(&mut out, step);
    }
    out.push('\n');
    line(&mut out, "steps", &job.steps.len().to_string());
    out
}

fn encode_step(out: &mut String, step: &Step) {
    let kind = |out: &mut String, kind: &str| line(out, "step", &format!("{} {kind}", step.id));
    match &step.action {
        Action::Network(network) => {
            kind(out, "network");
            encode_network(out, network);
        }
        Action::User(user) => {
            kind(out, "user");
            encode_user(out, user);
        }
        Action::Join { blob } => {
            kind(out, "join");
            secret(out, "blob", blob);
        }
        Action::InstallDrivers { folder } => {
            kind(out, "install-drivers");
            line(out, "folder", folder);
        }
        Action::Run(run) => {
            kind(out, "run");
            line(out, "command", &run.command);
            line(out, "timeout", &run.timeout_seconds.to_string());
            for code in &run.ok_codes {
                line(out, "ok", &code.to_string());
            }
            for code in &run.reboot_codes {
                line(out, "reboot", &code.to_string());
            }
            line(out, "on-error", on_error_word(run.on_error));
        }
    }
}

fn encode_network(out: &mut String, network: &Network) {
    line(out, "mac", &network.mac.to_string());
    if let Some(fixed) = &network.address {
        line(
            out,
            "address",
            &format!("{}/{}", fixed.address, fixed.prefix),
        );
        if let Some(gateway) = fixed.gateway {
            line(out, "gateway", &gateway.to_string());
        }
    }
    for server in &network.dns {
        line(out, "dns", &server.to_string());
    }
    if let Some(suffix) = &network.suffix {
        line(out, "suffix", suffix);
    }
    for domain in &network.search {
        line(out, "search", domain);
    }
}

fn encode_user(out: &mut String, user: &User) {
    line(out, "name", &user.name);
    if let Some(full_name) = &user.full_name {
        line(out, "full-name", full_name);
    }
    for group in &user.groups {
        match group {
            Group::Sid(sid) => line(out, "group", sid),
            Group::Named(name) => line(out, "group-name", name),
        }
    }
    if let Some(password) = &user.password {
        secret(out, "password", password);
    }
    line(out, "on-exists", on_exists_word(user.on_exists));
}

fn line(out: &mut String, key: &str, value: &str) {
    out.push_str(key);
    out.push(' ');
    escape(out, value);
    out.push('\n');
}

fn secret(out: &mut String, key: &str, value: &Secret) {
    match value {
        Secret::Value(value) => line(out, key, &format!("={value}")),
        Secret::Wiped => line(out, key, "*"),
    }
}

fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c.is_control() {
            return Err("a control character that is not escaped".into());
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('\\') => out.push('\\'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => out.push(code_point(&mut chars)?),
            _ => return Err("an unknown escape after a backslash".into()),
        }
    }
    Ok(out)
}

/// Reads `{hex}` after `\u`.
fn code_point(chars: &mut std::str::Chars<'_>) -> Result<char, String> {
    const BAD: &str = "a bad \\u{hex} escape";
    if chars.next() != Some('{') {
        return Err(BAD.into());
    }
    let mut value = 0_u32;
    let mut digits = 0;
    loop {
        match chars.next() {
            Some('}') if digits > 0 => return char::from_u32(value).ok_or_else(|| BAD.into()),
            Some(c) if digits < 6 => {
                let digit = c.to_digit(16).ok_or(BAD)?;
                // The value has at most six hex digits, 24 bits.
                value = value * 16 + digit;
                digits += 1;
            }
            _ => return Err(BAD.into()),
        }
    }
}

pub(crate) fn parse(text: &str) -> Result<Job, JobError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(JobError::TooLong);
    }
    let mut lines = text
        .split('\n')
        .enumerate()
        .map(|(at, line)| (at + 1, line));
    match lines.next().map(|(_, first)| first.split_once(' ')) {
        Some(Some((MAGIC, VERSION))) => {}
        Some(Some((MAGIC, other))) => {
            return Err(JobError::Version(other.chars().take(20).collect()))
        }
        _ => return Err(JobError::NotAJob),
    }
    let mut reader = Reader::default();
    for (number, line) in lines {
        if line.is_empty() {
            continue;
        }
        reader.line(number, line)?;
    }
    reader.finish()
}

/// Length of the key, with the space after it, on a line with a secret.
fn secret_key(line: &[u8]) -> Option<usize> {
    let keys: [&[u8]; 3] = [b"password ", b"blob ", b"key "];
    keys.iter()
        .find(|key| line.starts_with(key))
        .map(|key| key.len())
}

/// Places of the secrets in a text: the id of the step or of the report, and the bytes to be
/// overwritten. Works line by line, so it also finds them in a text that is no valid job.
pub(crate) fn secret_spans(text: &[u8]) -> Vec<(String, Range<usize>)> {
    let mut spans = Vec::new();
    let mut step = String::new();
    let mut offset = 0_usize;
    for line in text.split(|byte| *byte == b'\n') {
        let end = offset + line.len();
        if let Some(rest) = line.strip_prefix(b"step ") {
            let id = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
            step = String::from_utf8_lossy(id).into_owned();
        } else if line.starts_with(b"report ") {
            step = REPORT_ID.into();
        } else if let Some(key) = secret_key(line) {
            spans.push((step.clone(), offset + key..end));
        }
        offset = end + 1;
    }
    spans
}

/// Decodes the text of a file. A power cut during a wipe leaves half of an escape or of a character
/// after the `*`: the rest of a value that begins with `*` is ignored.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, std::str::Utf8Error> {
    let mut text = String::with_capacity(bytes.len());
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if at > 0 {
            text.push('\n');
        }
        let wiped = secret_key(line).filter(|key| line.get(*key) == Some(&b'*'));
        let line = match wiped {
            Some(key) => line.get(..=key).unwrap_or_default(),
            None => line,
        };
        text.push_str(std::str::from_utf8(line)?);
    }
    Ok(text)
}

/// State of the reader.
#[derive(Default)]
struct Reader {
    end: Option<End>,
    report: Option<ReportTo>,
    steps: Vec<Step>,
    open: Option<Open>,
    counted: Option<usize>,
}

/// One step, or the report, that is being read: its keys with their values.
struct Open {
    /// Id of the step, or the number of the report's job.
    id: String,
    kind: Kind,
    values: Vec<(&'static str, String)>,
}

/// A finished section.
enum Section {
    Report(ReportTo),
    Step(Step),
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Report,
    Network,
    User,
    Join,
    InstallDrivers,
    Run,
}

impl Kind {
    /// Kind of step with this name.
    fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "network" => Self::Network,
            "user" => Self::User,
            "join" => Self::Join,
            "install-drivers" => Self::InstallDrivers,
            "run" => Self::Run,
            _ => return None,
        })
    }

    /// Keys of this kind; true marks those that may occur more than once.
    fn keys(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Report => &[("console", true), ("target", false), ("key", false)],
            Self::Network => &[
                ("mac", false),
                ("address", false),
                ("gateway", false),
                ("dns", true),
                ("suffix", false),
                ("search", true),
            ],
            Self::User => &[
                ("name", false),
                ("full-name", false),
                ("group", true),
                ("group-name", true),
                ("password", false),
                ("on-exists", false),
            ],
            Self::Join => &[("blob", false)],
            Self::InstallDrivers => &[("folder", false)],
            Self::Run => &[
                ("command", false),
                ("timeout", false),
                ("ok", true),
                ("reboot", true),
                ("on-error", false),
            ],
        }
    }
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), JobError> {
        let wrong = |reason: String| JobError::Line {
            line: number,
            reason,
        };
        if self.counted.is_some() {
            return Err(wrong("something after the last line".into()));
        }
        let (key, raw) = line
            .split_once(' ')
            .ok_or_else(|| wrong("no value".into()))?;
        let value = unescape(raw).map_err(wrong)?;
        if key == "step" || key == "steps" || key == REPORT_ID {
            self.close()?;
        }
        self.value(key, value).map_err(wrong)
    }

    fn value(&mut self, key: &str, value: String) -> Result<(), String> {
        match (key, &mut self.open) {
            ("steps", _) => self.counted = Some(number(&value)?),
            (REPORT_ID, _) => {
                if self.report.is_some() || !self.steps.is_empty() {
                    return Err("the report is there twice, or behind a step".into());
                }
                self.open = Some(Open {
                    id: value,
                    kind: Kind::Report,
                    values: Vec::new(),
                });
            }
            ("step", _) => {
                if self.steps.len() >= MAX_STEPS {
                    return Err(format!("more than {MAX_STEPS} steps"));
                }
                let (id, kind) = value.split_once(' ').ok_or("a step has an id and a kind")?;
                self.open = Some(Open {
                    id: id.to_string(),
                    kind: Kind::from_word(kind).ok_or("unknown kind of step")?,
                    values: Vec::new(),
                });
            }
            (_, Some(open)) => return open.add(key, value),
            ("end", None) if self.end.is_none() => {
                self.end = Some(word(
                    &value,
                    &[End::None, End::Restart, End::Shutdown],
                    end_word,
                )?);
            }
            (_, None) => {
                return Err("unknown key before the first step, or one that is there twice".into())
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), JobError> {
        if let Some(open) = self.open.take() {
            let id = match open.kind {
                Kind::Report => REPORT_ID.into(),
                _ => open.id.escape_debug().take(80).collect(),
            };
            match open
                .finish()
                .map_err(|reason| JobError::Step { id, reason })?
            {
                Section::Report(report) => self.report = Some(report),
                Section::Step(step) => self.steps.push(step),
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Job, JobError> {
        if self.counted != Some(self.steps.len()) {
            return Err(JobError::Cut);
        }
        Ok(Job {
            steps: self.steps,
            end: self.end.ok_or_else(|| JobError::Line {
                line: 2,
                reason: "no end action".into(),
            })?,
            report: self.report,
        })
    }
}

impl Open {
    fn add(&mut self, key: &str, value: String) -> Result<(), String> {
        let (key, many) = *self
            .kind
            .keys()
            .iter()
            .find(|(name, _)| *name == key)
            .ok_or("unknown key for this kind of step, or for the report")?;
        let count = self.values.iter().filter(|(name, _)| *name == key).count();
        if count > 0 && !many {
            return Err(format!("{key} is there twice"));
        }
        if count >= MAX_LIST {
            return Err(format!("{key} is there more than {MAX_LIST} times"));
        }
        self.values.push((key, value));
        Ok(())
    }

    fn one(&mut self, key: &str) -> Option<String> {
        let at = self.values.iter().position(|(name, _)| *name == key)?;
        Some(self.values.remove(at).1)
    }

    fn needed(&mut self, key: &str) -> Result<String, String> {
        self.one(key).ok_or_else(|| format!("{key} is missing"))
    }

    fn parsed<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, String> {
        self.one(key).map(|value| read(key, &value)).transpose()
    }

    fn many<T: FromStr>(&self, key: &str) -> Result<Vec<T>, String> {
        let values = self.values.iter().filter(|(name, _)| *name == key);
        values.map(|(_, value)| read(key, value)).collect()
    }

    fn finish(mut self) -> Result<Section, String> {
        let action = match self.kind {
            Kind::Report => {
                return Ok(Section::Report(ReportTo {
                    job: number(&self.id)?,
                    consoles: self.many("console")?,
                    target: self.needed("target")?,
                    key: read_secret(&self.needed("key")?)?,
                }))
            }
            Kind::Network => Action::Network(self.network()?),
            Kind::User => Action::User(self.user()?),
            Kind::Join => Action::Join {
                blob: read_secret(&self.needed("blob")?)?,
            },
            Kind::InstallDrivers => Action::InstallDrivers {
                folder: self.needed("folder")?,
            },
            Kind::Run => Action::Run(Run {
                command: self.needed("command")?,
                timeout_seconds: number(&self.needed("timeout")?)?,
                ok_codes: self.many("ok")?,
                reboot_codes: self.many("reboot")?,
                on_error: word(
                    &self.needed("on-error")?,
                    &[OnError::Stop, OnError::Continue],
                    on_error_word,
                )?,
            }),
        };
        Ok(Section::Step(Step {
            id: self.id,
            action,
        }))
    }

    fn network(&mut self) -> Result<Network, String> {
        let mac = read("mac", &self.needed("mac")?)?;
        let gateway = self.parsed("gateway")?;
        let address = match self.one("address") {
            None if gateway.is_some() => return Err("a gateway without an address".into()),
            None => None,
            Some(value) => {
                let (address, prefix) = value.split_once('/').ok_or("an address has no /prefix")?;
                Some(StaticAddress {
                    address: read("address", address)?,
                    prefix: number(prefix)?,
                    gateway,
                })
            }
        };
        Ok(Network {
            mac,
            address,
            dns: self.many("dns")?,
            suffix: self.one("suffix"),
            search: self.many("search")?,
        })
    }

    fn user(&mut self) -> Result<User, String> {
        let groups = self.values.iter().filter_map(|(key, value)| match *key {
            "group" => Some(Group::Sid(value.clone())),
            "group-name" => Some(Group::Named(value.clone())),
            _ => None,
        });
        let groups: Vec<Group> = groups.collect();
        Ok(User {
            groups,
            name: self.needed("name")?,
            full_name: self.one("full-name"),
            password: self
                .one("password")
                .map(|value| read_secret(&value))
                .transpose()?,
            on_exists: word(
                &self.needed("on-exists")?,
                &[OnExists::Update, OnExists::Skip, OnExists::Fail],
                on_exists_word,
            )?,
        })
    }
}

fn read<T: FromStr>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("unreadable {key}"))
}

/// Reads a number of digits only: `parse` alone would accept a `+` too.
fn number<T: FromStr>(value: &str) -> Result<T, String> {
    if value.is_empty() || !value.bytes().all(|c| c.is_ascii_digit()) {
        return Err("a number was expected".into());
    }
    value.parse().map_err(|_| "the number is too large".into())
}

fn read_secret(value: &str) -> Result<Secret, String> {
    if let Some(value) = value.strip_prefix('=') {
        return Ok(Secret::new(value));
    }
    if value.starts_with('*') {
        return Ok(Secret::Wiped);
    }
    Err("a secret begins with '='".into())
}

fn word<T: Copy>(value: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    all.iter()
        .copied()
        .find(|candidate| name(*candidate) == value)
        .ok_or_else(|| {
            let names: Vec<&str> = all.iter().copied().map(name).collect();
            format!("expected one of {}", names.join(", "))
        })
}

fn end_word(end: End) -> &'static str {
    match end {
        End::None => "none",
        End::Restart => "restart",
        End::Shutdown => "shutdown",
    }
}

fn on_error_word(on_error: OnError) -> &'static str {
    match on_error {
        OnError::Stop => "stop",
        OnError::Continue => "continue",
    }
}

fn on_exists_word(on_exists: OnExists) -> &'static str {
    match on_exists {
        OnExists::Update => "update",
        OnExists::Skip => "skip",
        OnExists::Fail => "fail",
    }
}
