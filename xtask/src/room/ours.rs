//! A console and its agents in the room, and the measurement of one deployment.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::network::Network;
use super::network::script;
use super::payload::{Image, Programs, difference};
use super::process::{Cpu, End, Process, wait_all};
use crate::shell::Failure;

/// The agents of the room, and extra arguments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Number of agents; if it exceeds the number of machines, agents share machines.
    pub(crate) agents: usize,
    /// Arguments added to every `diskcast-agent run`.
    pub(crate) agent_words: Vec<String>,
    /// Arguments added to every `deploy`.
    pub(crate) deploy_words: Vec<String>,
}

/// A console with its agents. Everything ends when dropped.
pub(crate) struct Service<'a> {
    network: &'a Network,
    programs: &'a Programs,
    folder: PathBuf,
    plan: Plan,
    pub(crate) console: Process,
    pin: String,
    pub(crate) agents: Vec<Process>,
    disk_bytes: u64,
}

/// The measurements of one deployment.
pub(crate) struct Deployed {
    /// Seconds from the start of the command to its end.
    pub(crate) wall_s: f64,
    /// Seconds from the start of the job to the last target's end, from the job's summary.
    pub(crate) job_s: f64,
    /// Seconds from the start of the command until the last target had all bytes.
    pub(crate) received_s: Option<f64>,
    /// Bytes that left the console's interface.
    pub(crate) sent_bytes: u64,
    /// The session's own counters, from the summary.
    session: Value,
    pub(crate) console: Cpu,
    pub(crate) console_peak_bytes: u64,
    pub(crate) agents: Vec<Option<End>>,
    /// The summary's entries, by agent (number less one).
    pub(crate) targets: Vec<Value>,
}

impl Deployed {
    /// Seconds until the last of these agents was done.
    pub(crate) fn last_s(&self, agents: std::ops::RangeFrom<usize>) -> f64 {
        self.targets[agents.start - 1..]
            .iter()
            .filter_map(|target| target["seconds"].as_f64())
            .fold(0.0, f64::max)
    }

    /// CPU seconds of the agents: the maximum and the mean.
    pub(crate) fn agent_cpu_s(&self) -> (f64, f64) {
        let all: Vec<f64> = self
            .agents
            .iter()
            .flatten()
            .map(|end| end.cpu.total_s())
            .collect();
        let sum: f64 = all.iter().sum();
        (
            all.iter().copied().fold(0.0, f64::max),
            sum / all.len().max(1) as f64,
        )
    }

    /// A counter of the sender: `source_bytes`, `parity_bytes`, `bulk_bytes` (over TCP 5003).
    pub(crate) fn sender(&self, counter: &str) -> f64 {
        self.session[counter].as_f64().unwrap_or(0.0)
    }

    /// Largest peak memory of an agent, in bytes.
    pub(crate) fn agent_peak_bytes(&self) -> u64 {
        self.agents
            .iter()
            .flatten()
            .map(|end| end.peak_bytes)
            .max()
            .unwrap_or(0)
    }
}

impl<'a> Service<'a> {
    /// Starts a console and agents with fresh disks of `disk_bytes`, and waits until all are ready.
    pub(crate) fn start(
        network: &'a Network,
        programs: &'a Programs,
        folder: &Path,
        disk_bytes: u64,
        plan: Plan,
    ) -> Result<Self, Failure> {
        // A fresh machine has no files of an earlier run.
        let folder = folder.join("room");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
        let mut command = network.command(0, &text(&programs.diskcast));
        command.args([
            "--data-dir",
            &text(&folder.join("console")),
            "console",
            "run",
            "--iface",
            "eth0",
        ]);
        let console = Process::start(clean(command), "the console", &folder.join("console.log"))?;
        let mut service = Self {
            network,
            programs,
            folder,
            plan,
            console,
            pin: String::new(),
            agents: Vec::new(),
            disk_bytes,
        };
        service.pin = service.wait("the console to answer", |service| {
            let shown = service.ask(&["console", "show", "--json"]).ok()?;
            Some(shown["pin"].as_str()?.to_owned())
        })?;
        service.start_agents()?;
        Ok(service)
    }

