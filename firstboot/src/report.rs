//! The machine's report to the console after its first start, as a value and as text
//! (docs/protocol.md, First start).
//!
//! Owns lines, limits and keys of the text. Knows no secret key and computes no HMAC: the sender
//! and the receiver do, over the bytes given here. Any bytes give a report or an error, and nothing
//! longer than a line is kept.

use crate::job::Mac;
use std::fmt;
use std::net::IpAddr;

/// First line of a message.
pub const FIRST_LINE: &str = "diskcast-first-start 1";
/// Longest message, in bytes.
pub const MAX_BYTES: usize = 4096;
/// Longest line, in bytes without its end.
pub const MAX_LINE_BYTES: usize = 512;
/// Most addresses in a report.
pub const MAX_ADDRESSES: usize = 16;
/// Longest answer, in bytes.
pub const MAX_ANSWER_BYTES: usize = 128;
/// Hex digits of an HMAC.
pub const HMAC_DIGITS: usize = 64;
/// Word that is signed in an answer, after the digits of the report.
pub const HEARD: &str = "heard";

/// Longest value that [`Report::encode`] writes, in bytes; longer ones are cut. All lines together
/// stay below [`MAX_BYTES`].
const MAX_VALUE_BYTES: usize = 300;
const ANSWER: &str = "diskcast-first-start ";
const REFUSED: &str = "diskcast-first-start refused";
const HMAC: &[u8] = b"hmac=";

/// Result of a machine's first start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Number of the job.
    pub job: u64,
    /// Id of the target.
    pub target: String,
    /// Result of the first-boot job.
    pub result: Outcome,
    /// Current host name of the system.
    pub name: String,
    /// Kind of system, and its own identity.
    pub system: System,
    /// Addresses of the cards.
    pub addresses: Vec<Address>,
}

/// Result of the first-boot job.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Every step is done.
    Done,
    /// The job failed.
    Failed {
        /// Id of the failed step; `None` if the cause is not a step.
        step: Option<String>,
        /// Cause.
        reason: String,
    },
}

/// The system that started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum System {
    /// Windows.
    Windows {
        /// Machine SID; `None` if it could not be read.
        sid: Option<String>,
    },
    /// Linux.
    Linux {
        /// Content of `/etc/machine-id`; `None` if there is none.
        machine_id: Option<String>,
    },
}

/// An IP address of a card.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Address {
    /// MAC address of the card.
    pub mac: Mac,
    /// The address.
    pub ip: IpAddr,
    /// Prefix length of its network in bits.
    pub prefix: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.mac, self.ip, self.prefix)
    }
}

/// The parts of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message<'a> {
    /// The report. It must not be trusted before [`digits`](Self::digits) are verified with the
    /// key.
    pub report: Report,
    /// The bytes that are signed.
    pub signed: &'a [u8],
    /// HMAC-SHA256 of these bytes: 64 lower-case hex digits.
    pub digits: &'a str,
}

/// Error in reading a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReportError {
    /// The message is longer than allowed.
    TooLong,
    /// The first line is that of no report, or of another version.
    NotAReport,
    /// A line is longer than allowed.
    LongLine,
    /// The bytes are not UTF-8, or hold control characters.
    NotText,
    /// A line without `=`.
    NoValue,
    /// A key occurs twice, or there are too many addresses.
    TooMany,
    /// A required key is missing.
    Missing(&'static str),
    /// A value is not allowed for its key.
    Value(&'static str),
    /// The last line is no HMAC, or something follows it.
    NoHmac,
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "more than {} bytes", MAX_BYTES),
            Self::NotAReport => write!(f, "does not begin with {:?}", FIRST_LINE),
            Self::LongLine => write!(f, "a line of more than {} bytes", MAX_LINE_BYTES),
            Self::NotText => write!(f, "not UTF-8, or control characters"),
            Self::NoValue => write!(f, "a line without ="),
            Self::TooMany => write!(f, "a key that is there too often"),
            Self::Missing(key) => write!(f, "{} is missing", key),
            Self::Value(key) => write!(f, "a value that {} cannot have", key),
            Self::NoHmac => write!(f, "does not end with the line hmac="),
        }
    }
}

