//! The main job on loopback: no namespaces, the real groups and ports; privileges only for writing
//! a device.
//!
//! The console's ports are those of the contract, so only one such console can run on a machine at
//! a time: a lock file makes other test runs on the same machine wait instead of failing.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests are the edge: they wait, read files and tell what they saw"
)]

#[path = "loopback_parts/blocked_disk.rs"]
mod blocked_disk;
#[path = "loopback_parts/commit.rs"]
mod commit;
mod common;
#[path = "loopback_parts/image_check.rs"]
mod image_check;
#[path = "loopback_parts/newcomers.rs"]
mod newcomers;
#[path = "loopback_parts/signed.rs"]
mod signed;

use std::fs::File;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use common::disk::{Loop, bytes_at, same_bytes};
use common::fill::{TARGET_POISON, poisoned};
use common::images::{capture, info, restore};
use common::process::{bash, text, wait_for};
use common::scratch;
use common::service::{Agent, Console, Place, states, stories, target_of};

/// Size of the demo fixture, in bytes.
const DISK: u64 = 96 << 20;

/// Lock on the ports, held while a test uses them.
fn the_ports() -> File {
    let lock = File::create("/var/tmp/diskcast-loopback.lock").expect("a lock file");
    lock.lock().expect("locked");
    lock
}

/// Captures the demo disk, and restores it locally onto poison for comparison.
fn demo_image(folder: &Path) -> (PathBuf, PathBuf, String) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo-disk.raw.zst");
    let disk = folder.join("demo.raw");
    bash(&format!(
        "zstd -dq --sparse {} -o {}",
        text(&fixture),
        text(&disk)
    ));
    let image = folder.join("demo.dcimg");
    capture(&disk, &image, &[]).ok();
    let reference = folder.join("reference.raw");
    poisoned(&reference, DISK, TARGET_POISON);
    restore(&image, &reference, &[]).ok();
    let root = info(&image)["root"].as_str().expect("a root").to_owned();
    (image, reference, root)
}

fn agents(console: &Console, folder: &Path, count: usize, more: &[&str]) -> Vec<Agent> {
    (1..=count)
        .map(|i| {
            let disk = folder.join(format!("target-{i}.raw"));
            poisoned(&disk, DISK, TARGET_POISON);
            Agent::start(Place::Here, console, &disk, DISK, more)
        })
        .collect()
}

#[track_caller]
fn proven(job: &Value, agent: &Agent, root: &str, reference: &Path) {
    let target = target_of(job, &agent.disk);
    assert_eq!(
        target["state"],
        "done",
        "{target:#}\n{}",
        agent.daemon.said()
    );
    assert_eq!(target["root"], root);
    same_bytes(
        "target beside a local restore",
        reference,
        &agent.disk,
        0,
        DISK,
    );
}

