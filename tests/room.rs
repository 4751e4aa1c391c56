//! A room in network namespaces: eight machines, a shaped switch, loss, an agent and a console that
//! are killed.
//!
//! One room at a time: the tests share the machine's two cores, and a room that lacks CPU because
//! of another one would look like a slow network.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests are the edge: they wait, read files and tell what they measured"
)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use common::disk::{Fs, Loop, part, same_bytes};
use common::fill::{TARGET_POISON, noise, poisoned, put_noise_file, same_tree};
use common::images::{capture, info, restore};
use common::process::{bash, text};
use common::room::Room;
use common::scratch;
use common::service::{Agent, Console, Place, states, stories, target_of};

const MIB: u64 = 1 << 20;
const DISK: u64 = 64 * MIB;

static ONE_ROOM: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_ROOM.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A room with a console, agents that are ready, an image, and the expected content of a target's
/// disk.
struct Lab {
    agents: Vec<Agent>,
    console: Console,
    image: PathBuf,
    reference: PathBuf,
    root: String,
    room: Room,
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    fn new(label: &str, count: usize, loss: f64, noise_mib: u64) -> Self {
        let alone = alone();
        let folder = scratch();
        let (image, reference, root) = master(folder.path(), noise_mib);
        let room = Room::new(label, count, "200mbit", loss);
        let console = Console::start(
            Place::Namespace(&room.console()),
            folder.path(),
            "eth0",
            &[],
        );
        assert_eq!(console.control, "10.77.0.1:5001");
        let agents: Vec<Agent> = (1..=count)
            .map(|i| {
                let disk = folder.path().join(format!("target-{i}.raw"));
                poisoned(&disk, DISK, TARGET_POISON);
                Agent::start(
                    Place::Namespace(&room.target(i)),
                    &console,
                    &disk,
                    DISK,
                    &[],
                )
            })
            .collect();
        let lab = Self {
            agents,
            console,
            image,
            reference,
            root,
            room,
            folder,
            _alone: alone,
        };
        lab.console.wait_ready(count);
        lab
    }

    fn deploy_words<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let mut words = vec![
            "deploy",
            "--image",
            text(&self.image),
            "--targets",
            "all",
            "--yes",
            "--json",
        ];
        words.extend(more);
        words
    }

    /// The first offset from `from` on at which the image holds all of `length` bytes. The file
    /// system decides where its free blocks are, and free blocks are not restored.
    #[track_caller]
    fn used_near(&self, from: u64, length: u64) -> u64 {
        let reference = common::disk::bytes_at(&self.reference, from, DISK - from);
        let pages: Vec<bool> = reference
            .chunks(4096)
            .map(|page| page.iter().any(|byte| *byte != TARGET_POISON))
            .collect();
        let first = pages
            .windows(usize::try_from(length.div_ceil(4096)).expect("fits memory"))
            .position(|run| run.iter().all(|used| *used))
            .expect("the image holds so much in one place");
        from + first as u64 * 4096
    }

    /// Promise 1: a target that is called done holds the master image, byte for byte, and has
    /// reported its root.
    #[track_caller]
    fn proven(&self, job: &Value, agent: &Agent) {
        let target = target_of(job, &agent.disk);
        assert_eq!(
            target["state"],
            "done",
            "{target:#}\n{}",
            agent.daemon.said()
        );
        assert_eq!(
            target["root"],
            self.root.as_str(),
            "root read back: {target:#}"
        );
        assert!(
            target["bytes_written"]
                .as_u64()
                .is_some_and(|bytes| bytes > 0),
            "{target:#}"
        );
        same_bytes(
            "target beside a local restore",
            &self.reference,
            &agent.disk,
            0,
            DISK,
        );
    }
}

/// Makes a 64 MiB master disk with one ext4 partition, `noise_mib` of it incompressible.
fn master(folder: &Path, noise_mib: u64) -> (PathBuf, PathBuf, String) {
    let disk = folder.join("master.raw");
    poisoned(&disk, DISK, 0);
    bash(&format!(
        "sgdisk -n 1:0:0 -t 1:8300 {} > /dev/null",
        text(&disk)
    ));
    let device = Loop::part(&disk, &part(&disk, 512, 1), 512);
    let tree = Fs::Ext4.make(&device, 512, "room", 2);
    put_noise_file(
        &device,
        "bulk.bin",
        &noise("bulk", usize::try_from(noise_mib * MIB).expect("small")),
    );
    assert!(tree.len() > 200);
    let whole = Fs::Ext4.tree(&device);
    drop(device);
    let image = folder.join("master.dcimg");
    capture(&disk, &image, &[]).ok();
    let reference = folder.join("reference.raw");
    poisoned(&reference, DISK, TARGET_POISON);
    restore(&image, &reference, &[]).ok();
    // The reference for all comparisons must itself be right.
    let device = Loop::part(&reference, &part(&reference, 512, 1), 512);
    same_tree("reference", &whole, &Fs::Ext4.tree(&device));
    drop(device);
    let root = info(&image)["root"].as_str().expect("a root").to_owned();
    (image, reference, root)
}

