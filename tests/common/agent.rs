//! The program `diskcast-agent`, which belongs to another package than these tests.
//!
//! cargo builds programs for the tests of their own package alone: `cargo test` and `cargo xtask test`
//! select that package too, `cargo test --test room` and `cargo test -p diskcast` do not. So the first
//! test that needs the program has cargo build it, with the profile and the features of these tests;
//! cargo knows best whether anything is to be done. A caller who has built it already says so with
//! `DISKCAST_TEST_AGENT=PATH`.

use super::process::DISKCAST;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// The agent program.
pub(crate) fn agent() -> &'static str {
    static AGENT: LazyLock<String> =
        LazyLock::new(|| std::env::var("DISKCAST_TEST_AGENT").unwrap_or_else(|_| built_by_cargo()));
    &AGENT
}

fn built_by_cargo() -> String {
    let folder = Path::new(DISKCAST)
        .parent()
        .expect("programs have a folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{DISKCAST} is in no folder of a profile"),
    };
    // The integration test of the program's package makes cargo build the program just as it built
    // `diskcast` for these tests. `cargo build` would choose other features and compile much again.
    let output = cargo()
        .args(["test", "--quiet", "--no-run", "--test", "program"])
        .args(["--package", "diskcast", "--package", "preos"])
        .args(["--profile", profile])
        .output()
        .expect("cargo starts");
    let agent = folder.join("diskcast-agent");
    assert!(
        output.status.success() && agent.exists(),
        "cargo did not build {}; build it, and name it with DISKCAST_TEST_AGENT\n{}",
        agent.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    agent.to_str().expect("target folders are UTF-8").to_owned()
}

/// A cargo that works on this checkout, without what cargo tells a test about its own package: it
/// would build ring and everything behind it again.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}
