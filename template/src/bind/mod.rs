//! Names and addresses: assigned to each machine, and kept for it.
//!
//! Pure: takes remembered bindings, present machines and taken names; gives bindings, or every
//! reason against them. Invariants: nothing is assigned twice, ignoring the case of letters;
//! a known machine keeps its number, name and address as long as the template still allows them;
//! the same input gives the same bindings.
//!
//! The console has already identified each machine by the rule of [`facts::identity`], and a
//! binding is found by the console's id. The same rule finds the bindings of machines that were
//! imported before they came, and of machines that were forgotten.

use crate::import::Listed;
use crate::machine::Machine;
use crate::names::{NameFacts, NameRules, check};
use crate::schema::{NetworkMode, Template};
use facts::identity::{self, Evidence, Relation, Shared, Value, Verdict, relate};
use facts::{Mac, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

/// Highest number a machine can get.
const MAX_NUMBER: u32 = 999_999;

/// Number, name, address and seed of one machine, stored by the console.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// Network cards the machine is known by, the one it was first deployed through first.
    pub macs: Vec<Mac>,
    /// SMBIOS UUID, unless other machines share it.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// Serial number, unless other machines share it.
    #[serde(default)]
    pub serial: Option<String>,
    /// The console's id of the machine; none while it was only imported.
    #[serde(default)]
    pub target: Option<String>,
    /// Name of the template that gave the machine its name.
    pub template: String,
    /// Number in the names of that template.
    #[serde(default)]
    pub number: Option<u32>,
    /// Name of the machine.
    #[serde(default)]
    pub name: Option<String>,
    /// Address of the machine.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// Name and address were imported and are kept, even if a template's pattern and range would
    /// give others.
    #[serde(default)]
    pub imported: bool,
    /// Source of the SID and of other identities, drawn once.
    pub seed: [u8; 12],
}

impl Binding {
    /// Identity values of the binding's machine.
    pub fn evidence(&self) -> Evidence {
        Evidence {
            uuid: self.uuid,
            serial: self.serial.clone(),
            cards: self.macs.clone(),
            ..Evidence::default()
        }
    }

    fn title(&self) -> &str {
        self.name.as_deref().unwrap_or("a machine without a name")
    }
}

/// Input of [`bind`].
#[derive(Clone, Copy, Debug)]
pub struct BindRequest<'a> {
    /// The template.
    pub template: &'a Template,
    /// Name of the template.
    pub template_name: &'a str,
    /// Machines to bind, in the order in which they get numbers. A new machine keeps its `seed`.
    pub machines: &'a [Machine],
    /// Every binding of the store.
    pub existing: &'a [Binding],
    /// The list of `identity.list`.
    pub list: &'a [Listed],
    /// Addresses that are not assigned, with the reason: `console`, `answers to ARP`. Gateway and
    /// name servers of the template need not be among them.
    pub taken: &'a [(Ipv4Addr, String)],
    /// Names that are not assigned, such as those of other machines in the roster.
    pub taken_names: &'a [String],
    /// Naming rules of the image's system.
    pub rules: NameRules,
    /// Ids of every target of the console. A binding that belongs to one of them is never used for
    /// another machine.
    pub targets: &'a BTreeSet<String>,
    /// UUIDs, serial numbers and cards that several machines have in common.
    pub shared: &'a Shared,
}

/// The reason why a machine, or the whole request, cannot be bound.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct BindFault {
    /// Machine, by the console's name for it; `None` when the fault concerns all.
    pub machine: Option<String>,
    /// The fault, and what to do about it.
    pub message: String,
}

