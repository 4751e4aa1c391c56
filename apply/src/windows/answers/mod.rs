//! The answer file of Windows Setup: `Windows\Panther\Unattend\Unattend.xml`, merged with what is there.
//!
//! It holds passwords that are merely hidden and a join blob: only SYSTEM and Administrators may read it, and Setup deletes
//! their values after use. Untested on real Windows: that Setup accepts it.

mod compose;
mod xml;

use super::acl::{self, Access};
use super::hives::Hives;
use super::paths;
use crate::context::Context;
use crate::engine::{State, Task};
use crate::guest::Guest;
use template::step::Answers;

/// Below the folder of Windows; where Setup looks second, after the registry.
const PLACE: [&str; 3] = ["Panther", "Unattend", "Unattend.xml"];
/// Where answers lie that Setup would use without ours.
const OTHERS: [&[&str]; 2] = [
    &["Panther", "Unattend.xml"],
    &["System32", "Sysprep", "Unattend.xml"],
];

/// Writes the answers.
pub(crate) struct AnswerFile<'a> {
    partition: u32,
    answers: &'a Answers,
}

impl<'a> AnswerFile<'a> {
    pub(crate) fn new(partition: u32, answers: &'a Answers) -> Self {
        Self { partition, answers }
    }

    /// Path, what lies there, and what has to.
    fn wanted(&self, context: &Context<'_>, guest: &Guest) -> Result<Wanted, String> {
        let windows = paths::windows_folder(guest)?;
        let path = paths::walk(guest, &windows, &PLACE)?;
        let most = xml::MOST_BYTES as u64;
        let there = guest.read(&path, most)?;
        let mut base = there.clone().map(|bytes| (path.clone(), bytes));
        for other in OTHERS {
            if base.is_none() {
                let other = paths::walk(guest, &windows, other)?;
                base = guest.read(&other, most)?.map(|bytes| (other, bytes));
            }
        }
        let base = match base {
            Some((from, bytes)) => Some(xml::read(&bytes).map_err(|why| {
                format!("{from} cannot be merged with ours: {why}; remove it on the master")
            })?),
            None => None,
        };
        let secret = |name: &template::step::SecretName| context.secret(name).map(str::to_owned);
        let merged = compose::merge(base, self.answers, &secret)
            .map_err(|why| format!("the answer file: {why}"))?;
        Ok(Wanted {
            path,
            there,
            text: xml::write(&merged),
        })
    }
}

struct Wanted {
    path: String,
    there: Option<Vec<u8>>,
    text: String,
}

impl Task for AnswerFile<'_> {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State, String> {
        let guest = context.root(self.partition)?;
        let wanted = self.wanted(context, &guest)?;
        let path = &wanted.path;
        if wanted.there.as_deref() != Some(wanted.text.as_bytes()) {
            return Ok(State::Needed(format!(
                "{path} does not say all that it has to"
            )));
        }
        Ok(match Access::Private.is_set(&guest, path, false)? {
            true => State::Done,
            false => State::Needed(format!("others than administrators may read {path}")),
        })
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        let guest = context.root(self.partition)?;
        let wanted = self.wanted(context, &guest)?;
        let folder = wanted
            .path
            .rsplit_once('/')
            .map_or("/", |(folder, _)| folder);
        acl::create_folders(&guest, folder, Access::Ordinary)?;
        acl::write(
            &guest,
            &wanted.path,
            wanted.text.as_bytes(),
            Access::Private,
        )?;
        let mut hives = Hives::new(guest)?;
        let told = |error: hive::HiveError| format!("SYSTEM: {error}");
        let system = hives.get("SYSTEM")?;
        if let Some(setup) = system.find("Setup").map_err(told)?
            && let Some(value) = system.value(setup, "UnattendFile").map_err(told)?
            && let Some(other) = value.as_string().filter(|other| !other.is_empty())
        {
            context.note(format!(
                "the registry of the master names another answer file, {other}, which Windows Setup reads instead of ours"
            ));
        }
        Ok(())
    }
}
