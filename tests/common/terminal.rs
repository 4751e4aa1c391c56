//! A command at a terminal: util-linux's `script` provides it; input and output go through pipes.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::process::{PATIENCE, clean};

/// A command that runs at a terminal of its own; ended when dropped.
pub(crate) struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Number of bytes of the output that were searched already.
    seen: usize,
}

impl Terminal {
    pub(crate) fn run(program: &str, words: &[&str]) -> Self {
        let line: Vec<String> = [&[program], words]
            .concat()
            .iter()
            .map(|word| format!("'{word}'"))
            .collect();
        let mut command = Command::new("script");
        clean(&mut command);
        command
            .args(["-qefc", &line.join(" "), "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().expect("script of util-linux");
        let keys = child.stdin.take().expect("a pipe");
        let mut output = child.stdout.take().expect("a pipe");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut piece) {
                kept.lock()
                    .expect("no panic holds it")
                    .extend_from_slice(&piece[..read]);
            }
        });
        Self {
            child,
            keys,
            shown,
            seen: 0,
        }
    }

    /// The end of the output, with the terminal's own codes.
    pub(crate) fn text(&self) -> String {
        let shown = self.shown.lock().expect("no panic holds it");
        let from = shown.len().saturating_sub(4000);
        String::from_utf8_lossy(&shown[from..]).into_owned()
    }

    /// Waits until the output contains these words after those of the last wait; returns the text
    /// in between.
    #[track_caller]
    pub(crate) fn shows(&mut self, words: &str) -> String {
        let start = Instant::now();
        loop {
            {
                let shown = self.shown.lock().expect("no panic holds it");
                let rest = &shown[self.seen..];
                let found = rest
                    .windows(words.len())
                    .position(|window| window == words.as_bytes());
                if let Some(at) = found {
                    let end = at + words.len();
                    let text = String::from_utf8_lossy(&rest[..end]).into_owned();
                    self.seen += end;
                    return text;
                }
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{words:?} is not shown:\n{}",
                self.text()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.keys
            .write_all(keys.as_bytes())
            .and_then(|()| self.keys.flush())
            .expect("the terminal is there");
    }

    /// Waits for the end of the command; returns its exit code.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(
                start.elapsed() < PATIENCE,
                "it still runs:\n{}",
                self.text()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
