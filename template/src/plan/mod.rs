//! The plan of a template for one machine.
//!
//! Pure: template, machine, binding, findings of the image and the resolved files give ordered
//! steps, or every reason to refuse. Order: growth, then the system's own steps, then files, then
//! first boot, an answer file last (`docs/templates.md`). Invariants: a refused plan has no steps;
//! the same input gives the same plan, including new identities, which are derived from the
//! binding's seed; no plan holds a secret.
//!
//! A template that changes nothing on the system fits any image. One that does needs exactly one
//! system to apply to.

mod cloud_init;
mod drivers;
mod files;
mod foreseen;
mod identity;
mod linux;
mod network;
mod obstacles;
mod packages;
mod rank;
mod secrets;
mod sid;
mod storage;
mod text;
mod windows;

pub use secrets::{SecretForm, join_blob_name, secrets};
pub use text::lines;

use crate::bind::Binding;
use crate::findings::{
    Findings, LinuxFindings, Obstacle, PartitionFindings, System, WindowsFindings,
};
use crate::machine::{Files, Machine};
use crate::schema::{End, NetworkMode, Template};
use crate::step::{
    Action, AfterApply, FileSystem, FirstBootAction, FirstBootEnd, FirstBootJob, FirstBootStep,
    MachinePlan, Step, When,
};

/// Input of [`plan`].
#[derive(Clone, Copy, Debug)]
pub struct PlanRequest<'a> {
    /// Template, with the options of the command line applied.
    pub template: &'a Template,
    /// The machine.
    pub machine: &'a Machine,
    /// Values assigned to the machine; `None` where the template [binds](Template::binds) nothing.
    pub binding: Option<&'a Binding>,
    /// Findings of the image.
    pub findings: &'a Findings,
    /// Resolved files of the template.
    pub files: &'a Files,
    /// Number of the partition that `grow` selects on this image and disk.
    pub grown: Option<u32>,
}

/// Plans one machine.
pub fn plan(request: &PlanRequest<'_>) -> MachinePlan {
    let mut draft = Draft::new(request);
    if request.template.personalises() {
        match system(request) {
            Ok(System::Windows(windows)) => {
                windows::plan(&mut draft, windows);
                draft.finish_first_boot(windows.partition);
                draft.steps.append(&mut draft.last);
            }
            Ok(System::Linux(linux)) => {
                linux::plan(&mut draft, linux);
                draft.finish_first_boot(linux.partition);
            }
            Err(error) => draft.refuse(error.to_string()),
        }
    } else {
        draft.grow();
    }
    draft.finish()
}

/// A plan in the making.
struct Draft<'a> {
    request: &'a PlanRequest<'a>,
    steps: Vec<Step>,
    /// Steps that come after the step of first boot.
    last: Vec<Step>,
    job: Vec<FirstBootStep>,
    refused: Vec<String>,
    notes: Vec<String>,
    after: AfterApply,
}

impl<'a> Draft<'a> {
    fn new(request: &'a PlanRequest<'a>) -> Self {
        Self {
            request,
            steps: Vec::new(),
            last: Vec::new(),
            job: Vec::new(),
            refused: Vec::new(),
            notes: Vec::new(),
            after: AfterApply::EndAction,
        }
    }

