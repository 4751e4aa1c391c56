//! Runs `diskcast image` the way a script does.

use std::path::Path;

use serde_json::Value;

use super::process::{Run, diskcast, text};

/// Runs `image capture SOURCE IMAGE ...`.
pub(crate) fn capture(source: &Path, image: &Path, more: &[&str]) -> Run {
    let mut words = vec![
        "image",
        "capture",
        text(source),
        text(image),
        "--level",
        "1",
    ];
    words.extend(more);
    diskcast(words)
}

/// Runs `image restore IMAGE TARGET --yes ...`.
pub(crate) fn restore(image: &Path, target: &Path, more: &[&str]) -> Run {
    let mut words = vec!["image", "restore", text(image), text(target), "--yes"];
    words.extend(more);
    diskcast(words)
}

/// Runs `image check IMAGE ...`.
pub(crate) fn check(image: &Path, more: &[&str]) -> Run {
    let mut words = vec!["image", "check", text(image)];
    words.extend(more);
    diskcast(words)
}

/// Asserts that all three depths find no damage.
#[track_caller]
pub(crate) fn check_all(image: &Path) {
    for depth in [&["--quick"][..], &[], &["--deep"]] {
        check(image, depth).ok();
    }
}

/// Runs `image info IMAGE --json`.
#[track_caller]
pub(crate) fn info(image: &Path) -> Value {
    diskcast(["image", "info", text(image), "--json"])
        .ok()
        .json()
}

/// The entry of `image info` for one partition.
#[track_caller]
pub(crate) fn partition(info: &Value, number: u32) -> &Value {
    info["meta"]["partitions"]
        .as_array()
        .and_then(|all| all.iter().find(|p| p["number"] == number))
        .unwrap_or_else(|| panic!("no partition {number} in {info:#}"))
}

/// Asserts that the partition was captured by its used blocks, not whole, and with few free ones.
#[track_caller]
pub(crate) fn captured_used(info: &Value, number: u32, at_most: u64) {
    let p = partition(info, number);
    assert_eq!(
        p["capture"], "used",
        "partition {number} was captured whole: {p:#}"
    );
    let used = p["used_bytes"].as_u64().unwrap_or(u64::MAX);
    assert!(
        used <= at_most,
        "partition {number}: {used} used bytes, at most {at_most} expected: {p:#}"
    );
}
