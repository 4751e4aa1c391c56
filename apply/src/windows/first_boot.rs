//! First-boot job of a Windows machine: job file, program and service.
//!
//! The job holds passwords and a join blob. The job and its folder are accessible to SYSTEM and
//! Administrators alone, and get that descriptor before any content. The journal and log of another
//! deployment, which the master may hold, are removed.

use super::acl::{self, Access};
use super::hives::{Hives, dword, expand_sz, sz};
use super::paths;
use crate::context::Context;
use crate::copy::lies_there;
use crate::engine::{State, Task};
use crate::error::{Result, StepError};
use crate::guest::Guest;
use firstboot::job::{self, Job, ReportTo, Secret, StaticAddress};
use std::net::SocketAddr;
use template::first_start::FirstStart;
use template::step::{
    FirstBootAction, FirstBootEnd, FirstBootJob, Group, Ipv4Config, Nic, OnError, OnExists,
    Payload, SecretName, User,
};

const FOLDER: &str = r"C:\ProgramData\diskcast";
const JOB: &str = "firstboot.job";
/// Files that a run leaves beside the job.
const LEFT: [&str; 2] = ["firstboot.journal", "firstboot.log"];
const PROGRAM: &str = "diskcast-firstboot.exe";
const SERVICE: &str = "diskcast-firstboot";
const DRIVERS: &str = r"C:\ProgramData\diskcast\drivers";

/// The task that installs the first-boot job on a Windows volume.
pub(crate) fn task<'a>(
    partition: u32,
    job: &'a FirstBootJob,
    executable: Option<&'a Payload>,
) -> Result<Box<dyn Task + 'a>> {
    let executable = executable.ok_or_else(|| {
        StepError::Order(format!(
            "the plan has no {PROGRAM}: the console needs it for first boot of Windows"
        ))
    })?;
    Ok(Box::new(FirstBoot {
        partition,
        job,
        executable,
    }))
}

struct FirstBoot<'a> {
    partition: u32,
    job: &'a FirstBootJob,
    executable: &'a Payload,
}

impl FirstBoot<'_> {
    fn edited(&self, context: &mut Context<'_>) -> Result<Hives> {
        let mut hives = Hives::new(context.root(self.partition)?)?;
        for set in hives.control_sets()? {
            let key = format!(r"{set}\Services\{SERVICE}");
            for (name, value) in [
                ("Type", dword(0x10)),
                ("Start", dword(2)),
                // A failure of the service is logged, and the start of Windows continues.
                ("ErrorControl", dword(1)),
                ("ObjectName", sz("LocalSystem")),
                ("DisplayName", sz("diskcast first boot")),
                (
                    "ImagePath",
                    expand_sz(&format!(r"%SystemDrive%\ProgramData\diskcast\{PROGRAM}")),
                ),
            ] {
                hives.set("SYSTEM", &key, name, value)?;
            }
        }
        Ok(hives)
    }

    fn text(&self, context: &Context<'_>) -> Result<String> {
        let secret = |name: &SecretName| context.secret(name).map(str::to_owned);
        let report = match (self.job.report, context.first_start()) {
            (true, Some(to)) => Some(report_to(to)?),
            (true, None) => {
                return Err(StepError::Order(
                    "the machine is to report its first start, and its order does not say where"
                        .to_owned(),
                ));
            }
            (false, _) => None,
        };
        job_of(self.job, report, &secret)?
            .encode()
            .map_err(|error| StepError::Order(format!("the first-boot job: {error}")))
    }

    /// Reason why the files have to be written; `None` if all of them are right.
    fn files(&self, context: &Context<'_>, guest: &Guest) -> Result<Option<String>> {
        let folder = paths::guest_path(guest, FOLDER)?;
        if !guest.exists(&folder)? {
            return Ok(Some(format!("{folder} is not there")));
        }
        let job = paths::below(guest, &folder, JOB)?;
        let text = self.text(context)?;
        let there = guest.read(&job, job::MAX_TEXT_BYTES as u64)?;
        if there.as_deref() != Some(text.as_bytes()) {
            return Ok(Some(format!("{job} is not there, or is another one")));
        }
        for name in LEFT {
            if guest.exists(&paths::below(guest, &folder, name)?)? {
                return Ok(Some(format!("{name} of another deployment is there")));
            }
        }
        let program = paths::below(guest, &folder, PROGRAM)?;
        if !lies_there(guest, &program, self.executable)? {
            return Ok(Some(format!("{program} is not there, or is another one")));
        }
        for (path, is_folder) in [(&folder, true), (&job, false), (&program, false)] {
            if !Access::Private.is_set(guest, path, is_folder)? {
                return Ok(Some(format!("others than administrators may use {path}")));
            }
        }
        Ok(None)
    }
}