    fn template(&self) -> &'a Template {
        self.request.template
    }

    /// Source of the machine's identities: the seed of its binding, or of the machine when it has
    /// none.
    fn seed(&self) -> [u8; 12] {
        self.request
            .binding
            .map_or(self.request.machine.seed, |binding| binding.seed)
    }

    fn refuse(&mut self, message: impl Into<String>) {
        let message = message.into();
        if !self.refused.contains(&message) {
            self.refused.push(message);
        }
    }

    fn note(&mut self, message: impl Into<String>) {
        self.notes.push(message.into());
    }

    fn offline(&mut self, id: impl Into<String>, what: impl Into<String>, action: Action) {
        self.steps.push(Step {
            id: id.into(),
            what: what.into(),
            when: When::Offline,
            action,
        });
    }

    fn first_boot(&mut self, id: impl Into<String>, action: FirstBootAction) {
        self.job.push(FirstBootStep {
            id: id.into(),
            action,
        });
    }

    /// The machine's new name; refused when the template gives names and none was assigned.
    fn hostname(&mut self) -> Option<&'a str> {
        let name = self
            .request
            .binding
            .and_then(|binding| binding.name.as_deref());
        if name.is_none() && self.template().identity.names() {
            self.refuse("no name was handed out to this machine; bind it first");
        }
        name.filter(|_| self.template().identity.names())
    }

    /// Grows the file system of the partition that grew.
    fn grow(&mut self) {
        let Some(number) = self.request.grown else {
            return;
        };
        let found = self
            .request
            .findings
            .partitions
            .iter()
            .find(|partition| partition.number == number);
        let discard = self
            .template()
            .windows
            .as_ref()
            .is_some_and(|windows| windows.discard_hibernation);
        match found.map(|partition| growable(partition, discard)) {
            Some(Ok(file_system)) => self.offline(
                "grow",
                format!("the file system of partition {number} takes the room"),
                Action::GrowFileSystem {
                    partition: number,
                    file_system,
                },
            ),
            Some(Err(why)) => self.note(format!(
                "partition {number} grows, what lies in it keeps its size: {why}"
            )),
            None => self.note(format!(
                "partition {number} grows, what lies in it keeps its size: it was not looked at"
            )),
        }
    }

    /// Adds the step of first boot, with its report to the console and the end action.
    fn finish_first_boot(&mut self, partition: u32) {
        let asked = self.template().first_start.report;
        if self.job.is_empty() && asked != Some(true) {
            return;
        }
        let report = asked != Some(false);
        let steps = std::mem::take(&mut self.job);
        let end = match self.template().end {
            End::Shutdown => FirstBootEnd::Shutdown,
            End::Restart => FirstBootEnd::Restart,
            End::None => FirstBootEnd::None,
        };
        let list: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
        let what = match list.is_empty() {
            true => "at first boot: the report alone".into(),
            false => format!("at first boot: {}", list.join(", ")),
        };
        self.steps.push(Step {
            id: "firstboot".into(),
            what,
            when: When::FirstBoot,
            action: Action::FirstBoot {
                partition,
                job: FirstBootJob { steps, end, report },
                executable: None,
            },
        });
        self.after = AfterApply::RestartForFirstBoot;
    }

    fn finish(self) -> MachinePlan {
        let template = self.template();
        let binding = self.request.binding;
        let fine = self.refused.is_empty();
        let consoles = &template.first_start.console;
        let reports =
            |step: &Step| matches!(&step.action, Action::FirstBoot { job, .. } if job.report);
        MachinePlan {
            consoles: match fine && self.steps.iter().any(reports) {
                true => consoles.iter().map(ToString::to_string).collect(),
                false => Vec::new(),
            },
            hostname: binding
                .and_then(|binding| binding.name.clone())
                .filter(|_| template.identity.names()),
            address: binding
                .and_then(|binding| binding.address)
                .filter(|_| template.network.mode == NetworkMode::Static),
            steps: if fine { self.steps } else { Vec::new() },
            refused: self.refused,
            notes: self.notes,
            after: if fine {
                self.after
            } else {
                AfterApply::EndAction
            },
        }
    }
}

/// The reason a file system cannot grow.
#[derive(Debug, thiserror::Error)]
enum CannotGrow {
    #[error("{0}")]
    InTheWay(String),
    #[error("FAT cannot be made larger in place")]
    Fat,
    #[error("exFAT cannot be made larger in place")]
    Exfat,
    #[error("it is no file system that is known")]
    Unknown,
}

