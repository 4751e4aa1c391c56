//! A disk that stops in the middle of a job: its target fails, the others are done, and the job
//! ends.

use super::common::disk::{Volume, bytes_at};
use super::common::fill::{TARGET_POISON, poisoned};
use super::common::process::{text, wait_for};
use super::common::scratch;
use super::common::service::{Agent, Console, Place, stories, target_of};
use super::image_check::{DISK, master};
use super::the_ports;

/// An agent with a hanging disk answered pings and kept its job running for ever. The limit is the
/// template's.
#[test]
fn a_disk_that_stops_costs_its_own_target_and_nobody_else() {
    let _ports = the_ports();
    let folder = scratch();
    let image = master(folder.path(), 8);
    let volume = Volume::new(&folder.path().join("volume.raw"), 96 << 20);
    let blocked = folder.path().join("blocked.raw");
    volume.disk(&blocked);
    let free = folder.path().join("free.raw");
    let console = Console::start(Place::Here, folder.path(), "lo", &[]);
    let mut agents: Vec<Agent> = [&blocked, &free]
        .into_iter()
        .map(|disk| {
            poisoned(disk, DISK, TARGET_POISON);
            Agent::start(Place::Here, &console, disk, DISK, &[])
        })
        .collect();
    console.wait_ready(2);

    // The job takes seconds at this rate, so the moment is not missed.
    let words = ["deploy", "--image", text(&image), "--targets", "all"];
    let limits = [
        "--stall-limit",
        "12s",
        "--time-limit",
        "20m",
        "--accept-holes",
    ];
    let more = ["--rate", "12mbit", "--save-template", "short", "--dry-run"];
    let saved = console.cli(&[&words[..], &limits, &more].concat()).ok();
    assert!(saved.stdout.contains("has failed"), "{}", saved.story());
    let shown = console.cli(&["template", "show", "short", "--json"]).ok();
    let template = &shown.json()["template"];
    assert_eq!(template["stall_limit"], "12s", "{template:#}");
    assert_eq!(template["time_limit"], "1200s", "{template:#}");
    assert_eq!(template["accept_holes"], true, "{template:#}");
    let words = [
        "deploy",
        "--template",
        "short",
        "--yes",
        "--detach",
        "--json",
    ];
    let made = console.cli(&words).ok().last_of("job");
    let job = made["job"].as_str().expect("a job").to_owned();
    let story = |agents: &[Agent]| stories(&console, agents);
    wait_for("both to write", || {
        let job = console.job();
        let all = job["targets"].as_array()?;
        let writes = |target: &serde_json::Value| target["done_bytes"].as_u64() > Some(0);
        all.iter().all(writes).then_some(())
    });
    let frozen = volume.freeze();

    let ended = console.cli(&["job", "wait", &job, "--timeout", "2m", "--json"]);
    let ended = ended.code(3);
    let summary = ended.last_of("summary");
    let told = format!("{}\n{}", ended.story(), story(&agents));
    assert_eq!(target_of(&summary, &free)["state"], "done", "{told}");
    let failed = target_of(&summary, &blocked);
    assert_eq!(failed["state"], "failed", "{told}");
    let reason = failed["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("no progress for 12 s while "), "{told}");
    // Its writers wait in the kernel, so that even its process cannot end.
    assert!(agents[0].daemon.running(), "{told}");

    drop(frozen);
    let code = agents[0].daemon.ends();
    assert_ne!(code, Some(0), "{}", story(&agents));
    let view = console.job();
    let target = target_of(&view, &blocked);
    assert_eq!(target["state"], "failed", "{target:#}");
    assert_eq!(
        target["disk_now"],
        "blank",
        "{target:#}\n{}",
        story(&agents)
    );
    assert_eq!(target["reason"], reason, "why it left stays");
    let head = bytes_at(&blocked, 0, 1024);
    assert!(head.iter().all(|byte| *byte == 0), "it is blank");
}