impl Task for FirstBoot<'_> {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State> {
        let guest = context.root(self.partition)?;
        match self.files(context, &guest)? {
            Some(why) => Ok(State::Needed(why)),
            None => Ok(self.edited(context)?.state()),
        }
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
        let text = self.text(context)?;
        let guest = context.root(self.partition)?;
        let folder = paths::guest_path(&guest, FOLDER)?;
        acl::create_folders(&guest, &folder, Access::Private)?;
        guest.set_attribute(&folder, acl::ATTRIBUTE, &Access::Private.descriptor(true))?;
        for name in LEFT {
            guest.remove(&paths::below(&guest, &folder, name)?)?;
        }
        let program = paths::below(&guest, &folder, PROGRAM)?;
        super::drivers::put(context, &guest, &program, self.executable, Access::Private)?;
        let job = paths::below(&guest, &folder, JOB)?;
        acl::write(&guest, &job, text.as_bytes(), Access::Private)?;
        drop(guest);
        self.edited(context)?.save()
    }
}

/// The job in the format of the service, with the values of its secrets.
fn job_of(
    plan: &FirstBootJob,
    report: Option<ReportTo>,
    secret: &dyn Fn(&SecretName) -> Result<String>,
) -> Result<Job> {
    let mut steps = Vec::new();
    for step in &plan.steps {
        let action = match &step.action {
            FirstBootAction::Network(nic) => job::Action::Network(network(nic)?),
            FirstBootAction::User(user) => job::Action::User(account(user, secret)?),
            FirstBootAction::Join { blob } => {
                // `djoin` may leave line ends in the blob and a zero byte at its end.
                let blob = secret(blob)?;
                let blob: String = blob.chars().filter(char::is_ascii_graphic).collect();
                job::Action::Join {
                    blob: Secret::new(blob),
                }
            }
            FirstBootAction::InstallDrivers => job::Action::InstallDrivers {
                folder: DRIVERS.to_owned(),
            },
            FirstBootAction::Run {
                command,
                timeout_seconds,
                ok_codes,
                reboot_codes,
                on_error,
            } => job::Action::Run(job::Run {
                command: command.clone(),
                timeout_seconds: *timeout_seconds,
                ok_codes: ok_codes.clone(),
                reboot_codes: reboot_codes.clone(),
                on_error: match on_error {
                    OnError::Stop => job::OnError::Stop,
                    OnError::Continue => job::OnError::Continue,
                },
            }),
        };
        steps.push(job::Step {
            id: step.id.clone(),
            action,
        });
    }
    Ok(Job {
        steps,
        end: match plan.end {
            FirstBootEnd::None => job::End::None,
            FirstBootEnd::Restart => job::End::Restart,
            FirstBootEnd::Shutdown => job::End::Shutdown,
        },
        report,
    })
}

fn report_to(to: &FirstStart) -> Result<ReportTo> {
    let consoles = to.consoles.iter().map(|console| {
        console
            .parse::<SocketAddr>()
            .map_err(|_| StepError::Order(format!("{console} is no address and port of a console")))
    });
    Ok(ReportTo {
        consoles: consoles.collect::<Result<_>>()?,
        job: to.job,
        target: to.target.clone(),
        key: Secret::new(to.key.hex()),
    })
}

fn network(nic: &Nic) -> Result<job::Network> {
    let address = match &nic.config.ipv4 {
        Ipv4Config::Dhcp => None,
        Ipv4Config::Static {
            address,
            prefix,
            gateway,
        } => Some(StaticAddress {
            address: *address,
            prefix: *prefix,
            gateway: *gateway,
        }),
    };
    Ok(job::Network {
        mac: nic
            .mac
            .parse()
            .map_err(|()| StepError::Order(format!("{} is no MAC address", nic.mac)))?,
        address,
        dns: nic.config.dns.clone(),
        suffix: nic.config.suffix.clone(),
        search: nic.config.search.clone(),
    })
}

fn account(user: &User, secret: &dyn Fn(&SecretName) -> Result<String>) -> Result<job::User> {
    let password = user.password.as_ref().map(secret).transpose()?;
    let groups = user.groups.iter().map(|group| match group {
        Group::Administrators => job::Group::Sid(job::Group::ADMINISTRATORS.to_owned()),
        Group::Users => job::Group::Sid(job::Group::USERS.to_owned()),
        Group::PowerUsers => job::Group::Sid(job::Group::POWER_USERS.to_owned()),
        Group::RemoteDesktop => job::Group::Sid(job::Group::REMOTE_DESKTOP.to_owned()),
        Group::Named(name) => job::Group::Named(name.clone()),
    });
    Ok(job::User {
        name: user.name.clone(),
        full_name: user.full_name.clone(),
        groups: groups.collect(),
        password: password.map(Secret::new),
        on_exists: match user.on_exists {
            OnExists::Update => job::OnExists::Update,
            OnExists::Skip => job::OnExists::Skip,
            OnExists::Fail => job::OnExists::Fail,
        },
    })
}
