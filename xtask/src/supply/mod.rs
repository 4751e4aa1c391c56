//! Other people's crates: which ones are in the programs, under which licences, and what is known
//! against them.
//!
//! | module | content |
//! |---|---|
//! | [`graph`] | the crates of the workspace and their edges, from `cargo metadata` |
//! | [`policy`] | `deny.toml`, and the graph held against it: licences, bans, sources |
//! | [`advisories`] | the RustSec database, and the graph held against it |
//! | [`notices`] | `THIRD-PARTY.txt`: the licences of what is in the programs |
//!
//! `deny.toml` has the format of `cargo deny`, so that `cargo deny check` gives the same answers.
//! CI does not run that program itself: it compiles a git client and a resolver, which takes longer
//! than any other step but the tests (docs/testing.md).

pub(crate) mod advisories;
pub(crate) mod graph;
pub(crate) mod notices;
pub(crate) mod policy;

use crate::shell::Failure;
use crate::steps::{Count, Outcome};
use graph::Graph;
use policy::Policy;
use std::path::Path;

/// Checks licences, bans and sources of every crate against `deny.toml`.
pub(crate) fn deny() -> Result<Count, Failure> {
    let policy = Policy::read()?;
    let graph = Graph::read(&policy.target)?;
    let judged = policy.judge(&graph);
    for note in &judged.notes {
        println!("deny.toml: {note}");
    }
    println!(
        "{} crates: licences, duplicates and sources checked",
        graph.crates.len()
    );
    named("rules of deny.toml broken", &judged.faults)
}

/// Checks every crate against the advisory database. Where the database cannot be reached and was
/// never fetched, the result says so and counts as nothing.
pub(crate) fn advisories() -> Outcome {
    let checked = || -> Result<Outcome, Failure> {
        let policy = Policy::read()?;
        let folder = Path::new(advisories::FOLDER);
        let note = match advisories::fetch(&policy.advisories.url, folder) {
            Ok(note) => note,
            Err(failure) => {
                return Ok(Outcome::skipped(format!(
                    "skipped, the database cannot be reached: {failure}"
                )));
            }
        };
        let graph = Graph::read(&policy.target)?;
        let all = advisories::read(folder)?;
        let faults = advisories::judge(&graph, &all, &policy.advisories);
        println!(
            "{} crates held against {} advisories",
            graph.crates.len(),
            all.len()
        );
        let mut outcome: Outcome = named("advisories open", &faults).into();
        outcome.note = note;
        Ok(outcome)
    };
    checked().unwrap_or_else(|failure| Err(failure).into())
}

/// A success without faults; otherwise all of them are printed, one a line.
fn named(what: &str, faults: &[String]) -> Result<Count, Failure> {
    if faults.is_empty() {
        return Ok(Count::ONE);
    }
    for fault in faults {
        println!("{fault}");
    }
    Err(Failure::new(format!(
        "{} {what}, named above",
        faults.len()
    )))
}
