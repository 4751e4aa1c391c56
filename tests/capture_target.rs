//! Images captured from a target, interrupted and continued, and work that a person at the target
//! starts: on loopback, with files for disks.
#![allow(
    clippy::cast_possible_truncation,
    reason = "test arithmetic on small sizes"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests are the edge: they wait and read files"
)]

mod common;
#[path = "capture_target_parts/failing.rs"]
mod failing;
#[path = "capture_target_parts/odd_masters.rs"]
mod odd_masters;

use std::fs;
use std::path::{Path, PathBuf};

use agent::desk::Desk;
use agent::{AgentOptions, DiskOffer};
use imagefmt::{Image, Manifest, Meta};
use net::receiving::InjectedLoss;
use serde_json::Value;

use common::disk::{part, put_at, same_bytes};
use common::fill::{TARGET_POISON, noise, poisoned, prose};
use common::images::{capture, check_all, restore};
use common::process::{bash, text, wait_for};
use common::scratch;
use common::service::{Agent, Console, Place, stories};

/// Size of the demo fixture, in bytes.
const DISK: u64 = 96 << 20;
const MIB: usize = 1 << 20;

/// Starts a console on free ports, so that these tests need not wait for others.
fn console(folder: &Path) -> Console {
    let free = [
        "--listen",
        "127.0.0.1",
        "--control-port",
        "0",
        "--bulk-port",
        "0",
    ];
    Console::start(Place::Here, folder, "lo", &free)
}

fn demo_disk(folder: &Path) -> PathBuf {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo-disk.raw.zst");
    let disk = folder.join("master.raw");
    bash(&format!(
        "zstd -dq --sparse {} -o {}",
        text(&fixture),
        text(&disk)
    ));
    disk
}

fn images(console: &Console) -> PathBuf {
    console.data_dir.join("images")
}

fn manifest(image: &Path) -> Manifest {
    let file = fs::File::open(image).unwrap_or_else(|e| panic!("{}: {e}", image.display()));
    let len = file.metadata().expect("there").len();
    Image::open(file, len, None)
        .expect("an image")
        .manifest()
        .clone()
}

fn without_date(meta: &Meta) -> Meta {
    Meta {
        created: String::new(),
        ..meta.clone()
    }
}