impl std::error::Error for ReportError {}

impl Report {
    /// The signed lines: all before `hmac=`. Values lose their control characters and are cut to
    /// fit.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        out.push_str(FIRST_LINE);
        out.push('\n');
        line(&mut out, "job", &self.job.to_string());
        line(&mut out, "target", &self.target);
        match &self.result {
            Outcome::Done => line(&mut out, "result", "done"),
            Outcome::Failed { step, reason } => {
                line(&mut out, "result", "failed");
                optional(&mut out, "step", step.as_deref());
                line(&mut out, "reason", reason);
            }
        }
        line(&mut out, "name", &self.name);
        match &self.system {
            System::Windows { sid } => {
                line(&mut out, "system", "windows");
                optional(&mut out, "sid", sid.as_deref());
            }
            System::Linux { machine_id } => {
                line(&mut out, "system", "linux");
                optional(&mut out, "machine-id", machine_id.as_deref());
            }
        }
        for address in self.addresses.iter().take(MAX_ADDRESSES) {
            line(&mut out, "address", &address.to_string());
        }
        out
    }
}

/// The whole message: the text from [`Report::encode`], and its HMAC as hex digits.
pub fn message(signed: &str, digits: &str) -> String {
    format!("{}hmac={}\n", signed, digits)
}

fn optional(out: &mut String, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        line(out, key, value);
    }
}

fn line(out: &mut String, key: &str, value: &str) {
    out.push_str(key);
    out.push('=');
    let start = out.len();
    for c in value.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if out.len() - start + c.len_utf8() > MAX_VALUE_BYTES {
            break;
        }
        out.push(c);
    }
    out.push('\n');
}

/// True if the line `hmac=` is complete: the message has no more bytes.
pub fn is_whole(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        // The last piece is a line without its end.
        if lines.peek().is_some() && line.starts_with(HMAC) {
            return true;
        }
    }
    false
}

/// Reads a whole message.
///
/// # Errors
/// The bytes are no message; the error tells why.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, ReportError> {
    if bytes.len() > MAX_BYTES {
        return Err(ReportError::TooLong);
    }
    let rest = bytes
        .strip_prefix(FIRST_LINE.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"\n"))
        .ok_or(ReportError::NotAReport)?;
    let mut at = bytes.len() - rest.len();
    let mut fields = Fields::default();
    for line in rest.split(|byte| *byte == b'\n') {
        if line.len() > MAX_LINE_BYTES {
            return Err(ReportError::LongLine);
        }
        let text = std::str::from_utf8(line).map_err(|_| ReportError::NotText)?;
        if text.chars().any(char::is_control) {
            return Err(ReportError::NotText);
        }
        if let Some(digits) = text.strip_prefix("hmac=") {
            // The line must be complete, and nothing may follow it.
            if at + line.len() + 1 != bytes.len() || !is_hmac(digits) {
                return Err(ReportError::NoHmac);
            }
            return Ok(Message {
                report: fields.report()?,
                signed: bytes.get(..at).unwrap_or_default(),
                digits,
            });
        }
        // Bytes after the last line end are no line.
        if at + line.len() >= bytes.len() {
            break;
        }
        fields.take(text)?;
        at += line.len() + 1;
    }
    Err(ReportError::NoHmac)
}

fn is_hmac(digits: &str) -> bool {
    let small = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    digits.len() == HMAC_DIGITS && digits.bytes().all(small)
}

