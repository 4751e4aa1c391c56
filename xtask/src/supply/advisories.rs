//! Known faults of crates: the RustSec advisory database, and the crates held against it.

use super::graph::{Crate, Graph};
use super::policy::Advisories;
use crate::shell::{Failure, output};
use semver::VersionReq;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Longest time of a fetch, in seconds: the database has a few megabytes.
const FETCH_LIMIT_S: &str = "120";
/// The place of the database between runs.
pub(crate) const FOLDER: &str = "target/advisory-db";

/// One advisory about one crate.
#[derive(Debug)]
pub(crate) struct Advisory {
    id: String,
    package: String,
    /// The kind of an advisory that is no vulnerability, such as `unmaintained`.
    informational: Option<String>,
    /// Versions without the fault.
    sound: Vec<VersionReq>,
}

/// Fetches the newest database into a folder, or leaves the one of an earlier run there where it
/// cannot be reached; the note then says so.
pub(crate) fn fetch(url: &str, folder: &Path) -> Result<Option<String>, Failure> {
    let place = folder.to_string_lossy();
    let git = |words: &[&str]| {
        let all = ["GIT_TERMINAL_PROMPT=0", "timeout", FETCH_LIMIT_S, "git"];
        output("env", &[&all, words].concat())
    };
    if !folder.join(".git").is_dir() {
        git(&["clone", "--quiet", "--depth=1", url, &place])?;
        return Ok(None);
    }
    let fetched = git(&["-C", &place, "fetch", "--quiet", "--depth=1", url])
        .and_then(|_| git(&["-C", &place, "reset", "--quiet", "--hard", "FETCH_HEAD"]));
    Ok(fetched.err().map(|failure| {
        let date = git(&["-C", &place, "log", "-1", "--format=%cs"]).unwrap_or_default();
        format!("with the database of {}: {failure}", date.trim())
    }))
}

/// Reads all advisories of a database: `crates/NAME/RUSTSEC-....md`.
pub(crate) fn read(folder: &Path) -> Result<Vec<Advisory>, Failure> {
    let mut all = Vec::new();
    for package in entries(&folder.join("crates"))? {
        for path in entries(&package)? {
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                all.extend(
                    parse(&text).map_err(|why| {
                        Failure::new(format!("advisory {}: {why}", path.display()))
                    })?,
                );
            }
        }
    }
    match all.is_empty() {
        true => Err(Failure::new(format!("no advisory in {}", folder.display()))),
        false => Ok(all),
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder)
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Parses an advisory: TOML between fences, then prose. None when it was withdrawn.
fn parse(text: &str) -> Result<Option<Advisory>, Failure> {
    let bad = |why: &str| Failure::new(why.to_owned());
    let front = text
        .split_once("```toml")
        .and_then(|(_, rest)| rest.split_once("```"))
        .ok_or_else(|| bad("has no TOML"))?;
    let table: Table = front
        .0
        .parse()
        .map_err(|error| Failure::new(format!("{error}")))?;
    let Some(about) = table.get("advisory").and_then(Value::as_table) else {
        return Err(bad("has no [advisory]"));
    };
    if about.contains_key("withdrawn") {
        return Ok(None);
    }
    let word = |key: &str| about.get(key).and_then(Value::as_str).map(str::to_owned);
    let versions = table.get("versions").and_then(Value::as_table);
    let mut sound = Vec::new();
    for key in ["patched", "unaffected"] {
        let list = versions.and_then(|versions| versions.get(key));
        for one in list.and_then(Value::as_array).into_iter().flatten() {
            let one = one.as_str().ok_or_else(|| bad("versions are no text"))?;
            sound.push(
                VersionReq::parse(one).map_err(|error| Failure::new(format!("{one}: {error}")))?,
            );
        }
    }
    Ok(Some(Advisory {
        id: word("id").ok_or_else(|| bad("has no id"))?,
        package: word("package").ok_or_else(|| bad("has no package"))?,
        informational: word("informational"),
        sound,
    }))
}

impl Advisory {
    fn is_about(&self, one: &Crate) -> bool {
        self.package == one.name && !self.sound.iter().any(|range| range.matches(&one.version))
    }
}

