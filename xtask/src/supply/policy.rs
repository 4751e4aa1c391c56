//! `deny.toml`: what is allowed, and the crates held against it.
//!
//! Reads the part of `cargo deny`'s format that it carries out, and refuses every other key by
//! name: a rule that nobody checks is worse than none.

use super::graph::{Crate, Graph};
use crate::shell::Failure;
use semver::VersionReq;
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

const FILE: &str = "deny.toml";

/// A crate by name, perhaps only some of its versions: `heck@<0.5`.
#[derive(Debug)]
struct Spec {
    name: String,
    versions: VersionReq,
}

impl Spec {
    fn fits(&self, one: &Crate) -> bool {
        self.name == one.name && self.versions.matches(&one.version)
    }
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.versions)
    }
}

/// Rules about advisories.
#[derive(Debug)]
pub(crate) struct Advisories {
    /// The database, a git repository.
    pub(crate) url: String,
    /// Unmaintained crates count wherever they are, not only among those that we name ourselves.
    pub(crate) unmaintained_all: bool,
    /// Advisories that were looked at; their reasons are in the file.
    pub(crate) ignore: BTreeSet<String>,
}

/// The whole file.
#[derive(Debug)]
pub(crate) struct Policy {
    /// The platform whose crates are checked.
    pub(crate) target: String,
    pub(crate) advisories: Advisories,
    licences: BTreeSet<String>,
    exceptions: Vec<(Spec, BTreeSet<String>)>,
    banned: Vec<Spec>,
    skipped: Vec<Spec>,
    registries: BTreeSet<String>,
}

/// Result of the checks.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) faults: Vec<String>,
    /// Entries of the file that nothing needs any more.
    pub(crate) notes: Vec<String>,
}

/// A table of the file, whose keys are taken one by one; what is left at the end is unknown.
struct Section {
    name: String,
    table: Table,
}

impl Section {
    fn fault(&self, what: &str) -> Failure {
        Failure::new(format!("{FILE}: [{}]: {what}", self.name))
    }

    fn section(&mut self, key: &str) -> Result<Self, Failure> {
        match self.table.remove(key) {
            Some(Value::Table(table)) => Ok(Self {
                name: key.to_owned(),
                table,
            }),
            _ => Err(self.fault(&format!("[{key}] is missing"))),
        }
    }

    fn word(&mut self, key: &str) -> Result<String, Failure> {
        match self.table.remove(key) {
            Some(Value::String(word)) => Ok(word),
            _ => Err(self.fault(&format!("{key} is missing, or no text"))),
        }
    }

    /// Takes a key that has one possible value, which the code carries out.
    fn only(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        match self.word(key)? {
            word if word == value => Ok(()),
            word => Err(self.fault(&format!("{key} = {word:?}; only {value:?} is carried out"))),
        }
    }

    fn words(&mut self, key: &str) -> Result<BTreeSet<String>, Failure> {
        let values = match self.table.remove(key) {
            Some(Value::Array(values)) => values,
            _ => return Err(self.fault(&format!("{key} is missing, or no list"))),
        };
        let words = values.into_iter().map(|value| match value {
            Value::String(word) => Ok(word),
            other => Err(self.fault(&format!("{key}: {other:?} is no text"))),
        });
        words.collect()
    }

    /// Takes a list of tables, each with a reason; without the key there are none.
    fn entries(&mut self, key: &str) -> Result<Vec<Self>, Failure> {
        let values = match self.table.remove(key) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_) => return Err(self.fault(&format!("{key} is no list"))),
        };
        let name = format!("{}.{key}", self.name);
        let entries = values.into_iter().map(|value| match value {
            Value::Table(table) => Ok(Self {
                name: name.clone(),
                table,
            }),
            other => Err(self.fault(&format!("{key}: {other:?} is no table"))),
        });
        entries.collect()
    }

    fn spec(&mut self) -> Result<Spec, Failure> {
        let word = self.word("crate")?;
        let (name, versions) = word.split_once('@').unwrap_or((&word, "*"));
        let versions = VersionReq::parse(versions)
            .map_err(|error| self.fault(&format!("crate = {word:?}: {error}")))?;
        Ok(Spec {
            name: name.to_owned(),
            versions,
        })
    }

    /// The end of a table: nothing may be left in it.
    fn done(self) -> Result<(), Failure> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => Err(self.fault(&format!("{key} is a rule that nothing carries out"))),
        }
    }

    /// The end of an entry: it has a reason, and nothing more.
    fn reason(mut self) -> Result<(), Failure> {
        self.word("reason")?;
        self.done()
    }
}

impl Policy {
    /// Reads the file of the top folder.
    pub(crate) fn read() -> Result<Self, Failure> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = std::fs::read_to_string(path.join(FILE))
            .map_err(|error| Failure::new(format!("{FILE}: {error}")))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let table: Table = text
            .parse()
            .map_err(|error| Failure::new(format!("{FILE}: {error}")))?;
        let mut file = Section {
            name: FILE.to_owned(),
            table,
        };

