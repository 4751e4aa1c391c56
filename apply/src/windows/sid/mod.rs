//! The machine SID in all its places: registry, names of files and folders, NTFS descriptors.
//!
//! ```text
//! hives    every file on the volume that begins like a hive, with any name:
//!          values, names of keys and values, security descriptors
//! names    files and folders named by the SID, anywhere on the volume:
//!          $Recycle.Bin\SID, Protect\SID, tasks of a user ..
//! NTFS     $Secure, and descriptors stored with their file; the volume is unmounted for that
//! ```
//!
//! The parts are changed in this order. An interrupted run continues where it stopped, because each
//! part is checked by itself. Databases that are no hives (the state repository of store apps, the
//! search index) are left unchanged, and the report says so. DPAPI is also left: master keys of
//! local accounts are bound to the old SID, so data that users had encrypted with them is lost.
//!
//! Not supported by Microsoft. Not tested on real Windows. Shown by tests: no trace of the old SID
//! is left in the places named here, administrators stay administrators, and passwords stay the
//! same.

mod content;
mod search;

use super::hives::Hives;
use super::ntfs;
use crate::context::Context;
use crate::engine::{State, Task};
use crate::error::{At, Cause, Result, StepError};
use crate::guest::Guest;
use content::{account, rewrite, traces, unreplaced};
use hive::files::{self, MOST_HIVE_BYTES};
use hive::sid::{self, Machine};
use search::Places;
use std::fs::File;
use std::path::Path;
use std::rc::Rc;

/// Place of an error of the volume's own structures.
const VOLUME: &str = "the NTFS volume";

impl Cause for ntfs::NtfsError {
    fn at(self, place: String) -> StepError {
        match self {
            Self::Refused(why) => StepError::refused(
                format!("{place} is refused: {why}"),
                "shut Windows down fully on the master and have it check the volume, or use windows.sid = \"keep\"",
            ),
            Self::Io(error) => error.at(place),
            other => StepError::unexpected(place, other),
        }
    }
}

/// The step that rewrites the SID.
pub(crate) struct Rewrite {
    partition: u32,
    old: Machine,
    new: Machine,
    /// Result of the last check of the volume.
    places: Places,
}

impl Rewrite {
    pub(crate) fn new(partition: u32, old: &str, new: &str) -> Result<Self> {
        Ok(Self {
            partition,
            old: machine(old)?,
            new: machine(new)?,
            places: Places::default(),
        })
    }

    /// The hives with their edits, and remarks on places that had to be left.
    fn hives(&self, guest: Rc<Guest>) -> Result<(Hives, Vec<String>)> {
        let mut hives = Hives::new(guest)?;
        self.refuse_others(&mut hives)?;
        let mut left = Vec::new();
        for path in &self.places.hives {
            if search::is_hive(hives.guest(), path)?
                && search::mentions(hives.guest(), path, self.old)?
            {
                left.extend(self.one_hive(&mut hives, path)?);
            }
        }
        Ok((hives, left))
    }

    /// Refuses a domain controller, and a machine whose SID is neither the old one in the plan nor
    /// the new one.
    fn refuse_others(&self, hives: &mut Hives) -> Result<()> {
        let sets = hives.control_sets()?;
        for set in &sets {
            let system = hives.get("SYSTEM")?;
            let options = system
                .find(&format!(r"{set}\Control\ProductOptions"))
                .at("SYSTEM")?;
            let kind = match options {
                Some(key) => system.value(key, "ProductType").at("SYSTEM")?,
                None => None,
            };
            let kind = kind.and_then(|value| value.as_string()).unwrap_or_default();
            if kind.eq_ignore_ascii_case("LanmanNT") {
                return Err(StepError::refused(
                    "the master is a domain controller: its SID is that of its domain",
                    "use windows.sid = \"keep\"",
                ));
            }
        }
        match account(hives.get("SAM")?).at("SAM")? {
            Some((_, _, found)) if found == self.old || found == self.new => Ok(()),
            Some((_, _, found)) => Err(StepError::refused(
                format!(
                    "the master has the SID {found}, and the plan expects {}",
                    self.old
                ),
                "inspect the image again",
            )),
            None => Err(StepError::unexpected("SAM", "it has no machine SID")),
        }
    }

