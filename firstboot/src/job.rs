//! The first-boot job: the steps that a machine carries out by itself after its first start.
//! [`crate::text`] writes and reads its text.
//!
//! Owns the types and the rules for their values. A [`Job`] holds secret values (passwords, a join
//! blob): its text belongs into a file that only SYSTEM and Administrators may read, and `Debug` of
//! a [`Secret`] shows none.
//!
//! # Text
//!
//! UTF-8, one `key value` a line, ended by `\n`; empty lines are ignored. The value is the rest of
//! the line after one space. `\\`, `\n`, `\r`, `\t` and `\u{hex}` stand for a backslash and for
//! control characters, which occur in no other form. Unknown keys, repeated keys, keys of another
//! kind of step and unknown versions are refused.
//!
//! ```text
//! diskcast-firstboot 1
//! end shutdown                            none | restart | shutdown
//!
//! report 17                               the job; may be left out, with its lines
//! console 10.20.0.2:5003                  1 to 8
//! target 4c4c4544-0042
//! key =00112233...                        64 small hex digits; a secret
//!
//! step net.1 network
//! mac 52:54:00:12:34:56
//! address 10.20.0.50/24                   left out: DHCP
//! gateway 10.20.0.1                       only with an address; may be left out
//! dns 10.20.0.2                           any number
//! suffix lab.example                      may be left out
//! search corp.example                     any number
//!
//! step user.1 user
//! name labadmin
//! full-name Lab                           may be left out
//! group S-1-5-32-544                      any number
//! group-name Technicians                  any number
//! password =correct horse                 may be left out; a secret, see below
//! on-exists update                        update | skip | fail
//!
//! step join join
//! blob =ARAIAMzMzMzA...                   base64 from `djoin /provision`, not in UTF-16; a secret
//!
//! step drivers install-drivers
//! folder C:\\ProgramData\\diskcast\\drivers
//!
//! step run.1 run
//! command msiexec /i C:\\Deploy\\app.msi /qn
//! timeout 1200                            seconds
//! ok 0                                    any number
//! reboot 3010                             any number; at least one of both
//! on-error stop                           stop | continue
//!
//! steps 5                                 the last line: a text that was cut is refused
//! ```
//!
//! A secret is `=` and its value. To wipe it, every byte of it, the `=` too, is overwritten in
//! place with `*`. The text keeps its length and can be read at every moment: a value that begins
//! with `*` is wiped ([`Secret::Wiped`]).

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

/// Longest text of a job, in bytes. A blob with certificates and policies stays far below.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Most steps of a job.
pub const MAX_STEPS: usize = 256;
/// Most values of one list: name servers, groups, exit codes.
pub const MAX_LIST: usize = 64;
/// Longest command line, in characters; `cmd.exe` accepts no longer one.
pub const MAX_COMMAND_CHARS: usize = 8000;
/// Longest time a program may run, in seconds: a day.
pub const MAX_TIMEOUT_SECONDS: u32 = 86_400;
/// Longest login name, in characters (lmcons.h, LM20_UNLEN).
pub const MAX_USER_CHARS: usize = 20;
/// Longest password, in characters; `NetUserAdd` accepts no longer one (lmcons.h, PWLEN).
pub const MAX_PASSWORD_CHARS: usize = 256;
/// Most addresses of the console; all of them are tried before the next pause.
pub const MAX_CONSOLES: usize = 8;
/// Id of the report in the journal, and of its key when secrets are overwritten. No step may have
/// it.
pub const REPORT_ID: &str = "report";
const MAX_TEXT_CHARS: usize = 256;
const KEY_DIGITS: usize = 64;

/// A first-boot job.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Job {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Action after the last step.
    pub end: End,
    /// Address and key for the report of the result; `None` if the machine does not report.
    pub report: Option<ReportTo>,
}

/// Addresses and key for the report of the first start: docs/protocol.md, First start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportTo {
    /// Addresses of the console, tried in this order; 1 to [`MAX_CONSOLES`].
    pub consoles: Vec<SocketAddr>,
    /// The console's number of the job.
    pub job: u64,
    /// Id of the target.
    pub target: String,
    /// Key of the HMAC, as 64 small hex digits.
    pub key: Secret,
}

/// One step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// Short, stable id: `[a-z0-9.-]`, 1 to 64 characters, unique in a job.
    pub id: String,
    /// The action of the step.
    pub action: Action,
}