        let mut graph = file.section("graph")?;
        let targets = graph.words("targets")?;
        let target = match Vec::from_iter(targets).as_slice() {
            [one] => one.clone(),
            _ => return Err(graph.fault("targets: one platform")),
        };
        graph.done()?;

        let mut section = file.section("advisories")?;
        let urls = section.words("db-urls")?;
        let url = match Vec::from_iter(urls).as_slice() {
            [one] => one.clone(),
            _ => return Err(section.fault("db-urls: one database")),
        };
        let unmaintained_all = match section.word("unmaintained")?.as_str() {
            "all" => true,
            "workspace" => false,
            other => return Err(section.fault(&format!("unmaintained = {other:?}"))),
        };
        section.only("unsound", "all")?;
        let mut ignore = BTreeSet::new();
        for mut entry in section.entries("ignore")? {
            ignore.insert(entry.word("id")?);
            entry.reason()?;
        }
        section.done()?;

        let mut section = file.section("licenses")?;
        let licences = section.words("allow")?;
        let mut exceptions = Vec::new();
        for mut entry in section.entries("exceptions")? {
            exceptions.push((entry.spec()?, entry.words("allow")?));
            entry.done()?;
        }
        section.done()?;

        let mut section = file.section("bans")?;
        section.only("multiple-versions", "deny")?;
        let mut lists = [Vec::new(), Vec::new()];
        for (key, list) in ["deny", "skip"].iter().zip(&mut lists) {
            for mut entry in section.entries(key)? {
                list.push(entry.spec()?);
                entry.reason()?;
            }
        }
        let [banned, skipped] = lists;
        section.done()?;

