//! Runs programs to their end, and reports everything about them when a test fails.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The technician's program, built by cargo for this test run.
pub(crate) const DISKCAST: &str = env!("CARGO_BIN_EXE_diskcast");

/// Longest wait for anything. The limit only ends a hang: a moment here is many seconds on a busy
/// machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A program that has ended.
pub(crate) struct Run {
    pub(crate) command: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Run {
    /// Everything about it, for the message of a failing test.
    pub(crate) fn story(&self) -> String {
        let mut text = format!(
            "$ {}\nexit code {:?} after {:.1?}\n",
            self.command, self.code, self.took
        );
        let _ = writeln!(
            text,
            "--- stdout\n{}\n--- stderr\n{}",
            self.stdout.trim_end(),
            self.stderr.trim_end()
        );
        text
    }

    /// Asserts that it ended with this code.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, Some(expected), "exit code\n{}", self.story());
        self
    }

    /// Asserts that it failed with one of these codes, without a panic.
    #[track_caller]
    pub(crate) fn code_of(self, expected: &[i32]) -> Self {
        let code = self.code.unwrap_or(-1);
        assert!(
            expected.contains(&code),
            "exit code not in {expected:?}\n{}",
            self.story()
        );
        assert!(
            !self.stderr.contains("panicked at"),
            "it panicked\n{}",
            self.story()
        );
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.code(0)
    }

    /// Asserts that stderr contains all of these words, in any case.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        let said = self.stderr.to_lowercase();
        for word in words {
            assert!(
                said.contains(&word.to_lowercase()),
                "stderr does not say {word:?}\n{}",
                self.story()
            );
        }
        self
    }

    /// Parses stdout as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("stdout is not JSON: {e}\n{}", self.story()))
    }

    /// Parses stdout as one JSON object a line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|e| panic!("not JSON: {line}: {e}\n{}", self.story()))
            })
            .collect()
    }

    /// The last object of `type` in a stream of JSON lines.
    #[track_caller]
    pub(crate) fn last_of(&self, kind: &str) -> Value {
        self.json_lines()
            .into_iter()
            .rfind(|line| line["type"] == kind)
            .unwrap_or_else(|| panic!("no line of type {kind}\n{}", self.story()))
    }
}

/// Runs a command to its end with nothing on stdin. A command that runs longer than five minutes is
/// killed: a hang must be a failure with a message, not a silent CI.
pub(crate) fn run(command: &mut Command) -> Run {
    run_within(command, Duration::from_mins(5))
}

/// Runs a command like [`run`], with its own limit.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Run {
    let line = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("starting {line}: {e}"));
    let pid = child.id();
    let (send, receive) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if receive
            .recv_timeout(limit)
            .is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            let _ = Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .status();
        }
    });
    let output = {
        let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
        let reader = std::thread::spawn(move || read_all(err.as_mut()));
        let stdout = read_all(out.as_mut());
        let stderr = reader.join().unwrap_or_default();
        let status = child
            .wait()
            .unwrap_or_else(|e| panic!("waiting for {line}: {e}"));
        Output {
            status,
            stdout,
            stderr,
        }
    };
    drop(send);
    let _ = watchdog.join();
    Run {
        command: line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: start.elapsed(),
    }
}

fn read_all(stream: Option<&mut impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let _ = stream.read_to_end(&mut bytes);
    }
    bytes
}

/// Runs `diskcast` with these words and without settings of this machine's user.
pub(crate) fn diskcast<I: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = I>) -> Run {
    run(&mut diskcast_command(words))
}

/// The command of `diskcast`, for tests that change it.
pub(crate) fn diskcast_command<I: AsRef<std::ffi::OsStr>>(
    words: impl IntoIterator<Item = I>,
) -> Command {
    let mut command = Command::new(DISKCAST);
    clean(&mut command);
    command.args(words);
    command
}

/// Removes `DISKCAST_*` variables and user files from the environment, because they would change a
/// test.
pub(crate) fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DISKCAST_") {
            command.env_remove(name);
        }
    }
    command
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("HOME", "/nonexistent")
        .env_remove("RUST_LOG");
}

/// Runs a script with bash; a failing command fails the test with its output. Returns stdout.
#[track_caller]
pub(crate) fn bash(script: &str) -> String {
    run(Command::new("bash").args(["-euo", "pipefail", "-c", script]))
        .ok()
        .stdout
}

/// Runs a tool of Debian that must succeed; returns its output.
#[track_caller]
pub(crate) fn tool(words: &[&str]) -> Run {
    run(Command::new(words[0]).args(&words[1..])).ok()
}

/// A path as text for command lines.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("scratch paths are UTF-8")
}

/// Waits until `probe` returns a value.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Lets a process run in short turns until `probe`, which is called while the process is stopped,
/// returns a value. The process stays stopped, so that the value stays true however slow the rest
/// of the test is.
#[track_caller]
pub(crate) fn held_when<T>(pid: u32, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        signal(pid, "STOP");
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        signal(pid, "CONT");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Sends a signal by its name, for example `STOP`.
pub(crate) fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
}