impl fmt::Display for BindFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.machine {
            Some(machine) => write!(f, "{machine}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Assigns names and addresses to every machine of the request, in their order. The result replaces
/// the stored bindings of these machines.
///
/// # Errors
/// Every fault found; nothing is to be stored then.
pub fn bind(request: &BindRequest<'_>) -> Result<Vec<Binding>, Vec<BindFault>> {
    let mut faults = Vec::new();
    let known = recognise(request, &mut faults);
    let mut desk = Desk::new(request, &known);
    let mut given = vec![Given::default(); known.len()];
    // Reserved and remembered values come first, so that no new machine takes them.
    for (known, given) in known.iter().zip(&mut given) {
        desk.renew(known, given, &mut faults);
    }
    let missing = desk.addresses(&known, &mut given, &mut faults);
    if missing > 0 {
        faults.push(BindFault {
            machine: None,
            message: desk.exhausted(missing),
        });
    }
    for (known, given) in known.iter().zip(&mut given) {
        desk.name(known, given, &mut faults);
    }
    desk.longest(&known, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(known
        .into_iter()
        .zip(given)
        .map(|(known, given)| known.binding(given, request))
        .collect())
}

/// A machine of the request with its stored binding and its line of the list.
struct Known<'a> {
    machine: &'a Machine,
    macs: Vec<Mac>,
    uuid: Option<Uuid>,
    serial: Option<String>,
    old: Option<&'a Binding>,
    listed: Option<&'a Listed>,
}

#[derive(Clone, Debug, Default)]
struct Given {
    number: Option<u32>,
    name: Option<String>,
    address: Option<Ipv4Addr>,
}

impl Known<'_> {
    /// The new binding. Values the template does not assign stay as they were: after a deployment
    /// by DHCP the machine's address is still reserved for it.
    fn binding(self, given: Given, request: &BindRequest<'_>) -> Binding {
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

    fn fault(&self, message: String) -> BindFault {
        BindFault {
            machine: Some(self.machine.id.clone()),
            message,
        }
    }
}

/// Finds the stored binding and the list line of each machine.
fn recognise<'a>(request: &BindRequest<'a>, faults: &mut Vec<BindFault>) -> Vec<Known<'a>> {
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

/// Names, numbers and addresses that are taken during one run.
struct Desk<'a> {
    request: &'a BindRequest<'a>,
    names: BTreeSet<String>,
    numbers: BTreeSet<u32>,
    addresses: BTreeMap<Ipv4Addr, String>,
    /// First number the search for the lowest free one has not tried. Numbers are never freed
    /// during a run.
    next_number: u32,
}

