//! A damaged master image: found before the first wipe, and the end of the job when it decays in
//! the middle.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::common::disk::{Loop, bytes_at, part};
use super::common::fill::{TARGET_POISON, noise, poisoned, put_noise_file};
use super::common::images::capture;
use super::common::process::{Run, bash, text, wait_for};
use super::common::scratch;
use super::common::service::{Agent, Console, Place, states, stories};
use super::the_ports;

const MIB: u64 = 1 << 20;
pub(super) const DISK: u64 = 28 * MIB;

/// Makes and captures a disk with one ext4 partition from 1 MiB on that is full of noise.
pub(super) fn master(folder: &Path, noise_mib: usize) -> PathBuf {
    let disk = folder.join("master.raw");
    poisoned(&disk, DISK, 0);
    bash(&format!(
        "sgdisk -n 1:2048:0 -t 1:8300 {} > /dev/null",
        text(&disk)
    ));
    let device = Loop::part(&disk, &part(&disk, 512, 1), 512);
    bash(&format!("mkfs.ext4 -q -L master {}", text(device.path())));
    put_noise_file(&device, "bulk.bin", &noise("check", noise_mib << 20));
    drop(device);
    let image = folder.join("master.dcimg");
    capture(&disk, &image, &[]).ok();
    image
}

/// Damages eight bytes among the chunks of the file, at `percent` of its length.
fn spoil(image: &Path, percent: u64) {
    let size = std::fs::metadata(image).expect("there").len();
    let file = OpenOptions::new()
        .write(true)
        .open(image)
        .expect("writable");
    file.write_all_at(b"XXXXXXXX", size * percent / 100)
        .expect("written");
}

fn agents(console: &Console, folder: &Path, count: usize, more: &[&str]) -> Vec<Agent> {
    let agents = (1..=count)
        .map(|i| {
            let disk = folder.join(format!("target-{i}.raw"));
            poisoned(&disk, DISK, TARGET_POISON);
            Agent::start(Place::Here, console, &disk, DISK, more)
        })
        .collect();
    console.wait_ready(count);
    agents
}

#[track_caller]
fn untouched(agents: &[Agent]) {
    for agent in agents {
        let bytes = bytes_at(&agent.disk, 0, DISK);
        assert!(
            bytes.iter().all(|byte| *byte == TARGET_POISON),
            "{} was written to",
            agent.disk.display()
        );
    }
}

/// Asserts a refusal with code 7 that names chunk, partition and bytes.
#[track_caller]
fn names_the_damage(run: &Run) {
    assert_eq!(run.code, Some(7), "{}", run.story());
    for words in [
        "image damaged, chunk ",
        "partition 1 (ext4), bytes ",
        "nothing was written",
    ] {
        assert!(
            run.stderr.contains(words) || run.stdout.contains(words),
            "{words}: {}",
            run.story()
        );
    }
}

