//! Recognising machines: the stored binding and the line of the list that belong to each.

use super::desk::Given;
use super::{BindFault, BindRequest, Binding};
use crate::import::Listed;
use crate::machine::Machine;
use crate::schema::NetworkMode;
use facts::identity::{self, Evidence, Relation, Shared, Value, Verdict, relate};
use facts::{Mac, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// A machine of the request with its stored binding and its line of the list.
pub(super) struct Known<'a> {
    pub(super) machine: &'a Machine,
    pub(super) macs: Vec<Mac>,
    pub(super) uuid: Option<Uuid>,
    pub(super) serial: Option<String>,
    pub(super) old: Option<&'a Binding>,
    pub(super) listed: Option<&'a Listed>,
}

impl Known<'_> {
    /// The new binding. Values the template does not assign stay as they were: after a deployment
    /// by DHCP the machine's address is still reserved for it.
    pub(super) fn binding(self, given: Given, request: &BindRequest<'_>) -> Binding {
        let old = self.old.cloned();
        let seed = old.as_ref().map_or(self.machine.seed, |old| old.seed);
        let old = old.unwrap_or_else(|| Binding {
            template: request.template_name.to_owned(),
            ..Binding::default()
        });
        // Removed cards are kept: the machine may come back with them.
        let mut macs = old.macs;
        for mac in self.macs {
            if !macs.contains(&mac) {
                macs.push(mac);
            }
        }
        let (template, number, name) = if request.template.identity.names() {
            (request.template_name.to_owned(), given.number, given.name)
        } else {
            (old.template, old.number, old.name)
        };
        let address = match request.template.network.mode {
            NetworkMode::Static => given.address,
            NetworkMode::Keep | NetworkMode::Dhcp => old.address,
        };
        Binding {
            macs,
            uuid: self.uuid,
            serial: self.serial,
            target: self.machine.target.clone().or(old.target),
            template,
            number,
            name,
            address,
            imported: old.imported,
            seed,
        }
    }

    pub(super) fn fault(&self, message: String) -> BindFault {
        BindFault {
            machine: Some(self.machine.id.clone()),
            message,
        }
    }
}

/// Finds the stored binding and the list line of each machine.
pub(super) fn recognise<'a>(
    request: &BindRequest<'a>,
    faults: &mut Vec<BindFault>,
) -> Vec<Known<'a>> {
    let evidence: Vec<Evidence> = request.machines.iter().map(Machine::evidence).collect();
    let shared = shared_by(request.shared, &evidence);
    let mut claimed: BTreeMap<usize, &str> = BTreeMap::new();
    let mut known = Vec::new();
    for (machine, evidence) in request.machines.iter().zip(evidence) {
        let own = |value: &Value| !shared.has(value);
        let mut this = Known {
            machine,
            macs: machine.all_macs(),
            uuid: evidence.uuid.filter(|uuid| own(&Value::Uuid(*uuid))),
            serial: evidence
                .serial
                .clone()
                .filter(|serial| own(&Value::Serial(serial.clone()))),
            old: None,
            listed: None,
        };
        if machine.target.is_none() && !evidence.values().any(|value| own(&value)) {
            faults.push(this.fault(
                "it has no network card and no UUID or serial number of its own, so it could not be recognised again".into(),
            ));
        }
        match remembered(machine, &evidence, request, &shared) {
            Ok(None) => {}
            Ok(Some(index)) => match claimed.insert(index, &machine.id) {
                None => this.old = request.existing.get(index),
                Some(other) => faults.push(this.fault(format!(
                    "{other} and it are both remembered as {}; a card was moved between them: release that binding",
                    request.existing.get(index).map_or("one machine", Binding::title),
                ))),
            },
            Err(maybe) => {
                let names: Vec<&str> = maybe.iter().map(|old| old.title()).collect();
                let names = names.join(" or ");
                faults.push(this.fault(format!(
                    "it may be {names}, with a part changed, or another machine; release the binding of {names} if it is another"
                )));
            }
        }
        this.listed = request.list.iter().find(|line| {
            let relation = relate(&line.evidence(), &evidence, &shared);
            matches!(relation, Relation::Same(_))
        });
        known.push(this);
    }
    known
}

/// Shared identity values: those stored before, and those that two machines of this request have in
/// common.
fn shared_by(shared: &Shared, machines: &[Evidence]) -> Shared {
    let mut all = shared.clone();
    let mut seen: BTreeSet<Value> = BTreeSet::new();
    for value in machines.iter().flat_map(Evidence::values) {
        if !seen.insert(value.clone()) {
            all.insert(value);
        }
    }
    all
}

/// Index of the binding of a machine.
///
/// # Errors
/// The bindings that may belong to the machine, when no identity value decides between them.
fn remembered<'a>(
    machine: &Machine,
    evidence: &Evidence,
    request: &BindRequest<'a>,
    shared: &Shared,
) -> Result<Option<usize>, Vec<&'a Binding>> {
    let mine = |old: &Binding| old.target.is_some() && old.target == machine.target;
    if let Some(index) = request.existing.iter().position(mine) {
        return Ok(Some(index));
    }
    let free: Vec<(usize, &Binding)> = request
        .existing
        .iter()
        .enumerate()
        .filter(|(_, old)| {
            let target = old.target.as_ref();
            target.is_none_or(|target| !request.targets.contains(target))
        })
        .collect();
    let evidences: Vec<Evidence> = free.iter().map(|(_, old)| old.evidence()).collect();
    let known: Vec<identity::Known<'_>> = evidences
        .iter()
        .map(|evidence| identity::Known {
            evidence,
            live: false,
        })
        .collect();
    match identity::judge(&known, evidence, shared).0 {
        Verdict::New => Ok(None),
        Verdict::Known(at) => Ok(free.get(at).map(|(index, _)| *index)),
        Verdict::Doubt(all) => Err(all
            .into_iter()
            .filter_map(|at| free.get(at).map(|(_, old)| *old))
            .collect()),
    }
}
