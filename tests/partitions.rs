//! Part of an image: chosen partitions onto a whole disk, and one partition onto an existing one
//! while everything else on the disk stays.
#![allow(
    clippy::cast_possible_truncation,
    reason = "test arithmetic on small sizes"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests are the edge: they make files"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::disk::{Fs, Loop, Part, bytes_at, part, parts, same_bytes, sfdisk_clean, sgdisk_clean};
use common::fill::{TARGET_POISON, noise, poison_range, same_tree};
use common::images::{info, restore};
use common::master::Master;
use common::process::{bash, text};
use common::room::Room;
use common::service::{Agent, Console, Place, stories, target_of};

const MIB: u64 = 1 << 20;

/// ESP, ext4, and an NTFS that begins and ends in unusual places: in the middle of a chunk that it
/// shares with its neighbour.
fn master() -> Master {
    Master::new(
        120 * MIB,
        512,
        "sgdisk -a 1 -n 1:2048:+20M -t 1:ef00 -n 2:0:124990 -t 2:8300 -n 3:124991:200700 -t 3:0700 $disk > /dev/null",
    )
    .put(1, Fs::Fat, 4)
    .put(2, Fs::Ext4, 8)
    .put(3, Fs::Ntfs, 6)
}

/// Asserts that the volume of the master's partition is in `place` of another disk.
#[track_caller]
fn same_volume(master: &Master, number: u32, disk: &Path, place: &Part) {
    let (_, fs, tree) = master
        .volumes
        .iter()
        .find(|(own, ..)| *own == number)
        .expect("a volume of the master");
    let device = Loop::part(disk, place, 512);
    fs.check(&device);
    same_tree(&format!("partition {number}"), tree, &fs.tree(&device));
}

/// Makes a disk in use: its own table, a partition that may be overwritten, and two that may not.
fn used_disk(folder: &Path, name: &str) -> PathBuf {
    let disk = folder.join(name);
    fs::write(&disk, noise("a disk in use", 100 * MIB as usize)).expect("a disk");
    poison_range(&disk, 0, MIB, 0);
    poison_range(&disk, 99 * MIB, MIB, 0);
    bash(&format!(
        "sgdisk -a 1 -n 1:2048:+10M -n 2:40001:140000 -t 2:0700 -n 3:150000:0 {} > /dev/null",
        text(&disk)
    ));
    disk
}

/// Asserts that every byte of the disk outside the partition is unchanged.
#[track_caller]
fn nothing_else_changed(before: &Path, after: &Path, place: &Part) {
    let size = fs::metadata(before).expect("a disk").len();
    assert_eq!(fs::metadata(after).expect("a disk").len(), size);
    same_bytes("before the partition", before, after, 0, place.start);
    let end = place.start + place.length;
    same_bytes("behind the partition", before, after, end, size - end);
}

#[test]
fn chosen_partitions_fit_a_smaller_disk_and_the_others_are_cleared() {
    let master = master();
    let image = master.image();
    let target = master.target("some.raw", 64 * MIB);
    restore(&image, &target, &[]).code(5).says(&["partition 3"]);
    let run = restore(
        &image,
        &target,
        &["--partitions", "2", "--grow", "last", "--json"],
    )
    .ok();
    let summary = run.last_of("summary");
    assert_ne!(summary["root"], info(&image)["root"], "not all was proven");
    sgdisk_clean(&target);
    sfdisk_clean(&target);
    let left = parts(&target, 512);
    let numbers: Vec<u32> = left.iter().map(|part| part.number).collect();
    assert_eq!(numbers, [2]);
    assert!(left[0].length > 41 * MIB, "{left:?}");
    same_volume(&master, 2, &target, &left[0]);
    // The first partition was not written: its place is unchanged, behind the front of the disk
    // that became zero.
    let untouched = bytes_at(&target, 5 * MIB, 7 * MIB);
    assert!(untouched.iter().all(|byte| *byte == TARGET_POISON));
    // The same choice has the same root; numbers that do not exist are named.
    let again = master.target("again.raw", 64 * MIB);
    let run = restore(&image, &again, &["--partitions", "2", "--json"]).ok();
    assert_eq!(run.last_of("summary")["root"], summary["root"]);
    let wrong = restore(&image, &again, &["--partitions", "2,7"]);
    wrong.code(5).says(&["no partition 7", "1, 2, 3"]);
}

