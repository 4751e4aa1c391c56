//! Process 1: it must never end, and therefore does as little as possible.
//!
//! It mounts, starts the rest of the pre-OS as a process of its own, and reaps orphaned processes.
//! A fault in the rest (a panic, no memory, a signal) ends that process and is reported on the
//! consoles. The rest is then started again, and a target in the middle of a job goes on from its
//! journal. After [`STARTS`] starts it gives up: it restarts the machine after `panic=` seconds, or
//! stays with the reason on its screen.

#![expect(
    clippy::disallowed_methods,
    reason = "process 1 waits, and writes to consoles that nothing else may hold any more"
)]

use super::cmdline::Settings;
use super::{RUN, end, mounts};
use facts::order::EndAction;
use rustix::process::{WaitOptions, WaitStatus, wait};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Starts of the rest before it gives up.
const STARTS: u32 = 5;
/// Pause before the next start, so that the message of a fault at the start can be read.
const PAUSE: Duration = Duration::from_secs(5);
/// Folders with the programs that templates need.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// Runs as process 1, for ever.
pub fn be_first() -> ! {
    for problem in mounts::mount_all() {
        say(&problem);
    }
    let settings = Settings::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    for _ in 0..STARTS {
        match start() {
            Ok(child) => say(&format!(
                "the agent ended: {}; starting it again",
                reap_until(child)
            )),
            Err(error) => say(&format!("the agent does not start: {error}")),
        }
        std::thread::sleep(PAUSE);
    }
    match settings.panic_seconds {
        Some(seconds) => {
            say(&format!(
                "giving up after {STARTS} tries; this machine restarts in {seconds} s"
            ));
            std::thread::sleep(Duration::from_secs(u64::from(seconds)));
            end::power(EndAction::Restart);
        }
        None => say(&format!(
            "giving up after {STARTS} tries. Restart this machine; when it stops here again, boot with diskcast.log=debug and send what the serial console says"
        )),
    }
    loop {
        let _ = wait(WaitOptions::empty());
        std::thread::sleep(PAUSE);
    }
}

/// Starts the rest of the pre-OS; returns its process id.
fn start() -> std::io::Result<u32> {
    let console = |read: bool| {
        OpenOptions::new()
            .read(read)
            .write(!read)
            .open("/dev/console")
            .map_or_else(|_| Stdio::null(), Stdio::from)
    };
    // The handle is dropped: one loop reaps all processes.
    Command::new("/proc/self/exe")
        .arg0("diskcast-agent")
        .arg(RUN)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/run")
        .env("RUST_BACKTRACE", "1")
        .stdin(console(true))
        .stdout(console(false))
        .stderr(console(false))
        .spawn()
        .map(|child| child.id())
}

/// Reaps processes until `child` ends; returns a description of its end.
fn reap_until(child: u32) -> String {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if u32::try_from(pid.as_raw_pid()) == Ok(child) => {
                return describe(status);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return format!("it is gone ({error})"),
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "without a reason".to_owned(),
    }
}

/// Writes a line to every console.
fn say(text: &str) {
    for console in ["/dev/tty1", "/dev/console"] {
        if let Ok(mut console) = OpenOptions::new().write(true).open(console) {
            let _ = console.write_all(format!("\r\ndiskcast: {text}\r\n").as_bytes());
        }
    }
}
