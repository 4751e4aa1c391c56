//! The answer file of Windows Setup, `Windows\Panther\Unattend\Unattend.xml`, merged with an
//! existing one.
//!
//! It holds a join blob and passwords that are only obfuscated: only SYSTEM and Administrators may
//! read it, and Setup deletes these values after use. Not tested on real Windows: acceptance by
//! Setup.

mod compose;

use super::acl::{self, Access};
use super::hives::Hives;
use super::paths;
use crate::context::Context;
use crate::engine::{State, Task};
use crate::error::{At, Result, StepError};
use crate::guest::Guest;
use std::rc::Rc;
use template::answers::{PLACES, base, xml};
use template::step::Answers;

/// Key and value in SYSTEM that name an answer file which Setup reads before all others.
const REGISTERED: (&str, &str) = ("Setup", "UnattendFile");

/// Step that writes the answer file.
pub(crate) struct AnswerFile<'a> {
    partition: u32,
    answers: &'a Answers,
}

impl<'a> AnswerFile<'a> {
    pub(crate) fn new(partition: u32, answers: &'a Answers) -> Self {
        Self { partition, answers }
    }

    /// Path of the answer file, its present content, and the wanted content.
    fn wanted(&self, context: &Context<'_>, guest: &Guest) -> Result<Wanted> {
        let windows = paths::windows_folder(guest)?;
        let mut paths = Vec::new();
        for place in PLACES {
            paths.push(paths::walk(guest, &windows, place)?);
        }
        let most = xml::MOST_BYTES as u64;
        let mut found = None;
        for path in &paths {
            found = found.or(guest.read(path, most)?.map(|bytes| (path, bytes)));
        }
        let base = match &found {
            Some((from, bytes)) => Some(base(bytes).map_err(|fault| {
                let place = format!("{from} cannot be merged with ours; remove it on the master");
                StepError::unexpected(place, fault)
            })?),
            None => None,
        };
        let path = paths.swap_remove(0);
        let there = guest.read(&path, most)?;
        let secret = |name: &template::step::SecretName| context.secret(name).map(str::to_owned);
        let merged = compose::merge(base.map(|(root, _)| root), self.answers, &secret)
            .at("the answer file")?;
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
    fn check(&mut self, context: &mut Context<'_>) -> Result<State> {
        let guest = context.root(self.partition)?;
        let wanted = self.wanted(context, &guest)?;
        let path = &wanted.path;
        if wanted.there.as_deref() != Some(wanted.text.as_bytes()) {
            return Ok(State::Needed(format!(
                "{path} does not say all that it has to"
            )));
        }
        if !Access::Private.is_set(&guest, path, false)? {
            return Ok(State::Needed(format!(
                "others than administrators may read {path}"
            )));
        }
        Ok(unregistered(guest)?.state())
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
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
        unregistered(guest)?.save()
    }
}

/// SYSTEM without a reference to another answer file, which Setup would read instead of ours.
fn unregistered(guest: Rc<Guest>) -> Result<Hives> {
    let mut hives = Hives::new(guest)?;
    let (key, value) = REGISTERED;
    hives.remove_values("SYSTEM", key, |name| name.eq_ignore_ascii_case(value))?;
    Ok(hives)
}
