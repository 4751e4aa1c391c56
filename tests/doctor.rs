//! `diskcast doctor` in healthy and in faulty rooms, and the benefit of a querier.
//!
//! Rooms that send much run alone: the tests share the machine's two cores, and a room's loss for
//! lack of CPU would be blamed on another one. Rooms that mostly wait run in parallel.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests are the edge: they open sockets, wait and tell what they measured"
)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;

use common::fill::noise;
use common::images::capture;
use common::intruders::{DhcpServers, hold_port, stray_query};
use common::process::{Run, bash, diskcast, text, wait_for};
use common::room::Room;
use common::scratch;
use common::service::{Agent, Console, Daemon, Place, stories};

const MIB: u64 = 1 << 20;
const DISK: u64 = 64 * MIB;

static ROOMS: RwLock<()> = RwLock::new(());

/// Held while a room exists.
#[derive(Default)]
struct Turn {
    _alone: Option<RwLockWriteGuard<'static, ()>>,
    _beside: Option<RwLockReadGuard<'static, ()>>,
}

impl Turn {
    fn alone() -> Self {
        Self {
            _alone: Some(ROOMS.write().unwrap_or_else(PoisonError::into_inner)),
            ..Self::default()
        }
    }

    fn beside_others() -> Self {
        Self {
            _beside: Some(ROOMS.read().unwrap_or_else(PoisonError::into_inner)),
            ..Self::default()
        }
    }
}

struct Lab {
    agents: Vec<Agent>,
    console: Console,
    room: Room,
    folder: tempfile::TempDir,
    _turn: Turn,
}

impl Lab {
    fn new(turn: Turn, label: &str, count: usize) -> Self {
        Self::with(turn, label, count, &[], |room, n| {
            (n <= count).then(|| (room.target(n), false))
        })
    }

    /// Makes a room. `place` gives the place of agent `n`, and whether it is limited there.
    fn with(
        turn: Turn,
        label: &str,
        count: usize,
        console_words: &[&str],
        place: impl Fn(&Room, usize) -> Option<(String, bool)>,
    ) -> Self {
        let folder = scratch();
        let room = Room::new(label, count, "200mbit", 0.0);
        let console = Console::start(
            Place::Namespace(&room.console()),
            folder.path(),
            "eth0",
            console_words,
        );
        let mut agents = Vec::new();
        for n in 1..=count {
            let Some((namespace, limited)) = place(&room, n) else {
                continue;
            };
            let at = if limited {
                Place::Limited(&namespace)
            } else {
                Place::Namespace(&namespace)
            };
            let disk = folder.path().join(format!("disk-{n}.raw"));
            // Made by the agent, and empty: the speed of this machine's own disk must not matter.
            let name = format!("t{n}");
            agents.push(Agent::start(at, &console, &disk, DISK, &["--name", &name]));
        }
        let lab = Self {
            agents,
            console,
            room,
            folder,
            _turn: turn,
        };
        lab.console.wait_ready(lab.agents.len());
        lab
    }

    fn doctor(&self, more: &[&str]) -> Run {
        let mut words = vec!["doctor", "--json"];
        words.extend(more);
        self.console.cli(&words)
    }

    fn said(&self) -> String {
        stories(&self.console, &self.agents)
    }
}

fn target<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["targets"]
        .as_array()
        .and_then(|all| all.iter().find(|target| target["name"] == name))
        .unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

/// The finding of one check: its sentence and its advice.
fn found(holder: &Value, check: &str) -> Option<String> {
    let all = holder["findings"].as_array()?;
    let finding = all.iter().find(|finding| finding["check"] == check)?;
    Some(format!("{} / {}", finding["text"], finding["advice"]))
}