/// The lines that were read so far.
#[derive(Default)]
struct Fields<'a> {
    job: Option<&'a str>,
    target: Option<&'a str>,
    result: Option<&'a str>,
    step: Option<&'a str>,
    reason: Option<&'a str>,
    name: Option<&'a str>,
    system: Option<&'a str>,
    sid: Option<&'a str>,
    machine_id: Option<&'a str>,
    addresses: Vec<Address>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, line: &'a str) -> Result<(), ReportError> {
        let (key, value) = line.split_once('=').ok_or(ReportError::NoValue)?;
        let place = match key {
            "job" => &mut self.job,
            "target" => &mut self.target,
            "result" => &mut self.result,
            "step" => &mut self.step,
            "reason" => &mut self.reason,
            "name" => &mut self.name,
            "system" => &mut self.system,
            "sid" => &mut self.sid,
            "machine-id" => &mut self.machine_id,
            "address" => {
                if self.addresses.len() >= MAX_ADDRESSES {
                    return Err(ReportError::TooMany);
                }
                self.addresses.push(address(value)?);
                return Ok(());
            }
            _ => return Ok(()),
        };
        if place.replace(value).is_some() {
            return Err(ReportError::TooMany);
        }
        Ok(())
    }

    fn report(self) -> Result<Report, ReportError> {
        let job = self.job.ok_or(ReportError::Missing("job"))?;
        // `parse` alone would accept a sign.
        let job = Some(job)
            .filter(|job| job.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|job| job.parse().ok())
            .ok_or(ReportError::Value("job"))?;
        let result = match self.result.ok_or(ReportError::Missing("result"))? {
            "done" if self.step.is_some() => return Err(ReportError::Value("step")),
            "done" if self.reason.is_some() => return Err(ReportError::Value("reason")),
            "done" => Outcome::Done,
            "failed" => Outcome::Failed {
                step: self.step.map(String::from),
                reason: self.reason.ok_or(ReportError::Missing("reason"))?.into(),
            },
            _ => return Err(ReportError::Value("result")),
        };
        let system = match self.system.ok_or(ReportError::Missing("system"))? {
            "windows" if self.machine_id.is_some() => return Err(ReportError::Value("machine-id")),
            "windows" => System::Windows {
                sid: self.sid.map(String::from),
            },
            "linux" if self.sid.is_some() => return Err(ReportError::Value("sid")),
            "linux" => System::Linux {
                machine_id: self.machine_id.map(String::from),
            },
            _ => return Err(ReportError::Value("system")),
        };
        Ok(Report {
            job,
            target: self.target.ok_or(ReportError::Missing("target"))?.into(),
            result,
            name: self.name.ok_or(ReportError::Missing("name"))?.into(),
            system,
            addresses: self.addresses,
        })
    }
}

/// Reads `MAC IP/BITS`.
fn address(value: &str) -> Result<Address, ReportError> {
    let read = || {
        let (mac, network) = value.split_once(' ')?;
        let (ip, prefix) = network.split_once('/')?;
        let ip: IpAddr = ip.parse().ok()?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Address {
            mac: mac.parse().ok()?,
            ip,
            prefix: prefix.parse().ok().filter(|prefix| *prefix <= most)?,
        })
    };
    read().ok_or(ReportError::Value("address"))
}

/// Answer to a stored report: `digits` are the HMAC of [`heard_signed`].
pub fn heard(digits: &str) -> String {
    format!("{}{} {}\n", ANSWER, HEARD, digits)
}

/// Answer to every refused message.
pub fn refused() -> String {
    format!("{}\n", REFUSED)
}

/// Text that is signed in the answer to a report with these digits.
pub fn heard_signed(digits: &str) -> String {
    format!("{}{}", digits, HEARD)
}

/// Answer of a console.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer<'a> {
    /// The report is stored, if these hex digits are the HMAC of [`heard_signed`].
    Heard(&'a str),
    /// The report is refused for good.
    Refused,
}

/// Reads an answer; `None` for any other bytes.
pub fn parse_answer(bytes: &[u8]) -> Option<Answer<'_>> {
    if bytes.len() > MAX_ANSWER_BYTES {
        return None;
    }
    let line = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    if line == REFUSED {
        return Some(Answer::Refused);
    }
    let digits = line
        .strip_prefix(ANSWER)?
        .strip_prefix(HEARD)?
        .strip_prefix(' ')?;
    Some(Answer::Heard(digits)).filter(|_| is_hmac(digits))
}
