//! Programs of the pre-OS, run with a time limit.
//!
//! Owns starting a program without a shell, its time limit, and its output. Never passes a secret
//! as an argument.
#![expect(
    clippy::disallowed_methods,
    reason = "the edge: a running program is waited for, against the clock"
)]

use crate::error::Result;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit of programs that only inspect or attach.
pub(crate) const SHORT: Duration = Duration::from_secs(60);

/// Time limit of programs that walk a whole file system, which takes hours on a full disk of many
/// TB.
pub(crate) const LONG: Duration = Duration::from_secs(4 * 60 * 60);

/// Most bytes of a program's output that are kept; the rest is read and dropped.
const MAX_OUTPUT: usize = 64 * 1024;

/// Interval between two looks at a running program.
const POLL: Duration = Duration::from_millis(5);

/// The failure of a program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The program is missing or cannot be run.
    #[error("{program} cannot be started: {source}; does the pre-OS have it?")]
    NotStarted {
        /// Name of the program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// The program ended and says that it failed.
    #[error("{program}: {}: {said}", ending(*code))]
    Failed {
        /// Name of the program.
        program: String,
        /// Exit code; `None` when a signal ended it.
        code: Option<i32>,
        /// The last lines of its output.
        said: String,
    },
    /// The program did not end in time and was killed.
    #[error("{program} did not end within {} s and was killed: {said}", limit.as_secs())]
    TimeLimit {
        /// Name of the program.
        program: String,
        /// The time limit.
        limit: Duration,
        /// The last lines of its output.
        said: String,
    },
}

fn ending(code: Option<i32>) -> String {
    code.map_or_else(
        || "was ended by a signal".to_owned(),
        |code| format!("exit code {code}"),
    )
}

/// Result of a finished program.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard output and error, for messages.
    pub(crate) said: String,
}

impl Finished {
    /// Standard output if the program exited with 0, else its failure as an error.
    pub(crate) fn success(self, program: &str) -> Result<String> {
        if self.code == Some(0) {
            return Ok(self.stdout);
        }
        Err(self.failure(program).into())
    }

    /// The failure with the last lines of output.
    pub(crate) fn failure(&self, program: &str) -> ProgramError {
        ProgramError::Failed {
            program: program.to_owned(),
            code: self.code,
            said: last_words(&self.said),
        }
    }
}

/// Runs a program to its end.
pub(crate) fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<Finished> {
    let mut child = spawn(program, arguments)?;
    let mut readers = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        readers.push(thread::spawn(move || drain(pipe)));
    }
    if let Some(pipe) = child.stderr.take() {
        readers.push(thread::spawn(move || drain(pipe)));
    }
    let status = wait(&mut child, limit);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let mut output = readers
        .into_iter()
        .map(|reader| reader.join().unwrap_or_default());
    let stdout = output.next().unwrap_or_default();
    let stderr = output.next().unwrap_or_default();
    let said = format!("{stdout}\n{stderr}");
    match status {
        Some(status) => Ok(Finished {
            code: status.code(),
            stdout,
            said,
        }),
        None => Err(ProgramError::TimeLimit {
            program: program.to_owned(),
            limit,
            said: last_words(&said),
        }
        .into()),
    }
}

/// Starts a program with its output in pipes and no input.
pub(crate) fn spawn(program: &str, arguments: &[&str]) -> Result<Child> {
    Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| {
            ProgramError::NotStarted {
                program: program.to_owned(),
                source,
            }
            .into()
        })
}

/// Waits for a child; `None` if the time is up.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => thread::sleep(POLL),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Calls `done` repeatedly until it returns true; false if the time is up.
pub(crate) fn until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// Reads a pipe to its end and keeps the beginning.
pub(crate) fn drain(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0_u8; 4096];
    while let Ok(count) = pipe.read(&mut buffer) {
        if count == 0 {
            break;
        }
        let room = MAX_OUTPUT.saturating_sub(kept.len()).min(count);
        kept.extend(buffer.iter().take(room));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The last lines that are not empty, joined into one.
pub(crate) fn last_words(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let from = lines.len().saturating_sub(4);
    let words = lines.get(from..).unwrap_or_default().join("; ");
    if words.is_empty() {
        return "it said nothing".into();
    }
    words.chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StepError;

    #[test]
    fn output_and_exit_code_come_back() {
        let done = run("sh", &["-c", "echo out; echo err >&2; exit 3"], SHORT).unwrap();
        assert_eq!((done.code, done.stdout.as_str()), (Some(3), "out\n"));
        assert_eq!(done.failure("sh").to_string(), "sh: exit code 3: out; err");
    }

    #[test]
    fn a_program_that_hangs_is_ended_and_a_missing_one_is_named() {
        let error = run("sleep", &["60"], Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
        let error = run("no-such-program-here", &[], SHORT).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no-such-program-here cannot be started"),
            "{error}"
        );
        let StepError::Program(ProgramError::NotStarted { source, .. }) = error else {
            panic!("{error}");
        };
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_flood_of_output_is_bounded() {
        let done = run(
            "sh",
            &["-c", "head -c 1000000 /dev/zero | tr '\\0' x"],
            SHORT,
        )
        .unwrap();
        assert_eq!(done.stdout.len(), MAX_OUTPUT);
    }
}
