//! Masters at targets with invalid tables, or with more data than an image includes by default.

use std::fs;

use super::common::disk::{MIB, blank, mbr, part, put_at, same_bytes};
use super::common::failing::Failing;
use super::common::fill::{TARGET_POISON, noise, poisoned};
use super::common::images::{check_all, info, partition, restore};
use super::common::process::{text, tool};
use super::common::scratch;
use super::common::service::{Agent, Place, stories};
use super::{console, held_at, images};

#[test]
fn a_table_that_cannot_be_followed_names_raw_and_raw_takes_the_disk() {
    let folder = scratch();
    let disk = blank(folder.path(), "overlap", 16 * MIB);
    put_at(&disk, 3 * MIB, &noise("overlap", 5 * MIB as usize));
    mbr(&disk, &[(0x83, 2048, 8192), (0x83, 4096, 8192)]);
    let console = console(folder.path());
    let words = ["image", "capture", "--target", "all", "--name", "odd"];
    let mut refused = Agent::start(Place::Here, &console, &disk, 0, &[]);
    console.wait_ready(1);
    console.cli(&words).code(5).says(&["--raw"]);
    refused.daemon.ends();
    let mut agent = Agent::start(Place::Here, &console, &disk, 0, &[]);
    console.wait_ready(1);
    let done = console.cli(&[&words[..], &["--raw"]].concat());
    assert_eq!(
        done.code,
        Some(0),
        "{}\n{}",
        done.story(),
        agent.daemon.said()
    );
    assert_eq!(agent.daemon.ends(), Some(0));

    let image = images(&console).join("odd.dcimg");
    let facts = info(&image);
    assert_eq!(facts["meta"]["table_kind"], "none");
    assert_eq!(partition(&facts, 0)["capture"], "raw");
    let target = folder.path().join("target");
    poisoned(&target, 16 * MIB, TARGET_POISON);
    restore(&image, &target, &[]).ok();
    same_bytes("the whole disk", &disk, &target, 0, 16 * MIB);
}

#[test]
fn what_is_left_out_is_said_at_the_capture_in_the_plan_and_in_the_report() {
    let folder = scratch();
    let size = 160 * MIB;
    let disk = blank(folder.path(), "master", size);
    tool(&["sgdisk", "-n", "1:96M:+4M", text(&disk)]);
    put_at(&disk, 8 * MIB, &noise("taken", 8192));
    put_at(&disk, 80 * MIB, &noise("beyond 64 MiB", 8192));
    put_at(&disk, part(&disk, 512, 1).start, &noise("volume", 4096));
    let line = "left out: 8.19 kB before partition 1, not zero, from byte 83886080 on";
    let console = console(folder.path());
    let master = Agent::start(Place::Here, &console, &disk, 0, &["--name", "master"]);
    let target = blank(folder.path(), "target", size);
    let second = Agent::start(Place::Here, &console, &target, 0, &["--name", "second"]);
    console.wait_ready(2);
    let words = ["image", "capture", "--target", "master", "--name", "gap"];
    let captured = console.cli(&words);
    let story = || stories(&console, &[]);
    assert_eq!(captured.code, Some(0), "{}\n{}", captured.story(), story());
    let captured = captured.says(&[line, "--all-gaps"]);

    let image = images(&console).join("gap.dcimg");
    let words = ["deploy", "--image", text(&image), "--targets", "second"];
    let says = |said: &super::common::process::Run| {
        let all = format!("{}{}", said.stdout, said.stderr);
        assert!(all.contains(line), "{}", said.story());
    };
    says(&console.cli(&[&words[..], &["--dry-run"]].concat()).ok());
    let done = console.cli(&[&words[..], &["--yes"]].concat());
    assert_eq!(
        done.code,
        Some(0),
        "{}\n{}",
        done.story(),
        stories(&console, &[second])
    );
    says(&done);
    let jobs = console.jobs();
    let newest = jobs.iter().filter_map(|job| job["id"].as_str()).max();
    let newest = newest.expect("a job");
    says(&console.cli(&["job", "report", newest]).ok());
    let report = console.cli(&["job", "report", newest, "--json"]).ok();
    let notes = report.json()["plan"]["notes"].to_string();
    assert!(notes.contains(line), "{}", report.story());
    drop((captured, master));
}

#[test]
fn an_image_is_divided_where_files_may_not_grow_and_goes_whole_when_cancelled() {
    let folder = scratch();
    let disk = folder.path().join("master.raw");
    let size = 40 * MIB;
    fs::write(&disk, noise("divided", size as usize)).expect("a disk");
    let console = console(folder.path());
    // A limit of the process stands in for FAT32; the console's own files stay below it.
    let limit = format!("--fsize={}", 16 * MIB);
    let pid = console.daemon.pid().to_string();
    tool(&["prlimit", "--pid", &pid, &limit]);
    let mut agent = Agent::start(Place::Here, &console, &disk, 0, &[]);
    console.wait_ready(1);
    let words = ["image", "capture", "--target", "all", "--json", "--name"];
    let done = console.cli(&[&words[..], &["fat"]].concat());
    assert_eq!(
        done.code,
        Some(0),
        "{}\n{}",
        done.story(),
        stories(&console, &[])
    );
    assert_eq!(done.last_of("summary")["volumes"], 3);
    assert_eq!(agent.daemon.ends(), Some(0));
    let files = || {
        let mut all: Vec<_> = fs::read_dir(images(&console))
            .expect("a folder")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        all.sort();
        all
    };
    let whole = ["fat.dcimg", "fat.dcimg.002", "fat.dcimg.003"];
    assert_eq!(files(), whole);
    let image = images(&console).join("fat.dcimg");
    check_all(&image);
    let target = folder.path().join("target");
    restore(&image, &target, &[]).ok();
    same_bytes("the whole disk", &disk, &target, 0, size);

    // All parts of a cancelled capture are removed.
    let slow = Failing::slow(&disk, &[], 8 * MIB);
    let mut agent = Agent::start(Place::Here, &console, &slow.path, 0, &[]);
    console.wait_ready(1);
    let made = console.cli(&[&words[..], &["gone", "--detach"]].concat());
    let job = made.ok().json()["job"].as_str().expect("a job").to_owned();
    held_at(&console, &job, 20, &mut agent);
    agent.daemon.signal("CONT");
    console.cli(&["job", "cancel", &job, "--yes"]).ok();
    console.cli(&["job", "wait", &job]).code_of(&[3, 130]);
    agent.daemon.ends();
    assert_eq!(files(), whole);
}
