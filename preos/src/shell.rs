//! A shell on the second console (Alt-F2), for people who build bundles.
//!
//! Only with `diskcast.shell` on the command line, and only if the bundle has a shell. It opens no
//! new hole: the author of the command line could have booted anything else too.

#![expect(
    clippy::disallowed_methods,
    reason = "a terminal is a device, and a shell that ended is started again after a moment"
)]

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SHELL: &str = "/bin/sh";
const TERMINAL: &str = "/dev/tty2";

/// Starts the shell on a thread of its own, and again each time it ends; false when the bundle has
/// no shell.
pub fn start() -> bool {
    if !Path::new(SHELL).exists() {
        return false;
    }
    let spawned = std::thread::Builder::new().name("shell".into()).spawn(|| {
        loop {
            if let Err(error) = run() {
                tracing::warn!(%error, "no shell on {TERMINAL}");
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    spawned.is_ok()
}

fn run() -> std::io::Result<()> {
    let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL)?;
    Command::new(SHELL)
        .arg("-i")
        .env("TERM", "linux")
        .stdin(Stdio::from(terminal.try_clone()?))
        .stdout(Stdio::from(terminal.try_clone()?))
        .stderr(Stdio::from(terminal))
        .status()
        .map(drop)
}