    /// Starts all agents, with their existing disks, and waits until they are ready.
    pub(crate) fn start_agents(&mut self) -> Result<(), Failure> {
        self.agents.clear();
        for number in 1..=self.plan.agents {
            let agent = self.agent(number)?;
            self.agents.push(agent);
        }
        let count = self.agents.len();
        self.wait("agents to be ready", |service| {
            let list = service.ask(&["target", "list", "--json"]).ok()?;
            let ready = list["targets"]
                .as_array()?
                .iter()
                .filter(|target| target["state"] == "ready")
                .count();
            (ready == count).then_some(())
        })
    }

    /// Starts the agent again on the same disk, as after a reboot.
    pub(crate) fn restart_agent(&mut self, number: usize) -> Result<(), Failure> {
        self.agents[number - 1] = self.agent(number)?;
        Ok(())
    }

    fn agent(&self, number: usize) -> Result<Process, Failure> {
        let machine = (number - 1) % self.network.targets + 1;
        let mut command = self.network.command(machine, &text(&self.programs.agent));
        command
            .args(["run", "--console", script::CONSOLE, "--pin", &self.pin])
            .arg("--disk")
            .arg(format!("{}={}", text(&self.disk(number)), self.disk_bytes))
            .args(["--once", "--no-power", "--name", &name(number)])
            .args(&self.plan.agent_words);
        let log = self.folder.join(format!("t{number}.log"));
        Process::start(clean(command), &name(number), &log)
    }

    pub(crate) fn disk(&self, number: usize) -> PathBuf {
        self.folder.join(format!("t{number}.disk"))
    }