#[test]
fn one_partition_goes_onto_another_and_everything_else_stays() {
    let master = master();
    let image = master.image();
    let target = used_disk(master.folder.path(), "used.raw");
    let before = master.file("before.raw");
    fs::copy(&target, &before).expect("a copy");
    let place = part(&target, 512, 2);
    restore(&image, &target, &["--partitions", "3", "--onto", "2"]).ok();
    nothing_else_changed(&before, &target, &place);
    same_volume(&master, 3, &target, &place);
    let hidden = bytes_at(&target, place.start + 0x1c, 4);
    let hidden = u32::from_le_bytes(hidden.try_into().expect("four bytes"));
    assert_eq!(
        u64::from(hidden) * 512,
        place.start,
        "where NTFS begins now"
    );

    // Another one over it: the first one's bytes may be overwritten.
    restore(&image, &target, &["--partitions", "2", "--onto", "2"]).ok();
    nothing_else_changed(&before, &target, &place);
    same_volume(&master, 2, &target, &place);

    // Choices that do not fit are refused, and the disk stays unchanged.
    let now = master.file("now.raw");
    fs::copy(&target, &now).expect("a copy");
    for (words, said) in [
        (&["--partitions", "2", "--onto", "1"][..], "partition 1 has"),
        (&["--partitions", "2", "--onto", "9"], "no partition 9"),
        (&["--partitions", "5", "--onto", "2"], "no partition 5"),
        (
            &["--partitions", "2,3", "--onto", "2"],
            "choose the one partition",
        ),
    ] {
        restore(&image, &target, words).code(5).says(&[said]);
    }
    restore(&image, &target, &["--onto", "2"]).code(2);
    same_bytes("after refusals", &now, &target, 0, 100 * MIB);
}

