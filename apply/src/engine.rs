//! Order of a run: each step is checked and applied; after the last one all are verified from the
//! disk.
//!
//! Owns the choice of the task for each action, and unmounts everything however the run ends. Never
//! knows what a step does. No step is reported before its verification agreed on a volume that was
//! mounted again, read-only, after its cache was dropped.

use crate::context::Context;
use crate::error::{ApplyError, At, Result, StepError};
use crate::{Outcome, Payloads, Report, Target, Watcher, copy, grow, linux, windows};
use std::sync::atomic::AtomicBool;
use template::secrets::Secrets;
use template::step::{Action, MachinePlan, Step};

/// Result of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// The step's result holds; nothing to do.
    Done,
    /// Description of what is missing, for the log; without secrets.
    Needed(String),
}

/// Implementation of one step. Its errors give the cause, the place, and what to try; they never
/// hold a secret.
///
/// A task keeps no [`crate::guest::Guest`] between calls: a volume that is held cannot be
/// unmounted.
pub(crate) trait Task {
    /// Checks if the step's result holds already. Volumes are mounted read-only here unless an
    /// earlier step mounted them writable.
    fn check(&mut self, context: &mut Context<'_>) -> Result<State>;

    /// Carries out the step. Called only after `check` returned `Needed`.
    fn apply(&mut self, context: &mut Context<'_>) -> Result<()>;

    /// Reads the disk again, in fresh read-only mounts. Any result but `Done` fails the step.
    fn verify(&mut self, context: &mut Context<'_>) -> Result<State> {
        self.check(context)
    }
}

/// Implementation of [`crate::run`].
pub(crate) fn run(
    target: &Target<'_>,
    plan: &MachinePlan,
    secrets: &Secrets,
    payloads: &dyn Payloads,
    cancelled: &AtomicBool,
    watcher: &mut dyn Watcher,
) -> Result<Report, ApplyError> {
    if let Some(reason) = plan.refused.first() {
        return Err(ApplyError::Refused(reason.to_string()));
    }
    if plan.steps.is_empty() {
        return Ok(Report::default());
    }
    let mut context = Context::new(target, plan, secrets, payloads, cancelled, watcher);
    let result = all_steps(&mut context, &plan.steps, task_of);
    let closed = context.close();
    let steps = result?;
    closed.map_err(ApplyError::Unmount)?;
    Ok(Report {
        steps,
        notes: context.take_notes(),
    })
}

fn all_steps<'s>(
    context: &mut Context<'_>,
    steps: &'s [Step],
    task_of: impl Fn(&'s Step) -> Result<Box<dyn Task + 's>>,
) -> Result<Vec<(String, Outcome)>, ApplyError> {
    let mut tasks = Vec::with_capacity(steps.len());
    let mut outcomes = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        stop_if_cancelled(context)?;
        context.begin(index, steps.len(), &step.what);
        let failed = |error| ApplyError::of_step(&step.id, error);
        let mut task = task_of(step).map_err(failed)?;
        let outcome = one_step(context, step, task.as_mut()).map_err(failed)?;
        outcomes.push((step.id.clone(), outcome));
        tasks.push((step, task));
    }
    context.close().map_err(ApplyError::Unmount)?;
    context.verifying();
    for (step, task) in &mut tasks {
        stop_if_cancelled(context)?;
        let held = match task.verify(context).at("reading it back") {
            Ok(State::Done) => Ok(()),
            Ok(State::Needed(what)) => Err(StepError::NotKept(what)),
            Err(error) => Err(error),
        };
        held.map_err(|error| ApplyError::of_step(&step.id, error))?;
    }
    Ok(outcomes)
}

fn one_step(context: &mut Context<'_>, step: &Step, task: &mut dyn Task) -> Result<Outcome> {
    context.read_only();
    let needed = match task.check(context)? {
        State::Done => {
            context.log(&format!("{}: so already", step.id));
            return Ok(Outcome::Unchanged);
        }
        State::Needed(what) => what,
    };
    context.log(&format!("{}: {needed}", step.id));
    context.writable();
    task.apply(context)?;
    Ok(Outcome::Applied)
}

fn stop_if_cancelled(context: &Context<'_>) -> Result<(), ApplyError> {
    if context.cancelled() {
        return Err(ApplyError::Cancelled);
    }
    Ok(())
}

/// Selects the task that carries out a step.
fn task_of(step: &Step) -> Result<Box<dyn Task + '_>> {
    match &step.action {
        Action::GrowFileSystem {
            partition,
            file_system,
        } => Ok(Box::new(grow::Grow::new(*partition, *file_system))),
        Action::CopyFile {
            partition,
            payload,
            to,
        } => Ok(Box::new(copy::Copy::new(*partition, payload, to))),
        Action::LinuxHostname { .. }
        | Action::LinuxMachineId { .. }
        | Action::LinuxSshHostKeys { .. }
        | Action::LinuxNetwork { .. }
        | Action::LinuxUser { .. }
        | Action::LinuxHostIds { .. }
        | Action::LinuxCloudInitKeeps { .. }
        | Action::LinuxCloudInit { .. } => linux::task(&step.action),
        Action::WindowsName { .. }
        | Action::WindowsWorkgroup { .. }
        | Action::WindowsTcpip { .. }
        | Action::WindowsIdentifiers { .. }
        | Action::WindowsStorage { .. }
        | Action::WindowsBootDriver { .. }
        | Action::WindowsStageDriver { .. }
        | Action::WindowsSid { .. }
        | Action::WindowsDiscardHibernation { .. }
        | Action::WindowsAnswerFile { .. } => windows::task(&step.action),
        Action::FirstBoot {
            partition,
            job,
            executable,
        } => Ok(Box::new(FirstBoot {
            partition: *partition,
            job,
            executable: executable.as_ref(),
            task: None,
        })),
    }
}