#[test]
fn four_agents_on_one_machine_are_done_and_equal() {
    let _ports = the_ports();
    let folder = scratch();
    let (image, reference, root) = demo_image(folder.path());
    let console = Console::start(Place::Here, folder.path(), "lo", &[]);
    let mut agents = agents(&console, folder.path(), 4, &[]);
    let listed = console.wait_ready(4);
    let ids: std::collections::BTreeSet<&str> =
        listed.iter().filter_map(|t| t["id"].as_str()).collect();
    assert_eq!(
        ids.len(),
        4,
        "agents of one machine are told apart: {listed:#?}"
    );
    let names: std::collections::BTreeSet<&str> =
        listed.iter().filter_map(|t| t["name"].as_str()).collect();
    assert_eq!(names.len(), 4, "and by name: {listed:#?}");

    // Plan before effect: a dry run names every disk and touches none.
    let words = [
        "deploy",
        "--image",
        text(&image),
        "--targets",
        "all",
        "--json",
    ];
    let plan = console.cli(&[&words[..], &["--dry-run"]].concat()).ok();
    for agent in &agents {
        assert!(
            plan.stdout.contains(text(&agent.disk)),
            "the plan does not name {}\n{}",
            agent.disk.display(),
            plan.story()
        );
        assert!(
            bytes_at(&agent.disk, 0, 4096)
                .iter()
                .all(|b| *b == TARGET_POISON),
            "a dry run wrote"
        );
    }
    // No terminal and no --yes: nothing happens.
    console.cli(&words).code(2);
    assert!(console.jobs().is_empty());

    let done = console.cli(&[&words[..], &["--yes"]].concat());
    assert_eq!(
        done.code,
        Some(0),
        "{}\n{}",
        done.story(),
        stories(&console, &agents)
    );
    let summary = done.last_of("summary");
    for agent in &agents {
        proven(&summary, agent, &root, &reference);
    }
    for agent in &mut agents {
        assert_eq!(agent.daemon.ends(), Some(0), "{}", agent.daemon.said());
    }
    // Reports agree: list, show and report of the same job.
    let job = console.job();
    assert_eq!(states(&job).get("done"), Some(&4), "{job:#}");
    let id = job["id"].as_str().expect("an id").to_owned();
    console.cli(&["job", "wait", &id]).ok();
    let report = console.cli(&["job", "report", &id]).ok();
    assert!(report.stdout.contains("done"), "{}", report.story());
}

/// A block device that gains from discards: a loop device on memory counts as flash.
#[test]
fn a_device_is_written_and_what_the_image_does_not_use_is_discarded() {
    let _ports = the_ports();
    let folder = scratch();
    let (image, reference, root) = demo_image(folder.path());
    let memory = tempfile::tempdir_in("/dev/shm").expect("a file system in memory");
    let backing = memory.path().join("flash.raw");
    poisoned(&backing, DISK, TARGET_POISON);
    let device = Loop::disk(&backing, 512);
    let name = device.path().file_name().expect("a name").to_owned();
    let queue = Path::new("/sys/block").join(name).join("queue");
    let says = |what: &str| bash(&format!("cat {}", text(&queue.join(what))));
    assert_eq!(says("rotational").trim(), "0");
    assert_ne!(says("discard_max_bytes").trim(), "0");
    let disk = folder.path().join("target");
    std::os::unix::fs::symlink(device.path(), &disk).expect("a name for the device");

    let console = Console::start(Place::Here, folder.path(), "lo", &[]);
    let agent = Agent::start(Place::Here, &console, &disk, 0, &[]);
    console.wait_ready(1);
    let words = [
        "deploy",
        "--image",
        text(&image),
        "--targets",
        "all",
        "--yes",
        "--json",
    ];
    let done = console.cli(&words);
    let told = format!("{}\n{}", done.story(), agent.daemon.said());
    assert_eq!(done.code, Some(0), "{told}");
    let summary = done.last_of("summary");
    let target = &summary["targets"][0];
    assert_eq!(
        (&target["state"], target["root"].as_str()),
        (&"done".into(), Some(&*root))
    );

    let held =
        std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&backing).expect("there")) * 512;
    assert!(
        held < DISK * 9 / 10,
        "{held} of {DISK} bytes are still stored\n{told}"
    );
    drop(device);
    // All bytes of the image are there; all others are unchanged or discarded.
    let (is, should) = [&backing, &reference]
        .map(|file| std::fs::read(file).expect("readable"))
        .into();
    for (at, (is, should)) in is.chunks(4096).zip(should.chunks(4096)).enumerate() {
        let unused = should.iter().all(|b| *b == TARGET_POISON);
        assert!(
            is == should || unused && is.iter().all(|b| *b == 0),
            "4 KiB block {at} is neither the image's nor free"
        );
    }
}

