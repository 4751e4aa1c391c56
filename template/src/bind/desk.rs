//! Handing out: names, numbers and addresses that nobody else has.

use super::known::Known;
use super::{BindFault, BindRequest};
use crate::names::{FactMissing, NameFacts, check};
use crate::schema::NetworkMode;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Highest number a machine can get.
const MAX_NUMBER: u32 = 999_999;

/// Values given to one machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    pub(super) number: Option<u32>,
    pub(super) name: Option<String>,
    pub(super) address: Option<Ipv4Addr>,
}

/// Names, numbers and addresses that are taken during one run.
pub(super) struct Desk<'a> {
    request: &'a BindRequest<'a>,
    names: BTreeSet<String>,
    numbers: BTreeSet<u32>,
    addresses: BTreeMap<Ipv4Addr, String>,
    /// First number the search for the lowest free one has not tried. Numbers are never freed
    /// during a run.
    next_number: u32,
}

/// The reason a machine gets no numbered name.
#[derive(Debug, thiserror::Error)]
enum Unnamed {
    #[error(transparent)]
    Fact(#[from] FactMissing),
    #[error("no number up to {MAX_NUMBER} is free for its name")]
    NoNumber,
}

impl<'a> Desk<'a> {
    pub(super) fn new(request: &'a BindRequest<'a>, known: &[Known<'_>]) -> Self {
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
    pub(super) fn renew(
        &mut self,
        known: &Known<'_>,
        given: &mut Given,
        faults: &mut Vec<BindFault>,
    ) {
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
    pub(super) fn addresses(
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

    pub(super) fn exhausted(&self, missing: usize) -> String {
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
    pub(super) fn name(
        &mut self,
        known: &Known<'_>,
        given: &mut Given,
        faults: &mut Vec<BindFault>,
    ) {
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
                    Err(error) => return faults.push(known.fault(error.to_string())),
                }
            } else {
                match self.expand(known, given, None) {
                    Ok(name) => name,
                    Err(error) => return faults.push(known.fault(error.to_string())),
                }
            };
            if !pattern.numbered() && !self.names.insert(name.to_lowercase()) {
                return faults.push(known.fault(format!(
                    "its name would be {name}, which another machine has; put {{nn}} into identity.hostname, or use a list"
                )));
            }
            given.name = Some(name);
        }
        if let Some(Err(error)) = given
            .name
            .as_deref()
            .map(|name| check(name, self.request.rules))
        {
            faults.push(known.fault(error.to_string()));
        }
    }

    /// The name with the machine's old number, or with the lowest free one.
    fn numbered(&mut self, known: &Known<'_>, given: &mut Given) -> Result<String, Unnamed> {
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
        Err(Unnamed::NoNumber)
    }

    fn expand(
        &self,
        known: &Known<'_>,
        given: &Given,
        number: Option<u32>,
    ) -> Result<String, FactMissing> {
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
    pub(super) fn longest(&self, known: &[Known<'_>], faults: &mut Vec<BindFault>) {
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
                && let Err(error) = check(&name, self.request.rules)
            {
                let message = format!(
                    "{error}, with the largest number {largest}; shorten identity.hostname"
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
