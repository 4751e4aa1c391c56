//! Common parts of every case: the master image, the boot folder, a switch with another DHCP
//! server, a console with `--pxe`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::agent;
use crate::common::images::capture;
use crate::common::process::{bash, diskcast_command, run_within, text};
use crate::common::room::Room;
use crate::common::service::{Console, Daemon, Place};
use crate::common::{full, scratch};
use crate::machine::{Bus, Firmware, Hardware, Machine, Medium};

/// Two processors carry two emulated machines, not four; work that needs no machine is done
/// meanwhile.
static ONE_SCENE: Mutex<()> = Mutex::new(());

/// Folder kept between runs: packages and the master disk take minutes and do not depend on the
/// tested code.
fn kept() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("netboot");
    fs::create_dir_all(&folder).expect("a folder for what is kept");
    folder
}

/// The master image: Debian that boots under BIOS and UEFI, captured by diskcast. Made once in a
/// run.
fn master() -> &'static Path {
    static MASTER: OnceLock<PathBuf> = OnceLock::new();
    MASTER.get_or_init(|| {
        let kept = kept();
        let script = kept.join("master.sh");
        fs::write(&script, include_str!("master.sh")).expect("the script");
        let start = Instant::now();
        let mut made = Command::new("bash");
        made.args([text(&script), text(&kept)]);
        run_within(&mut made, Duration::from_mins(20)).ok();
        let image = kept.join("master.dcimg");
        let _ = fs::remove_file(&image);
        capture(&kept.join("master.raw"), &image, &[]).ok();
        eprintln!(
            "netboot: the master image in {:.1} s",
            start.elapsed().as_secs_f64()
        );
        image
    })
}

/// The agent that cargo built for this run, which gets its libraries from the packages; with
/// `--full` the static one from `cargo xtask agent` (which compiles much again, because cargo gives
/// a package alone other features than the whole workspace).
fn agent() -> &'static Path {
    if !full() {
        return Path::new(agent::agent());
    }
    static STATIC: OnceLock<PathBuf> = OnceLock::new();
    STATIC.get_or_init(|| {
        let run = run_within(
            agent::cargo().args(["xtask", "agent"]),
            Duration::from_mins(20),
        )
        .ok();
        PathBuf::from(run.stdout.lines().last().expect("the agent's path"))
    })
}

/// Makes a boot folder with this kernel.
pub(crate) fn boot_folder(profile: &str) -> PathBuf {
    static MADE: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let folder = kept().join(format!("boot-{profile}"));
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if !made.iter().any(|p| p == profile) {
        let start = Instant::now();
        let _ = fs::remove_dir_all(&folder);
        export(&[
            "pxe",
            text(&folder),
            "--profile",
            profile,
            "--console",
            "10.77.0.1",
            "--pin",
            &"0".repeat(64),
        ]);
        eprintln!(
            "netboot: the boot folder ({profile}) in {:.1} s",
            start.elapsed().as_secs_f64()
        );
        made.push(profile.to_owned());
    }
    folder
}

/// Runs `diskcast export ...` with this run's agent and a cache that is kept.
pub(crate) fn export(words: &[&str]) {
    static ONE_CACHE: Mutex<()> = Mutex::new(());
    let _one = ONE_CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept();
    let data = kept.join("data");
    let mut all = vec!["--data-dir", text(&data), "export"];
    all.extend(words);
    all.extend(["--agent", text(agent())]);
    run_within(&mut diskcast_command(all), Duration::from_mins(10)).ok();
}

/// The disk the master image was captured from.
pub(crate) fn master_disk() -> PathBuf {
    kept().join("master.raw")
}

/// The server that hands out addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Addresses {
    /// A DHCP server that knows nothing of diskcast.
    Theirs,
    /// The console, by its own options.
    Ours,
}

