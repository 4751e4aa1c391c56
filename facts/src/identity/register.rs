//! Register of every known machine, of shared values, and of open questions.
//!
//! Pure: the caller passes in which machines are connected, and stores each [`Change`]. Invariants:
//! two connected machines have two ids; an id stays with its machine; a machine in doubt has an id
//! of its own until a person has answered.

use super::evidence::{Evidence, Shared, Value};
use super::rule::{Known, Relation, Verdict, compare_boot, judge, relate};
use crate::{Mac, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A known machine.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Identity values of the machine.
    pub evidence: Evidence,
    /// Ids of machines it may be, until a person has answered.
    #[serde(default)]
    pub doubts: Vec<String>,
}

/// A value that several machines turned out to have.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Mark {
    /// The value.
    pub value: Value,
    /// Ids of the two machines that have it.
    pub machines: [String; 2],
}

/// Changes of the register in one call, to be stored by the caller.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Change {
    /// Ids of records that are new or different.
    pub records: BTreeSet<String>,
    /// Ids of records that were removed.
    pub gone: BTreeSet<String>,
    /// Values that are shared from now on, to be reported once.
    pub marks: Vec<Mark>,
    /// Values that are no longer shared.
    pub own_again: Vec<Value>,
}

/// The result of a sighting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sighting {
    /// Id of the machine.
    pub id: String,
    /// The id is new.
    pub new: bool,
    /// Changes to be stored.
    pub change: Change,
}

/// Known machines that a card and a UUID may belong to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BootMatch {
    /// Ids of the machine: several only when agents with different files run on one machine.
    pub known: Vec<String>,
    /// Ids of machines it may be: only an agent can decide.
    pub unsure: Vec<String>,
}

/// The reason why two targets are not merged.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentifyError {
    /// There is no such target.
    #[error("there is no target {0}")]
    Unknown(String),
    /// Both names mean the same target.
    #[error("{0} is the same target")]
    Itself(String),
    /// The targets stand for different files.
    #[error("{0} and {1} are agents with different files for disks")]
    Files(String, String),
}

/// Known machines and the values they share.
#[derive(Clone, Debug, Default)]
pub struct Register {
    records: BTreeMap<String, Record>,
    shared: Shared,
}

impl Register {
    /// Builds the register from stored records and shared values. Open questions about forgotten
    /// machines are closed.
    pub fn new(records: impl IntoIterator<Item = (String, Record)>, shared: Shared) -> Self {
        let mut register = Self {
            records: records.into_iter().collect(),
            shared,
        };
        register.settle(&|_| false, &mut Change::default());
        register
    }

    /// The record of a machine, by id.
    pub fn record(&self, id: &str) -> Option<&Record> {
        self.records.get(id)
    }

    /// Every record with its id.
    pub fn records(&self) -> impl Iterator<Item = (&String, &Record)> {
        self.records.iter()
    }

    /// Values that several machines have.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Identifies a machine by its values. `live` is true for ids that are connected; `name` gives
    /// an unused id when the machine is new.
    pub fn sight(
        &mut self,
        seen: &Evidence,
        live: &dyn Fn(&str) -> bool,
        name: impl FnOnce(&Self) -> String,
    ) -> Sighting {
        let ids: Vec<&String> = self.records.keys().collect();
        let known: Vec<Known<'_>> = self
            .records
            .iter()
            .map(|(id, record)| Known {
                evidence: &record.evidence,
                live: live(id),
            })
            .collect();
        let (verdict, marks) = judge(&known, seen, &self.shared);
        let id_of = |index: usize| ids.get(index).map(|id| (*id).clone());
        let marks: Vec<(Value, String)> = marks
            .into_iter()
            .filter_map(|(value, index)| Some((value, id_of(index)?)))
            .collect();
        let (found, doubts) = match verdict {
            Verdict::Known(index) => (id_of(index), Vec::new()),
            Verdict::New => (None, Vec::new()),
            Verdict::Doubt(of) => (None, of.into_iter().filter_map(id_of).collect()),
        };
        let mut change = Change::default();
        for (value, _) in &marks {
            self.shared.insert(value.clone());
        }
        let (id, new) = match found {
            Some(id) => (id, false),
            None => (name(self), true),
        };
        for (value, other) in marks {
            change.mark(value, other, id.clone());
        }
        let record = self.records.entry(id.clone()).or_default();
        record.evidence.learn(seen);
        if new {
            record.evidence.files.clone_from(&seen.files);
            record.evidence.host.clone_from(&seen.host);
            record.doubts = doubts;
        }
        change.records.insert(id.clone());
        self.settle(&|other| other == id || live(other), &mut change);
        Sighting { id, new, change }
    }

    /// Updates a machine whose agent is known by itself: the same process, connected again.
    pub fn again(&mut self, id: &str, seen: &Evidence, live: &dyn Fn(&str) -> bool) -> Change {
        let mut change = Change::default();
        self.records
            .entry(id.to_owned())
            .or_default()
            .evidence
            .learn(seen);
        change.records.insert(id.to_owned());
        self.settle(&|other| other == id || live(other), &mut change);
        change
    }