fn eight_all_done(label: &str, loss: f64, more: &[&str], wire_at_most: f64) {
    let mut lab = Lab::new(label, 8, loss, 24);
    let before = lab.room.sent_bytes(&lab.room.console());
    let done = lab.console.cli(&lab.deploy_words(more));
    let sent = lab.room.sent_bytes(&lab.room.console()) - before;
    assert_eq!(
        done.code,
        Some(0),
        "{}\n{}",
        done.story(),
        stories(&lab.console, &lab.agents)
    );
    let summary = done.last_of("summary");
    assert_eq!(summary["targets"].as_array().map(Vec::len), Some(8));
    for agent in &lab.agents {
        lab.proven(&summary, agent);
    }
    for agent in &mut lab.agents {
        assert_eq!(
            agent.daemon.ends(),
            Some(0),
            "an agent with --once\n{}",
            agent.daemon.said()
        );
    }
    // Promise 4: eight machines cost about as much as one. The limit is loose on purpose: a bench
    // records the real figure.
    let image = std::fs::metadata(&lab.image).expect("image").len();
    let ratio = sent as f64 / image as f64;
    eprintln!(
        "room: loss {loss} {more:?}: {sent} bytes on the wire for an image of {image}: {ratio:.3}, {:.1?}",
        done.took
    );
    assert!(
        ratio < wire_at_most,
        "{ratio:.3} times the image went over the wire to eight machines: {:#}\n{}",
        summary["session"],
        lab.console.daemon.said()
    );
}

#[test]
fn eight_machines_without_loss_are_all_done_and_equal() {
    eight_all_done("a", 0.0, &["--rate", "185mbit"], 1.25);
}

#[test]
fn eight_machines_with_one_percent_loss_are_all_done_and_equal() {
    eight_all_done("b", 0.01, &["--rate", "185mbit"], 1.35);
}

/// No cap is set, and the network cards (veth: 10 Gbit/s) promise far more than the switch between
/// them carries. The sender has to find the rate that arrives instead of filling the wire with
/// packets that are dropped.
#[test]
fn a_switch_slower_than_the_network_cards_is_noticed() {
    eight_all_done("e", 0.0, &[], 2.0);
}

/// Waits until the agent has this share of the image, in percent, and leaves it stopped there: its
/// job cannot end meanwhile.
#[track_caller]
fn held_at(console: &Console, agent: &mut Agent, percent: u64) {
    let disk = agent.disk.clone();
    agent.daemon.held_when("its share of the image", || {
        let jobs = console.jobs();
        let all = jobs.first()?["targets"].as_array()?.clone();
        let has = |t: &&Value| t["disk"].as_str().is_some_and(|d| d.contains(text(&disk)));
        let target = all.iter().find(has)?;
        let number = |name: &str| target[name].as_u64().unwrap_or(0);
        let share = number("done_bytes") * 100 / number("total_bytes").max(1);
        assert_ne!(target["state"], "done", "done before it was seen");
        (share >= percent).then_some(())
    });
}

#[test]
fn an_agent_killed_midway_is_lost_and_costs_the_others_nothing() {
    let mut lab = Lab::new("c", 8, 0.0, 24);
    let log = lab.folder.path().join("deploy.json");
    let mut deploy = lab
        .console
        .cli_daemon(&lab.deploy_words(&["--rate", "40mbit"]), &log);
    held_at(&lab.console, &mut lab.agents[2], 5);
    lab.agents[2].daemon.kill();
    let code = deploy.ends();
    let told = stories(&lab.console, &lab.agents);
    assert_eq!(
        code,
        Some(3),
        "some targets failed\n{}\n{told}",
        deploy.said()
    );
    let job = lab.console.job();
    for (i, agent) in lab.agents.iter().enumerate() {
        if i == 2 {
            let target = target_of(&job, &agent.disk);
            assert_eq!(target["state"], "lost", "{target:#}\n{told}");
            assert!(
                target["root"].is_null(),
                "a lost target claims a root: {target:#}"
            );
            assert!(
                target["reason"].as_str().is_some_and(|r| !r.is_empty()),
                "no reason: {target:#}"
            );
        } else {
            lab.proven(&job, agent);
        }
    }
    // Promise 3: the bootable sectors are written last, so the disk of the killed one is blank.
    let head = common::disk::bytes_at(&lab.agents[2].disk, 510, 2);
    assert_ne!(
        head,
        [0x55, 0xaa],
        "a half-written disk has a boot signature"
    );
    let gpt = common::disk::bytes_at(&lab.agents[2].disk, 512, 8);
    assert_ne!(
        gpt, *b"EFI PART",
        "a half-written disk has a partition table"
    );
}

