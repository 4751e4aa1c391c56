//! Masters at targets that cannot be read everywhere: the image records the missing bytes, like
//! that of a local capture.

use std::fs;

use serde_json::Value;

use super::common::disk::{Loop, MIB, blank, bytes_at, part, same_bytes};
use super::common::failing::{Failing, SECTOR, sector_of};
use super::common::fill::{noise, put_noise_file};
use super::common::images::{capture, check, info, restore};
use super::common::process::{diskcast, text, tool};
use super::common::scratch;
use super::common::service::{Agent, Place};
use super::{console, held_at, images, without_date};

#[test]
fn a_rescue_lists_the_same_holes_as_a_local_one() {
    let folder = scratch();
    let disk = blank(folder.path(), "master.raw", 56 * MIB);
    tool(&["sgdisk", "-n", "1:0:0", text(&disk)]);
    {
        let device = Loop::part(&disk, &part(&disk, 512, 1), 512);
        tool(&["mke2fs", "-q", "-F", "-t", "ext4", device.text()]);
        put_noise_file(&device, "noise.bin", &noise("rescue", 4 * MIB as usize));
    }
    let bad = [100, 900].map(|block| sector_of(&disk, "/noise.bin", block) + 1);
    let failing = Failing::new(&disk, &bad);
    let local = folder.path().join("local.dcimg");
    capture(&failing.path, &local, &["--rescue"]).ok();

    let console = console(folder.path());
    let words = ["image", "capture", "--target", "all", "--name", "lab"];
    let mut agent = Agent::start(Place::Here, &console, &failing.path, 0, &[]);
    console.wait_ready(1);
    // So small a disk is read whole before it is sent, to estimate its compressed size: the failure
    // is the same as in the capture.
    console.cli(&words).code(3).says(&[
        &format!("byte {}", bad[0] * SECTOR),
        "partition 1",
        "--rescue",
    ]);
    agent.daemon.ends();
    let image = images(&console).join("lab.dcimg");
    assert!(!image.exists());

    let mut agent = Agent::start(Place::Here, &console, &failing.path, 0, &[]);
    console.wait_ready(1);
    let done = console.cli(&[&words[..], &["--rescue"]].concat());
    assert_eq!(
        done.code,
        Some(0),
        "{}\n{}",
        done.story(),
        agent.daemon.said()
    );
    done.says(&["could not be read", "partition 1"]);
    assert_eq!(agent.daemon.ends(), Some(0));

    let (here, there) = (super::manifest(&local), super::manifest(&image));
    let mut meta = without_date(&there.meta);
    assert_eq!(meta.holes.len(), 2, "{:?}", meta.holes);
    // The note is empty in both; the path is the same file.
    meta.created.clear();
    assert_eq!(without_date(&here.meta), meta);
    check(&image, &["--deep"]).ok().says(&["could not be read"]);
    let shown = diskcast(["image", "info", text(&image)]).ok().stdout;
    for bad in bad {
        let place = format!("bytes {}..{}", bad * SECTOR, (bad + 1) * SECTOR);
        assert!(shown.contains(&place), "{shown}");
    }
    let target = folder.path().join("target.raw");
    restore(&image, &target, &[])
        .code(5)
        .says(&["--accept-holes"]);
    restore(&image, &target, &["--accept-holes"]).ok();
    assert_eq!(bytes_at(&target, bad[0] * SECTOR, SECTOR), [0; 512]);
}

#[test]
fn holes_of_chunks_that_another_agent_sent_are_listed_too() {
    let folder = scratch();
    let size = 24 * MIB;
    let disk = folder.path().join("master.raw");
    fs::write(&disk, noise("cut", size as usize)).expect("a disk");
    let bad = [3 * MIB / SECTOR, 22 * MIB / SECTOR];
    // Slow, so that it is interrupted after the first bad sector is sent and before the second.
    let failing = Failing::slow(&disk, &bad, 8 * MIB);
    let console = console(folder.path());
    let start = || Agent::start(Place::Here, &console, &failing.path, 0, &[]);
    let mut agent = start();
    console.wait_ready(1);
    let words = [
        "image",
        "capture",
        "--target",
        "all",
        "--name",
        "cut",
        "--rescue",
        "--threads",
        "1",
        "--detach",
        "--json",
    ];
    let made = console.cli(&words).ok().json();
    let job = made["job"].as_str().expect("a job").to_owned();
    let held = held_at(&console, &job, 5, &mut agent);
    agent.daemon.kill();
    assert!(held < 22, "it was not cut: {held} chunks");
    let mut agent = start();
    let done = console.cli(&["job", "wait", &job, "--json"]);
    assert_eq!(
        done.code,
        Some(0),
        "{}\n{}",
        done.story(),
        agent.daemon.said()
    );
    let kept = &done.last_of("summary")["received_chunks"];
    assert_eq!(
        kept.as_u64(),
        Some(24),
        "some were sent twice or not at all"
    );
    assert_eq!(agent.daemon.ends(), Some(0));

    let image = images(&console).join("cut.dcimg");
    let holes: Vec<Value> = info(&image)["meta"]["holes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let starts: Vec<_> = holes.iter().filter_map(|h| h["start"].as_u64()).collect();
    assert_eq!(starts, bad.map(|sector| sector * SECTOR), "{holes:?}");
    let target = folder.path().join("target.raw");
    restore(&image, &target, &["--accept-holes"]).ok();
    same_bytes("between the holes", &disk, &target, 4 * MIB, 18 * MIB);
}