    fn wait<T>(
        &mut self,
        what: &str,
        mut probe: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        loop {
            if let Some(found) = probe(self) {
                return Ok(found);
            }
            let ended = std::iter::once(&mut self.console)
                .chain(&mut self.agents)
                .find_map(|process| process.look().map(|_| &*process));
            if let Some(process) = ended {
                return Err(Failure::new(format!(
                    "waiting for {what}: {} ended: {}",
                    process.name,
                    process.said()
                )));
            }
            if start.elapsed() > Duration::from_mins(1) {
                return Err(Failure::new(format!(
                    "waited a minute for {what}: {}",
                    self.console.said()
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a short command whose answer is one JSON document.
    fn ask(&self, words: &[&str]) -> Result<Value, Failure> {
        let failed = |error: String| Failure::new(format!("diskcast {}: {error}", words.join(" ")));
        let done = self
            .diskcast(words)
            .output()
            .map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice(&done.stdout).map_err(|error| failed(error.to_string()))
    }

    /// A command inside the room, so that it ends with the room.
    fn diskcast(&self, words: &[&str]) -> Command {
        let mut command = self.network.command(0, &text(&self.programs.diskcast));
        command
            .args(["--data-dir", &text(&self.folder.join("console"))])
            .args(words)
            .stdin(Stdio::null());
        clean(command)
    }

    /// Deploys to all agents and measures. `midway` gets every progress event of the job that the
    /// command prints.
    pub(crate) fn deploy(
        &mut self,
        image: &Image,
        limit: Duration,
        midway: &mut dyn FnMut(&mut Self, &Value) -> Result<(), Failure>,
    ) -> Result<Deployed, Failure> {
        let rate = format!("{}bit", self.network.rate_bits_per_s);
        let path = text(&image.path);
        let mut words = vec![
            "deploy",
            "--image",
            &path,
            "--targets",
            "all",
            "--yes",
            "--json",
        ];
        if !self
            .plan
            .deploy_words
            .iter()
            .any(|w| w.starts_with("--rate"))
        {
            words.extend(["--rate", &rate]);
        }
        let plan = self.plan.clone();
        words.extend(plan.deploy_words.iter().map(String::as_str));

        let (sent_before, _) = self.network.bytes(0)?;
        let (cpu_before, _) = self.console.so_far();
        let start = Instant::now();
        let mut child = self
            .diskcast(&words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::new(format!("deploy: {error}")))?;
        let (lines, inbox) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if lines.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let (mut summary, mut last) = (Value::Null, Value::Null);
        let mut result = Ok(());
        let mut received_s = None;
        loop {
            match inbox.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => {
                    let value: Value = serde_json::from_str(&line).unwrap_or_default();
                    match value["type"].as_str() {
                        Some("state") if value["target"]["state"] == "verifying" => {
                            let now = start.elapsed().as_secs_f64();
                            received_s = Some(now);
                        }
                        Some("summary") => summary = value,
                        Some("progress") if result.is_ok() => {
                            result = midway(self, &value["view"]);
                            last = value;
                        }
                        _ => {}
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for agent in &mut self.agents {
                agent.look();
            }
            if result.is_ok() && start.elapsed() > limit {
                result = Err(Failure::new(format!(
                    "deploy did not end within {} s; last seen: {}; the logs are in {}",
                    limit.as_secs(),
                    picture(&last["view"]),
                    self.keep_logs(&last)
                )));
            }
            if result.is_err() {
                let _ = child.kill();
            }
        }
        let output = child
            .wait_with_output()
            .map_err(|error| Failure::new(format!("deploy: {error}")))?;
        let wall_s = start.elapsed().as_secs_f64();
        result?;
        let (sent_after, _) = self.network.bytes(0)?;
        let (cpu_after, console_peak_bytes) = self.console.so_far();
        let Some(job_s) = summary["seconds"].as_f64() else {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!(
                "deploy ended without a summary: {}; console: {}",
                said.trim(),
                self.console.said()
            )));
        };
        let agents = wait_all(&mut self.agents, Duration::from_secs(20));
        let targets = (1..=self.plan.agents)
            .map(|number| entry(&summary, number).cloned().unwrap_or_default())
            .collect();
        Ok(Deployed {
            wall_s,
            job_s,
            received_s,
            sent_bytes: sent_after - sent_before,
            session: summary["session"].clone(),
            console: cpu_after.since(cpu_before),
            console_peak_bytes,
            agents,
            targets,
        })
    }

    /// Saves the logs and the last progress event of the job from the folder that will be removed;
    /// returns the new path.
    fn keep_logs(&self, last: &Value) -> String {
        let to = std::env::temp_dir().join(format!("diskcast-room-logs-{}", std::process::id()));
        let keep = || -> std::io::Result<()> {
            std::fs::create_dir_all(&to)?;
            std::fs::write(to.join("last.json"), last.to_string())?;
            for entry in std::fs::read_dir(&self.folder)? {
                let entry = entry?;
                if entry.path().extension().is_some_and(|e| e == "log") {
                    std::fs::copy(entry.path(), to.join(entry.file_name()))?;
                }
            }
            Ok(())
        };
        match keep() {
            Ok(()) => text(&to),
            Err(error) => format!("nowhere ({error})"),
        }
    }

    /// Faults of these agents after a deployment: not done, or a disk that differs from a local
    /// restore.
    pub(crate) fn faults(
        &self,
        image: &Image,
        deployed: &Deployed,
        agents: impl Iterator<Item = usize>,
    ) -> Vec<String> {
        agents
            .filter_map(|number| {
                let target = &deployed.targets[number - 1];
                if target["state"] != "done" {
                    return Some(format!(
                        "{} is {}, not done: {}; it said: {}",
                        name(number),
                        target["state"],
                        target["reason"],
                        self.agents[number - 1].said()
                    ));
                }
                difference(&image.reference, &self.disk(number))
            })
            .collect()
    }
}

/// Progress of the first few targets, in one line.
fn picture(view: &Value) -> String {
    let all: Vec<String> = view["targets"]
        .as_array()
        .into_iter()
        .flatten()
        .take(16)
        .map(|target| {
            format!(
                "{} {} {:.0} %",
                target["name"].as_str().unwrap_or_default(),
                target["state"].as_str().unwrap_or_default(),
                share(target) * 100.0
            )
        })
        .collect();
    all.join(", ")
}

/// The entry of an agent in a job's view or summary.
pub(crate) fn entry(view: &Value, number: usize) -> Option<&Value> {
    let name = name(number);
    view["targets"]
        .as_array()?
        .iter()
        .find(|target| target["name"] == name.as_str())
}

/// Share of its bytes that a target has, 0 to 1.
pub(crate) fn share(target: &Value) -> f64 {
    let number = |name: &str| target[name].as_f64().unwrap_or(0.0);
    number("done_bytes") / number("total_bytes").max(1.0)
}

fn name(number: usize) -> String {
    format!("pc-{number}")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Removes settings of this machine's user, which could change the measurement.
fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DISKCAST_") {
            command.env_remove(name);
        }
    }
    command
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("HOME", "/nonexistent")
        .env_remove("RUST_LOG");
    command
}
