//! The crates that the workspace is built of, from `cargo metadata`.

use crate::shell::{Failure, output};
use semver::Version;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One crate.
#[derive(Clone, Debug)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: Version,
    /// The licence as its manifest states it, an SPDX expression.
    pub(crate) license: Option<String>,
    /// The registry or repository it is from; none for a crate of this workspace.
    pub(crate) source: Option<String>,
}

/// The crates by cargo's id, and which of them each uses.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) crates: BTreeMap<String, Crate>,
    edges: BTreeMap<String, BTreeSet<String>>,
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
            };
            graph.crates.insert(id, one);
        }
        let nodes = json.get("resolve").map(|resolve| list(resolve, "nodes"));
        for node in nodes.unwrap_or_default() {
            let used = list(node, "deps").iter();
            let used = used.filter_map(|dependency| text(dependency, "pkg"));
            graph
                .edges
                .insert(text(node, "id").unwrap_or_default(), used.collect());
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
}