impl<'a> Desk<'a> {
    fn new(request: &'a BindRequest<'a>, known: &[Known<'_>]) -> Self {
        let mut desk = Self {
            request,
            names: request
                .taken_names
                .iter()
                .map(|name| name.to_lowercase())
                .collect(),
            numbers: BTreeSet::new(),
            addresses: request.taken.iter().cloned().collect(),
            next_number: request.template.identity.start,
        };
        let network = &request.template.network;
        for (address, what) in network
            .gateway
            .iter()
            .map(|gateway| (*gateway, "gateway"))
            .chain(network.dns.iter().map(|server| (*server, "name server")))
        {
            desk.addresses.entry(address).or_insert_with(|| what.into());
        }
        // Values of machines outside this request stay reserved.
        for old in request.existing {
            if known
                .iter()
                .any(|known| known.old.is_some_and(|mine| std::ptr::eq(mine, old)))
            {
                continue;
            }
            let whose = old.name.clone().unwrap_or_else(|| "another machine".into());
            if let Some(address) = old.address {
                desk.addresses.entry(address).or_insert(whose);
            }
            desk.names
                .extend(old.name.as_deref().map(str::to_lowercase));
            if old.template == request.template_name {
                desk.numbers.extend(old.number);
            }
        }
        // The list also reserves values for machines that are not in this request.
        for line in request.list {
            if known
                .iter()
                .any(|known| known.listed.is_some_and(|mine| std::ptr::eq(mine, line)))
            {
                continue;
            }
            desk.names
                .extend(line.name.as_deref().map(str::to_lowercase));
            if let Some(address) = line.address {
                desk.addresses
                    .entry(address)
                    .or_insert_with(|| format!("line {} of the list", line.line));
            }
        }
        desk
    }

    /// Reserves the values of the list, and the old values the machine may keep.
    fn renew(&mut self, known: &Known<'_>, given: &mut Given, faults: &mut Vec<BindFault>) {
        let template = self.request.template;
        if let Some(listed) = known.listed {
            if let Some(name) = &listed.name {
                let name = template.identity.case.apply(name);
                if self.names.insert(name.to_lowercase()) {
                    given.name = Some(name);
                } else {
                    faults.push(known.fault(format!(
                        "line {} of the list names it {name}, which another machine has",
                        listed.line
                    )));
                }
            }
            if let Some(address) = listed.address {
                match self.addresses.get(&address) {
                    Some(whose) => faults.push(known.fault(format!(
                        "line {} of the list gives it {address}, which is taken: {whose}",
                        listed.line
                    ))),
                    None => {
                        self.addresses.insert(address, known.machine.id.clone());
                        given.address = Some(address);
                    }
                }
            }
        }
        let Some(old) = known.old else { return };
        if let (None, Some(address)) = (given.address, old.address)
            && template.network.mode == NetworkMode::Static
        {
            let range = template.network.range;
            let whose = self.addresses.get(&address);
            if let (true, Some(whose)) = (old.imported, whose) {
                faults.push(known.fault(format!(
                    "{address} was imported for it, and is taken: {whose}; import another"
                )));
            }
            if whose.is_none()
                && (old.imported || range.is_some_and(|range| range.contains(address)))
            {
                self.addresses.insert(address, known.machine.id.clone());
                given.address = Some(address);
            }
        }
        if let (None, true, Some(name)) = (&given.name, old.imported, &old.name)
            && template.identity.names()
        {
            if self.names.insert(name.to_lowercase()) {
                given.name = Some(name.clone());
            } else {
                faults.push(known.fault(format!(
                    "{name} was imported for it, and another machine has it; import another"
                )));
            }
        }
        let numbered = template
            .identity
            .hostname
            .as_ref()
            .is_some_and(|pattern| pattern.numbered());
        if let (None, Some(number)) = (&given.name, old.number)
            && numbered
            && number >= template.identity.start
            && self.numbers.insert(number)
        {
            given.number = Some(number);
        }
    }

    /// Assigns the lowest free address to every machine without one. Returns how many machines got
    /// none.
    fn addresses(
        &mut self,
        known: &[Known<'_>],
        given: &mut [Given],
        faults: &mut Vec<BindFault>,
    ) -> usize {
        let network = &self.request.template.network;
        if network.mode != NetworkMode::Static {
            return 0;
        }
        let mut missing = 0;
        let mut free = network.range.iter().flat_map(|range| range.addresses());
        for (known, given) in known.iter().zip(given) {
            if given.address.is_some() {
                continue;
            }
            if network.range.is_none() {
                faults.push(known.fault(
                    "the list has no address for it, and the template has no range; add it to the list".into(),
                ));
                continue;
            }
            match free.find(|address| !self.addresses.contains_key(address)) {
                Some(address) => {
                    self.addresses.insert(address, known.machine.id.clone());
                    given.address = Some(address);
                }
                None => missing += 1,
            }
        }
        missing
    }

    fn exhausted(&self, missing: usize) -> String {
        let Some(range) = self.request.template.network.range else {
            return String::new();
        };
        let inside = self
            .addresses
            .keys()
            .filter(|address| range.contains(**address))
            .count();
        format!(
            "the range {range} is exhausted: {missing} more {} needed ({} in it, {inside} taken); make it larger, or release bindings of machines that are gone",
            if missing == 1 {
                "address is"
            } else {
                "addresses are"
            },
            range.count(),
        )
    }

    /// Assigns the name, with the lowest free number where the pattern has one.
    fn name(&mut self, known: &Known<'_>, given: &mut Given, faults: &mut Vec<BindFault>) {
        let identity = &self.request.template.identity;
        if given.name.is_none() {
            let Some(pattern) = &identity.hostname else {
                if identity.list.is_some() {
                    faults.push(known.fault(
                        "the list has no name for it, and the template has no hostname; add it to the list".into(),
                    ));
                }
                return;
            };
            if pattern.needs_address() && given.address.is_none() {
                // The missing address is a fault of its own already.
                return;
            }
            let name = if pattern.numbered() {
                match self.numbered(known, given) {
                    Ok(name) => name,
                    Err(message) => return faults.push(known.fault(message)),
                }
            } else {
                match self.expand(known, given, None) {
                    Ok(name) => name,
                    Err(message) => return faults.push(known.fault(message)),
                }
            };
            if !pattern.numbered() && !self.names.insert(name.to_lowercase()) {
                return faults.push(known.fault(format!(
                    "its name would be {name}, which another machine has; put {{nn}} into identity.hostname, or use a list"
                )));
            }
            given.name = Some(name);
        }
        if let Some(Err(message)) = given
            .name
            .as_deref()
            .map(|name| check(name, self.request.rules))
        {
            faults.push(known.fault(message));
        }
    }

    /// The name with the machine's old number, or with the lowest free one.
    fn numbered(&mut self, known: &Known<'_>, given: &mut Given) -> Result<String, String> {
        if let Some(number) = given.number {
            let name = self.expand(known, given, Some(number))?;
            if self.names.insert(name.to_lowercase()) {
                return Ok(name);
            }
        }
        while self.next_number <= MAX_NUMBER {
            let number = self.next_number;
            self.next_number += 1;
            if self.numbers.contains(&number) {
                continue;
            }
            let name = self.expand(known, given, Some(number))?;
            if self.names.insert(name.to_lowercase()) {
                self.numbers.insert(number);
                given.number = Some(number);
                return Ok(name);
            }
        }
        Err(format!("no number up to {MAX_NUMBER} is free for its name"))
    }

    fn expand(
        &self,
        known: &Known<'_>,
        given: &Given,
        number: Option<u32>,
    ) -> Result<String, String> {
        let identity = &self.request.template.identity;
        let Some(pattern) = &identity.hostname else {
            return Ok(String::new());
        };
        let uuid = known.uuid.map(|uuid| uuid.to_string());
        let facts = NameFacts {
            number,
            mac: known.macs.first().copied(),
            serial: known.machine.serial.as_deref(),
            asset: known.machine.asset.as_deref(),
            uuid: uuid.as_deref(),
            address: given.address,
        };
        Ok(identity.case.apply(&pattern.expand(&facts)?))
    }

    /// Refuses a pattern that becomes too long with the largest number of the batch. Without this,
    /// it would fail machine by machine, years later.
    fn longest(&self, known: &[Known<'_>], faults: &mut Vec<BindFault>) {
        let identity = &self.request.template.identity;
        let Some(pattern) = identity
            .hostname
            .as_ref()
            .filter(|pattern| pattern.numbered())
        else {
            return;
        };
        let count = u32::try_from(known.len()).unwrap_or(u32::MAX);
        let last = identity.start.saturating_add(count.saturating_sub(1));
        let largest = self.numbers.last().copied().unwrap_or(last).max(last);
        for known in known {
            let own = known.listed.is_some_and(|line| line.name.is_some());
            if own
                || known
                    .old
                    .is_some_and(|old| old.imported && old.name.is_some())
            {
                continue;
            }
            let uuid = known.uuid.map(|uuid| uuid.to_string());
            let facts = NameFacts {
                number: Some(largest),
                mac: known.macs.first().copied(),
                serial: known.machine.serial.as_deref(),
                asset: known.machine.asset.as_deref(),
                uuid: uuid.as_deref(),
                address: Some(Ipv4Addr::new(255, 255, 255, 255))
                    .filter(|_| pattern.needs_address()),
            };
            if let Ok(name) = pattern.expand(&facts)
                && let Err(message) = check(&name, self.request.rules)
            {
                let message = format!(
                    "{message}, with the largest number {largest}; shorten identity.hostname"
                );
                if !faults.iter().any(|fault| fault.message == message) {
                    faults.push(BindFault {
                        machine: None,
                        message,
                    });
                }
            }
        }
    }
}
