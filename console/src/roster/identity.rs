//! Identity of targets: the roster's side of the rule in [`facts::identity`].
//!
//! Owns the register of machines beside the roster. Invariants: the register is locked after the
//! entries, never before; a machine that may be one of two targets has an id of its own until a
//! technician answers, and no target's name or address changes meanwhile.

use super::{Entry, Link, Roster, find, not_found};
use crate::store::{IdentityRows, TargetRow};
use api::{ApiError, ErrorCode, IdentityView};
use facts::identity::{BootMatch, Change, Evidence, IdentifyError, Mark, Record, Register, Shared};
use facts::{Mac, Uuid};
use jobs::naming;
use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

type Entries = BTreeMap<String, Entry>;

/// Result of a technician's identification of a target.
#[derive(Debug)]
pub struct Identified {
    /// The target that remains.
    pub row: TargetRow,
    /// Changes of identities, to be stored.
    pub identity: IdentityRows,
    /// The connection under the removed id; after it is closed, the agent reconnects as the
    /// remaining target.
    pub close: Option<Link>,
}

/// Makes the register from stored records; targets without a record are known by their facts.
pub(super) fn register_of(
    rows: &[TargetRow],
    records: Vec<(String, Record)>,
    shared: Shared,
) -> Register {
    let mut all: BTreeMap<String, Record> = rows
        .iter()
        .map(|row| {
            let evidence = naming::evidence(&row.facts);
            let doubts = Vec::new();
            (row.id.clone(), Record { evidence, doubts })
        })
        .collect();
    for (id, record) in records {
        all.entry(id).and_modify(|known| *known = record);
    }
    Register::new(all, shared)
}

impl Roster {
    pub(super) fn register(&self) -> MutexGuard<'_, Register> {
        // No code below can stop half-way through a change, so a poisoned register is still whole.
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the target id of an agent that says hello, and the changes to store.
    pub(super) fn recognise(
        &self,
        entries: &Entries,
        seen: &Evidence,
        instance: &str,
    ) -> (String, IdentityRows) {
        let mut register = self.register();
        let live = |id: &str| entries.get(id).is_some_and(|entry| entry.link.is_some());
        // The same agent process is the same target, even if its cards have changed.
        let own = entries
            .iter()
            .find(|(_, entry)| !instance.is_empty() && entry.row.instance == instance);
        let (id, change) = match own {
            Some((id, _)) => (id.clone(), register.again(id, seen, &live)),
            None => {
                let sighting = register.sight(seen, &live, |register| {
                    let key = naming::machine_key(seen, register.shared());
                    let mut ids = (1..=u32::MAX).map(|copy| naming::target_id(&key, copy));
                    let free =
                        |id: &String| !entries.contains_key(id) && register.record(id).is_none();
                    // The roster is bounded well below u32::MAX, so some id is free.
                    ids.find(free).unwrap_or(key)
                });
                (sighting.id, sighting.change)
            }
        };
        tell(entries, &change.marks, &id);
        let rows = rows_of(&register, change);
        (id, rows)
    }

    /// Removes the identity of a target that is forgotten or was not accepted.
    pub(super) fn forget_identity(&self, id: &str) {
        self.register().forget(id);
    }

    /// Returns the identity of a target as the API shows it, with the names of the targets it may
    /// be.
    pub(super) fn identity_view(entries: &Entries, register: &Register, id: &str) -> IdentityView {
        let Some(record) = register.record(id) else {
            return IdentityView::default();
        };
        let names = record.doubts.iter();
        let shared = record
            .evidence
            .values()
            .filter(|value| register.shared().has(value));
        IdentityView {
            may_be: names
                .filter_map(|id| entries.get(id).map(|entry| entry.row.name.clone()))
                .collect(),
            not_unique: shared.map(|value| value.to_string()).collect(),
        }
    }

    /// Returns the targets that boot with this card and UUID.
    pub fn boots(&self, card: Mac, uuid: Option<Uuid>) -> BootMatch {
        self.register().boots(card, uuid)
    }

    /// Returns true if a machine that boots with this card and UUID fits the target in every value.
    pub fn is_boot_of(&self, id: &str, card: Mac, uuid: Option<Uuid>) -> bool {
        self.register().is_boot_of(id, card, uuid)
    }

    /// Returns the identity record of every target, and the values that several of them share.
    pub fn identities(&self) -> (BTreeMap<String, Record>, Shared) {
        let register = self.register();
        let records = register.records();
        let records = records.map(|(id, record)| (id.clone(), record.clone()));
        (records.collect(), register.shared().clone())
    }

    /// Applies a technician's answer: the machine is target `is` (id or name), or with `None` one
    /// of its own.
    ///
    /// # Errors
    /// `NothingMatched` for an unknown id or name; `Refused` if the two cannot be one machine.
    pub fn identify(&self, id_or_name: &str, is: Option<&str>) -> Result<Identified, ApiError> {
        let mut entries = self.lock();
        let row = find(&entries, id_or_name)?.row.clone();
        let Some(is) = is else {
            let mut register = self.register();
            let change = register.is_new(&row.id).map_err(|error| refused(&error))?;
            tell(&entries, &change.marks, &row.id);
            let identity = rows_of(&register, change);
            return Ok(Identified {
                row,
                identity,
                close: None,
            });
        };
        let old = find(&entries, is)?;
        let (old_id, old_name) = (old.row.id.clone(), old.row.name.clone());
        let refuse = |message: String, hint: &str| {
            Err(ApiError::new(ErrorCode::Refused, message).hint(hint))
        };
        let new = entries.get(&row.id).ok_or_else(|| not_found(id_or_name))?;
        if old_id != row.id && old.link.is_some() {
            return refuse(
                format!(
                    "{old_name} is connected, so {} is another machine",
                    row.name
                ),
                "say --new, or stop the agent of the one that is gone",
            );
        }
        if let Some((job, _)) = &new.job {
            return refuse(
                format!("{} is in job {job}", row.name),
                "identify it when the job is over",
            );
        }
        let mut register = self.register();
        let change = register
            .is(&row.id, &old_id)
            .map_err(|error| refused(&error))?;
        let identity = rows_of(&register, change);
        let gone = entries.remove(&row.id);
        let kept = entries.get_mut(&old_id).ok_or_else(|| not_found(is))?;
        kept.row.facts = row.facts;
        kept.row.facts_time = row.facts_time;
        kept.row.last_seen = row.last_seen;
        Ok(Identified {
            row: kept.row.clone(),
            identity,
            close: gone.and_then(|entry| entry.link),
        })
    }
}

fn refused(error: &IdentifyError) -> ApiError {
    ApiError::new(ErrorCode::Refused, error.to_string())
}

/// Logs values that turned out to be shared; each is logged once, because the register keeps the
/// mark.
fn tell(entries: &Entries, marks: &[Mark], newcomer: &str) {
    for mark in marks {
        let [one, two] = mark.machines.each_ref().map(|id| match entries.get(id) {
            Some(entry) => entry.row.name.as_str(),
            None if id == newcomer => "a machine that has just come",
            None => id.as_str(),
        });
        tracing::warn!(
            "{} is not one machine's own: {one} and {two} have it; it does not say any more who a machine is",
            mark.value
        );
    }
}

fn rows_of(register: &Register, change: Change) -> IdentityRows {
    let record = |id: String| {
        let record = register.record(&id)?.clone();
        Some((id, record))
    };
    IdentityRows {
        records: change.records.into_iter().filter_map(record).collect(),
        gone: change.gone.into_iter().collect(),
        shared: change.marks.into_iter().map(|mark| mark.value).collect(),
        own_again: change.own_again,
    }
}