    /// Closes questions that need no answer any more: both machines are connected, one is gone, or
    /// the values they have in common are shared by now.
    fn settle(&mut self, live: &dyn Fn(&str) -> bool, change: &mut Change) {
        let open: Vec<(String, Vec<String>)> = self
            .records
            .iter()
            .filter(|(_, record)| !record.doubts.is_empty())
            .map(|(id, record)| (id.clone(), record.doubts.clone()))
            .collect();
        for (id, doubts) in open {
            let mut left = doubts.clone();
            for other in doubts {
                let (Some(own), Some(theirs)) = (self.records.get(&id), self.records.get(&other))
                else {
                    left.retain(|one| *one != other);
                    continue;
                };
                let apart = live(&id) && live(&other);
                if apart {
                    for value in own.evidence.common(&theirs.evidence) {
                        if self.shared.insert(value.clone()) {
                            change.mark(value, other.clone(), id.clone());
                        }
                    }
                }
                let relation = relate(&theirs.evidence, &own.evidence, &self.shared);
                if apart || matches!(relation, Relation::None | Relation::Other(_)) {
                    left.retain(|one| *one != other);
                }
            }
            if let Some(record) = self.records.get_mut(&id)
                && record.doubts != left
            {
                record.doubts = left;
                change.records.insert(id);
            }
        }
    }

    /// Merges `new` into `old`, because a person says they are one machine. The record of `new` is
    /// removed.
    ///
    /// # Errors
    /// One of them is unknown, both are the same, or they stand for different files.
    pub fn is(&mut self, new: &str, old: &str) -> Result<Change, IdentifyError> {
        let unknown = |id: &str| IdentifyError::Unknown(id.to_owned());
        if new == old {
            return Err(IdentifyError::Itself(old.to_owned()));
        }
        let theirs = self.records.get(old).ok_or_else(|| unknown(old))?;
        let own = self.records.get(new).ok_or_else(|| unknown(new))?;
        if theirs.evidence.files != own.evidence.files {
            return Err(IdentifyError::Files(new.to_owned(), old.to_owned()));
        }
        let seen = own.evidence.clone();
        let mut change = Change::default();
        self.records.remove(new);
        change.gone.insert(new.to_owned());
        if let Some(record) = self.records.get_mut(old) {
            record.evidence.learn(&seen);
            record.doubts.clear();
            change.records.insert(old.to_owned());
        }
        for (id, record) in &mut self.records {
            if let Some(doubt) = record.doubts.iter_mut().find(|doubt| *doubt == new) {
                old.clone_into(doubt);
                record.doubts.dedup();
                change.records.insert(id.clone());
            }
        }
        // Values that no third machine has are this machine's own again.
        let held: BTreeSet<Value> = self
            .records
            .iter()
            .filter(|(id, _)| *id != old)
            .flat_map(|(_, record)| record.evidence.values())
            .collect();
        for value in seen.values().filter(|value| !held.contains(value)) {
            if self.shared.remove(&value) {
                change.own_again.push(value);
            }
        }
        Ok(change)
    }

    /// Ends the doubts about a machine, because a person says it is none of those.
    ///
    /// # Errors
    /// There is no such machine.
    pub fn is_new(&mut self, id: &str) -> Result<Change, IdentifyError> {
        let record = self
            .records
            .get_mut(id)
            .ok_or_else(|| IdentifyError::Unknown(id.to_owned()))?;
        let doubts = std::mem::take(&mut record.doubts);
        let seen = record.evidence.clone();
        let mut change = Change::default();
        change.records.insert(id.to_owned());
        for other in doubts {
            let Some(theirs) = self.records.get(&other) else {
                continue;
            };
            for value in seen.common(&theirs.evidence) {
                if self.shared.insert(value.clone()) {
                    change.mark(value, other.clone(), id.to_owned());
                }
            }
        }
        self.settle(&|_| false, &mut change);
        Ok(change)
    }

    /// Removes a machine.
    pub fn forget(&mut self, id: &str) -> Change {
        let mut change = Change::default();
        if self.records.remove(id).is_some() {
            change.gone.insert(id.to_owned());
        }
        self.settle(&|_| false, &mut change);
        change
    }

    /// Finds the machines that may boot with this card and UUID, the only values in a boot packet.
    pub fn boots(&self, card: Mac, uuid: Option<Uuid>) -> BootMatch {
        let seen = booting(card, uuid);
        let mut found = BootMatch::default();
        let mut best = 0;
        for (id, record) in &self.records {
            match compare_boot(&record.evidence, &seen, &self.shared) {
                (0, _) => {}
                (agreeing, false) if record.doubts.is_empty() => {
                    if agreeing > best {
                        found.unsure.append(&mut found.known);
                        best = agreeing;
                    }
                    if agreeing == best {
                        found.known.push(id.clone());
                    } else {
                        found.unsure.push(id.clone());
                    }
                }
                _ => found.unsure.push(id.clone()),
            }
        }
        // Card and UUID together are certain. One of them alone is certain only when no other
        // machine may be meant.
        if best >= 2 {
            found.unsure.clear();
        } else if !found.unsure.is_empty() {
            found.unsure.append(&mut found.known);
        }
        found.unsure.sort_unstable();
        found
    }

    /// True when a known machine fits this card and UUID: at least one of them agrees and none
    /// differs.
    pub fn is_boot_of(&self, id: &str, card: Mac, uuid: Option<Uuid>) -> bool {
        self.records.get(id).is_some_and(|record| {
            let (agreeing, differs) =
                compare_boot(&record.evidence, &booting(card, uuid), &self.shared);
            agreeing > 0 && !differs
        })
    }
}

fn booting(card: Mac, uuid: Option<Uuid>) -> Evidence {
    Evidence {
        uuid,
        cards: vec![card],
        ..Evidence::default()
    }
}

impl Change {
    fn mark(&mut self, value: Value, other: String, id: String) {
        // A value is reported once, however many machines have it.
        if !self.marks.iter().any(|mark| mark.value == value) {
            self.marks.push(Mark {
                value,
                machines: [other, id],
            });
        }
    }
}
