//! A machine that comes after the confirmation while a technician watches: the watch asks about it.

use super::common::disk::bytes_at;
use super::common::fill::{TARGET_POISON, poisoned};
use super::common::process::{DISKCAST, text, wait_for};
use super::common::scratch;
use super::common::service::{Agent, Console, Place, stories};
use super::common::terminal::Terminal;
use super::image_check::{DISK, master};
use super::the_ports;

/// The watch used to print only the command that adds it.
#[test]
fn the_watch_asks_about_a_machine_that_comes_later() {
    let _ports = the_ports();
    let folder = scratch();
    let image = master(folder.path(), 4);
    let console = Console::start(Place::Here, folder.path(), "lo", &[]);
    let agent = |number: u32| {
        let disk = folder.path().join(format!("target-{number}.raw"));
        poisoned(&disk, DISK, TARGET_POISON);
        Agent::start(Place::Here, &console, &disk, DISK, &[])
    };
    let mut agents = vec![agent(1)];
    console.wait_ready(1);
    let data_dir = text(&console.data_dir);
    let image = text(&image);
    let words = ["--data-dir", data_dir, "deploy", "--image", image];
    let words = [&words[..], &["--targets", "all", "--start", "manual"]].concat();
    let mut deploy = Terminal::run(DISKCAST, &words);
    deploy.shows("Erase and write 1 disk? Type 1 to go on: ");
    deploy.types("1\n");
    deploy.shows("waits for `diskcast job start");
    let job = wait_for("the job", || {
        Some(console.jobs().first()?["id"].as_str()?.to_owned())
    });

    // After a no it is left out, and its disk stays unchanged.
    agents.push(agent(2));
    let asked = deploy.shows("anything else to leave it out: ");
    assert!(asked.contains("came after the confirmation: "), "{asked}");
    assert!(asked.contains("target-2.raw"), "{asked}");
    assert!(asked.contains("Erase and write 1 disk as well?"), "{asked}");
    deploy.types("n\n");
    deploy.shows("left out: ");

    // The question is open while a second watch runs: Ctrl-C ends that watch and nothing else.
    let mut watch = Terminal::run(DISKCAST, &["--data-dir", data_dir, "job", "watch", &job]);
    watch.shows("anything else to leave it out: ");
    watch.types("\u{3}");
    assert_eq!(watch.ends(), Some(130), "{}", watch.text());
    watch.shows("no longer watching job");

    // After a yes it is added; the one that was left out is not asked about again.
    agents.push(agent(3));
    let asked = deploy.shows("anything else to leave it out: ");
    assert!(asked.contains("target-3.raw"), "{asked}");
    assert!(!asked.contains("target-2.raw"), "{asked}");
    deploy.types("1\n");
    deploy.shows("added to job");
    assert_eq!(console.job()["targets"].as_array().map(Vec::len), Some(2));

    // The next question stays unanswered: the job does not wait for it.
    agents.push(agent(4));
    deploy.shows("anything else to leave it out: ");
    console.cli(&["job", "start", &job]).ok();
    assert_eq!(
        deploy.ends(),
        Some(0),
        "{}\n{}",
        deploy.text(),
        stories(&console, &agents)
    );
    let said = deploy.shows("2 of 2 targets proven");
    // The first of these depends on the speed of the job.
    let withdrawn = ["no longer waiting: ", "the job is over: "];
    assert!(withdrawn.iter().any(|why| said.contains(why)), "{said}");
    for (agent, written) in agents.iter().zip([true, false, true, false]) {
        let head = bytes_at(&agent.disk, 0, 512);
        let poison = head.iter().all(|byte| *byte == TARGET_POISON);
        assert_eq!(!poison, written, "{}", agent.disk.display());
    }
}