#[test]
fn a_capture_from_a_target_is_the_local_one_and_deploys() {
    let folder = scratch();
    let disk = demo_disk(folder.path());
    let local = folder.path().join("local.dcimg");
    capture(&disk, &local, &["--note", "spring"]).ok();
    let console = console(folder.path());
    let words = [
        "image", "capture", "--json", "--name", "lab", "--note", "spring", "--target",
    ];
    console.cli(&[&words[..], &["all"]].concat()).code(4);
    let mut master = Agent::start(Place::Here, &console, &disk, 0, &[]);
    let target = folder.path().join("target.raw");
    poisoned(&target, DISK, TARGET_POISON);
    let second = Agent::start(Place::Here, &console, &target, DISK, &["--name", "second"]);
    let listed = console.wait_ready(2);
    console.cli(&[&words[..], &["all"]].concat()).code(2);
    let id = |agent: &Agent| {
        let path = text(&agent.disk);
        let has = |t: &&Value| t["facts"]["disks"][0]["path"] == path;
        let found = listed.iter().find(has).expect("listed");
        found["id"].as_str().expect("an id").to_owned()
    };

    let done = console.cli(&[&words[..], &[&id(&master)]].concat());
    assert_eq!(
        done.code,
        Some(0),
        "{}\n{}",
        done.story(),
        master.daemon.said()
    );
    let summary = done.last_of("summary");
    let image = images(&console).join("lab.dcimg");
    assert_eq!(summary["image"], text(&image));
    assert_eq!(master.daemon.ends(), Some(0));
    check_all(&image);
    let (here, there) = (manifest(&local), manifest(&image));
    assert_eq!(here.entries.len(), there.entries.len());
    for (a, b) in here.entries.iter().zip(&there.entries) {
        assert_eq!((a.chunk, &a.mask, a.id), (b.chunk, &b.mask, b.id));
    }
    assert_eq!(here.table, there.table);
    assert_eq!(without_date(&here.meta), without_date(&there.meta));
    assert_eq!(summary["root"], there.root().to_string());
    // With the same date and identity both have the same root.
    let same = |manifest: &Manifest| {
        let json = serde_json::to_vec(&without_date(&manifest.meta)).expect("json");
        let meta = serde_json::from_slice(&json).expect("json");
        Manifest::new(
            manifest.geometry,
            [7; 16],
            false,
            meta,
            manifest.table.clone(),
            manifest.entries.clone(),
        )
        .expect("a manifest")
        .root()
    };
    assert_eq!(same(&here), same(&there));

    // The name is taken now, and an image is never overwritten.
    let again = console.cli(&[&words[..], &[&id(&second)]].concat()).code(5);
    assert!(again.stdout.contains("exists"), "{}", again.story());

    let reference = folder.path().join("reference.raw");
    poisoned(&reference, DISK, TARGET_POISON);
    restore(&local, &reference, &[]).ok();
    let words = [
        "deploy",
        "--image",
        text(&image),
        "--targets",
        "second",
        "--yes",
        "--json",
    ];
    let deployed = console.cli(&words);
    assert_eq!(
        deployed.code,
        Some(0),
        "{}\n{}",
        deployed.story(),
        stories(&console, &[second])
    );
    same_bytes(
        "deployed beside a local restore",
        &reference,
        &target,
        0,
        DISK,
    );
}

#[test]
fn what_cannot_be_captured_is_refused_by_name_and_leaves_nothing() {
    let folder = scratch();
    let disk = demo_disk(folder.path());
    let esp = part(&disk, 512, 1);
    // The dirty bit of the boot sector: Linux sets it while a FAT is mounted.
    put_at(&disk, esp.start + 37, &[1]);
    let console = console(folder.path());
    let agent = Agent::start(Place::Here, &console, &disk, 0, &[]);
    console.wait_ready(1);
    let words = ["image", "capture", "--target", "all", "--name", "lab"];
    let refused = console
        .cli(&words)
        .code(5)
        .says(&["partition 1", "fat16", "--raw-partition 1"]);
    assert_eq!(
        fs::read_dir(images(&console)).expect("a folder").count(),
        0,
        "{}",
        refused.story()
    );
    drop(agent);
    // The first agent has ended with its job.
    let _agent = Agent::start(Place::Here, &console, &disk, 0, &["--name", "again"]);
    console.wait_ready(1);
    for (more, code) in [
        (["--disk", "path:/dev/nothing"], 5),
        (["--disk", "nonsense"], 2),
        (["--name", "../lab"], 2),
    ] {
        let mut all = words.to_vec();
        if more[0] == "--name" {
            all.truncate(4);
        }
        console.cli(&[&all[..], &more].concat()).code(code);
    }
    // With the option the same disk is captured whole.
    let password = folder.path().join("password");
    fs::write(&password, "open sesame\n").expect("written");
    let more = ["--raw-partition", "1", "--password-file", text(&password)];
    let done = console.cli(&[&words[..], &more].concat()).ok();
    let image = images(&console).join("lab.dcimg");
    common::images::check(&image, &["--deep", "--password-file", text(&password)]).ok();
    let said = format!("{}{}", console.daemon.said(), done.story());
    assert!(!said.contains("open sesame"));
    let kept = fs::read(console.data_dir.join("console.db")).expect("the store");
    assert!(!kept.windows(11).any(|bytes| bytes == b"open sesame"));
}

/// The capture's own counters, from `job show --json`.
fn standing(console: &Console, job: &str) -> Value {
    console.cli(&["job", "show", job, "--json"]).ok().json()
}

