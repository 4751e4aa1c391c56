//! The arrows between the crates of the workspace, held against their manifests.

use crate::shell::{Failure, output};
use std::collections::{BTreeMap, BTreeSet};

/// Crates of the workspace that each of them uses outside its tests. A new arrow is a decision: it is
/// made here and in `docs/architecture.md`.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "api",
        &["facts", "imagefmt", "multicast", "protocol", "template"],
    ),
    ("apply", &["diskmap", "firstboot", "hive", "template"]),
    ("client", &["api"]),
    ("disk", &["diskmap", "facts", "imagefmt"]),
    ("diskmap", &[]),
    ("domain", &[]),
    ("facts", &[]),
    ("firstboot", &[]),
    ("hive", &[]),
    ("imagefmt", &[]),
    ("inspect", &["diskmap", "hive", "template"]),
    ("multicast", &[]),
    ("net", &["facts", "multicast", "protocol"]),
    ("protocol", &["facts", "imagefmt", "multicast", "template"]),
    ("pxe", &["facts"]),
    ("rehearsal", &["multicast"]),
    ("template", &["facts"]),
];

/// Crates without sockets and clocks: none of these may be among their dependencies.
const PURE: &[&str] = &[
    "api",
    "diskmap",
    "facts",
    "firstboot",
    "hive",
    "imagefmt",
    "multicast",
    "protocol",
    "rehearsal",
    "template",
];
const IMPURE: &[&str] = &["axum", "hyper", "rusqlite", "rustix", "socket2", "tokio"];

/// Dependencies of each crate of the workspace, those of tests left out.
fn dependencies() -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
    let words = ["metadata", "--format-version=1", "--no-deps", "--offline"];
    let metadata: serde_json::Value = serde_json::from_str(&output("cargo", &words)?)
        .map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
    let list = |value: &serde_json::Value, key: &str| {
        value
            .get(key)
            .and_then(|list| list.as_array())
            .cloned()
            .unwrap_or_default()
    };
    let text = |value: &serde_json::Value, key: &str| {
        value
            .get(key)
            .and_then(|text| text.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let packages = list(&metadata, "packages");
    let of = |package: &serde_json::Value| {
        let all = list(package, "dependencies").into_iter();
        all.filter(|dependency| text(dependency, "kind") != "dev")
            .map(|dependency| text(&dependency, "name"))
            .collect()
    };
    Ok(packages
        .iter()
        .map(|package| (text(package, "name"), of(package)))
        .collect())
}

#[test]
fn the_crates_use_each_other_as_the_map_says() {
    let found = dependencies().unwrap();
    let ours: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    for (name, allowed) in ARROWS {
        let used = found
            .get(*name)
            .unwrap_or_else(|| panic!("{name} is no crate of the workspace"));
        let used: BTreeSet<&str> = used
            .iter()
            .map(String::as_str)
            .filter(|other| ours.contains(other))
            .collect();
        let allowed = allowed.iter().copied().collect();
        assert_eq!(
            used, allowed,
            "the arrows of {name} are not those of docs/architecture.md"
        );
    }
    // The programs alone may use everything.
    let listed: BTreeSet<&str> = ARROWS
        .iter()
        .map(|(name, _)| *name)
        .chain(["diskcast", "xtask"])
        .collect();
    assert_eq!(ours, listed);
}

#[test]
fn pure_crates_have_no_sockets() {
    let found = dependencies().unwrap();
    for name in PURE {
        let used = &found[*name];
        let bad: Vec<&&str> = IMPURE
            .iter()
            .filter(|other| used.contains(**other))
            .collect();
        assert!(bad.is_empty(), "{name} is pure and uses {bad:?}");
    }
}
