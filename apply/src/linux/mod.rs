//! Steps on a Linux root.
//!
//! Every step is a function from the guest's files to the missing changes. Its check looks if there
//! are any, its application carries them out, and its verification looks again in fresh mounts: a
//! second run finds nothing to do by construction. Pure functions make the contents of files;
//! [`edits`] has the effects.

mod accounts;
mod cloud_init;
mod edits;
mod first_boot;
mod hostname;
mod identity;
mod network;
mod renderers;
mod report;
mod script;
#[cfg(test)]
mod test_machine;
mod users;

use crate::context::Context;
use crate::engine::{State, Task};
use crate::error::{Result, StepError};
use edits::Edits;
use std::cell::Cell;
use template::step::{Action, FirstBootJob};

/// Function that finds the missing changes of a step.
type Missing<'a> = Box<dyn Fn(&mut Edits<'_>, &mut Context<'_>) -> Result<()> + 'a>;

/// One step on a Linux root.
struct LinuxTask<'a> {
    partition: u32,
    missing: Missing<'a>,
}

/// Selects the task that carries out a Linux step.
pub(crate) fn task(action: &Action) -> Result<Box<dyn Task + '_>> {
    let (partition, missing): (u32, Missing<'_>) = match action {
        Action::LinuxHostname {
            partition,
            name,
            fqdn,
        } => (
            *partition,
            Box::new(move |edits, _| hostname::missing(edits, name, fqdn.as_deref())),
        ),
        Action::LinuxMachineId { partition } => {
            (*partition, Box::new(|edits, _| identity::machine_id(edits)))
        }
        Action::LinuxHostIds { partition, id } => (
            *partition,
            Box::new(move |edits, _| identity::host_ids(edits, id)),
        ),
        Action::LinuxSshHostKeys { partition } => (
            *partition,
            Box::new(|edits, _| identity::ssh_host_keys(edits)),
        ),
        Action::LinuxNetwork {
            partition,
            renderer,
            nics,
        } => (
            *partition,
            Box::new(move |edits, context| network::missing(edits, context, *renderer, nics)),
        ),
        Action::LinuxUser { partition, user } => {
            let created = Cell::new(false);
            (
                *partition,
                Box::new(move |edits, context| users::missing(edits, context, user, &created)),
            )
        }
        Action::LinuxCloudInitKeeps { partition, keeps } => (
            *partition,
            Box::new(move |edits, _| cloud_init::keeps(edits, keeps)),
        ),
        Action::LinuxCloudInit {
            partition,
            hostname,
            fqdn,
            nics,
            instance_id,
            accounts,
        } => {
            let seed = cloud_init::Seed {
                hostname: hostname.as_deref(),
                fqdn: fqdn.as_deref(),
                nics,
                instance_id,
                accounts: *accounts,
            };
            (
                *partition,
                Box::new(move |edits, context| cloud_init::seeded(edits, context, &seed)),
            )
        }
        _ => return Err(StepError::Order("not a step on a Linux root".into())),
    };
    Ok(Box::new(LinuxTask { partition, missing }))
}

/// The task that installs the first-boot unit on a Linux root.
pub(crate) fn first_boot(partition: u32, job: &FirstBootJob) -> Box<dyn Task + '_> {
    Box::new(LinuxTask {
        partition,
        missing: Box::new(move |edits, context| {
            first_boot::missing(edits, job, context.first_start())
        }),
    })
}

impl Task for LinuxTask<'_> {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State> {
        let guest = context.linux_root(self.partition)?;
        let mut edits = Edits::new(&guest);
        (self.missing)(&mut edits, context)?;
        Ok(edits.state())
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
        let guest = context.linux_root(self.partition)?;
        let mut edits = Edits::new(&guest);
        (self.missing)(&mut edits, context)?;
        edits.carry_out()
    }
}