/// Chunks of 1 MiB that the console has, and the number of them received since it took up the job.
fn held(view: &Value) -> (u64, u64) {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let bytes = number(&view["targets"][0]["done_bytes"]);
    (bytes >> 20, number(&view["capture"]["received_chunks"]))
}

/// Waits until `at_least` chunks are there and more are coming; returns their number. The agent is
/// then stopped, so that its capture cannot end meanwhile.
#[track_caller]
fn held_at(console: &Console, job: &str, at_least: u64, agent: &mut Agent) -> u64 {
    agent.daemon.held_when("its chunks", || {
        let view = standing(console, job);
        let (there, _) = held(&view);
        assert_ne!(view["state"], "done", "{view:#}\n{}", console.daemon.said());
        let capturing = view["targets"][0]["state"] == "capturing";
        (there >= at_least && capturing).then_some(there)
    })
}

#[test]
fn a_cut_capture_goes_on_and_sends_nothing_twice() {
    let folder = scratch();
    let disk = folder.path().join("master.raw");
    // 60 chunks that take time at a slow level. The file system is unknown, so all of the disk is
    // captured.
    let bytes: Vec<u8> = (0..30)
        .flat_map(|n| {
            [
                noise(&format!("noise {n}"), MIB),
                prose(&format!("prose {n}"), MIB),
            ]
        })
        .flatten()
        .collect();
    fs::write(&disk, &bytes).expect("a disk");
    let chunks = 60;
    let mut console = console(folder.path());
    let start = |console: &Console| Agent::start(Place::Here, console, &disk, 0, &[]);
    let mut agent = start(&console);
    console.wait_ready(1);
    let words = [
        "image",
        "capture",
        "--target",
        "all",
        "--name",
        "big",
        "--level",
        "12",
        "--threads",
        "1",
        "--detach",
        "--json",
    ];
    let made = console.cli(&words).ok().json();
    let job = made["job"].as_str().expect("a job").to_owned();

    // The agent is killed; another agent of the same machine takes over.
    let before = held_at(&console, &job, 8, &mut agent);
    agent.daemon.kill();
    let cut = standing(&console, &job);
    assert_eq!(cut["state"], "running", "{cut:#}");
    let mut agent = start(&console);
    let after = held_at(&console, &job, before + 12, &mut agent);
    let (there, received) = held(&standing(&console, &job));
    assert!(
        there >= after && received <= there + 1,
        "{received} came for {there}: some twice"
    );

    // The console is killed; the agent lives and remembers which chunks it has read.
    let port = console
        .control
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    console.daemon.kill();
    drop(console);
    let same = [
        "--listen",
        "127.0.0.1",
        "--control-port",
        &port,
        "--bulk-port",
        "0",
    ];
    let console = Console::start(Place::Here, folder.path(), "lo", &same);
    agent.daemon.signal("CONT");
    let done = console.cli(&["job", "wait", &job, "--json"]);
    assert_eq!(
        done.code,
        Some(0),
        "{}\n{}\n{}",
        done.story(),
        console.daemon.said(),
        agent.daemon.said()
    );
    let end = done.last_of("summary");
    let (kept, received) = (&end["kept_chunks"], &end["received_chunks"]);
    // A record or two may have been in the dead console's buffer.
    assert!(
        kept.as_u64() >= Some(after - 4),
        "{after} were there: {end:#}\n{}",
        console.cli(&["job", "log", &job]).story()
    );
    assert_eq!(
        kept.as_u64().zip(received.as_u64()).map(|(a, b)| a + b),
        Some(chunks),
        "{end:#}"
    );
    assert_eq!(agent.daemon.ends(), Some(0));
    let image = images(&console).join("big.dcimg");
    check_all(&image);
    let copy = folder.path().join("copy.raw");
    restore(&image, &copy, &[]).ok();
    same_bytes(
        "restored beside the master",
        &disk,
        &copy,
        0,
        bytes.len() as u64,
    );
    assert!(!images(&console).join("big.dcimg.partial").exists());
}