/// First-boot step. The file system of the partition tells which system's task to use.
struct FirstBoot<'a> {
    partition: u32,
    job: &'a template::step::FirstBootJob,
    executable: Option<&'a template::step::Payload>,
    task: Option<Box<dyn Task + 'a>>,
}

impl FirstBoot<'_> {
    fn task(&mut self, context: &mut Context<'_>) -> Result<&mut (dyn Task + '_)> {
        let task = match self.task.take() {
            Some(task) => task,
            None if context.is_ntfs(self.partition)? => {
                windows::first_boot(self.partition, self.job, self.executable)?
            }
            None => linux::first_boot(self.partition, self.job),
        };
        Ok(self.task.insert(task).as_mut())
    }
}

impl Task for FirstBoot<'_> {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State> {
        self.task(context)?.check(context)
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.task(context)?.apply(context)
    }

    fn verify(&mut self, context: &mut Context<'_>) -> Result<State> {
        self.task(context)?.verify(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::path::Path;
    use std::rc::Rc;
    use template::step::When;

    struct Nothing;

    impl Payloads for Nothing {
        fn open(
            &self,
            _: &template::step::Payload,
        ) -> std::io::Result<Box<dyn std::io::Read + '_>> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    impl Watcher for Nothing {
        fn step(&mut self, _: usize, _: usize, _: &str) {}
        fn log(&mut self, _: &str) {}
    }

    /// A task with scripted answers that records its calls.
    struct Scripted {
        id: String,
        calls: Rc<RefCell<Vec<String>>>,
        is_so: bool,
        holds: bool,
    }

    impl Scripted {
        fn called(&self, what: &str) {
            self.calls.borrow_mut().push(format!("{what} {}", self.id));
        }
    }

    impl Task for Scripted {
        fn check(&mut self, _: &mut Context<'_>) -> Result<State> {
            self.called("check");
            Ok(if self.is_so {
                State::Done
            } else {
                State::Needed("not so".into())
            })
        }

        fn apply(&mut self, _: &mut Context<'_>) -> Result<()> {
            self.called("apply");
            if self.id == "fails" {
                return Err(rustix::io::Errno::NOSPC).at("/etc/hosts");
            }
            Ok(())
        }

        fn verify(&mut self, _: &mut Context<'_>) -> Result<State> {
            self.called("verify");
            Ok(if self.holds {
                State::Done
            } else {
                State::Needed("it reads otherwise".into())
            })
        }
    }

    /// Outcomes of all steps.
    type Outcomes = Result<Vec<(String, Outcome)>, ApplyError>;

    /// Runs steps of these names: `so` holds already, `lost` fails its verification, `fails` cannot
    /// be applied.
    fn run_all(names: &[&str], cancelled: bool) -> (Outcomes, Vec<String>) {
        let steps: Vec<Step> = names
            .iter()
            .map(|name| Step {
                id: (*name).to_owned(),
                what: String::new(),
                when: When::Offline,
                action: Action::LinuxMachineId { partition: 1 },
            })
            .collect();
        let target = Target {
            disk: Path::new("/dev/null"),
            sector_size: 512,
            partitions: &[],
            work: Path::new("/nowhere"),
            first_start: None,
        };
        let calls = Rc::new(RefCell::new(Vec::new()));
        let (secrets, cancelled) = (Secrets::default(), AtomicBool::new(cancelled));
        let mut watcher = Nothing;
        let plan = MachinePlan::default();
        let mut context =
            Context::new(&target, &plan, &secrets, &Nothing, &cancelled, &mut watcher);
        let result = all_steps(&mut context, &steps, |step| {
            Ok(Box::new(Scripted {
                id: step.id.clone(),
                calls: Rc::clone(&calls),
                is_so: step.id == "so",
                holds: step.id != "lost",
            }))
        });
        let calls = calls.borrow().clone();
        (result, calls)
    }

    #[test]
    fn what_is_so_is_left_and_everything_is_read_back_after_the_last_step() {
        let (result, calls) = run_all(&["one", "so"], false);
        assert_eq!(
            result.unwrap(),
            [
                ("one".into(), Outcome::Applied),
                ("so".into(), Outcome::Unchanged)
            ]
        );
        assert_eq!(
            calls,
            [
                "check one",
                "apply one",
                "check so",
                "verify one",
                "verify so"
            ]
        );
    }

    #[test]
    fn a_step_that_does_not_hold_has_failed() {
        let error = run_all(&["one", "lost"], false).0.unwrap_err();
        assert_eq!(
            error.to_string(),
            "step lost: read back from the disk: it reads otherwise"
        );
    }

    #[test]
    fn the_first_failure_ends_it() {
        let (result, calls) = run_all(&["fails", "one"], false);
        let error = result.unwrap_err();
        assert!(
            matches!(error.cause(), Some(StepError::NoRoom { .. })),
            "{error}"
        );
        assert!(error.to_string().starts_with("step fails: "), "{error}");
        assert_eq!(calls, ["check fails", "apply fails"]);
    }

    #[test]
    fn nothing_begins_after_a_cancellation() {
        let (result, calls) = run_all(&["one"], true);
        assert!(matches!(result.unwrap_err(), ApplyError::Cancelled));
        assert!(calls.is_empty());
    }
}
