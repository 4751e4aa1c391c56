//! Steps on a Windows volume.
//!
//! `hives` edits the registry in place; `registry`, `name`, `tcpip`, `identifiers`, `storage` and
//! `drivers` are steps that use it; `sid` and `ntfs` give the machine another SID; `answers` writes
//! for Windows Setup, `first_boot` for our service; `paths` and `acl` define the places and access
//! rights of files.
//!
//! Tested here against other readers of hives, NTFS and answer files. Not tested on real Windows:
//! that it starts after these steps, accepts the answer file, or runs the service.

mod acl;
mod answers;
mod drivers;
mod first_boot;
mod hibernation;
mod hives;
mod identifiers;
mod name;
mod ntfs;
mod paths;
mod registry;
mod sid;
mod storage;
mod tcpip;
#[cfg(test)]
#[path = "../../../inspect/tests/support/volume.rs"]
mod testing;

pub(crate) use acl::Rights;
pub(crate) use paths::guest_path;

use crate::engine::Task;
use crate::error::{Result, StepError};
use template::step::Action;

/// Selects the task that carries out a Windows step.
pub(crate) fn task(action: &Action) -> Result<Box<dyn Task + '_>> {
    Ok(match action {
        Action::WindowsName {
            partition,
            name,
            dns_name,
            suffix,
        } => name::task(*partition, name, dns_name, suffix.as_deref()),
        Action::WindowsWorkgroup { partition, name } => name::workgroup(*partition, name),
        Action::WindowsTcpip {
            partition,
            interface,
            config,
        } => tcpip::task(*partition, interface, config),
        Action::WindowsIdentifiers {
            partition,
            machine_guid,
        } => identifiers::task(*partition, machine_guid),
        Action::WindowsStorage {
            partition,
            services,
            critical_devices,
        } => storage::task(*partition, services, critical_devices),
        Action::WindowsBootDriver {
            partition,
            inf,
            service,
            binary,
            program,
            hardware_ids,
        } => Box::new(drivers::BootDriver {
            partition: *partition,
            inf,
            service,
            binary,
            program,
            hardware_ids,
        }),
        Action::WindowsStageDriver {
            partition,
            name,
            files,
        } => Box::new(drivers::StageDriver {
            partition: *partition,
            name,
            files,
        }),
        Action::WindowsSid {
            partition,
            old,
            new,
        } => Box::new(sid::Rewrite::new(*partition, old, new)?),
        Action::WindowsDiscardHibernation { partition } => {
            Box::new(hibernation::Discard::new(*partition))
        }
        Action::WindowsAnswerFile { partition, answers } => {
            Box::new(answers::AnswerFile::new(*partition, answers))
        }
        _ => return Err(StepError::Order("not a step on a Windows volume".into())),
    })
}

/// The task that installs the first-boot job on a Windows volume.
pub(crate) use first_boot::task as first_boot;