#[test]
fn a_disk_that_changed_meanwhile_is_captured_anew_and_a_cancelled_capture_leaves_nothing() {
    let folder = scratch();
    let disk = folder.path().join("master.raw");
    let bytes: Vec<u8> = (0..40)
        .flat_map(|n| prose(&format!("prose {n}"), MIB))
        .collect();
    fs::write(&disk, &bytes).expect("a disk");
    let console = console(folder.path());
    let mut agent = Agent::start(Place::Here, &console, &disk, 0, &[]);
    console.wait_ready(1);
    let words = [
        "image",
        "capture",
        "--target",
        "all",
        "--level",
        "12",
        "--threads",
        "1",
        "--detach",
        "--json",
        "--name",
    ];
    let made = console.cli(&[&words[..], &["a"]].concat()).ok().json();
    let job = made["job"].as_str().expect("a job");
    held_at(&console, job, 10, &mut agent);
    agent.daemon.kill();
    // In a chunk that is stored already, where no survey can notice it.
    put_at(&disk, 3 << 20, b"changed while nobody looked");
    let mut agent = Agent::start(Place::Here, &console, &disk, 0, &[]);
    console.cli(&["job", "wait", job]).ok();
    let log = console.cli(&["job", "log", job]).ok();
    assert!(log.stdout.contains("begins anew"), "{}", log.story());
    let copy = folder.path().join("copy.raw");
    restore(&images(&console).join("a.dcimg"), &copy, &[]).ok();
    same_bytes(
        "restored beside the changed master",
        &disk,
        &copy,
        0,
        bytes.len() as u64,
    );
    assert_eq!(agent.daemon.ends(), Some(0));

    // Ctrl-C at the command that captures.
    let mut agent = Agent::start(Place::Here, &console, &disk, 0, &[]);
    console.wait_ready(1);
    let log = folder.path().join("capture.log");
    let words: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| *word != "--detach")
        .collect();
    let mut command = console.cli_daemon(&[&words[..], &["b"]].concat(), &log);
    let jobs = wait_for("the second job", || {
        Some(console.jobs()).filter(|jobs| jobs.len() == 2)
    });
    let newest = jobs
        .iter()
        .filter_map(|j| j["id"].as_str())
        .max()
        .expect("a job")
        .to_owned();
    held_at(&console, &newest, 5, &mut agent);
    command.signal("INT");
    assert_eq!(command.ends(), Some(130), "{}", command.said());
    assert_eq!(standing(&console, &newest)["state"], "cancelled");
    agent.daemon.signal("CONT");
    assert_eq!(agent.daemon.ends(), Some(3), "{}", agent.daemon.said());
    let left: Vec<_> = fs::read_dir(images(&console))
        .expect("a folder")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(left, ["a.dcimg"]);
}

/// An agent in this process, with a desk that this test operates.
struct AtTheDesk {
    desk: Desk,
    _runtime: tokio::runtime::Runtime,
}

impl AtTheDesk {
    fn start(console: &Console, disk: &Path, name: &str) -> Self {
        let desk = Desk::with_screen();
        let options = AgentOptions {
            console: Some(console.control.clone()),
            pin: console.pin.parse().expect("a pin"),
            disks: vec![DiskOffer {
                path: disk.to_owned(),
                size: None,
            }],
            once: false,
            power: false,
            interface: None,
            name: Some(name.to_owned()),
            second: "239.254.1.2:5004".parse().expect("an address"),
            inject: InjectedLoss::NONE,
            desk: desk.clone(),
            on_end: None,
        };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.spawn(agent::run(options));
        Self {
            desk,
            _runtime: runtime,
        }
    }