/// Action of a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Sets the addresses of a card.
    Network(Network),
    /// Creates or changes an account of this machine.
    User(User),
    /// Joins a domain with the offline-join blob, by `djoin /requestODJ`; then a restart.
    Join {
        /// Base64 as ASCII.
        blob: Secret,
    },
    /// Installs every driver package below a folder with `pnputil`.
    InstallDrivers {
        /// Windows path of the folder.
        folder: String,
    },
    /// Runs a program.
    Run(Run),
}

/// Addresses of the card with a MAC address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Network {
    /// MAC address of the card.
    pub mac: Mac,
    /// Static address; `None` for DHCP.
    pub address: Option<StaticAddress>,
    /// Name servers; empty leaves them to DHCP.
    pub dns: Vec<Ipv4Addr>,
    /// DNS suffix of the connection.
    pub suffix: Option<String>,
    /// Search list of the machine.
    pub search: Vec<String>,
}

/// Static IPv4 configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StaticAddress {
    /// Address.
    pub address: Ipv4Addr,
    /// Prefix length of the network in bits, 1..=32.
    pub prefix: u8,
    /// Router.
    pub gateway: Option<Ipv4Addr>,
}

/// A MAC address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mac(pub [u8; 6]);

/// A local account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Full name.
    pub full_name: Option<String>,
    /// Local groups that the account is put into.
    pub groups: Vec<Group>,
    /// Password. With `None` a new account gets a random password that nobody knows, and an
    /// existing one keeps its own.
    pub password: Option<Secret>,
    /// Treatment of an existing account.
    pub on_exists: OnExists,
}

/// A local group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Group {
    /// A well-known SID such as `S-1-5-32-544`, because the group's name depends on the language of
    /// Windows.
    Sid(String),
    /// Name of the group.
    Named(String),
}

impl Group {
    /// SID of `BUILTIN\Administrators`.
    pub const ADMINISTRATORS: &'static str = "S-1-5-32-544";
    /// SID of `BUILTIN\Users`.
    pub const USERS: &'static str = "S-1-5-32-545";
    /// SID of `BUILTIN\Power Users`.
    pub const POWER_USERS: &'static str = "S-1-5-32-547";
    /// SID of `BUILTIN\Remote Desktop Users`.
    pub const REMOTE_DESKTOP: &'static str = "S-1-5-32-555";
}

/// A program to run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    /// Command line for `cmd.exe /c`.
    pub command: String,
    /// Time limit in seconds; after it the program and everything it started is ended, and the step
    /// has failed.
    pub timeout_seconds: u32,
    /// Exit codes of success, signed as Windows counts them: `-2147467259`, not `2147500037`.
    pub ok_codes: Vec<i32>,
    /// Exit codes that are success and after which the machine restarts before the next step.
    pub reboot_codes: Vec<i32>,
    /// Effect of a failure on the job.
    pub on_error: OnError,
}

/// Treatment of an existing account.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnExists {
    /// Password and groups are set.
    #[default]
    Update,
    /// The account stays unchanged.
    Skip,
    /// The step fails.
    Fail,
}

/// Effect of a failed program on the rest of the job.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnError {
    /// The following steps and the end action are skipped.
    #[default]
    Stop,
    /// The following steps are carried out.
    Continue,
}

/// Action of the machine after the job.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum End {
    /// It stays up.
    #[default]
    None,
    /// It restarts.
    Restart,
    /// It powers off.
    Shutdown,
}

/// A secret value; no log shows it.
#[derive(Clone, Eq, PartialEq)]
pub enum Secret {
    /// The value.
    Value(String),
    /// The value was overwritten.
    Wiped,
}

impl Secret {
    /// Makes a secret with this value.
    pub fn new(value: impl Into<String>) -> Self {
        Self::Value(value.into())
    }

    /// The value; `None` if it is wiped.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Value(value) => Some(value),
            Self::Wiped => None,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value(_) => "Secret(..)",
            Self::Wiped => "Secret(wiped)",
        })
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for Mac {
    type Err = ();

    /// Reads `aa:bb:cc:dd:ee:ff` or `AA-BB-CC-DD-EE-FF`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut mac = [0_u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().ok_or(())?;
            if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        match parts.next() {
            None => Ok(Self(mac)),
            Some(_) => Err(()),
        }
    }
}