/// A switch, perhaps another DHCP server, and a console that boots machines.
pub(crate) struct Scene {
    pub(crate) console: Console,
    _dhcp: Option<Daemon>,
    room: Room,
    pub(crate) folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    pub(crate) fn new(label: &str, addresses: Addresses, console_words: &[&str]) -> Self {
        let alone = ONE_SCENE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = scratch();
        let room = Room::new(label, 1, "1000mbit", 0.0);
        let dhcp = (addresses == Addresses::Theirs).then(|| {
            Daemon::run(
                Place::Namespace(&room.target(1)),
                "dnsmasq",
                &[
                    "--keep-in-foreground",
                    "--port=0",
                    "--no-ping",
                    "--log-facility=-",
                    "--conf-file=/dev/null",
                    "--leasefile-ro",
                    "--dhcp-range=10.77.2.1,10.77.2.250,255.255.0.0,1h",
                    "--interface=eth0",
                ],
                &folder.path().join("dnsmasq.log"),
            )
        });
        let console = Console::start(
            Place::Namespace(&room.console()),
            folder.path(),
            "eth0",
            console_words,
        );
        Self {
            console,
            _dhcp: dhcp,
            room,
            folder,
            _alone: alone,
        }
    }

    pub(crate) fn power_on(
        &self,
        number: u8,
        name: &str,
        firmware: Firmware,
        bus: Bus,
        card: &str,
        medium: Option<Medium<'_>>,
    ) -> Machine {
        let disk = self.disk(name);
        if !disk.exists() {
            bash(&format!("truncate -s 1200M {}", text(&disk)));
        }
        let hardware = Hardware {
            name,
            firmware,
            bus,
            card,
            disk: &disk,
            medium,
        };
        Machine::start(self.folder.path(), &self.room.switch(), number, &hardware)
    }

    pub(crate) fn disk(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.raw"))
    }

    /// Waits until `count` machines are `ready`, while those that boot keep running.
    #[track_caller]
    pub(crate) fn wait_ready(
        &self,
        count: usize,
        machines: &[&Machine],
        limit: Duration,
    ) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let targets = self.console.targets();
            if targets.iter().filter(|t| t["state"] == "ready").count() == count {
                return targets;
            }
            assert!(
                start.elapsed() < limit,
                "{count} targets are not ready within {limit:?}: {targets:#?}\n{}\n{}",
                self.console.daemon.said(),
                machines.iter().map(|m| m.story()).collect::<String>()
            );
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Deploys the master image to all and returns the summary; every target must be done.
    #[track_caller]
    pub(crate) fn deploy(&self, machines: &[&Machine]) -> Value {
        self.deploy_image(master(), machines)
    }

    #[track_caller]
    pub(crate) fn deploy_image(&self, image: &Path, machines: &[&Machine]) -> Value {
        let words = [
            "--image",
            text(image),
            "--targets",
            "state:ready",
            "--end",
            "restart",
        ];
        self.deploy_words(&words, machines)
    }

    /// Deploys the master image with a template to the machines that are ready.
    #[track_caller]
    pub(crate) fn deploy_template(&self, template: &str, machines: &[&Machine]) -> Value {
        let file = self.folder.path().join("room.toml");
        fs::write(&file, template).expect("the template");
        self.deploy_words(
            &["--template", text(&file), "--image", text(master())],
            machines,
        )
    }

    /// Deploys with a template and the image that it names.
    #[track_caller]
    pub(crate) fn deploy_template_alone(&self, template: &str, machines: &[&Machine]) -> Value {
        let file = self.folder.path().join("alone.toml");
        fs::write(&file, template).expect("the template");
        self.deploy_words(&["--template", text(&file)], machines)
    }

    /// The error when a template cannot be deployed.
    #[track_caller]
    pub(crate) fn refuse_template(&self, template: &str) -> String {
        let file = self.folder.path().join("refused.toml");
        fs::write(&file, template).expect("the template");
        let words = ["deploy", "--yes", "--json", "--template", text(&file)];
        let run = self.console.cli(&words).code(5);
        run.stdout + &run.stderr
    }

    #[track_caller]
    fn deploy_words(&self, words: &[&str], machines: &[&Machine]) -> Value {
        let words = [&["deploy", "--yes", "--json"], words].concat();
        let run = self.console.cli_within(&words, Duration::from_mins(15));
        assert_eq!(
            run.code,
            Some(0),
            "{}\n{}\n{}",
            run.story(),
            self.console.daemon.said(),
            machines.iter().map(|m| m.story()).collect::<String>()
        );
        run.last_of("summary")
    }
}

/// Prepares the files before the time of a case is measured.
pub(crate) fn prepare(profile: &str) -> (PathBuf, &'static Path) {
    let image = master();
    (boot_folder(profile), image)
}