/// A dry run used to say nothing, the disks were wiped, and the console logged an error every three
/// seconds for ever.
#[test]
fn a_damaged_image_is_refused_before_the_first_disk_is_touched() {
    let _ports = the_ports();
    let folder = scratch();
    let image = master(folder.path(), 16);
    let console = Console::start(Place::Here, folder.path(), "lo", &[]);
    let agents = agents(&console, folder.path(), 2, &[]);
    let deploy = |words: &[&str]| {
        let base = [
            "deploy",
            "--image",
            text(&image),
            "--targets",
            "all",
            "--json",
        ];
        console.cli(&[&base[..], words].concat())
    };
    // A whole image is checked once, and the result is kept and shown; after a touch it counts as
    // another file.
    let plan = |run: &Run| run.last_of("plan")["image"]["checked"].clone();
    let first = plan(&deploy(&["--dry-run"]).ok());
    assert!(
        first.is_string(),
        "the plan does not say that the image was checked"
    );
    assert_eq!(
        plan(&deploy(&["--dry-run"]).ok()),
        first,
        "it was checked twice"
    );
    bash(&format!("touch {}", text(&image)));
    let again = plan(&deploy(&["--dry-run"]).ok());
    assert!(again.is_string() && again != first, "{again} after {first}");

    spoil(&image, 70);
    names_the_damage(&deploy(&["--dry-run"]));
    names_the_damage(&deploy(&["--yes"]));
    assert!(console.jobs().is_empty(), "{:#?}", console.jobs());
    let offered = console.cli(&[
        "offer",
        "add",
        "exam",
        "--image",
        text(&image),
        "--targets",
        "all",
    ]);
    names_the_damage(&offered);
    let template = console.cli(&[
        "deploy",
        "--image",
        text(&image),
        "--targets",
        "all",
        "--dry-run",
        "--save-template",
        "lab",
        "--no-check",
    ]);
    assert!(template.ok().stdout.contains("check   none: --no-check"));
    names_the_damage(&console.cli(&["deploy", "--template", "lab", "--targets", "all", "--yes"]));

    // A client other than our command is stopped by the job itself.
    let seen: std::collections::BTreeMap<String, String> = console
        .targets()
        .iter()
        .map(|target| {
            let id = target["id"].as_str().expect("an id").to_owned();
            let disk = serde_json::from_value(target["facts"]["disks"][0].clone());
            (id, api::confirm::shown(&disk.expect("a disk")))
        })
        .collect();
    let body = serde_json::json!({
        "request": {"image": text(&image), "targets": "all"},
        "expect_targets": seen.keys().collect::<Vec<_>>(),
        "expect_disks": seen,
    });
    bash(&format!(
        "curl -sf --unix-socket {} -d '{body}' http://c/v1/jobs > /dev/null",
        text(&console.data_dir.join("console.sock"))
    ));
    let id = console.job()["id"].as_str().expect("an id").to_owned();
    let ended = console.cli(&["job", "wait", &id, "--json"]);
    assert_eq!(ended.code, Some(7), "{}", ended.story());
    assert_eq!(states(&console.job())["failed"], 2);
    names_the_damage(&console.cli(&["job", "retry", &id, "--yes"]));
    untouched(&agents);
}

/// Damages the rest of the image half-way through a job.
fn rots(more: &[&str], of_agents: &[&str]) {
    let _ports = the_ports();
    let folder = scratch();
    let image = master(folder.path(), 16);
    let console = Console::start(Place::Here, folder.path(), "lo", &[]);
    let mut agents = agents(&console, folder.path(), 2, of_agents);
    let base = [
        "deploy",
        "--image",
        text(&image),
        "--targets",
        "all",
        "--yes",
        "--rate",
        "10mbit",
        "--reuse",
        "never",
    ];
    let log = folder.path().join("deploy.log");
    let mut deploy = console.cli_daemon(&[&base[..], more].concat(), &log);
    wait_for("something written", || {
        let job = console.jobs().first().cloned()?;
        let all = job["targets"].as_array()?.clone();
        all.iter()
            .all(|target| target["done_bytes"].as_u64() > Some(MIB))
            .then_some(())
    });
    // All that is still to come, and much of the rest: every further read is damaged, however late
    // this is.
    for percent in 20..95 {
        spoil(&image, percent);
    }
    let begun = Instant::now();
    let code = deploy.ends();
    let told = format!("{}\n{}", deploy.said(), stories(&console, &agents));
    assert_eq!(code, Some(7), "{told}");
    let job = console.job();
    assert_eq!(states(&job)["failed"], 2, "{job:#}\n{told}");
    for target in job["targets"].as_array().expect("targets") {
        let reason = target["reason"].as_str().expect("a reason");
        assert!(
            reason.starts_with("image damaged, chunk "),
            "{reason}\n{told}"
        );
        assert!(reason.contains("partition 1 (ext4), bytes "), "{reason}");
    }
    // Logged once or twice, not for ever.
    let said = std::fs::read_to_string(folder.path().join("console.log")).expect("a log");
    let times = said.matches("image damaged").count();
    assert!(times < 10, "{times} lines in {:?}", begun.elapsed());
    for agent in &agents {
        let head = bytes_at(&agent.disk, 0, 1024);
        assert!(
            head.iter().all(|byte| *byte == 0),
            "a half-written disk shows a table"
        );
    }
    // The recorded check of the file is not valid any more. The agents end with the job, because of
    // `--once`.
    for agent in &mut agents {
        agent.daemon.ends();
    }
    console.wait_connected(0);
    let disk = folder.path().join("another.raw");
    poisoned(&disk, DISK, TARGET_POISON);
    let _another = Agent::start(Place::Here, &console, &disk, DISK, &[]);
    console.wait_ready(1);
    let again = console.cli(&[&base[..], &["--dry-run"]].concat());
    assert_eq!(again.code, Some(7), "{}", again.story());
}

