//! A room of its own for each test: a console, agents whose disks are files, templates in their
//! folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::fill::{TARGET_POISON, poisoned};
use crate::common::process::{DISKCAST, Run, run, text, tool};
use crate::common::room::Room;
use crate::common::scratch;
use crate::common::service::{Agent, Console, Place, stories};

/// A room with a console, agents that are ready, and a template in its folder.
pub(crate) struct Lab {
    pub(crate) agents: Vec<Agent>,
    pub(crate) console: Console,
    room: Room,
    disk_bytes: u64,
    pub(crate) folder: tempfile::TempDir,
}

impl Lab {
    /// Makes a room. `make` writes `master.dcimg` into the folder; the disks have `disk_bytes`.
    pub(crate) fn new(
        label: &str,
        count: usize,
        disk_bytes: u64,
        make: impl FnOnce(&Path),
    ) -> Self {
        Self::on(label, count, "1000mbit", make, |disk| {
            poisoned(disk, disk_bytes, TARGET_POISON)
        })
    }

    /// One machine, and a console that finds no programs but those in the folder `bin`.
    pub(crate) fn alone(label: &str, disk_bytes: u64, make: impl FnOnce(&Path)) -> Self {
        let poison = |disk: &Path| poisoned(disk, disk_bytes, TARGET_POISON);
        Self::with(label, 1, "1000mbit", make, poison, |place, folder| {
            let bin = folder.join("bin");
            std::fs::create_dir(&bin).expect("a folder");
            // Only the console itself finds no others: what puts it into its place does.
            let mut command = place.command("env");
            command.args([&format!("PATH={}", text(&bin)), DISKCAST]);
            command
        })
    }

    /// Makes a room with disks made by `prepare`, behind a link of this rate.
    pub(crate) fn on(
        label: &str,
        count: usize,
        rate: &str,
        make: impl FnOnce(&Path),
        prepare: impl Fn(&Path),
    ) -> Self {
        Self::with(label, count, rate, make, prepare, |place, _| {
            place.command(DISKCAST)
        })
    }

