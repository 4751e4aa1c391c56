//! A running console and running agents, each a value that ends its process when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::agent::agent;
use super::process::{
    DISKCAST, PATIENCE, Run, clean, diskcast_command, held_when, run, run_within, signal, text,
    wait_for,
};

/// The place where a program runs: here, or inside a network namespace.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Here,
    Namespace(&'a str),
    /// Inside a namespace, without the right to exceed the kernel's limits (CAP_NET_ADMIN).
    Limited(&'a str),
}

impl Place<'_> {
    /// A command in this place. `ip netns exec` replaces itself by the program, so the child's pid
    /// is the program's own.
    pub(crate) fn command(self, program: &str) -> Command {
        let mut command = match self {
            Self::Here => Command::new(program),
            Self::Namespace(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, program]);
                command
            }
            Self::Limited(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, "setpriv"]);
                command.args(["--bounding-set", "-net_admin", program]);
                command
            }
        };
        clean(&mut command);
        command
    }
}

/// A child process whose output goes to a log file.
pub(crate) struct Daemon {
    child: Child,
    what: String,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn start(mut command: Command, what: &str, log: &Path) -> Self {
        let open = || {
            fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(log)
                .unwrap_or_else(|e| panic!("{}: {e}", log.display()))
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap_or_else(|e| panic!("starting {what}: {e}"));
        Self {
            child,
            what: what.to_owned(),
            log: log.to_owned(),
        }
    }

    /// Starts any program, with its output in a file.
    pub(crate) fn run(place: Place<'_>, program: &str, words: &[&str], log: &Path) -> Self {
        let mut command = place.command(program);
        command.args(words);
        Self::start(command, program, log)
    }

    pub(crate) fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(30);
        format!(
            "--- {} ({}), last lines\n{}\n",
            self.what,
            self.log.display(),
            lines[from..].join("\n")
        )
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, for example `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Lets it run in short turns until `probe` returns a value, and leaves it stopped.
    #[track_caller]
    pub(crate) fn held_when<T>(&mut self, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        held_when(self.pid(), what, || {
            let found = probe();
            assert!(
                found.is_some() || self.running(),
                "{} ended before {what}\n{}",
                self.what,
                self.said()
            );
            found
        })
    }

    /// Ends it by SIGKILL, so that it cannot clean up.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end; returns the exit code.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{} still runs after {PATIENCE:?}\n{}",
                self.what,
                self.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.running() {
            let _ = Command::new("kill")
                .arg(self.child.id().to_string())
                .status();
            for _ in 0..40 {
                if !self.running() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            self.kill();
        }
    }
}

/// A console with a data directory of its own.
pub(crate) struct Console {
    pub(crate) daemon: Daemon,
    pub(crate) data_dir: PathBuf,
    pub(crate) pin: String,
    pub(crate) control: String,
}

impl Console {
    /// Starts `console run --iface IFACE` and waits until it answers.
    #[track_caller]
    pub(crate) fn start(place: Place<'_>, folder: &Path, iface: &str, more: &[&str]) -> Self {
        Self::start_by(place.command(DISKCAST), folder, iface, more)
    }

    /// The same by a command that is prepared already.
    #[track_caller]
    pub(crate) fn start_by(
        mut command: Command,
        folder: &Path,
        iface: &str,
        more: &[&str],
    ) -> Self {
        let data_dir = folder.join("console");
        command
            .args([
                "--data-dir",
                text(&data_dir),
                "console",
                "run",
                "--iface",
                iface,
            ])
            .args(more);
        let mut daemon = Daemon::start(command, "console", &folder.join("console.log"));
        let shown = wait_for("the console to answer", || {
            assert!(daemon.running(), "the console ended\n{}", daemon.said());
            let shown = run(&mut diskcast_command([
                "--data-dir",
                text(&data_dir),
                "console",
                "show",
                "--json",
            ]));
            (shown.code == Some(0)).then(|| shown.json())
        });
        let word = |name: &str| {
            shown[name]
                .as_str()
                .unwrap_or_else(|| panic!("no {name} in {shown:#}"))
                .to_owned()
        };
        Self {
            daemon,
            pin: word("pin"),
            control: word("control"),
            data_dir,
        }
    }

    /// Runs a technician's command against this console.
    pub(crate) fn cli(&self, words: &[&str]) -> Run {
        self.cli_within(words, Duration::from_mins(3))
    }

    pub(crate) fn cli_within(&self, words: &[&str], limit: Duration) -> Run {
        let mut all = vec!["--data-dir", text(&self.data_dir)];
        all.extend(words);
        run_within(&mut diskcast_command(all), limit)
    }

    /// Starts a command that keeps running, with its output in a file.
    pub(crate) fn cli_daemon(&self, words: &[&str], log: &Path) -> Daemon {
        let mut all = vec!["--data-dir", text(&self.data_dir)];
        all.extend(words);
        Daemon::start(diskcast_command(all), &words.join(" "), log)
    }

    /// The entries of `target list --json`.
    #[track_caller]
    pub(crate) fn targets(&self) -> Vec<Value> {
        let list = self.cli(&["target", "list", "--json"]).ok().json();
        list["targets"]
            .as_array()
            .cloned()
            .unwrap_or_else(|| panic!("no targets in {list:#}"))
    }

    /// Waits until `count` targets are `ready`.
    #[track_caller]
    pub(crate) fn wait_ready(&self, count: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let targets = self.targets();
            let ready = targets.iter().filter(|t| t["state"] == "ready").count();
            if ready == count {
                return targets;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{ready} of {count} targets ready after {PATIENCE:?}: {targets:#?}\n{}",
                self.daemon.said()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until `count` targets are connected, in any state.
    #[track_caller]
    pub(crate) fn wait_connected(&self, count: usize) {
        wait_for(&format!("{count} connected targets"), || {
            let targets = self.targets();
            let connected = targets.iter().filter(|t| t["connected"] == true);
            (connected.count() == count).then_some(())
        });
    }

    /// The entries of `job list --json`, in the console's order.
    #[track_caller]
    pub(crate) fn jobs(&self) -> Vec<Value> {
        let list = self.cli(&["job", "list", "--json"]).ok().json();
        list["jobs"]
            .as_array()
            .cloned()
            .unwrap_or_else(|| panic!("no jobs in {list:#}"))
    }

    /// The only job.
    #[track_caller]
    pub(crate) fn job(&self) -> Value {
        let jobs = self.jobs();
        assert_eq!(jobs.len(), 1, "one job expected: {jobs:#?}");
        jobs[0].clone()
    }
}

/// An agent with one file-backed disk.
pub(crate) struct Agent {
    pub(crate) daemon: Daemon,
    pub(crate) disk: PathBuf,
}

impl Agent {
    /// Starts `diskcast-agent run ...` exactly as documented for scripts.
    pub(crate) fn start(
        place: Place<'_>,
        console: &Console,
        disk: &Path,
        size: u64,
        more: &[&str],
    ) -> Self {
        Self::start_at(place, &console.control, &console.pin, disk, size, more)
    }

    pub(crate) fn start_at(
        place: Place<'_>,
        control: &str,
        pin: &str,
        disk: &Path,
        size: u64,
        more: &[&str],
    ) -> Self {
        let once = [&["--once"], more].concat();
        Self::start_staying(place, control, pin, disk, size, &once)
    }

    /// Starts an agent that goes on after its job.
    pub(crate) fn start_staying(
        place: Place<'_>,
        control: &str,
        pin: &str,
        disk: &Path,
        size: u64,
        more: &[&str],
    ) -> Self {
        let mut command = place.command(agent());
        // A device has its own size.
        let offer = match size {
            0 => text(disk).to_owned(),
            size => format!("{}={size}", text(disk)),
        };
        command
            .args([
                "run",
                "--console",
                control,
                "--pin",
                pin,
                "--disk",
                &offer,
                "--no-power",
            ])
            .args(more);
        let log = disk.with_extension("log");
        let name = disk
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Self {
            daemon: Daemon::start(command, &format!("agent of {name}"), &log),
            disk: disk.to_owned(),
        }
    }
}

/// The output of all programs, for the message of a failing test.
pub(crate) fn stories(console: &Console, agents: &[Agent]) -> String {
    let mut all = console.daemon.said();
    for agent in agents {
        all.push_str(&agent.daemon.said());
    }
    all
}

/// The targets of a job or a summary by state: `[("done", 7), ("lost", 1)]`.
pub(crate) fn states(job: &Value) -> std::collections::BTreeMap<String, usize> {
    let mut counted = std::collections::BTreeMap::new();
    for target in job["targets"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
    {
        let state = target["state"].as_str().unwrap_or("none").to_owned();
        *counted.entry(state).or_insert(0) += 1;
    }
    counted
}

/// The entry of the target whose disk has this path.
#[track_caller]
pub(crate) fn target_of<'a>(job: &'a Value, disk: &Path) -> &'a Value {
    let path = text(disk);
    job["targets"]
        .as_array()
        .and_then(|all| {
            all.iter()
                .find(|t| t["disk"].as_str().is_some_and(|d| d.contains(path)))
        })
        .unwrap_or_else(|| panic!("no target with {path} in {job:#}"))
}
