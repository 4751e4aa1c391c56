//! A job that is cancelled while its targets commit: the final state of each agrees with its disk.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::common::disk::{Volume, bytes_at, same_bytes};
use super::common::fill::{TARGET_POISON, poisoned};
use super::common::images::restore;
use super::common::process::{PATIENCE, text, wait_for};
use super::common::scratch;
use super::common::service::{Agent, Console, Place, stories, target_of};
use super::image_check::{DISK, master};
use super::the_ports;

/// Cancels the job at the first `committing` of its events.
fn cancel_at_commit(console: &Console, job: &str) {
    let socket = console.data_dir.join("console.sock");
    let connect = || UnixStream::connect(&socket).expect("the console's socket");
    // Connected in advance: the window is a few milliseconds.
    let (mut watching, mut cancelling) = (connect(), connect());
    watching
        .set_read_timeout(Some(PATIENCE))
        .expect("a time-out");
    write!(
        watching,
        "GET /v1/jobs/{job}/events HTTP/1.1\r\nhost: c\r\n\r\n"
    )
    .expect("sent");
    for line in BufReader::new(watching).lines() {
        let line = line.expect("events");
        if line.contains("\"type\":\"state\"") && line.contains("\"state\":\"committing\"") {
            let head = format!(
                "POST /v1/jobs/{job}/cancel HTTP/1.1\r\nhost: c\r\ncontent-length: 2\r\n\r\n{{}}"
            );
            cancelling.write_all(head.as_bytes()).expect("sent");
            // It answers when all agents have the message.
            let mut answer = String::new();
            BufReader::new(cancelling)
                .read_line(&mut answer)
                .expect("an answer");
            assert!(answer.contains(" 200 "), "{answer}");
            return;
        }
        assert!(
            !line.contains("\"type\":\"summary\""),
            "over before: {line}"
        );
    }
    panic!("the events end without a commit");
}

/// 84 of 160 targets cancelled like this were called dropped while their disks were whole and
/// started.
#[test]
fn a_target_cancelled_while_it_commits_is_what_its_disk_is() {
    const TARGETS: usize = 8;
    /// The disks of the last two are frozen before they are written, so that they cannot commit.
    const HELD: usize = 2;
    let rounds = if super::common::full() { 20 } else { 1 };
    let _ports = the_ports();
    let folder = scratch();
    let image = master(folder.path(), 8);
    let reference = folder.path().join("reference.raw");
    poisoned(&reference, DISK, TARGET_POISON);
    restore(&image, &reference, &[]).ok();
    let console = Console::start(Place::Here, folder.path(), "lo", &[]);
    let volume = Volume::new(&folder.path().join("volume.raw"), 96 << 20);
    let (mut whole, mut blank) = (0, 0);
    for round in 0..rounds {
        // In every other round the moment is left to chance.
        let holds = round % 2 == 0;
        let mut agents: Vec<Agent> = (1..=TARGETS)
            .map(|i| {
                let disk = folder.path().join(format!("round-{round}-{i}.raw"));
                if holds && i > TARGETS - HELD {
                    volume.disk(&disk);
                }
                poisoned(&disk, DISK, TARGET_POISON);
                // Some lose packets, so that not all of them commit at the same time.
                let loss = if i % 2 == 0 { "0" } else { "0.2" };
                Agent::start(Place::Here, &console, &disk, DISK, &["--inject-loss", loss])
            })
            .collect();
        console.wait_ready(TARGETS);
        let words = [
            "deploy",
            "--image",
            text(&image),
            "--targets",
            "state:ready",
            "--yes",
            "--detach",
            "--json",
        ];
        // The job takes seconds at this rate, so the moment to stop the disks is not missed.
        let slow: &[&str] = if holds { &["--rate", "12mbit"] } else { &[] };
        let started = console.cli(&[&words[..], slow].concat()).ok();
        let job = started.last_of("job")["job"]
            .as_str()
            .expect("a job")
            .to_owned();
        let held = holds.then(|| {
            wait_for("all to write", || {
                let view = console.cli(&["job", "show", &job, "--json"]).ok().json();
                let writes = |one: &serde_json::Value| one["done_bytes"].as_u64() > Some(0);
                view["targets"].as_array()?.iter().all(writes).then_some(())
            });
            volume.freeze()
        });
        cancel_at_commit(&console, &job);
        drop(held);
        let ended = console.cli(&["job", "wait", &job, "--json"]);
        let told = format!("{}\n{}", ended.story(), stories(&console, &agents));
        let summary = ended.last_of("summary");
        let report = console.cli(&["job", "report", &job, "--json"]).ok().json();
        for agent in &mut agents {
            let is = told_and_true(&summary, agent, &reference, holds, &told);
            told_and_true(&report["job"], agent, &reference, holds, &told);
            let code = agent.daemon.ends();
            assert_eq!(code == Some(0), is, "what the agent itself says\n{told}");
            if is { whole += 1 } else { blank += 1 }
        }
        if holds {
            for agent in &agents[TARGETS - HELD..] {
                assert_eq!(
                    target_of(&summary, &agent.disk)["state"],
                    "dropped",
                    "{told}"
                );
                // Emptied through the link: there is room for two.
                std::fs::write(&agent.disk, []).expect("emptied");
            }
        }
        let code = if holds { Some(3) } else { ended.code };
        assert_eq!(ended.code, code, "{told}");
    }
    eprintln!("cancelled at the first commit: {whole} done and whole, {blank} dropped and blank");
    assert_eq!(whole + blank, rounds * TARGETS);
    assert!(whole > 0, "the one that committed is whole");
    assert!(blank >= HELD, "those that were held are blank");
}

/// Compares a target's row with its disk; returns true when the disk is whole. `writing`: it had
/// begun to write before the cancel.
#[track_caller]
fn told_and_true(
    job: &serde_json::Value,
    agent: &Agent,
    reference: &Path,
    writing: bool,
    told: &str,
) -> bool {
    let target = target_of(job, &agent.disk);
    let starts = bytes_at(&agent.disk, 510, 2) == [0x55, 0xaa];
    assert_eq!(target["state"] == "done", starts, "{target:#}\n{told}");
    if starts {
        assert_eq!(target["disk_now"], "whole", "{target:#}");
        same_bytes(
            "done beside a local restore",
            reference,
            &agent.disk,
            0,
            DISK,
        );
        return true;
    }
    let head = bytes_at(&agent.disk, 0, 1024);
    assert!(
        head.iter().all(|byte| *byte == 0),
        "neither blank nor whole"
    );
    assert_eq!(
        (&target["state"], &target["disk_now"]),
        (&"dropped".into(), &"blank".into()),
        "{target:#}\n{told}"
    );
    let written = target["bytes_written"].as_u64();
    assert!(!writing || written > Some(0), "{target:#}");
    false
}
