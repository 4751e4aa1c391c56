//! What tells clones apart besides name and SID.

use super::hives::{Hives, sz};
use super::paths;
use super::registry::Registry;
use crate::context::Context;
use crate::engine::{State, Task};

/// Identities of the update client, made anew when they are missing.
const UPDATE: [&str; 4] = [
    "SusClientId",
    "SusClientIdValidation",
    "AccountDomainSid",
    "PingID",
];

/// MachineGuid is another, and the identities made by services are gone.
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

/// The registry, and the file an SMS client keeps its identity in.
struct Identifiers<R> {
    partition: u32,
    registry: R,
}

impl<R: Task> Identifiers<R> {
    /// The file, when it is there.
    fn file(&self, context: &mut Context<'_>) -> Result<Option<String>, String> {
        let guest = context.root(self.partition)?;
        let windows = paths::windows_folder(&guest)?;
        let path = paths::below(&guest, &windows, "SMSCFG.INI")?;
        Ok(guest.exists(&path)?.then_some(path))
    }
}

impl<R: Task> Task for Identifiers<R> {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State, String> {
        let state = self.registry.check(context)?;
        match (state, self.file(context)?) {
            (State::Done, Some(path)) => Ok(State::Needed(format!("{path} is there"))),
            (state, _) => Ok(state),
        }
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        self.registry.apply(context)?;
        match self.file(context)? {
            Some(path) => context.root(self.partition)?.remove(&path),
            None => Ok(()),
        }
    }
}
