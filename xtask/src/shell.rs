//! Runs other programs: quietly with their output kept, or visibly with their lines read.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// The reason of a failure, in one sentence.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    /// True when the command line was wrong.
    pub(crate) usage: bool,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            usage: false,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            usage: true,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Removes the variables that cargo sets for this program. Build scripts that read them (ring's
/// does) would run again in a cargo started from here, and everything that depends on them would be
/// compiled again.
fn without_own(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a program to its end and returns its stdout; its stderr becomes the reason when it fails.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new(program);
    let done = without_own(&mut command)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::new(format!("{program}: {error}")))?;
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&done.stderr);
    let said = if stderr.trim().is_empty() {
        stdout.trim()
    } else {
        stderr.trim()
    };
    Err(Failure::new(format!(
        "{program} {}: {} ({})",
        arguments.join(" "),
        said.lines().last().unwrap_or("no message"),
        done.status
    )))
}

/// Runs a script with bash and `pipefail`; otherwise like [`output`].
pub(crate) fn bash(script: &str) -> Result<String, Failure> {
    output("bash", &["-euo", "pipefail", "-c", script])
}

/// True when a program is on the path, or in the folders where Debian keeps tools for root. An
/// absolute path is checked directly.
pub(crate) fn has(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).is_file();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|folder| Path::new(folder).join(program).is_file())
}

/// Runs a command visibly for at most `limit_s` seconds. Its stdout passes through line by line to
/// ours and to `line`; stderr goes straight to ours.
pub(crate) fn watch(
    words: &[&str],
    environment: &[(&str, &str)],
    limit_s: u32,
    mut line: impl FnMut(&str),
) -> Result<(), Failure> {
    output_lines(words, environment, limit_s, |text| {
        // A closed pipe of our own output is no reason to fail the command.
        let _ = writeln!(std::io::stdout(), "{text}");
        line(text);
    })
}

/// Like [`watch`], but its stdout goes to `line` alone.
pub(crate) fn output_lines(
    words: &[&str],
    environment: &[(&str, &str)],
    limit_s: u32,
    mut line: impl FnMut(&str),
) -> Result<(), Failure> {
    let mut child = limited(words, limit_s)
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::new(format!("timeout: {error}")))?;
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout);
        let mut bytes = Vec::new();
        while lines
            .read_until(b'\n', &mut bytes)
            .is_ok_and(|read| read > 0)
        {
            line(String::from_utf8_lossy(&bytes).trim_end_matches('\n'));
            bytes.clear();
        }
    }
    let status = child
        .wait()
        .map_err(|error| Failure::new(format!("waiting for {}: {error}", words.join(" "))))?;
    match Ended::from(status) {
        Ended::Itself(status) if status.success() => Ok(()),
        Ended::Itself(status) => Err(Failure::new(format!("{}: {status}", words.join(" ")))),
        Ended::AtItsLimit => Err(Failure::new(format!(
            "{}: ended after its limit of {limit_s} s",
            words.join(" ")
        ))),
    }
}

/// Runs a command in a folder for at most `limit_s` seconds, with all that it says in a file: a
/// child that outlives it keeps nobody waiting for the end of a pipe.
pub(crate) fn watch_into(
    log: &Path,
    words: &[&str],
    environment: &[(&str, &str)],
    folder: &Path,
    limit_s: u32,
) -> Result<Ended, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", log.display()));
    let file = std::fs::File::create(log).map_err(failed)?;
    let status = limited(words, limit_s)
        .envs(environment.iter().copied())
        .current_dir(folder)
        .stdout(file.try_clone().map_err(failed)?)
        .stderr(file)
        .status()
        .map_err(|error| Failure::new(format!("timeout: {error}")))?;
    Ok(status.into())
}

/// End of a command that runs under a time limit.
#[derive(Debug)]
pub(crate) enum Ended {
    Itself(ExitStatus),
    AtItsLimit,
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            Some(124 | 137) => Self::AtItsLimit,
            _ => Self::Itself(status),
        }
    }
}

/// A command under `timeout` from coreutils, which makes a process group and ends the whole of it,
/// so that a hung test does not outlive the run.
fn limited(words: &[&str], limit_s: u32) -> Command {
    let mut command = Command::new("timeout");
    without_own(&mut command)
        .args(["--kill-after=10", &limit_s.to_string()])
        .args(words)
        .stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_tells_why() {
        let failure = bash("echo first >&2; echo last >&2; exit 3").unwrap_err();
        assert!(failure.to_string().contains("last"), "{failure}");
        assert!(failure.to_string().contains("exit status: 3"), "{failure}");
    }

    #[test]
    fn lines_reach_the_reader_and_limits_hold() {
        let mut seen = Vec::new();
        watch(&["echo", "one line"], &[], 5, |line| {
            seen.push(line.to_owned())
        })
        .unwrap();
        assert_eq!(seen, ["one line"]);
        let failure = watch(&["sleep", "20"], &[], 1, |_| {}).unwrap_err();
        assert!(failure.to_string().contains("limit of 1 s"), "{failure}");
    }
}