    fn with(
        label: &str,
        count: usize,
        rate: &str,
        make: impl FnOnce(&Path),
        prepare: impl Fn(&Path),
        console: impl FnOnce(Place<'_>, &Path) -> Command,
    ) -> Self {
        let folder = scratch();
        make(folder.path());
        let room = Room::new(label, count + 1, rate, 0.0);
        let place = room.console();
        let command = console(Place::Namespace(&place), folder.path());
        let console = Console::start_by(command, folder.path(), "eth0", &[]);
        let mut disk_bytes = 0;
        let agents = (1..=count)
            .map(|i| {
                let disk = folder.path().join(format!("target-{i}.raw"));
                prepare(&disk);
                disk_bytes = std::fs::metadata(&disk).expect("a disk").len();
                Agent::start(
                    Place::Namespace(&room.target(i)),
                    &console,
                    &disk,
                    disk_bytes,
                    &[],
                )
            })
            .collect();
        let lab = Self {
            agents,
            console,
            room,
            disk_bytes,
            folder,
        };
        lab.console.wait_ready(count);
        lab
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path
    }

    pub(crate) fn deploy(&self, template: &Path, more: &[&str]) -> Run {
        let words = ["deploy", "--template", text(template), "--json"];
        self.console.cli(&[&words[..], more].concat())
    }

    pub(crate) fn secret(&self, value: &str) {
        let file = self.file("password.txt", value);
        self.console
            .cli(&["secret", "set", "labadmin", "--file", text(&file)])
            .ok();
    }

    /// The first start of the agent's machine: the script that lies on its disk, run where the machine is, with a `systemctl` that only
    /// notes what it is asked for and without the pauses between tries. Returns its log, and what `systemctl` was asked.
    pub(crate) fn first_start(&self, index: usize, script: &str, name: &str) -> (String, String) {
        let folder = self.folder.path().join(format!("first-start-{index}"));
        let at = text(&folder);
        for part in ["bin", "proc/sys/kernel"] {
            std::fs::create_dir_all(folder.join(part)).expect("a folder");
        }
        let put = |name: &str, content: &str| {
            std::fs::write(folder.join(name), content).expect("a file");
        };
        put("proc/sys/kernel/hostname", name);
        put("machine-id", "0123456789abcdef0123456789abcdef\n");
        put(
            "bin/systemctl",
            &format!("#!/bin/sh\necho \"$*\" >>{at}/asked\n"),
        );
        tool(&["chmod", "0755", text(&folder.join("bin/systemctl"))]).ok();
        let mut script = script.to_owned();
        for (from, to) in [
            ("/var/log", at),
            ("/var/lib/diskcast", at),
            ("/etc/systemd/system", at),
            ("PATH=/usr/local/sbin", &format!("PATH={at}/bin")),
            ("proc=/proc", &format!("proc={at}/proc")),
            ("machine_id=/etc", &format!("machine_id={at}")),
            ("cloud=/run", &format!("cloud={at}")),
            ("sleep \"$pause\"", "sleep 0"),
        ] {
            assert!(script.contains(from), "{from}: {script}");
            script = script.replace(from, to);
        }
        put("firstboot.sh", &script);
        let place = self.room.target(index + 1);
        let program = folder.join("firstboot.sh");
        tool(&["ip", "netns", "exec", &place, "/bin/sh", text(&program)]).ok();
        let said = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        (said("diskcast-firstboot.log"), said("asked"))
    }

    /// Waits until all agents have ended after their job.
    #[track_caller]
    pub(crate) fn all_leave(&mut self) {
        for agent in &mut self.agents {
            agent.daemon.ends();
        }
        self.console.wait_connected(0);
    }

    /// Starts every agent again after its job, in reverse order.
    pub(crate) fn start_again(&mut self) {
        self.all_leave();
        self.start_again_while_busy();
        self.console.wait_ready(self.agents.len());
    }

    /// Starts every agent again while a job runs.
    pub(crate) fn start_again_while_busy(&mut self) {
        for index in (0..self.agents.len()).rev() {
            let disk = self.agents[index].disk.clone();
            let place = self.room.target(index + 1);
            self.agents[index] = Agent::start(
                Place::Namespace(&place),
                &self.console,
                &disk,
                self.disk_bytes,
                &[],
            );
        }
    }

    #[track_caller]
    pub(crate) fn all_done(&self, run: &Run) -> Value {
        assert_eq!(
            run.code,
            Some(0),
            "{}\n{}",
            run.story(),
            stories(&self.console, &self.agents)
        );
        run.last_of("summary")
    }

    /// Adds a new machine in the place that was kept for it; returns its disk.
    pub(crate) fn newcomer(&mut self) -> PathBuf {
        let number = self.agents.len() + 1;
        let disk = self.folder.path().join(format!("target-{number}.raw"));
        poisoned(&disk, self.disk_bytes, TARGET_POISON);
        self.rejoin(&disk, number);
        disk
    }

    /// Starts the machine in this place again, with its old disk.
    pub(crate) fn rejoin(&mut self, disk: &Path, place: usize) {
        self.agents.push(Agent::start(
            Place::Namespace(&self.room.target(place)),
            &self.console,
            disk,
            self.disk_bytes,
            &[],
        ));
    }

    /// Restarts the console; present agents join it again.
    pub(crate) fn restart_console(&mut self) {
        let before = self.console.targets();
        let connected = before.iter().filter(|t| t["connected"] == true).count();
        self.console.daemon.kill();
        self.console = Console::start(
            Place::Namespace(&self.room.console()),
            self.folder.path(),
            "eth0",
            &[],
        );
        self.console.wait_connected(connected);
    }

    /// The MAC address of the card that an agent joined through.
    pub(crate) fn agents_mac(&self, index: usize) -> String {
        let targets = self.console.targets();
        let mac = targets[index]["facts"]["nics"][0]["mac"].as_str();
        mac.expect("a card").to_owned()
    }

    /// Asserts that a password is in no file that the console or an agent wrote.
    #[track_caller]
    pub(crate) fn nowhere(&self, secret: &str) {
        let found = run(Command::new("grep")
            .args(["-rlaF", "--exclude=password.txt", secret])
            .arg(self.folder.path()));
        assert_eq!(found.stdout, "", "the password lies about in the clear");
    }
}