#[test]
fn a_room_gets_one_partition_each_and_keeps_its_data() {
    let master = master();
    let image = master.image();
    let folder = master.folder.path();
    let room = Room::new("pa", 2, "1000mbit", 0.0);
    let console = Console::start(Place::Namespace(&room.console()), folder, "eth0", &[]);
    let mut agents = Vec::new();
    let mut before = Vec::new();
    for number in 1..=2 {
        let disk = used_disk(folder, &format!("target-{number}.raw"));
        let copy = master.file(&format!("before-{number}.raw"));
        fs::copy(&disk, &copy).expect("a copy");
        before.push(copy);
        let place = room.target(number);
        agents.push(Agent::start(
            Place::Namespace(&place),
            &console,
            &disk,
            100 * MIB,
            &[],
        ));
    }
    console.wait_ready(2);
    let deploy = |words: &[&str]| {
        let base = ["deploy", "--image", text(&image), "--targets", "all"];
        console.cli(&[&base[..], words].concat())
    };
    let refused = deploy(&["--partitions", "2", "--onto", "1", "--dry-run"]).code(5);
    assert!(
        refused.stdout.contains("partition 1 has"),
        "{}",
        refused.story()
    );
    deploy(&["--partitions", "8", "--dry-run"])
        .code(2)
        .says(&["1, 2, 3"]);
    let plan = deploy(&["--partitions", "2", "--dry-run"]).ok();
    assert!(
        plan.stdout
            .contains("partition 1 is what the master starts from"),
        "{}",
        plan.story()
    );
    // The same words and units as `image info`, for the image and for the contents of the disks.
    let known = common::process::diskcast(["image", "info", text(&image)]).ok();
    let lines: Vec<&str> = known
        .stdout
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("partition "))
        .collect();
    assert_eq!(lines.len(), 3, "{}", known.story());
    for line in lines {
        assert!(plan.stdout.contains(line), "{line}\n{}", plan.story());
    }
    let now = plan.stdout.split("NOW ON IT").nth(1).unwrap_or_default();
    assert!(now.contains("partition 2 "), "{}", plan.story());
    assert!(!plan.stdout.contains("0.0 GB"), "{}", plan.story());
    let plan = deploy(&["--partitions", "3", "--onto", "2", "--dry-run"]).ok();
    assert!(
        plan.stdout
            .contains("Partition 2 of 2 disks will be erased"),
        "{}",
        plan.story()
    );

    let run = deploy(&["--partitions", "3", "--onto", "2", "--yes", "--json"]);
    assert_eq!(
        run.code,
        Some(0),
        "{}\n{}",
        run.story(),
        stories(&console, &agents)
    );
    let summary = run.last_of("summary");
    // Fewer bytes were sent than the whole image has.
    let plan = run.last_of("plan");
    let bytes = |key: &str| plan["image"][key].as_u64().expect("bytes");
    assert!(bytes("wire_bytes") < bytes("file_bytes") / 2, "{plan:#}");
    let sent = summary["session"]["wire_bytes"].as_u64().expect("bytes");
    assert!(sent < bytes("file_bytes"), "{sent} of {plan:#}");
    // The proof is for the partition, and is not compared with the whole image.
    assert_eq!(summary["chosen_root"], plan["image"]["chosen_root"]);
    let job = summary["job"].as_str().expect("a number");
    for words in [
        ["job", "show", job],
        ["job", "report", job],
        ["job", "watch", job],
    ] {
        let shown = console.cli(&words).ok();
        let rows = shown.stdout.matches("  matches  ").count();
        assert!(
            rows == 2 && !shown.stdout.contains("DIFFERS"),
            "{}",
            shown.story()
        );
        if words[1] == "watch" {
            let proof = shown.stderr.matches("read back and equal to the image");
            assert_eq!(proof.count(), 2, "{}", shown.story());
        }
    }
    let report = console.cli(&["job", "report", job, "--json"]).ok().json();
    assert_eq!(report["job"]["chosen_root"], summary["chosen_root"]);
    for (agent, before) in agents.iter().zip(&before) {
        let target = target_of(&summary, &agent.disk);
        assert_eq!(target["state"], "done", "{target:#}");
        assert_eq!(target["root"], plan["image"]["chosen_root"]);
        let place = part(&agent.disk, 512, 2);
        nothing_else_changed(before, &agent.disk, &place);
        same_volume(&master, 3, &agent.disk, &place);
    }
}

#[test]
fn a_target_cut_off_in_the_middle_keeps_its_data_and_goes_on() {
    let master = master();
    let image = master.image();
    let folder = master.folder.path();
    // Slow, so that there is a middle.
    let room = Room::new("pc", 1, "20mbit", 0.0);
    let console = Console::start(Place::Namespace(&room.console()), folder, "eth0", &[]);
    let disk = used_disk(folder, "target.raw");
    let before = master.file("before.raw");
    fs::copy(&disk, &before).expect("a copy");
    let place = part(&disk, 512, 2);
    let target = room.target(1);
    let start = || Agent::start(Place::Namespace(&target), &console, &disk, 100 * MIB, &[]);
    let mut agent = start();
    console.wait_ready(1);
    let words = [
        "deploy",
        "--image",
        text(&image),
        "--targets",
        "all",
        "--partitions",
        "2",
        "--onto",
        "2",
        "--yes",
        "--detach",
    ];
    console.cli(&words).ok();
    agent.daemon.held_when("2 MiB", || {
        let job = console.job();
        assert_ne!(job["state"], "done", "{job:#}");
        let done = job["targets"][0]["done_bytes"].as_u64();
        (done >= Some(2 * MIB)).then_some(())
    });
    agent.daemon.kill();
    nothing_else_changed(&before, &disk, &place);
    let head = bytes_at(&disk, place.start, MIB);
    assert!(
        head.iter().all(|byte| *byte == 0),
        "a file system shows half-made"
    );
    let agent = start();
    let job = console.job()["id"].as_str().expect("a job").to_owned();
    let run = console.cli(&["job", "wait", &job]);
    assert_eq!(
        run.code,
        Some(0),
        "{}\n{}",
        run.story(),
        agent.daemon.said()
    );
    nothing_else_changed(&before, &disk, &place);
    same_volume(&master, 2, &disk, &place);
}