#[track_caller]
fn says(holder: &Value, check: &str, words: &[&str]) {
    let text = found(holder, check).unwrap_or_else(|| panic!("nothing about {check}: {holder:#}"));
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

/// A healthy room has no findings; then each machine gets a fault of its own, and each fault is
/// reported for that machine alone.
#[test]
fn each_fault_is_named_for_its_machine() {
    let lab = Lab::new(Turn::alone(), "dr", 5);
    let probe = ["--rate", "100mbit", "--seconds", "2"];
    let well = lab.doctor(&probe);
    assert_eq!(well.code, Some(0), "{}\n{}", well.story(), lab.said());
    let report = well.json();
    assert_eq!(report["schema_version"], 1);
    for n in 1..=5 {
        let healthy = target(&report, &format!("t{n}"));
        assert_eq!(healthy["verdict"], "ok", "{healthy:#}");
        assert_eq!(
            healthy["answer"]["main"]["received"],
            report["probe"]["main_packets"]
        );
        assert_eq!(
            healthy["answer"]["second"]["received"],
            report["probe"]["second_packets"]
        );
        assert_eq!(healthy["answer"]["beacon_heard"], true);
        assert!(
            healthy["clock_offset_s"]
                .as_f64()
                .is_some_and(|s| s.abs() < 1.0)
        );
    }
    // A busy machine may not reach the rate, and reports that; nothing else is wrong.
    let findings = report["console"]["findings"].as_array();
    let findings = findings.expect("findings").iter();
    let wrong: Vec<&Value> = findings.filter(|it| it["check"] != "rate").collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The switch sends a query every ten seconds.
    wait_for("the switch's querier to be heard", || {
        let report = lab.doctor(&["--seconds", "0.2"]).json();
        let heard = |querier: &Value| querier["heard"] == "10.77.255.254";
        let all = (1..=5).all(|n| heard(&target(&report, &format!("t{n}"))["answer"]["querier"]));
        (all && heard(&report["console"]["querier"])).then_some(())
    });

    bash(&format!(
        "ip netns exec {lossy} iptables -A INPUT -p udp -m statistic --mode random --probability 0.05 -j DROP
         ip netns exec {deaf} iptables -A INPUT -d 239.254.0.0/16 -j DROP
         tc -n {switch} qdisc replace dev t4 root tbf rate 20mbit burst 100000 latency 50ms",
        lossy = lab.room.target(2),
        deaf = lab.room.target(3),
        switch = lab.room.switch(),
    ));
    let _port = hold_port(&lab.room.target(5), 5002);
    let _servers = DhcpServers::start(&lab.room.target(3));
    let other_folder = scratch();
    let _other = Console::start(
        Place::Namespace(&lab.room.target(3)),
        other_folder.path(),
        "eth0",
        &["--control-port", "6001"],
    );
    let ill = lab.doctor(&probe).code(3);
    let report = ill.json();
    let t = |n: u32| target(&report, &format!("t{n}"));

    let loss = |n| t(n)["main_loss"].as_f64().expect("a loss");
    // A busy machine does not reach the requested rate.
    let reached = report["probe"]["reached_bits_per_s"].as_f64();
    let reached = reached.expect("a rate") / 1e6;
    let narrow = 1.0 - 20.0 / reached;
    eprintln!(
        "doctor: 5 % gives {:.3}, 20 of {reached:.0} Mbit/s give {:.3}",
        loss(2),
        loss(4)
    );
    assert_eq!(loss(1), 0.0);
    assert!((0.035..0.065).contains(&loss(2)), "{}", loss(2));
    says(t(2), "loss", &["% of the packets are lost", "cable"]);
    assert_eq!(t(3)["verdict"], "bad");
    says(
        t(3),
        "multicast",
        &[
            "no multicast arrives here",
            "TCP 5003",
            "querier",
            "firewall",
        ],
    );
    assert!((loss(4) - narrow).abs() < 0.15, "{} {narrow}", loss(4));
    assert_eq!(t(4)["verdict"], "bad");
    says(t(4), "loss", &["speed"]);
    let holder = format!("(pid {})", std::process::id());
    says(t(5), "port", &["UDP port 5002 is in use by", &holder]);
    for (n, check) in [
        (2, "port"),
        (2, "multicast"),
        (3, "loss"),
        (4, "multicast"),
        (5, "loss"),
    ] {
        assert_eq!(found(t(n), check), None, "t{n} has its own fault only");
    }
    // The healthy one only reports the other console.
    says(t(1), "console", &["10.77.1.3:6001"]);
    assert_eq!(t(1)["verdict"], "warn");
    let console = &report["console"];
    says(console, "console", &["10.77.1.3:6001", "--main"]);
    says(
        console,
        "dhcp",
        &["2 DHCP servers", "10.77.5.66, 10.77.5.67"],
    );
    assert!(
        console["dhcp_servers"]
            .as_array()
            .is_some_and(|all| all.len() == 3),
        "{console:#}"
    );

    // The same for people: a table, and below it the advice.
    let table = lab
        .console
        .cli(&["doctor", "--seconds", "0.5", "--targets", "t3,t1"]);
    let table = table.code(3).stdout;
    for words in [
        "TARGET",
        "no multicast arrives here",
        "do: ",
        "2 targets: 0 ok, 1 warn, 1 bad",
    ] {
        assert!(table.contains(words), "{words}\n{table}");
    }
    assert!(!table.contains("t5  "), "not chosen\n{table}");
}

/// An agent that may not exceed the kernel's limits gets a small buffer. While the agent is
/// stopped, its kernel drops packets.
#[test]
fn a_small_buffer_and_what_it_costs_are_named() {
    let limit: u64 = std::fs::read_to_string("/proc/sys/net/core/rmem_max")
        .expect("a limit")
        .trim()
        .parse()
        .expect("a number");
    let lab = Lab::with(Turn::alone(), "db", 2, &[], |room, n| {
        Some((room.target(n), n == 1))
    });
    let probe = ["doctor", "--json", "--rate", "150mbit", "--seconds", "4"];
    let log = lab.folder.path().join("doctor.json");
    let console = lab.room.console();
    // Counted from now on, so that a late look at the counter never shortens what is slept through.
    let sent = |what: &str, bytes: u64| {
        let before = lab.room.sent_bytes(&console);
        wait_for(what, || {
            (lab.room.sent_bytes(&console) > before + bytes).then_some(())
        })
    };
    let mut running = lab.console.cli_daemon(&probe, &log);
    // Of this probe's 75 MB more arrive meanwhile than a small buffer holds, and less than a large
    // one.
    sent("the beginning of the probe", 8 << 20);
    for agent in &lab.agents {
        agent.daemon.signal("STOP");
    }
    sent("the middle of the probe", 12 << 20);
    for agent in &lab.agents {
        agent.daemon.signal("CONT");
    }
    let code = running.ends();
    let text = std::fs::read_to_string(&log).expect("the report");
    let report: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    let (small, large) = (target(&report, "t1"), target(&report, "t2"));
    let dropped = |t: &Value| {
        t["answer"]["main"]["kernel_drops"]
            .as_u64()
            .expect("a count")
    };
    let lost = |t: &Value| {
        let sent = report["probe"]["main_packets"].as_u64().expect("sent");
        sent - t["answer"]["main"]["received"].as_u64().expect("received")
    };
    eprintln!(
        "doctor: asleep for 12 MiB: {} dropped of {} lost, {} with a large buffer",
        dropped(small),
        lost(small),
        dropped(large)
    );
    if limit >= 16 << 20 {
        assert_eq!(
            found(small, "receive-buffer"),
            None,
            "this machine's limit is large"
        );
        return;
    }
    assert_eq!(small["answer"]["receive_buffer"].as_u64(), Some(limit));
    says(small, "receive-buffer", &["net.core.rmem_max=33554432"]);
    says(
        small,
        "loss",
        &["in this machine itself, which reads too slowly"],
    );
    assert_eq!(code, Some(3));
    // The kernel's count of dropped packets equals the missing ones.
    assert!(dropped(small) > 0);
    assert!(
        lost(small).abs_diff(dropped(small)) * 10 <= lost(small),
        "{small:#}"
    );
    assert!(dropped(large) < dropped(small));
    assert_eq!(large["answer"]["receive_buffer"], 33_554_432);
    assert_eq!(found(large, "receive-buffer"), None);
}

/// The switch of this test sends no queries, forgets members after two seconds (260 in the field),
/// and floods nothing, because it heard a querier once: a router that is gone.
fn forgetful_switch(lab: &Lab) {
    bash(&format!(
        "ip -n {} link set br0 type bridge mcast_querier 0 mcast_membership_interval 200 mcast_querier_interval 360000",
        lab.room.switch()
    ));
    // Sent from a machine without an agent: its port now leads to the querier, and gets everything.
    stray_query(&lab.room.target(2));
}

fn long_probe(lab: &Lab) -> Value {
    lab.doctor(&["--rate", "5mbit", "--seconds", "12"]).json()
}

#[test]
fn without_a_querier_multicast_dies_and_with_ours_it_lives() {
    let lab = |label: &str, words: &[&str]| {
        let only_first = |room: &Room, n: usize| (n == 1).then(|| (room.target(1), false));
        let lab = Lab::with(Turn::beside_others(), label, 2, words, only_first);
        forgetful_switch(&lab);
        let report = long_probe(&lab);
        (report, lab.said())
    };
    let ours = ["--querier", "--query-interval", "1s"];
    let ((without, _), (with, said)) = std::thread::scope(|scope| {
        let without = scope.spawn(|| lab("dq", &[]));
        let with = lab("dk", &ours);
        (without.join().expect("a report"), with)
    });
    let loss = |report: &Value| target(report, "t1")["main_loss"].as_f64().expect("a loss");
    eprintln!(
        "querier: loss {:.3} without, {:.3} with ours",
        loss(&without),
        loss(&with)
    );
    assert!(loss(&without) > 0.4, "{:#}", target(&without, "t1"));
    assert!(loss(&without) < 1.0, "it lived before it died");
    says(
        target(&without, "t1"),
        "multicast",
        &["multicast stopped for", "--querier"],
    );
    assert!(loss(&with) < 0.01, "{:#}\n{}", target(&with, "t1"), said);
    assert_eq!(with["console"]["querier"]["own"], true);
    assert_eq!(
        target(&with, "t1")["answer"]["querier"]["heard"],
        "10.77.0.1"
    );
    assert_eq!(without["console"]["querier"]["own"], false);
}

/// A job is not disturbed: its agent reports that it is busy, and no probe is sent.
#[test]
fn a_running_job_is_left_alone() {
    let lab = Lab::new(Turn::beside_others(), "dj", 1);
    let disk = lab.folder.path().join("master.raw");
    std::fs::write(&disk, noise("doctor", 12 << 20)).expect("a master disk");
    bash(&format!("sgdisk -n 1:0:0 {} > /dev/null", text(&disk)));
    let image = lab.folder.path().join("master.dcimg");
    capture(&disk, &image, &[]).ok();
    let words = [
        "deploy",
        "--image",
        text(&image),
        "--targets",
        "all",
        "--yes",
        "--rate",
        "5mbit",
    ];
    let _job = lab
        .console
        .cli_daemon(&words, &lab.folder.path().join("deploy.log"));
    wait_for("the job to run", || {
        lab.console
            .jobs()
            .iter()
            .any(|job| job["state"] == "running")
            .then_some(())
    });
    let run = lab.doctor(&[]).ok();
    let report = run.json();
    let busy = target(&report, "t1");
    assert_eq!(busy["verdict"], "warn");
    says(busy, "busy", &["in job 1"]);
    assert_eq!(report["probe"], Value::Null);
    assert!(
        report["not_checked"].to_string().contains("a job runs"),
        "{report:#}"
    );
}

/// A job of 32 MiB of noise that takes thirteen seconds at its rate, with one target.
struct SlowJob {
    lab: Lab,
    image_bytes: u64,
    job: Daemon,
    log: PathBuf,
}

impl SlowJob {
    fn start(label: &str) -> Self {
        let lab = Lab::new(Turn::beside_others(), label, 1);
        let disk = lab.folder.path().join("master.raw");
        std::fs::write(&disk, noise("deaf", 32 << 20)).expect("a master disk");
        bash(&format!("sgdisk -n 1:0:0 {} > /dev/null", text(&disk)));
        let image = lab.folder.path().join("master.dcimg");
        capture(&disk, &image, &[]).ok();
        let log = lab.folder.path().join("deploy.ndjson");
        let words = [
            "deploy",
            "--image",
            text(&image),
            "--targets",
            "all",
            "--yes",
            "--json",
            "--rate",
            "20mbit",
        ];
        let job = lab.console.cli_daemon(&words, &log);
        let image_bytes = std::fs::metadata(&image).expect("image").len();
        let slow = Self {
            lab,
            image_bytes,
            job,
            log,
        };
        wait_for("a fifth of the image to be sent", || {
            let jobs = slow.lab.console.jobs();
            let sent = jobs.first()?["session"]["source_bytes"].as_u64()?;
            (sent > image_bytes / 5).then_some(())
        });
        slow
    }

    fn deaf(&self, deaf: bool) {
        let flag = if deaf { "-A" } else { "-D" };
        bash(&format!(
            "ip netns exec {} iptables {flag} INPUT -d 239.254.0.0/16 -j DROP",
            self.lab.room.target(1)
        ));
    }

    /// The summary of a job that must have ended well.
    fn done(mut self) -> (Value, u64) {
        let code = self.job.ends();
        let said = std::fs::read_to_string(&self.log).expect("what deploy said");
        assert_eq!(code, Some(0), "{said}\n{}", self.lab.said());
        let last: Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
        (last, self.image_bytes)
    }
}

/// The only target goes deaf in the middle: the rest of the session would reach no one.
#[test]
fn nothing_is_sent_to_a_target_that_hears_nothing() {
    let job = SlowJob::start("df");
    job.deaf(true);
    let (summary, image) = job.done();
    let session = &summary["session"];
    let share = session["source_bytes"].as_u64().expect("sent") as f64 / image as f64;
    eprintln!("deaf from a fifth on: {share:.2} of the image was sent by multicast");
    assert!(share < 0.85, "{session:#}");
    assert!(
        session["bulk_bytes"].as_u64().expect("bulk") > image / 10,
        "{session:#}"
    );
}

/// The target hears again before it has fetched everything: the rest comes by multicast, and no
/// block is lost between the two ways.
#[test]
fn a_target_that_hears_again_is_sent_to_again() {
    let job = SlowJob::start("dg");
    job.deaf(true);
    let image = job.image_bytes;
    wait_for("something over TCP 5003", || {
        let jobs = job.lab.console.jobs();
        let bulk = jobs.first()?["session"]["bulk_bytes"].as_u64()?;
        (bulk > image / 50).then_some(())
    });
    job.deaf(false);
    let (summary, image) = job.done();
    let session = &summary["session"];
    let bulk = session["bulk_bytes"].as_u64().expect("bulk") as f64 / image as f64;
    eprintln!("deaf for a while: {bulk:.2} of the image came over TCP 5003");
    assert!((0.01..0.75).contains(&bulk), "{session:#}");
}

/// One machine, loopback, no privileges beyond a user's: checks that are not possible are reported,
/// and no result is invented.
#[test]
fn on_loopback_all_is_well_and_nobody_is_four() {
    let _turn = Turn::beside_others();
    let folder = scratch();
    let words = [
        "--control-port",
        "0",
        "--bulk-port",
        "0",
        "--main",
        "239.254.78.1:45811",
        "--second",
        "239.254.78.2:45812",
    ];
    let console = Console::start(Place::Here, folder.path(), "lo", &words);
    let nobody = console.cli(&["doctor", "--json"]).code(4).json();
    assert_eq!(nobody["targets"], Value::Array(Vec::new()));
    assert_eq!(nobody["console"]["verdict"], "ok");
    console.cli(&["doctor", "--targets", "pc-*"]).code(4);
    console.cli(&["doctor", "--seconds", "2m"]).code(2);
    console.cli(&["doctor", "--rate", "fast"]).code(2);

    let agent = start_here(&console, folder.path());
    console.wait_ready(1);
    let run = console.cli(&["doctor", "--json", "--rate", "50mbit", "--seconds", "1"]);
    assert_eq!(
        run.code,
        Some(0),
        "{}\n{}",
        run.story(),
        agent.daemon.said()
    );
    let report = run.json();
    let here = &report["targets"][0];
    assert_eq!(here["main_loss"], 0.0, "{here:#}");
    assert!(
        here["answer"]["disks"][0]["bytes_per_s"]
            .as_u64()
            .is_some_and(|rate| rate > 0)
    );
    assert!(
        report["not_checked"].to_string().contains("IGMP"),
        "{report:#}"
    );

    let empty = folder.path().join("empty");
    diskcast(["--data-dir", text(&empty), "doctor"])
        .code(6)
        .says(&["no console is running"]);
    // An impossible request: a querier on loopback.
    diskcast([
        "--data-dir",
        text(&empty),
        "console",
        "run",
        "--iface",
        "lo",
        "--querier",
    ])
    .code(5)
    .says(&["--querier cannot work on lo"]);
}

fn start_here(console: &Console, folder: &Path) -> Agent {
    let disk = folder.join("here.raw");
    Agent::start(
        Place::Here,
        console,
        &disk,
        DISK,
        &["--iface", "lo", "--second", "239.254.78.2:45812"],
    )
}
