//! A console that deploys only images signed by one of the keys it was started with.

use super::common::fill::{TARGET_POISON, poisoned};
use super::common::images::capture;
use super::common::process::{Run, diskcast, text};
use super::common::scratch;
use super::common::service::{Agent, Console, Place, stories};
use super::image_check::{DISK, master};
use super::{bytes_at, the_ports};

/// Asserts that both outputs together contain these words.
#[track_caller]
fn tells(run: &Run, words: &[&str]) {
    let said = format!("{}{}", run.stdout, run.stderr);
    for word in words {
        assert!(said.contains(word), "{word}: {}", run.story());
    }
}

/// Only `--signed-by` of a check used to look at signatures: a console sent any image to a room.
#[test]
fn an_image_that_no_trusted_key_signed_never_leaves_the_console() {
    let _ports = the_ports();
    let folder = scratch();
    master(folder.path(), 1);
    let image = folder.path().join("signed.dcimg");
    let set = ["--set", "lab-pc", "--disk-number", "2"];
    capture(&folder.path().join("master.raw"), &image, &set).ok();
    let key = folder.path().join("lab.key");
    let made = diskcast(["image", "sign", "--new-key", text(&key)]).ok();
    let public = made.stdout.trim();
    let strict = ["--signed-by", public];
    let console = Console::start(Place::Here, folder.path(), "lo", &strict);
    tells(&console.cli(&["console", "show"]).ok(), &[public]);
    let disk = folder.path().join("target.raw");
    poisoned(&disk, DISK, TARGET_POISON);
    let mut agent = Agent::start(Place::Here, &console, &disk, DISK, &[]);
    console.wait_ready(1);
    let deploy = |last: &str| {
        let image = text(&image);
        console.cli(&["deploy", "--image", image, "--targets", "all", last])
    };
    for last in ["--dry-run", "--yes"] {
        let refused = deploy(last).code(5);
        tells(&refused, &["nobody signed the image", "image sign"]);
    }
    assert!(console.jobs().is_empty(), "a refused deployment is no job");
    let untouched = bytes_at(&disk, 0, DISK);
    assert!(untouched.iter().all(|byte| *byte == TARGET_POISON));

    let sign = |words: &[&str]| console.cli(&[&["image", "sign"], words].concat());
    let by = |key: &str| console.cli(&["image", "check", text(&image), "--signed-by", key]);
    // A key in the console's vault signs there, and is never overwritten.
    sign(&["--new-key", "ref:other"]).ok();
    sign(&["--new-key", "ref:other"])
        .code(5)
        .says(&["a secret other already"]);
    sign(&["--key", "ref:absent", text(&image)]).code(4);
    by("ref:other").code(7).says(&["nobody signed it"]);
    sign(&["--key", "ref:other", text(&image)]).ok();
    tells(
        &deploy("--dry-run").code(5),
        &["the image is signed by dcpk1-"],
    );
    let word = ["secret", "set", "lab", "--file", text(&key)];
    console.cli(&word).ok();
    sign(&["--key", "ref:lab", text(&image)]).ok();
    sign(&["--key", text(&key), text(&image)])
        .code(5)
        .says(&["already"]);
    for key in ["ref:other", "ref:lab", public] {
        by(key).ok();
    }
    let plan = deploy("--dry-run").ok();
    tells(&plan, &["signed  by", public, "disk 2 of the set lab-pc"]);
    let info = diskcast(["image", "info", text(&image)]).ok();
    tells(&info, &["lab-pc, disk 2"]);
    let done = deploy("--yes");
    assert_eq!(
        done.code,
        Some(0),
        "{}{}",
        done.story(),
        stories(&console, std::slice::from_ref(&agent))
    );
    assert_eq!(agent.daemon.ends(), Some(0));
}