/// The kind of a file system that can grow, or the reason why this one cannot.
///
/// A hibernated session is no obstacle when it is discarded, which happens before. Volumes the
/// console cannot read, such as XFS, are grown by their own programs.
fn growable(partition: &PartitionFindings, discard: bool) -> Result<FileSystem, CannotGrow> {
    let in_the_way = partition.obstacles.iter().find(|obstacle| match obstacle {
        Obstacle::Hibernated => !discard,
        Obstacle::Unreadable { .. } => false,
        _ => true,
    });
    if let Some(obstacle) = in_the_way {
        return Err(CannotGrow::InTheWay(obstacles::what(obstacle)));
    }
    match partition.file_system {
        Some(kind @ (FileSystem::Ext | FileSystem::Ntfs | FileSystem::Xfs | FileSystem::Btrfs)) => {
            Ok(kind)
        }
        Some(FileSystem::Fat) => Err(CannotGrow::Fat),
        Some(FileSystem::Exfat) => Err(CannotGrow::Exfat),
        None => Err(CannotGrow::Unknown),
    }
}

/// The reason no system is the one the template applies to.
#[derive(Debug, thiserror::Error)]
enum NoSystem {
    #[error(
        "windows.partition and linux.partition name a system each, and one machine becomes itself in one of them; {found}"
    )]
    Both { found: String },
    #[error(
        "no system was found on the image, and the template changes one; use an image of Windows or Linux, or a template \
         without names, addresses, users, files and programs{unread}"
    )]
    None { unread: String },
    #[error("{key}.partition is {number}, and no such system is there; {found}")]
    NotThere {
        key: &'static str,
        number: u32,
        found: String,
    },
    #[error(
        "more than one system is on the image; say which with windows.partition or linux.partition; {found}"
    )]
    Several { found: String },
}

/// The one system the template applies to.
///
/// # Errors
/// No system was found, several were, or the named partition has none.
fn system<'a>(request: &PlanRequest<'a>) -> Result<&'a System, NoSystem> {
    let template = request.template;
    let windows = template
        .windows
        .as_ref()
        .and_then(|windows| windows.partition);
    let linux = template.linux.as_ref().and_then(|linux| linux.partition);
    let systems = &request.findings.systems;
    let found = if systems.is_empty() {
        "none was found".to_owned()
    } else {
        let names: Vec<String> = systems.iter().map(title).collect();
        format!("found: {}", names.join("; "))
    };
    let named: Vec<&System> = systems
        .iter()
        .filter(|system| match system {
            System::Windows(system) => windows == Some(system.partition),
            System::Linux(system) => linux == Some(system.partition),
        })
        .collect();
    match named.as_slice() {
        [only] => return Ok(only),
        [] => {}
        _ => {
            return Err(NoSystem::Both { found });
        }
    }
    match systems.as_slice() {
        [] => Err(NoSystem::None {
            unread: unread(request.findings),
        }),
        [only] => {
            let (key, wanted) = match only {
                System::Windows(_) => ("windows", windows),
                System::Linux(_) => ("linux", linux),
            };
            match wanted {
                None => Ok(only),
                Some(number) => Err(NoSystem::NotThere { key, number, found }),
            }
        }
        _ => Err(NoSystem::Several { found }),
    }
}

/// Obstacles that may hide a system, for messages.
fn unread(findings: &Findings) -> String {
    let hidden: Vec<String> = findings
        .partitions
        .iter()
        .filter_map(|partition| {
            let obstacle = partition.obstacles.first()?;
            Some(format!(
                "; partition {}: {}",
                partition.number,
                obstacles::what(obstacle)
            ))
        })
        .collect();
    hidden.concat()
}

fn title(system: &System) -> String {
    match system {
        System::Windows(windows) => windows_title(windows),
        System::Linux(linux) => linux_title(linux),
    }
}

fn windows_title(windows: &WindowsFindings) -> String {
    format!("partition {} ({})", windows.partition, windows.product)
}

/// Title of a partition without a known system.
fn partition_title(partition: &PartitionFindings) -> String {
    match &partition.label {
        Some(label) => format!("partition {} ({label})", partition.number),
        None => format!("partition {}", partition.number),
    }
}

fn linux_title(linux: &LinuxFindings) -> String {
    format!("partition {} ({})", linux.partition, linux.pretty_name)
}