/// Finds the advisories about crates of the graph.
pub(crate) fn judge(graph: &Graph, all: &[Advisory], rules: &Advisories) -> Vec<String> {
    let direct = graph.direct();
    let mut faults = Vec::new();
    for (id, one) in &graph.crates {
        // Crates of our own may have the name of somebody else's.
        if one.source.is_none() {
            continue;
        }
        for advisory in all.iter().filter(|advisory| advisory.is_about(one)) {
            let kind = advisory.informational.as_deref();
            let counts = match kind {
                None | Some("unsound") => true,
                Some("unmaintained") => rules.unmaintained_all || direct.contains(id.as_str()),
                Some(_) => false,
            };
            if counts && !rules.ignore.contains(&advisory.id) {
                faults.push(format!(
                    "{} {}: {} ({})",
                    one.name,
                    one.version,
                    advisory.id,
                    kind.unwrap_or("vulnerability")
                ));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use crate::shell::bash;
    use serde_json::json;
    use std::collections::BTreeSet;

    const HOME: &str = "registry+https://example.invalid/index";

    fn graph() -> Graph {
        let package = |name: &str, version: &str, source: Option<&str>| json!({"id": name, "name": name, "version": version, "source": source});
        let uses = |id: &str, ids: &[&str]| {
            let deps: Vec<_> = ids.iter().map(|id| json!({ "pkg": id })).collect();
            json!({ "id": id, "deps": deps })
        };
        Graph::from_json(&json!({
            "packages": [
                package("ours", "0.1.0", None),
                package("near", "1.2.0", Some(HOME)),
                package("far", "2.0.0-rc.1", Some(HOME)),
            ],
            "resolve": { "nodes": [uses("ours", &["near"]), uses("near", &["far"])] },
        }))
        .unwrap()
    }

    fn advisory(package: &str, more: &str) -> String {
        format!(
            "```toml\n[advisory]\nid = \"RUSTSEC-1\"\npackage = \"{package}\"\n{more}\n```\n\n# A fault\n"
        )
    }

    fn found(package: &str, more: &str, unmaintained_all: bool, ignored: &[&str]) -> usize {
        let all: Vec<Advisory> = parse(&advisory(package, more))
            .unwrap()
            .into_iter()
            .collect();
        let rules = Advisories {
            url: String::new(),
            unmaintained_all,
            ignore: ignored
                .iter()
                .map(|id| (*id).to_owned())
                .collect::<BTreeSet<_>>(),
        };
        judge(&graph(), &all, &rules).len()
    }

    #[test]
    fn an_advisory_counts_for_the_versions_with_the_fault() {
        let patched = |range: &str| format!("[versions]\npatched = [{range:?}]");
        assert_eq!(found("near", "", false, &[]), 1);
        assert_eq!(found("near", &patched(">= 1.3"), false, &[]), 1);
        assert_eq!(found("near", &patched(">= 1.2"), false, &[]), 0);
        let unaffected = "[versions]\npatched = []\nunaffected = [\"< 1.3\"]";
        assert_eq!(found("near", unaffected, false, &[]), 0);
        // A pre-release of the version with the mend may be older than the mend.
        assert_eq!(found("far", &patched(">= 2.0.0"), false, &[]), 1);
        // Ours has the name of somebody else's.
        assert_eq!(found("ours", "", false, &[]), 0);
        assert_eq!(found("near", "", false, &["RUSTSEC-1"]), 0);
        assert_eq!(found("near", "withdrawn = \"2026-01-01\"", false, &[]), 0);
    }

    #[test]
    fn unmaintained_crates_count_where_we_chose_them() {
        let gone = "informational = \"unmaintained\"";
        assert_eq!(found("near", gone, false, &[]), 1);
        assert_eq!(found("far", gone, false, &[]), 0);
        assert_eq!(found("far", gone, true, &[]), 1);
        assert_eq!(found("far", "informational = \"unsound\"", false, &[]), 1);
        assert_eq!(found("near", "informational = \"notice\"", false, &[]), 0);
    }

    #[test]
    fn a_database_is_fetched_and_kept_for_when_it_is_out_of_reach() {
        let scratch = Scratch::new(&std::env::temp_dir(), "advisories").unwrap();
        let [theirs, ours] = ["theirs", "ours"].map(|name| scratch.path().join(name));
        let url = theirs.to_string_lossy();
        assert!(fetch(&url, &ours).is_err(), "there is none yet");
        let commit = |package: &str| {
            let folder = theirs.join("crates").join(package);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("RUSTSEC-1.md"), advisory(package, "")).unwrap();
            bash(&format!(
                "cd '{url}' && git init -q && git add -A && git -c user.name=a -c user.email=a@example.invalid commit -qm a"
            ))
            .unwrap();
        };
        commit("near");
        assert_eq!(fetch(&url, &ours).unwrap(), None);
        assert_eq!(read(&ours).unwrap().len(), 1);
        commit("far");
        assert_eq!(fetch(&url, &ours).unwrap(), None);
        assert_eq!(read(&ours).unwrap().len(), 2);
        std::fs::rename(&theirs, scratch.path().join("gone")).unwrap();
        let note = fetch(&url, &ours).unwrap().unwrap();
        assert!(note.starts_with("with the database of 20"), "{note}");
        assert_eq!(read(&ours).unwrap().len(), 2);
    }
}