#[test]
fn a_console_killed_midway_and_started_again_never_tells_a_lie() {
    let mut lab = Lab::new("d", 4, 0.0, 24);
    let log = lab.folder.path().join("deploy.json");
    let mut deploy = lab
        .console
        .cli_daemon(&lab.deploy_words(&["--rate", "40mbit"]), &log);
    held_at(&lab.console, &mut lab.agents[0], 5);
    lab.console.daemon.kill();
    lab.agents[0].daemon.signal("CONT");
    let code = deploy.ends();
    assert_ne!(
        code,
        Some(0),
        "a deploy whose console died says all done\n{}",
        deploy.said()
    );

    let pin = lab.console.pin.clone();
    lab.console = Console::start(
        Place::Namespace(&lab.room.console()),
        lab.folder.path(),
        "eth0",
        &[],
    );
    assert_eq!(lab.console.pin, pin, "the console's identity survives");
    let job = lab.console.job();
    assert_eq!(
        job["targets"].as_array().map(Vec::len),
        Some(4),
        "the job is remembered: {job:#}"
    );
    for agent in &lab.agents {
        // A target called done at any moment must be proven at that moment.
        if target_of(&job, &agent.disk)["state"] == "done" {
            lab.proven(&job, agent);
        }
    }

    // It goes on by itself, or a technician restarts it: both are allowed, being stuck is not.
    let id = job["id"].as_str().expect("an id").to_owned();
    let waited = lab
        .console
        .cli_within(&["job", "wait", &id, "--json"], Duration::from_mins(2));
    let told = format!("{}\n{}", waited.story(), stories(&lab.console, &lab.agents));
    if waited.code != Some(0) {
        assert_eq!(waited.code, Some(3), "{told}");
        let retried = lab.console.cli_within(
            &["job", "retry", &id, "--yes", "--json"],
            Duration::from_mins(2),
        );
        assert_eq!(retried.code, Some(0), "{}\n{told}", retried.story());
    }
    // By disk, over all jobs: each target ended done, and done is true.
    let jobs = lab.console.jobs();
    for agent in &lab.agents {
        let path = text(&agent.disk);
        let last = jobs
            .iter()
            .filter(|job| states(job).contains_key("done"))
            .find(|job| {
                job["targets"].as_array().is_some_and(|all| {
                    all.iter().any(|t| {
                        t["state"] == "done" && t["disk"].as_str().is_some_and(|d| d.contains(path))
                    })
                })
            })
            .unwrap_or_else(|| panic!("{path} never got done: {jobs:#?}\n{told}"));
        lab.proven(last, agent);
    }
}

#[test]
fn a_machine_that_restarts_midway_asks_for_the_rest_and_trusts_nothing() {
    let mut lab = Lab::new("e", 4, 0.0, 40);
    let log = lab.folder.path().join("deploy.json");
    let mut deploy = lab
        .console
        .cli_daemon(&lab.deploy_words(&["--rate", "60mbit"]), &log);
    let disk = lab.agents[2].disk.clone();
    held_at(&lab.console, &mut lab.agents[2], 60);
    lab.agents[2].daemon.kill();
    let head = common::disk::bytes_at(&disk, 0, 1024);
    assert!(head.iter().all(|b| *b == 0), "a half-written disk is blank");
    // Written bytes decay before the machine is back: the journal still names them.
    let rotten = lab.used_near(10 * MIB, MIB);
    common::fill::poison_range(&disk, rotten, MIB, 0x77);
    lab.agents[2] = Agent::start(
        Place::Namespace(&lab.room.target(3)),
        &lab.console,
        &disk,
        DISK,
        &[],
    );
    let code = deploy.ends();
    let told = stories(&lab.console, &lab.agents);
    assert_eq!(code, Some(0), "{}\n{told}", deploy.said());
    let job = lab.console.job();
    for agent in &lab.agents {
        lab.proven(&job, agent);
    }
    let target = target_of(&job, &disk);
    let number = |name: &str| target["counters"][name].as_u64().unwrap_or(0);
    let again = number("packets_received") * 1408;
    let image = std::fs::metadata(&lab.image).expect("the image").len();
    let share = again as f64 / image as f64;
    eprintln!(
        "restarted at 60 %: {:.1} % of the image received again, {} blocks kept",
        share * 100.0,
        number("blocks_kept")
    );
    assert!(number("blocks_kept") > 0, "{target:#}\n{told}");
    // Without the journal the machine would receive all that the others still get, and then the
    // rest: everything.
    assert!(share < 0.65, "{target:#}\n{told}");
}