/// Error in writing or reading a job.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum JobError {
    /// The text does not begin with `diskcast-firstboot`.
    NotAJob,
    /// The text has another version.
    Version(String),
    /// The text is longer than [`MAX_TEXT_BYTES`].
    TooLong,
    /// The last line `steps N` is missing or has another count: the text was cut.
    Cut,
    /// A line cannot be read. Its text is not repeated, because it may be a secret.
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// Cause.
        reason: String,
    },
    /// A step, or the report, breaks a rule.
    Step {
        /// Id of the step; [`REPORT_ID`] for the report.
        id: String,
        /// Cause.
        reason: String,
    },
    /// The job has more than [`MAX_STEPS`] steps.
    TooManySteps,
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAJob => f.write_str("not a first-boot job"),
            Self::Version(version) => write!(
                f,
                "first-boot job of version {version:?}, and this program reads 1"
            ),
            Self::TooLong => write!(f, "first-boot job longer than {MAX_TEXT_BYTES} bytes"),
            Self::Cut => {
                f.write_str("first-boot job was cut: its last line does not count its steps")
            }
            Self::Line { line, reason } => write!(f, "first-boot job, line {line}: {reason}"),
            Self::Step { id, reason } => write!(f, "first-boot step {id}: {reason}"),
            Self::TooManySteps => write!(f, "first-boot job with more than {MAX_STEPS} steps"),
        }
    }
}

impl std::error::Error for JobError {}

impl Job {
    /// Writes the text of a job, which [`Job::parse`] reads as the same job.
    ///
    /// # Errors
    /// The job breaks a rule: a repeated id, a name with control characters, no exit codes.
    pub fn encode(&self) -> Result<String, JobError> {
        self.check()?;
        let text = crate::text::encode(self);
        if text.len() > MAX_TEXT_BYTES {
            return Err(JobError::TooLong);
        }
        Ok(text)
    }

    /// Reads the text of a job from any source. Never panics.
    ///
    /// # Errors
    /// The fault and its line; never a value from the text.
    pub fn parse(text: &str) -> Result<Self, JobError> {
        let job = crate::text::parse(text)?;
        job.check()?;
        Ok(job)
    }

    /// Checks that every value is allowed.
    fn check(&self) -> Result<(), JobError> {
        if let Some(report) = &self.report {
            check_report(report).map_err(|reason| JobError::Step {
                id: REPORT_ID.into(),
                reason,
            })?;
        }
        if self.steps.len() > MAX_STEPS {
            return Err(JobError::TooManySteps);
        }
        for (at, step) in self.steps.iter().enumerate() {
            let refuse = |reason: String| JobError::Step {
                id: step.id.escape_debug().take(80).collect(),
                reason,
            };
            if !id_is_good(&step.id) {
                return Err(refuse("an id is 1 to 64 of a-z, 0-9, '.' and '-'".into()));
            }
            if step.id == REPORT_ID {
                return Err(refuse("the report alone has this id".into()));
            }
            if self
                .steps
                .iter()
                .take(at)
                .any(|earlier| earlier.id == step.id)
            {
                return Err(refuse("the id is there twice".into()));
            }
            check_action(&step.action).map_err(refuse)?;
        }
        Ok(())
    }
}

/// Checks an id against `[a-z0-9.-]{1,64}`.
pub(crate) fn id_is_good(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'.' || c == b'-')
}

fn check_action(action: &Action) -> Result<(), String> {
    match action {
        Action::Network(network) => check_network(network),
        Action::User(user) => check_user(user),
        Action::Join { blob } => check_blob(blob),
        Action::InstallDrivers { folder } => words("folder", folder, MAX_TEXT_CHARS),
        Action::Run(run) => check_run(run),
    }
}

fn check_report(report: &ReportTo) -> Result<(), String> {
    if !(1..=MAX_CONSOLES).contains(&report.consoles.len()) {
        return Err(format!(
            "1 to {MAX_CONSOLES} addresses of the console, not {}",
            report.consoles.len()
        ));
    }
    words("target", &report.target, MAX_TEXT_CHARS)?;
    match &report.key {
        Secret::Value(key) if !key_is_good(key) => {
            Err(format!("the key is not {KEY_DIGITS} small hex digits"))
        }
        _ => Ok(()),
    }
}

fn key_is_good(key: &str) -> bool {
    let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    key.len() == KEY_DIGITS && key.bytes().all(digit)
}