#[test]
fn an_image_that_rots_in_mid_job_ends_it_for_all() {
    rots(&[], &[]);
}

#[test]
fn an_image_that_rots_while_it_is_fetched_ends_the_job_too() {
    rots(&[], &["--inject-loss", "1"]);
}

/// Checks of an encrypted image, of one in several files, and of a part of an image.
#[test]
fn every_kind_of_image_is_checked_before_the_first_disk_is_touched() {
    const TWO: u64 = 48 * MIB;
    let _ports = the_ports();
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    // Two partitions, both full of noise: damage at the end of the file is in the second one.
    let disk = path("two.raw");
    poisoned(&disk, TWO, 0);
    bash(&format!(
        "sgdisk -n 1:2048:+20M -t 1:8300 -n 2:0:0 -t 2:8300 {} > /dev/null",
        text(&disk)
    ));
    for (number, name) in [(1, "first"), (2, "second")] {
        let device = Loop::part(&disk, &part(&disk, 512, number), 512);
        bash(&format!("mkfs.ext4 -q -L {name} {}", text(device.path())));
        put_noise_file(&device, "bulk.bin", &noise(name, 12 << 20));
    }
    let password = path("password");
    std::fs::write(&password, "correct horse\n").expect("a file");
    let (plain, sealed, divided) = (path("plain.dcimg"), path("sealed.dcimg"), path("cut.dcimg"));
    capture(&disk, &plain, &[]).ok();
    capture(&disk, &sealed, &["--password-file", text(&password)]).ok();
    capture(&disk, &divided, &["--volume-size", "16M"]).ok();

    let console = Console::start(Place::Here, folder.path(), "lo", &[]);
    let target = path("target.raw");
    poisoned(&target, TWO, TARGET_POISON);
    let mut agents = [Agent::start(Place::Here, &console, &target, TWO, &[])];
    console.wait_ready(1);
    let deploy = |image: &Path, more: &[&str]| {
        let base = [
            "deploy",
            "--image",
            text(image),
            "--targets",
            "all",
            "--json",
        ];
        console.cli(&[&base[..], more].concat())
    };
    let checked = |image: &Path, more: &[&str]| {
        let plan = deploy(image, &[more, &["--dry-run"]].concat())
            .ok()
            .last_of("plan");
        assert!(plan["image"]["checked"].is_string(), "{plan:#}");
    };
    let locked = ["--password-file", text(&password)];
    checked(&sealed, &locked);
    checked(&divided, &[]);

    let damaged = |run: &Run| {
        assert_eq!(run.code, Some(7), "{}", run.story());
        for words in ["image damaged, chunk ", "partition 2 (ext4), bytes "] {
            assert!(run.stdout.contains(words), "{words}: {}", run.story());
        }
    };
    let size = |path: &Path| std::fs::metadata(path).expect("there").len();
    let spoil_at = |image: &Path, at: u64| {
        let file = OpenOptions::new()
            .write(true)
            .open(image)
            .expect("writable");
        file.write_all_at(b"XXXXXXXX", at).expect("written");
    };
    spoil_at(&sealed, size(&sealed) * 8 / 10);
    damaged(&deploy(&sealed, &[&locked[..], &["--yes"]].concat()));
    // The last file of several.
    let mut volumes: Vec<PathBuf> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| text(path).contains("cut"))
        .collect();
    volumes.sort();
    assert_eq!(volumes.len(), 2, "{volumes:?}");
    let (first, second) = (size(&volumes[0]), size(&volumes[1]));
    spoil_at(&volumes[usize::from(second < first)], first.min(second) / 2);
    damaged(&deploy(&divided, &["--yes"]));
    spoil_at(&plain, size(&plain) * 8 / 10);
    damaged(&deploy(&plain, &["--yes"]));
    damaged(&deploy(&plain, &["--partitions", "2", "--yes"]));
    assert!(console.jobs().is_empty(), "{:#?}", console.jobs());
    untouched(&agents);

    // The undamaged partition is deployed: the damaged one is not sent.
    let run = deploy(&plain, &["--partitions", "1", "--yes"]);
    assert_eq!(
        run.code,
        Some(0),
        "{}\n{}",
        run.story(),
        stories(&console, &agents)
    );
    assert_eq!(agents[0].daemon.ends(), Some(0));
}
