//! Provisioning with Samba: `net offlinejoin provision` creates the account of a machine in the
//! domain and returns a blob.
//!
//! Owns one run of that program, with a time limit, a configuration of its own in a folder that is
//! deleted afterwards, and the password over stdin. The console's own Samba configuration is
//! neither read nor changed.
//!
//! Samba logs on with NTLM first, and with Kerberos for LDAP, sealed. Untested: domains that allow
//! no NTLM at all.
//!
//! An existing account is taken over: its password is set anew, and a machine that uses it is out
//! of the domain until it has the new blob. A deployment wants this, and Samba 4.17 does it with or
//! without the request.
#![expect(
    clippy::disallowed_methods,
    reason = "runs a program: it waits for it, and ends it when its time is over"
)]

use crate::blob::{Blob, BlobError, validate_blob};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Largest output that is read from each pipe of the program, in bytes; a real answer is far
/// shorter.
const MAX_OUTPUT: u64 = 4 << 20;

/// The user who creates accounts in the domain. `Debug` does not show the password.
#[derive(Clone)]
pub struct Credential {
    /// User name: `name`, `DOMAIN\name` or `name@domain`.
    pub user: String,
    /// Password of the user.
    pub password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The request for a blob.
#[derive(Clone, Debug)]
pub struct Provision {
    /// DNS name of the domain: `corp.example`.
    pub domain: String,
    /// NetBIOS name of the machine, at most 15 characters.
    pub machine: String,
    /// Unit in which the account is created, such as `OU=Labs,DC=corp,DC=example`; `None` for the
    /// domain's default.
    pub ou: Option<String>,
    /// Domain controller; `None` to find it by DNS.
    pub dc: Option<String>,
    /// User who creates the account.
    pub credential: Credential,
    /// Samba's `net`, by name or path.
    pub program: PathBuf,
    /// Time after which the program is killed.
    pub limit: Duration,
}

/// The reason why no blob was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// An input value cannot be passed to Samba.
    #[error("join of {machine}: {reason}")]
    Input {
        /// NetBIOS name of the machine.
        machine: String,
        /// The value and the reason.
        reason: String,
    },
    /// Samba is not installed.
    #[error("join of {machine}: {program} is missing on the console; apt-get install samba-common-bin", program = program.display())]
    NoSamba {
        /// NetBIOS name of the machine.
        machine: String,
        /// Program that was not found.
        program: PathBuf,
    },
    /// The program could not be run.
    #[error("join of {machine}: running {program}", program = program.display())]
    Run {
        /// NetBIOS name of the machine.
        machine: String,
        /// Program that was run.
        program: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The program did not finish in time.
    #[error(
        "join of {machine} to {domain}: no answer within {seconds} s; is the domain controller reachable?"
    )]
    TimedOut {
        /// NetBIOS name of the machine.
        machine: String,
        /// DNS name of the domain.
        domain: String,
        /// Time limit in seconds.
        seconds: u64,
    },
    /// Samba reported a failure.
    #[error("join of {machine} to {domain}: {reason} (Samba: {said})")]
    Refused {
        /// NetBIOS name of the machine.
        machine: String,
        /// DNS name of the domain.
        domain: String,
        /// Meaning of the failure, and advice.
        reason: String,
        /// Samba's own message, without the password.
        said: String,
    },
    /// Samba reported success, but its output is not a blob.
    #[error("join of {machine}: what Samba wrote cannot be used")]
    Blob {
        /// NetBIOS name of the machine.
        machine: String,
        /// The reason.
        source: BlobError,
    },
    /// The blob belongs to another machine.
    #[error("join of {machine}: the blob names {named}")]
    OtherMachine {
        /// NetBIOS name of the requested machine.
        machine: String,
        /// Name of the machine in the blob.
        named: String,
    },
}

/// True when a program is there to be run: found by its path, or in the folders of `PATH`.
pub fn is_installed(program: &Path) -> bool {
    let runs = |path: &Path| {
        std::fs::metadata(path)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return runs(program);
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| runs(&folder.join(program)))
}

