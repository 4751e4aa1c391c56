//! Identifiers, besides name and SID, that two clones must not share.

use super::hives::{Hives, sz};
use super::paths;
use super::registry::Registry;
use crate::context::Context;
use crate::engine::{State, Task};
use crate::error::Result;

/// Values with the identity of the update client, which makes new ones when they are missing.
const UPDATE: [&str; 4] = [
    "SusClientId",
    "SusClientIdValidation",
    "AccountDomainSid",
    "PingID",
];

/// Step that sets another MachineGuid and removes the identities of services.
pub(crate) fn task(partition: u32, machine_guid: &str) -> Box<dyn Task + '_> {
    let registry = Registry::new(partition, move |hives: &mut Hives| {
        let cryptography = r"Microsoft\Cryptography";
        hives.set("SOFTWARE", cryptography, "MachineGuid", sz(machine_guid))?;
        let update = r"Microsoft\Windows\CurrentVersion\WindowsUpdate";
        hives.remove_values("SOFTWARE", update, |name| is_one_of(name, &UPDATE))?;
        let telemetry = r"Microsoft\SQMClient";
        hives.remove_values("SOFTWARE", telemetry, |name| {
            is_one_of(name, &["MachineId"])
        })?;
        for set in hives.control_sets()? {
            let parameters = format!(r"{set}\Services\Tcpip6\Parameters");
            hives.remove_values("SYSTEM", &parameters, |name| {
                is_one_of(name, &["Dhcpv6DUID"])
            })?;
        }
        Ok(())
    });
    Box::new(Identifiers {
        partition,
        registry,
    })
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|one| name.eq_ignore_ascii_case(one))
}

/// The registry edits, and the file that holds the identity of an SMS client.
struct Identifiers<R> {
    partition: u32,
    registry: R,
}

impl<R: Task> Identifiers<R> {
    /// Path of the file if it exists.
    fn file(&self, context: &mut Context<'_>) -> Result<Option<String>> {
        let guest = context.root(self.partition)?;
        let windows = paths::windows_folder(&guest)?;
        let path = paths::below(&guest, &windows, "SMSCFG.INI")?;
        Ok(guest.exists(&path)?.then_some(path))
    }
}

impl<R: Task> Task for Identifiers<R> {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State> {
        let state = self.registry.check(context)?;
        match (state, self.file(context)?) {
            (State::Done, Some(path)) => Ok(State::Needed(format!("{path} is there"))),
            (state, _) => Ok(state),
        }
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.registry.apply(context)?;
        match self.file(context)? {
            Some(path) => context.root(self.partition)?.remove(&path),
            None => Ok(()),
        }
    }
}