        let mut section = file.section("sources")?;
        section.only("unknown-registry", "deny")?;
        section.only("unknown-git", "deny")?;
        let registries = section.words("allow-registry")?;
        section.done()?;
        file.done()?;
        Ok(Self {
            target,
            advisories: Advisories {
                url,
                unmaintained_all,
                ignore,
            },
            licences,
            exceptions,
            banned,
            skipped,
            registries,
        })
    }

    /// Holds every crate against the rules.
    pub(crate) fn judge(&self, graph: &Graph) -> Judged {
        let mut judged = Judged::default();
        let mut used = BTreeSet::new();
        for one in graph.crates.values() {
            let named = format!("{} {}", one.name, one.version);
            if let Err(why) = self.licence(one, &mut used) {
                judged.faults.push(format!("{named}: {why}"));
            }
            if self.banned.iter().any(|spec| spec.fits(one)) {
                judged.faults.push(format!("{named}: is banned"));
            }
            if let Some(source) = &one.source
                && !self.knows(source)
            {
                judged.faults.push(format!(
                    "{named}: comes from {source}, which is not allowed"
                ));
            }
        }
        self.duplicates(graph, &mut judged);
        let unused = self.licences.difference(&used);
        judged
            .notes
            .extend(unused.map(|licence| format!("no crate needs the licence {licence}")));
        judged
    }

    /// Decides whether a crate's licence can be met by what is allowed.
    fn licence(&self, one: &Crate, used: &mut BTreeSet<String>) -> Result<(), String> {
        let Some(text) = &one.license else {
            return Err("names no licence".to_owned());
        };
        // Older manifests have a slash for OR.
        let expression = spdx::Expression::parse_mode(text, spdx::ParseMode::LAX)
            .map_err(|error| format!("licence {text}: {}", error.reason))?;
        let more = self.exceptions.iter().filter(|(spec, _)| spec.fits(one));
        let more: BTreeSet<&String> = more.flat_map(|(_, allowed)| allowed).collect();
        let allowed = expression.evaluate(|requirement| {
            let licence = requirement.to_string();
            let known = self.licences.contains(&licence);
            let fits = known || more.contains(&licence);
            if known {
                used.insert(licence);
            }
            fits
        });
        match allowed {
            true => Ok(()),
            false => Err(format!("licence {text} is not allowed")),
        }
    }

    fn knows(&self, source: &str) -> bool {
        let registry = source.strip_prefix("registry+");
        registry.is_some_and(|registry| self.registries.contains(registry))
    }

    /// Finds crates in more than one version, those left out that `skip` names.
    fn duplicates(&self, graph: &Graph, judged: &mut Judged) {
        let mut versions: BTreeMap<&str, Vec<&Crate>> = BTreeMap::new();
        for one in graph.crates.values() {
            versions.entry(&one.name).or_default().push(one);
        }
        let many = |name: &str| versions.get(name).is_some_and(|all| all.len() > 1);
        for (name, all) in &versions {
            let left: Vec<String> = all
                .iter()
                .filter(|one| !self.skipped.iter().any(|spec| spec.fits(one)))
                .map(|one| one.version.to_string())
                .collect();
            if left.len() > 1 {
                judged.faults.push(format!(
                    "{name}: in versions {}; give [bans] skip a reason, or make them one",
                    left.join(" and ")
                ));
            }
        }
        for spec in &self.skipped {
            let fits = graph.crates.values().any(|one| spec.fits(one));
            if !fits || !many(&spec.name) {
                judged.notes.push(format!("skip {spec} is not needed"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RULES: &str = r#"
[graph]
targets = ["x86_64-unknown-linux-gnu"]
[advisories]
db-urls = ["https://example.invalid/db"]
unmaintained = "workspace"
unsound = "all"
[licenses]
allow = ["MIT", "Apache-2.0"]
exceptions = [{ crate = "tables", allow = ["Unicode-3.0"] }]
[bans]
multiple-versions = "deny"
deny = [{ crate = "worse@<2", reason = "it is" }]
skip = [{ crate = "twice@<0.2", reason = "two of them want it" }]
[sources]
unknown-registry = "deny"
unknown-git = "deny"
allow-registry = ["https://example.invalid/index"]
"#;

    fn graph(crates: &[(&str, &str, &str, &str)]) -> Graph {
        let packages: Vec<_> = crates
            .iter()
            .map(|(name, version, license, source)| {
                let id = format!("{name}@{version}");
                json!({"id": id, "name": name, "version": version, "license": license, "source": source})
            })
            .collect();
        Graph::from_json(&json!({ "packages": packages })).unwrap()
    }

    fn faults(crates: &[(&str, &str, &str, &str)]) -> Vec<String> {
        Policy::parse(RULES).unwrap().judge(&graph(crates)).faults
    }

    const HOME: &str = "registry+https://example.invalid/index";

    #[test]
    fn a_licence_is_allowed_when_its_expression_can_be_met() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR GPL-2.0-only) AND Apache-2.0",
        ] {
            assert_eq!(faults(&[("a", "1.0.0", good, HOME)]), [""; 0], "{good}");
        }
        for bad in [
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "Apache-2.0 WITH LLVM-exception",
            "nonsense",
        ] {
            let faults = faults(&[("a", "1.0.0", bad, HOME)]);
            assert_eq!(faults.len(), 1, "{bad}");
            assert!(faults[0].starts_with("a 1.0.0: licence "), "{faults:?}");
        }
        let both = "MIT AND Unicode-3.0";
        assert_eq!(faults(&[("tables", "1.0.0", both, HOME)]), [""; 0]);
        assert_eq!(faults(&[("other", "1.0.0", both, HOME)]).len(), 1);
    }

    #[test]
    fn bans_duplicates_and_sources() {
        assert_eq!(
            faults(&[("worse", "1.9.0", "MIT", HOME)]),
            ["worse 1.9.0: is banned"]
        );
        assert_eq!(faults(&[("worse", "2.0.0", "MIT", HOME)]), [""; 0]);
        let skipped = [
            ("twice", "0.1.7", "MIT", HOME),
            ("twice", "0.2.0", "MIT", HOME),
        ];
        assert_eq!(faults(&skipped), [""; 0]);
        let third = [skipped[0], skipped[1], ("twice", "0.3.0", "MIT", HOME)];
        let found = faults(&third);
        assert!(
            found[0].contains("twice: in versions 0.2.0 and 0.3.0"),
            "{found:?}"
        );
        for elsewhere in [
            "git+https://example.invalid/a#1",
            "registry+https://other.invalid/index",
        ] {
            let found = faults(&[("a", "1.0.0", "MIT", elsewhere)]);
            assert!(found[0].contains(elsewhere), "{found:?}");
        }
    }

    #[test]
    fn what_nothing_needs_is_said() {
        let judged = Policy::parse(RULES)
            .unwrap()
            .judge(&graph(&[("a", "1.0.0", "MIT", HOME)]));
        assert_eq!(
            judged.notes,
            [
                "skip twice@<0.2 is not needed",
                "no crate needs the licence Apache-2.0"
            ]
        );
    }

    #[test]
    fn a_rule_that_nothing_carries_out_is_refused() {
        for (more, said) in [
            ("[bans]", "wildcards"),
            ("[licenses]", "confidence-threshold"),
        ] {
            let text = RULES.replace(more, &format!("{more}\n{said} = 1"));
            let failure = Policy::parse(&text).unwrap_err().to_string();
            assert!(failure.contains(said), "{failure}");
        }
        let lax = RULES.replace("unknown-git = \"deny\"", "unknown-git = \"allow\"");
        let failure = Policy::parse(&lax).unwrap_err().to_string();
        assert!(failure.contains("only \"deny\""), "{failure}");
        let silent = RULES.replace(", reason = \"it is\"", "");
        let failure = Policy::parse(&silent).unwrap_err().to_string();
        assert!(failure.contains("reason is missing"), "{failure}");
    }
}
