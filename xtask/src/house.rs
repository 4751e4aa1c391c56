//! The arrows between the crates of the workspace, held against their manifests.

use crate::shell::{Failure, output};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Crates of the workspace that each of them uses outside its tests. A new arrow is a decision: it is
/// made here and in `docs/architecture.md`.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "agent",
        &[
            "apply",
            "disk",
            "facts",
            "imagefmt",
            "multicast",
            "net",
            "protocol",
            "template",
        ],
    ),
    (
        "api",
        &["facts", "imagefmt", "multicast", "protocol", "template"],
    ),
    ("apply", &["diskmap", "firstboot", "hive", "template"]),
    ("client", &["api"]),
    (
        "console",
        &[
            "api",
            "client",
            "disk",
            "diskmap",
            "domain",
            "facts",
            "firstboot",
            "imagefmt",
            "inspect",
            "jobs",
            "multicast",
            "net",
            "protocol",
            "pxe",
            "template",
        ],
    ),
    ("disk", &["diskmap", "facts", "imagefmt"]),
    ("diskmap", &["facts"]),
    ("domain", &[]),
    ("facts", &[]),
    ("firstboot", &[]),
    ("hive", &[]),
    ("imagefmt", &[]),
    ("inspect", &["diskmap", "hive", "template"]),
    (
        "jobs",
        &[
            "api",
            "diskmap",
            "facts",
            "firstboot",
            "imagefmt",
            "multicast",
            "protocol",
            "template",
        ],
    ),
    ("multicast", &[]),
    ("net", &["facts", "multicast", "protocol"]),
    (
        "preos",
        &[
            "agent", "api", "disk", "diskmap", "facts", "net", "protocol", "pxe", "terminal",
        ],
    ),
    ("protocol", &["facts", "imagefmt", "multicast", "template"]),
    ("pxe", &["facts"]),
    ("rehearsal", &["multicast"]),
    ("template", &["facts"]),
    ("terminal", &["api", "facts"]),
];

/// Crates without sockets and clocks: none of these may be among their dependencies.
const PURE: &[&str] = &[
    "api",
    "diskmap",
    "facts",
    "firstboot",
    "hive",
    "imagefmt",
    "jobs",
    "multicast",
    "protocol",
    "rehearsal",
    "template",
];
const IMPURE: &[&str] = &["axum", "hyper", "rusqlite", "rustix", "socket2", "tokio"];

/// Packages that the program on a target is built without, however far down.
const NOT_ON_TARGETS: &[&str] = &["axum", "client", "diskcast", "rusqlite"];

/// Returns cargo's metadata of the workspace.
fn metadata(more: &[&str]) -> Result<Value, Failure> {
    let words = [&["metadata", "--format-version=1", "--offline"], more].concat();
    serde_json::from_str(&output("cargo", &words)?)
        .map_err(|error| Failure::new(format!("cargo metadata: {error}")))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let list = value.get(key).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    let text = value.get(key).and_then(Value::as_str);
    text.unwrap_or_default()
}

/// Dependencies of each crate of the workspace, those of tests left out.
fn dependencies() -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
    let metadata = metadata(&["--no-deps"])?;
    let of = |package: &Value| {
        let all = list(package, "dependencies").iter();
        all.filter(|dependency| text(dependency, "kind") != "dev")
            .map(|dependency| text(dependency, "name").to_owned())
            .collect()
    };
    Ok(list(&metadata, "packages")
        .iter()
        .map(|package| (text(package, "name").to_owned(), of(package)))
        .collect())
}

/// Names of all packages that a crate of the workspace is built with, however far down.
fn everything_below(crate_name: &str) -> Result<BTreeSet<String>, Failure> {
    // A machine that has built the workspace has the crates of this platform alone.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = metadata(&["--filter-platform", &platform])?;
    let names: BTreeMap<&str, &str> = list(&metadata, "packages")
        .iter()
        .map(|package| (text(package, "id"), text(package, "name")))
        .collect();
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"], "nodes")
        .iter()
        .map(|node| (text(node, "id"), node))
        .collect();
    let members = list(&metadata, "workspace_members").iter();
    let start = members
        .filter_map(Value::as_str)
        .find(|id| names.get(id) == Some(&crate_name));
    let start = start.ok_or_else(|| Failure::new(format!("no crate {crate_name}")))?;
    let (mut seen, mut next) = (BTreeSet::from([start]), vec![start]);
    while let Some(id) = next.pop() {
        for dependency in nodes.get(id).map_or(&[][..], |node| list(node, "deps")) {
            let kinds = list(dependency, "dep_kinds");
            let id = text(dependency, "pkg");
            if kinds.iter().any(|kind| text(kind, "kind") != "dev") && seen.insert(id) {
                next.push(id);
            }
        }
    }
    Ok(seen.iter().map(|id| names[id].to_owned()).collect())
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

#[test]
fn the_program_on_a_target_is_built_without_the_console() {
    let below = everything_below("preos").unwrap();
    assert!(
        below.contains("tokio") && below.contains("agent"),
        "{below:?}"
    );
    let bad: Vec<&&str> = NOT_ON_TARGETS
        .iter()
        .filter(|name| below.contains(**name))
        .collect();
    assert!(bad.is_empty(), "diskcast-agent is built with {bad:?}");
    let whole = everything_below("diskcast").unwrap();
    assert!(NOT_ON_TARGETS.iter().all(|name| whole.contains(*name)));
}

#[test]
fn the_console_is_built_without_the_target_side() {
    let below = everything_below("console").unwrap();
    for name in ["agent", "apply", "preos"] {
        assert!(!below.contains(name), "the console is built with {name}");
    }
}

/// A crate whose name is missing there would only be heard from warnings on.
#[test]
fn the_log_shows_the_events_of_every_crate() {
    let source = include_str!("../../terminal/src/logging.rs");
    let list = source.split("const OWN").nth(1).unwrap();
    let list = list.split(';').nth(1).unwrap();
    for (name, used) in dependencies().unwrap() {
        // `terminal` has the log itself.
        if used.contains("tracing") && name != "terminal" {
            assert!(
                list.contains(&format!("\"{name}\"")),
                "{name} is not in {list}"
            );
        }
    }
}