fn check_network(network: &Network) -> Result<(), String> {
    if let Some(fixed) = &network.address {
        if !(1..=32).contains(&fixed.prefix) {
            return Err(format!("a network has 1 to 32 bits, not {}", fixed.prefix));
        }
    }
    bounded("dns", network.dns.len())?;
    bounded("search", network.search.len())?;
    for domain in network.suffix.iter().chain(&network.search) {
        // The suffix becomes a word of a command line: only the characters of a DNS name are
        // allowed.
        let good = (1..=255).contains(&domain.len())
            && domain
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'.' || c == b'-' || c == b'_')
            && domain
                .bytes()
                .next()
                .map_or(false, |c| c.is_ascii_alphanumeric());
        if !good {
            return Err(format!("{domain:?} is not a DNS suffix"));
        }
    }
    Ok(())
}

fn check_user(user: &User) -> Result<(), String> {
    words("name", &user.name, MAX_USER_CHARS)?;
    // Microsoft, "User name formats": these characters cannot be in a SAM account name, and it may
    // not consist of dots and spaces alone.
    if let Some(bad) = user
        .name
        .chars()
        .find(|c| "\"/\\[]:;|=,+*?<>@".contains(*c))
    {
        return Err(format!("{bad:?} cannot be in the name of an account"));
    }
    if user.name.chars().all(|c| c == '.' || c == ' ') {
        return Err("the name of an account needs a letter or digit".into());
    }
    if let Some(full_name) = &user.full_name {
        words("full-name", full_name, MAX_TEXT_CHARS)?;
    }
    bounded("group", user.groups.len())?;
    for group in &user.groups {
        match group {
            Group::Sid(sid) if sid_is_good(sid) => {}
            Group::Sid(sid) => return Err(format!("{sid:?} is not a SID")),
            Group::Named(name) => words("group-name", name, MAX_TEXT_CHARS)?,
        }
    }
    match &user.password {
        // An empty password is allowed here; the password policy of the machine decides.
        Some(Secret::Value(value)) if value.chars().count() > MAX_PASSWORD_CHARS => Err(format!(
            "a password has at most {MAX_PASSWORD_CHARS} characters"
        )),
        Some(Secret::Value(value)) if value.contains('\0') => {
            Err("a password cannot hold a zero character".into())
        }
        _ => Ok(()),
    }
}

fn check_blob(blob: &Secret) -> Result<(), String> {
    match blob {
        Secret::Wiped => Ok(()),
        Secret::Value(value) => {
            let good = !value.is_empty()
                && value
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || c == b'+' || c == b'/' || c == b'=');
            if good {
                Ok(())
            } else {
                Err("the join blob is not base64".into())
            }
        }
    }
}

fn check_run(run: &Run) -> Result<(), String> {
    words("command", &run.command, MAX_COMMAND_CHARS)?;
    if !(1..=MAX_TIMEOUT_SECONDS).contains(&run.timeout_seconds) {
        return Err(format!(
            "a timeout has 1 to {MAX_TIMEOUT_SECONDS} seconds, not {}",
            run.timeout_seconds
        ));
    }
    bounded("ok", run.ok_codes.len())?;
    bounded("reboot", run.reboot_codes.len())?;
    if run.ok_codes.is_empty() && run.reboot_codes.is_empty() {
        return Err("no exit code is success".into());
    }
    Ok(())
}

fn bounded(what: &str, count: usize) -> Result<(), String> {
    if count > MAX_LIST {
        return Err(format!(
            "{what} is there {count} times; {MAX_LIST} is the most"
        ));
    }
    Ok(())
}

/// Checks text for people or command lines: something visible, no control characters, not too long.
fn words(what: &str, value: &str, most: usize) -> Result<(), String> {
    if value.trim().is_empty() {
        return Err(format!("{what} is empty"));
    }
    if value.chars().any(char::is_control) {
        return Err(format!("{what} has a control character in it"));
    }
    let count = value.chars().count();
    if count > most {
        return Err(format!("{what} has {count} characters; {most} is the most"));
    }
    Ok(())
}

/// Checks a SID: `S-1-` and 2 to 16 numbers.
fn sid_is_good(sid: &str) -> bool {
    let mut parts = sid.split('-');
    if parts.next() != Some("S") || parts.next() != Some("1") {
        return false;
    }
    let numbers: Vec<&str> = parts.take(17).collect();
    (2..=16).contains(&numbers.len())
        && numbers.iter().all(|number| {
            (1..=10).contains(&number.len())
                && number.bytes().all(|c| c.is_ascii_digit())
                && number.parse::<u32>().is_ok()
        })
}