#[test]
fn a_selection_that_matches_nothing_is_an_error_and_an_image_that_does_not_fit_is_refused() {
    let _ports = the_ports();
    let folder = scratch();
    let (image, _, _) = demo_image(folder.path());
    let console = Console::start(Place::Here, folder.path(), "lo", &[]);
    let words = [
        "deploy",
        "--image",
        text(&image),
        "--yes",
        "--json",
        "--targets",
    ];
    console.cli(&[&words[..], &["all"]].concat()).code(4);
    let disk = folder.path().join("small.raw");
    poisoned(&disk, DISK / 2, TARGET_POISON);
    let agent = Agent::start(Place::Here, &console, &disk, DISK / 2, &[]);
    console.wait_ready(1);
    console
        .cli(&[&words[..], &["no-such-name"]].concat())
        .code(4);
    console.cli(&[&words[..], &["all"]].concat()).code(5);
    assert!(
        bytes_at(&agent.disk, 0, DISK / 2)
            .iter()
            .all(|b| *b == TARGET_POISON),
        "a refused disk was written to"
    );
}

#[test]
fn an_agent_with_another_pin_does_not_come_in() {
    let _ports = the_ports();
    let folder = scratch();
    let console = Console::start(Place::Here, folder.path(), "lo", &[]);
    let disk = folder.path().join("stranger.raw");
    poisoned(&disk, 1 << 20, TARGET_POISON);
    let wrong = "00".repeat(32);
    let mut agent = Agent::start_at(Place::Here, &console.control, &wrong, &disk, 1 << 20, &[]);
    wait_for("the agent to turn away", || {
        let said = agent.daemon.said().to_lowercase();
        (!agent.daemon.running() || said.contains("pin")).then_some(())
    });
    assert!(console.targets().is_empty(), "{}", agent.daemon.said());
}

/// Fills both groups with noise until told to stop; returns the number of packets.
fn flood(over: &AtomicBool) -> u32 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_multicast_loop_v4(true).expect("loop");
    let packet = common::fill::noise("wrong key", 1448);
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        for _ in 0..5 {
            for group in ["239.254.1.1:5002", "239.254.1.2:5004"] {
                let _ = socket.send_to(&packet, group);
                sent += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    sent
}

#[test]
fn nonsense_on_the_ports_hurts_nobody() {
    let _ports = the_ports();
    let folder = scratch();
    let (image, reference, root) = demo_image(folder.path());
    let mut console = Console::start(Place::Here, folder.path(), "lo", &[]);
    let agents = agents(&console, folder.path(), 2, &[]);
    console.wait_ready(2);
    // Packets of our format with an unknown key, from before the job to its end.
    let over = Arc::new(AtomicBool::new(false));
    let flooding = std::thread::spawn({
        let over = Arc::clone(&over);
        move || flood(&over)
    });
    let log = folder.path().join("deploy.json");
    let mut deploy = console.cli_daemon(
        &[
            "deploy",
            "--image",
            text(&image),
            "--targets",
            "all",
            "--yes",
            "--json",
            "--rate",
            "20mbit",
        ],
        &log,
    );
    // A newcomer before that would change the room that was confirmed.
    wait_for("the job", || (!console.jobs().is_empty()).then_some(()));
    // A thousand connections that never finish their handshake, and strangers on both TCP ports.
    let silent: Vec<TcpStream> = (0..1000)
        .filter_map(|n| TcpStream::connect(("127.0.0.1", [5001, 5003][n % 2])).ok())
        .collect();
    assert!(silent.len() > 900, "only {} connections", silent.len());
    let late = folder.path().join("late.raw");
    poisoned(&late, DISK, TARGET_POISON);
    let newcomer = Agent::start(Place::Here, &console, &late, DISK, &[]);
    wait_for("the newcomer among a thousand", || {
        let has = |t: &Value| t["facts"]["disks"][0]["path"] == text(&late);
        console.targets().iter().any(has).then_some(())
    });
    for port in [5001, 5003] {
        for bytes in [
            &b"GET / HTTP/1.0\r\n\r\n"[..],
            &[0xff; 5000],
            &[0x16, 3, 1, 0xff, 0xff, 0, 0],
        ] {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                let _ = stream.write_all(bytes);
            }
        }
    }
    let code = deploy.ends();
    over.store(true, Ordering::Relaxed);
    let packets = flooding.join().expect("a flood");
    assert!(packets > 1000, "only {packets} packets");
    assert_eq!(
        code,
        Some(0),
        "{}\n{}",
        deploy.said(),
        stories(&console, &agents)
    );
    drop((silent, newcomer));
    let job = console.job();
    for agent in &agents {
        proven(&job, agent, &root, &reference);
    }
    assert!(console.daemon.running());
    assert!(
        !console.daemon.said().contains("panicked"),
        "{}",
        console.daemon.said()
    );
}

