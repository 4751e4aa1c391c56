//! The program itself. Rooms in which it works are tests of the package `diskcast`, which have cargo
//! build it by way of this test.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts programs, and fails where it cannot"
)]

use std::process::{Command, Output};

fn agent(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diskcast-agent"));
    command.args(words);
    command
        .env_remove("DISKCAST_PIN")
        .env_remove("DISKCAST_CONSOLE");
    command.output().unwrap()
}

#[test]
fn help_and_version_are_results() {
    let help = agent(&["run", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--pin"));
    let version = agent(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(version.starts_with("diskcast-agent "), "{version}");
}

#[test]
fn wrong_words_are_usage_errors() {
    for words in [
        &["run"][..],
        &["run", "--pin", "nothex"],
        &["--no-such-flag"],
    ] {
        let ended = agent(words);
        assert_eq!(ended.status.code(), Some(2), "{words:?}");
        assert!(ended.stdout.is_empty(), "{words:?}");
    }
    let json = agent(&["--json", "run"]);
    assert_eq!(json.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&json.stdout).contains("\"code\":\"usage\""));
}

/// A place that only the pre-OS gives out: anyone else's `pre-os` is a wrong word.
#[test]
fn the_pre_os_is_entered_by_process_1_alone() {
    assert_eq!(agent(&["pre-os"]).status.code(), Some(2));
}