    /// Edits a hive that holds the SID; returns remarks on places that had to be left.
    fn one_hive(&self, hives: &mut Hives, path: &str) -> Result<Vec<String>> {
        let length = hives.guest().metadata(path)?.map_or(0, |it| it.length);
        let opened = match length > MOST_HIVE_BYTES {
            true => Err(StepError::refused(
                format!(
                    "{path} names the old SID and has {length} bytes, more than the {MOST_HIVE_BYTES} that can be \
                     changed here"
                ),
                "compact or remove it on the master, or use windows.sid = \"keep\"",
            )),
            false => hives.at(path).map(|_| ()),
        };
        if let Err(why) = opened {
            return match is_needed(path) {
                true => Err(why),
                false => Ok(vec![format!("{why}: it was left as it is")]),
            };
        }
        let now = hives.now();
        let hive = hives.at(path)?;
        let count = rewrite(hive, self.old, self.new, now).at(path)?;
        if count > 0 {
            hives.changed(path, format!("{count} places with the old SID"));
        }
        let hive = hives.at(path)?;
        match traces(hive, self.old).at(path)?.as_slice() {
            [] => {}
            [first, ..] => {
                let fault = format!("the old SID would be left in {first}, and perhaps elsewhere");
                return Err(StepError::unexpected(path, fault));
            }
        }
        let left = unreplaced(hive, self.old).at(path)?;
        if count == 0 {
            hives.close(path);
        }
        let spelt = |value| format!("{path}: {value} spells it in a form of another length");
        Ok(left.into_iter().map(spelt).collect())
    }

    fn volume(&self, context: &mut Context<'_>, writable: bool) -> Result<(File, ntfs::Planned)> {
        let device = context.device(self.partition)?;
        let volume = open(&device, writable)?;
        let planned = ntfs::plan(&volume, &self.old.to_bytes(), &self.new.to_bytes()).at(VOLUME)?;
        Ok((volume, planned))
    }
}

impl Task for Rewrite {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State> {
        let (volume, planned) = self.volume(context, false)?;
        self.places = search::places(&volume, self.old, self.new).at(VOLUME)?;
        drop(volume);
        let (hives, _) = self.hives(context.root(self.partition)?)?;
        if let State::Needed(what) = hives.state() {
            return Ok(State::Needed(what));
        }
        if let Some((from, _)) = self.places.renames.first() {
            return Ok(State::Needed(format!("{from} is named by the old SID")));
        }
        Ok(match planned.is_empty() {
            true => State::Done,
            false => State::Needed(format!(
                "{} security descriptors of files name the old SID",
                planned.shared + planned.own
            )),
        })
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
        // The check has already found every reason to refuse the volume, before the registry is
        // changed.
        let guest = context.root(self.partition)?;
        let (hives, left) = self.hives(Rc::clone(&guest))?;
        for (from, to) in &self.places.renames {
            if guest.exists(to)? {
                return Err(StepError::refused(
                    format!("{from} has to become {to}, which is there already"),
                    "remove one of them on the master",
                ));
            }
        }
        hives.save()?;
        for (from, to) in &self.places.renames {
            guest.rename(from, to)?;
        }
        drop(guest);
        let (volume, planned) = self.volume(context, true)?;
        ntfs::write(
            &volume,
            &planned,
            &self.old.to_bytes(),
            &self.new.to_bytes(),
        )
        .at(VOLUME)?;
        context.log(&format!(
            "{} shared and {} own security descriptors have the new SID",
            planned.shared, planned.own
        ));
        if let [first, ..] = left.as_slice() {
            context.note(format!(
                "the old SID is left in {} places of the registry, the first is {first}",
                left.len()
            ));
        }
        context.note(
            "the new SID cuts local accounts off from what they had encrypted with DPAPI (saved passwords, EFS, certificates), and \
             store apps may have to be registered anew; a SID rewrite is not supported by Microsoft"
                .into(),
        );
        Ok(())
    }
}

fn is_needed(path: &str) -> bool {
    let mut names = path.split('/');
    let name = names.next_back().unwrap_or_default();
    files::is_needed(names, name)
}

fn machine(text: &str) -> Result<Machine> {
    let sid: Option<sid::Sid> = text.parse().ok();
    let whole = sid.filter(|sid| sid.to_string() == text);
    let machine = whole
        .and_then(|sid| sid.machine())
        .filter(|machine| machine.to_string() == text);
    machine.ok_or_else(|| StepError::Order(format!("{text} is no machine SID: S-1-5-21-a-b-c")))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge: the volume itself, unmounted"
)]
fn open(device: &Path, writable: bool) -> Result<File> {
    let opened = match writable {
        true => File::options().read(true).write(true).open(device),
        false => File::open(device),
    };
    opened.at(device.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_machine_sid_is_taken() {
        assert_eq!(machine("S-1-5-21-11-22-33").unwrap(), Machine([11, 22, 33]));
        for text in [
            "S-1-5-21-11-22",
            "S-1-5-21-11-22-33-500",
            "S-1-5-32-544",
            "s-1-5-21-11-22-33",
            "",
            "x",
        ] {
            assert!(machine(text).is_err(), "{text}");
        }
    }
}