impl Provision {
    /// Creates the account and returns its blob.
    ///
    /// # Errors
    /// [`DomainError`] with the reason and advice; it never contains a password.
    pub fn run(&self) -> Result<Blob, DomainError> {
        self.check()?;
        let folder = tempfile::Builder::new()
            .prefix("diskcast-join-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|source| self.failed(source))?;
        let answer = self
            .ask(folder.path())
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => DomainError::NoSamba {
                    machine: self.machine.clone(),
                    program: self.program.clone(),
                },
                _ => self.failed(source),
            })?;
        let Some((status, stdout, stderr)) = answer else {
            return Err(DomainError::TimedOut {
                machine: self.machine.clone(),
                domain: self.domain.clone(),
                seconds: self.limit.as_secs(),
            });
        };
        if !status.success() {
            return Err(self.refused(&stdout, &stderr));
        }
        // The blob is on a line of its own beside messages for people, and is the longest line.
        let longest = stdout.lines().max_by_key(|line| line.len()).unwrap_or("");
        let blob = validate_blob(longest.as_bytes()).map_err(|source| DomainError::Blob {
            machine: self.machine.clone(),
            source,
        })?;
        if !blob.is_for(&self.machine) {
            return Err(DomainError::OtherMachine {
                machine: self.machine.clone(),
                named: blob.facts().machine.clone().unwrap_or_default(),
            });
        }
        Ok(blob)
    }

    fn failed(&self, source: io::Error) -> DomainError {
        DomainError::Run {
            machine: self.machine.clone(),
            program: self.program.clone(),
            source,
        }
    }

    /// Checks the input: all values become arguments of a command line, lines of a file, or a
    /// distinguished name.
    fn check(&self) -> Result<(), DomainError> {
        let refuse = |reason: String| {
            Err(DomainError::Input {
                machine: self.machine.escape_debug().take(40).collect(),
                reason,
            })
        };
        let name = |text: &str, more: &str| {
            !text.starts_with('-')
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if !(1..=15).contains(&self.machine.len()) || !name(&self.machine, "-") {
            return refuse("a machine has 1 to 15 of A-Z, 0-9 and '-'".into());
        }
        if !(1..=255).contains(&self.domain.len()) || !name(&self.domain, ".-_") {
            return refuse(format!("{:?} is not the DNS name of a domain", self.domain));
        }
        if let Some(dc) = self
            .dc
            .as_ref()
            .filter(|dc| dc.is_empty() || !name(dc, ".-_:"))
        {
            return refuse(format!("{dc:?} is not the name of a domain controller"));
        }
        if let Some(ou) = self
            .ou
            .as_ref()
            .filter(|ou| !ou.contains('=') || ou.chars().any(char::is_control))
        {
            return refuse(format!(
                "{ou:?} is not the distinguished name of an organizational unit"
            ));
        }
        let Credential { user, password } = &self.credential;
        if user.trim().is_empty() || user.trim() != user || user.chars().any(char::is_control) {
            return refuse(
                "the name of who makes the account is empty, or has spaces around it".into(),
            );
        }
        // Samba reads `password = VALUE` up to the end of the line and drops blanks before it.
        if password.is_empty()
            || password.starts_with([' ', '\t'])
            || password.contains(['\n', '\r', '\0'])
        {
            return refuse(format!(
                "the password of {user} is empty, begins with a blank or has a line end in it: Samba cannot take it"
            ));
        }
        Ok(())
    }

    /// Runs the program and returns its exit status, stdout and stderr; `None` after the time
    /// limit.
    fn ask(&self, folder: &Path) -> io::Result<Option<(ExitStatus, String, String)>> {
        let configuration = folder.join("smb.conf");
        std::fs::write(&configuration, self.configuration(folder))?;
        let mut command = Command::new(&self.program);
        command
            .args(["offlinejoin", "provision", "--configfile"])
            .arg(&configuration)
            .args(["-A", "/dev/stdin", "printblob", "reuse"])
            .arg(format!("domain={}", self.domain))
            // Windows writes the name in capitals; Samba would keep small letters in the account's
            // name.
            .arg(format!(
                "machine_name={}",
                self.machine.to_ascii_uppercase()
            ))
            .args(self.ou.iter().map(|ou| format!("machine_account_ou={ou}")))
            .args(self.dc.iter().map(|dc| format!("dcname={dc}")))
            .current_dir(folder)
            .env("LC_ALL", "C.UTF-8")
            // Tickets of the user must not be stored among the console's own.
            .env(
                "KRB5CCNAME",
                format!("FILE:{}", folder.join("tickets").display()),
            )
            .env_remove("PASSWD")
            .env_remove("PASSWD_FD")
            .env_remove("USER")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Ended(command.spawn()?);
        let stdin = child.0.stdin.take();
        let stdout = reader(child.0.stdout.take());
        let stderr = reader(child.0.stderr.take());
        if let Some(mut stdin) = stdin {
            // The program may have failed before it read its input: its message is more useful than
            // a broken pipe.
            let _ = stdin.write_all(self.credential_lines().as_bytes());
        }
        let end = Instant::now() + self.limit;
        let status = loop {
            if let Some(status) = child.0.try_wait()? {
                break status;
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
            let bytes = thread.join().unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(Some((status, text(stdout), text(stderr))))
    }

    fn configuration(&self, folder: &Path) -> String {
        let folder = folder.display();
        let realm = self.domain.to_ascii_uppercase();
        let own = ["lock", "state", "cache", "pid", "private"].map(|kind| match kind {
            "private" => format!("private dir = {folder}\n"),
            kind => format!("{kind} directory = {folder}\n"),
        });
        format!(
            "[global]\nrealm = {realm}\nsecurity = user\nlogging = file\nlog file = {folder}/log\nclient ldap sasl wrapping = seal\n{}",
            own.concat()
        )
    }

    fn credential_lines(&self) -> String {
        let Credential { user, password } = &self.credential;
        let (domain, user) = match user.split_once('\\') {
            Some((domain, user)) => (Some(domain), user),
            None => (None, user.as_str()),
        };
        let domain = domain
            .map(|domain| format!("domain = {domain}\n"))
            .unwrap_or_default();
        format!("username = {user}\npassword = {password}\n{domain}")
    }

    fn refused(&self, stdout: &str, stderr: &str) -> DomainError {
        let all = [stdout, stderr].join("\n");
        let said = all
            .lines()
            .find(|line| line.contains("Failed to"))
            .or_else(|| all.lines().rev().find(|line| !line.trim().is_empty()))
            .unwrap_or("nothing");
        let said = said.replace(&self.credential.password, "***");
        let said = said.replace(char::is_control, " ");
        DomainError::Refused {
            machine: self.machine.clone(),
            domain: self.domain.clone(),
            reason: self.meaning(&all),
            said: said.trim().chars().take(400).collect(),
        }
    }

    /// Explains Samba's message. The texts are those of Samba 4.17; the message itself is always
    /// passed on too.
    fn meaning(&self, all: &str) -> String {
        let user = &self.credential.user;
        let has = |words: &[&str]| words.iter().any(|word| all.contains(word));
        if has(&[
            "logon is invalid",
            "LOGON_FAILURE",
            "WRONG_PASSWORD",
            "PREAUTH_FAILED",
            "user name or password",
        ]) {
            format!("{user} is unknown there, or the password is wrong")
        } else if has(&[
            "ACCOUNT_LOCKED",
            "account is locked",
            "account has been locked",
        ]) {
            format!("{user} is locked")
        } else if has(&[
            "ACCOUNT_DISABLED",
            "account is disabled",
            "PASSWORD_EXPIRED",
            "PASSWORD_MUST_CHANGE",
        ]) {
            format!("{user} is disabled, or the password has to be changed first")
        } else if has(&["failed to find DC"]) {
            match &self.dc {
                Some(dc) => format!("no answer from {dc}; does the console's DNS know the domain?"),
                None => {
                    "no domain controller was found; does the console's DNS know the domain?".into()
                }
            }
        } else if has(&[
            "insufficient access",
            "Insufficient access",
            "Access is denied",
            "ACCESS_DENIED",
            "MACHINE_ACCOUNT_QUOTA",
            "machine account quota",
        ]) {
            format!("{user} may not make this account, or not take over the one that is there")
        } else if has(&[
            "Invalid command: net offlinejoin",
            "Invalid command: offlinejoin",
        ]) {
            "this Samba makes no blobs; 4.15 or later does".into()
        } else if let Some(ou) = self
            .ou
            .as_ref()
            .filter(|_| has(&["Invalid configuration", "No such object"]))
        {
            format!("the account could not be made in {ou}; is there such a unit?")
        } else {
            "refused".into()
        }
    }
}

/// Reads a pipe to its end on a separate thread, so that neither pipe fills up.
fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // Output before a read error is still useful.
            let _ = pipe.take(MAX_OUTPUT).read_to_end(&mut bytes);
        }
        bytes
    })
}

/// A child process that is killed and reaped on drop.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