#[test]
fn a_room_that_holds_the_image_is_sent_what_differs() {
    let mut lab = Lab::new("f", 4, 0.0, 40);
    let first = lab
        .console
        .cli(&lab.deploy_words(&["--rate", "180mbit"]))
        .ok();
    let all = sent(&first.last_of("summary"));
    for agent in &lab.agents {
        lab.proven(&first.last_of("summary"), agent);
    }

    // The master changes in one place; every machine in another.
    let folder = lab.folder.path().to_owned();
    let place = lab.used_near(20 * MIB, 4096);
    let (image, reference, root) = master_changed(&folder, place);
    (lab.image, lab.reference, lab.root) = (image, reference, root);
    for (i, (disk, number)) in lab
        .agents
        .iter()
        .map(|agent| agent.disk.clone())
        .zip(1..)
        .collect::<Vec<_>>()
        .into_iter()
        .enumerate()
    {
        let changed = lab.used_near((12 + 2 * i as u64) * MIB, 4096);
        common::fill::poison_range(&disk, changed, 4096, 0x55);
        // An agent ends after its job; started before that, the next one would be another machine.
        lab.agents[i].daemon.ends();
        lab.agents[i] = Agent::start(
            Place::Namespace(&lab.room.target(number)),
            &lab.console,
            &disk,
            DISK,
            &[],
        );
    }
    lab.console.wait_ready(4);
    let again = lab
        .console
        .cli(&lab.deploy_words(&["--rate", "180mbit"]))
        .ok();
    let summary = again.last_of("summary");
    for agent in &lab.agents {
        lab.proven(&summary, agent);
    }
    let (some, share) = (sent(&summary), sent(&summary) as f64 / all as f64);
    eprintln!("sent again: {some} of {all} bytes, {:.1} %", share * 100.0);
    // One changed chunk for all, one for each machine, the manifest.
    assert!(some <= 7 * MIB, "{some} of {all} bytes sent again");
    assert!(summary["targets"].as_array().is_some_and(|all| {
        all.iter().all(|t| {
            t["counters"]["blocks_kept"]
                .as_u64()
                .is_some_and(|n| n > 30)
        })
    }));
}

/// Captures the master with 4 KiB of its content changed: image, expected content of a target,
/// root.
fn master_changed(folder: &Path, place: u64) -> (PathBuf, PathBuf, String) {
    let disk = folder.join("master.raw");
    common::fill::poison_range(&disk, place, 4096, 0x33);
    let image = folder.join("changed.dcimg");
    capture(&disk, &image, &[]).ok();
    let reference = folder.join("changed-reference.raw");
    poisoned(&reference, DISK, TARGET_POISON);
    restore(&image, &reference, &[]).ok();
    let root = info(&image)["root"].as_str().expect("a root").to_owned();
    (image, reference, root)
}

/// Bytes of the image that multicast and TCP 5003 carried.
fn sent(summary: &Value) -> u64 {
    ["source_bytes", "parity_bytes", "bulk_bytes"]
        .iter()
        .map(|name| summary["session"][name].as_u64().expect("a counter"))
        .sum()
}

/// A disk that returns errors half-way, because its file system is full.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, bytes: u64) -> Self {
        let place = folder.join("small");
        bash(&format!(
            "mkdir {0} && mount -t tmpfs -o size={bytes} none {0}",
            text(&place)
        ));
        Self(place)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .args(["-l", text(&self.0)])
            .output();
    }
}

#[test]
fn a_disk_that_fails_halfway_fails_alone_and_says_why() {
    let mut lab = Lab::new("g", 3, 0.0, 24);
    let small = SmallDisk::mount(lab.folder.path(), 12 * MIB);
    let disk = small.0.join("target.raw");
    lab.agents[1].daemon.kill();
    lab.agents[1] = Agent::start(
        Place::Namespace(&lab.room.target(2)),
        &lab.console,
        &disk,
        DISK,
        &[],
    );
    common::process::wait_for("the new disk", || {
        let all = lab.console.targets();
        all.iter()
            .any(|t| t["facts"]["disks"].to_string().contains(text(&disk)))
            .then_some(())
    });
    let done = lab.console.cli(&lab.deploy_words(&["--rate", "100mbit"]));
    let told = format!("{}\n{}", done.story(), stories(&lab.console, &lab.agents));
    assert_eq!(done.code, Some(3), "{told}");
    let summary = done.last_of("summary");
    for (i, agent) in lab.agents.iter().enumerate() {
        if i != 1 {
            lab.proven(&summary, agent);
        }
    }
    let target = target_of(&summary, &disk);
    assert_eq!(target["state"], "failed", "{target:#}\n{told}");
    let reason = target["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("writing") && reason.contains("No space left"),
        "{reason}"
    );
}