    /// Picks from the menu as soon as it has choices.
    #[track_caller]
    fn pick(&self, id: &str) {
        wait_for("a menu", || (!self.desk.menu().is_empty()).then_some(()));
        self.desk.pick(id);
    }

    /// Answers the next question by the label of a choice; returns the text of the question.
    #[track_caller]
    fn answer(&self, label: &str) -> String {
        let (number, question) = wait_for("a question", || self.desk.question());
        let choice = question.choices.iter().find(|c| c.label.contains(label));
        let choice = choice.unwrap_or_else(|| panic!("no {label:?} in {question:?}"));
        self.desk.answer(number, Some(choice.id.clone()));
        format!("{}\n{}", question.title, question.lines.join("\n"))
    }
}

#[test]
fn people_at_targets_take_offers_within_limits_and_ask_for_backups() {
    let folder = scratch();
    let disk = demo_disk(folder.path());
    let image = folder.path().join("demo.dcimg");
    capture(&disk, &image, &[]).ok();
    let console = console(folder.path());
    let add = [
        "offer",
        "add",
        "office",
        "--image",
        text(&image),
        "--targets",
        "desk-*",
    ];
    console
        .cli(&[&add[..], &["--limit", "1", "--note", "Office PC"]].concat())
        .ok();
    console.cli(&add).code(5);
    let other = [
        "offer",
        "add",
        "lab",
        "--image",
        text(&image),
        "--targets",
        "lab-*",
    ];
    console.cli(&other).ok();

    let mine = folder.path().join("mine.raw");
    poisoned(&mine, DISK, TARGET_POISON);
    let person = AtTheDesk::start(&console, &mine, "desk-1");
    person.pick("offers");
    // The menu has only offers for this machine; the second question names the disk.
    let menu = person.answer("office: Office PC");
    assert!(!menu.contains("lab"), "{menu}");
    let asked = person.answer("No");
    assert!(
        asked.contains(text(&mine)) && asked.contains("lost"),
        "{asked}"
    );
    assert!(console.jobs().is_empty(), "a no is a no");
    person.pick("offers");
    person.answer("office");
    person.answer("Erase and write");
    wait_for("the job", || (!console.jobs().is_empty()).then_some(()));
    let job = console.job()["id"].as_str().expect("an id").to_owned();
    console.cli(&["job", "wait", &job]).ok();
    let log = console.cli(&["job", "log", &job]).ok();
    assert!(log.stdout.contains("from offer office"), "{}", log.story());
    same_bytes("the data of the demo disk", &disk, &mine, 0, 4096);
    // The offer has reached its limit.
    person.pick("offers");
    let none = person.answer("Back");
    assert!(none.contains("nothing"), "{none}");
    let list = console.cli(&["offer", "list", "--json"]).ok().json();
    assert_eq!(list["offers"][1]["taken"], 1, "{list:#}");
    console.cli(&["offer", "remove", "office"]).ok();
    console.cli(&["offer", "remove", "office"]).code(4);

    // A backup is requested here, and confirmed at the console.
    person.pick("backup");
    person.answer("Back up");
    let said = person.answer("Back");
    assert!(said.contains("confirms"), "{said}");
    let listed = console.cli(&["target", "list"]).ok();
    assert!(
        listed.stderr.contains("asks for a backup"),
        "{}",
        listed.story()
    );
    assert_eq!(
        console.jobs().len(),
        1,
        "nothing is read before somebody confirms"
    );
    let done = console
        .cli(&["image", "capture", "--target", "desk-1", "--json"])
        .ok();
    let backup = done.last_of("summary")["image"]
        .as_str()
        .expect("a path")
        .to_owned();
    assert!(backup.contains("desk-1-20"), "{backup}");
    check_all(Path::new(&backup));
    assert!(console.targets()[0]["asks"].is_null());
    console
        .cli(&["image", "capture", "--target", "desk-1", "--decline"])
        .code(4);
}
