//! The crates that the workspace is built of, from `cargo metadata`.

use crate::shell::{Failure, output};
use semver::Version;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// One crate.
#[derive(Clone, Debug)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: Version,
    /// The licence as its manifest states it, an SPDX expression.
    pub(crate) license: Option<String>,
    /// The registry or repository it is from; none for a crate of this workspace.
    pub(crate) source: Option<String>,
    /// The people who wrote it, as its manifest names them.
    pub(crate) authors: Vec<String>,
    pub(crate) repository: Option<String>,
    /// Its sources on this machine.
    pub(crate) folder: PathBuf,
    /// Names of the programs it has.
    pub(super) programs: Vec<String>,
}

/// The crates by cargo's id, and which of them each uses.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) crates: BTreeMap<String, Crate>,
    edges: BTreeMap<String, BTreeSet<String>>,
    /// The edges left over without tests and build scripts.
    normal: BTreeMap<String, BTreeSet<String>>,
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let list = value.get(key).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

impl Graph {
    /// Asks cargo for everything that is compiled on a platform, tests and build scripts included.
    pub(crate) fn read(target: &str) -> Result<Self, Failure> {
        let words = [
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
            target,
        ];
        let json = output("cargo", &words)?;
        let json: Value = serde_json::from_str(&json)
            .map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
        Self::from_json(&json)
    }

    /// Reads the answer of `cargo metadata`.
    pub(crate) fn from_json(json: &Value) -> Result<Self, Failure> {
        let mut graph = Self::default();
        for package in list(json, "packages") {
            let incomplete = || Failure::new(format!("cargo metadata: incomplete: {package}"));
            let id = text(package, "id").ok_or_else(incomplete)?;
            let version = text(package, "version").ok_or_else(incomplete)?;
            let one = Crate {
                name: text(package, "name").ok_or_else(incomplete)?,
                version: version.parse().map_err(|_| incomplete())?,
                license: text(package, "license"),
                source: text(package, "source"),
                authors: list(package, "authors")
                    .iter()
                    .filter_map(|author| author.as_str().map(str::to_owned))
                    .collect(),
                repository: text(package, "repository"),
                folder: text(package, "manifest_path")
                    .and_then(|path| Path::new(&path).parent().map(Path::to_owned))
                    .unwrap_or_default(),
                programs: list(package, "targets")
                    .iter()
                    .filter(|target| list(target, "kind").iter().any(|kind| kind == "bin"))
                    .filter_map(|target| text(target, "name"))
                    .collect(),
            };
            graph.crates.insert(id, one);
        }
        let nodes = json.get("resolve").map(|resolve| list(resolve, "nodes"));
        for node in nodes.unwrap_or_default() {
            let id = text(node, "id").unwrap_or_default();
            let used = |fits: fn(&Value) -> bool| -> BTreeSet<String> {
                let used = list(node, "deps").iter().filter(|edge| fits(edge));
                used.filter_map(|edge| text(edge, "pkg")).collect()
            };
            let normal = used(|edge| {
                let kinds = list(edge, "dep_kinds").iter();
                kinds
                    .map(|kind| text(kind, "kind"))
                    .any(|kind| kind.is_none())
            });
            graph.edges.insert(id.clone(), used(|_| true));
            graph.normal.insert(id, normal);
        }
        Ok(graph)
    }

    /// Crates that a crate of the workspace names in its manifest.
    pub(crate) fn direct(&self) -> BTreeSet<&str> {
        let ours = self.crates.iter().filter(|(_, one)| one.source.is_none());
        ours.filter_map(|(id, _)| self.edges.get(id))
            .flatten()
            .map(String::as_str)
            .collect()
    }

    /// Crates whose code is in one of these programs, their own included; also macros, which write
    /// some of it. A program that no crate has is an error.
    pub(crate) fn behind(&self, programs: &[&str]) -> Result<Vec<&Crate>, Failure> {
        let mut waiting = Vec::new();
        for program in programs {
            let has = |one: &Crate| one.programs.iter().any(|it| it == program);
            let found = self.crates.iter().find(|(_, one)| has(one));
            let (id, _) = found.ok_or_else(|| Failure::new(format!("no crate has {program}")))?;
            waiting.push(id);
        }
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if seen.insert(id) {
                waiting.extend(self.normal.get(id).into_iter().flatten());
            }
        }
        let mut crates: Vec<&Crate> = seen.iter().filter_map(|id| self.crates.get(*id)).collect();
        crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(crates)
    }
}