#[test]
fn a_busy_port_is_named() {
    let _ports = the_ports();
    let folder = scratch();
    let _first = Console::start(Place::Here, folder.path(), "lo", &[]);
    let other = folder.path().join("other");
    let said = common::process::diskcast([
        "--data-dir",
        text(&other),
        "console",
        "run",
        "--iface",
        "lo",
    ])
    .code_of(&[1, 5]);
    assert!(
        said.stderr.contains("5001"),
        "the port is not named\n{}",
        said.story()
    );
    assert!(
        said.stderr.contains("diskcast"),
        "its owner is not named\n{}",
        said.story()
    );
}

/// A plan after a job or a cancel shows the disk's present contents, not those of its agent's
/// connection. Right after a deployment the plan used to say "nothing known" and refuse `--onto`,
/// and after a cancel it listed partitions of a blank disk.
#[test]
fn a_plan_after_a_job_or_a_cancel_says_what_is_on_the_disk() {
    let _ports = the_ports();
    let folder = scratch();
    let (image, _, _) = demo_image(folder.path());
    let console = Console::start(Place::Here, folder.path(), "lo", &[]);
    let disk = folder.path().join("target.raw");
    poisoned(&disk, DISK, TARGET_POISON);
    let agent = Agent::start_staying(
        Place::Here,
        &console.control,
        &console.pin,
        &disk,
        DISK,
        &[],
    );
    console.wait_ready(1);
    let words = ["deploy", "--image", text(&image), "--targets", "all"];
    let plan = |more: &[&str]| {
        let asked = console.cli(&[&words[..], &["--dry-run", "--json"], more].concat());
        asked.code(0).last_of("plan")["targets"][0]["disk"].clone()
    };
    let partitions = |disk: &Value| disk["partitions"].as_array().map_or(0, Vec::len);
    assert_eq!(partitions(&plan(&[])), 0);
    let done = console.cli(&[&words[..], &["--yes", "--json"]].concat());
    assert_eq!(
        done.code,
        Some(0),
        "{}\n{}",
        done.story(),
        agent.daemon.said()
    );
    let known = plan(&[]);
    assert!(partitions(&known) > 0, "{known:#}");
    let number = known["partitions"][0]["number"].to_string();
    plan(&["--partitions", &number, "--onto", &number]);
    console.wait_ready(1);

    // Slow enough to be cut in the middle: it would take a minute.
    let slow = ["--yes", "--detach", "--reuse", "never", "--rate", "0.5mbit"];
    console.cli(&[&words[..], &slow].concat()).ok();
    wait_for("the second job to write", || {
        let jobs = console.jobs();
        (jobs[0]["targets"][0]["state"] == "receiving").then_some(())
    });
    let id = console.jobs()[0]["id"].as_str().expect("an id").to_owned();
    console.cli(&["job", "cancel", &id, "--yes"]).ok();
    console.cli(&["job", "wait", &id]).code(3);
    console.wait_ready(1);
    let left = plan(&[]);
    assert_eq!(partitions(&left), 0, "a blank disk: {left:#}");
}
