//! The decision about the next action of a job, from job and journal, and the loop that carries it
//! out through an [`Executor`].
//!
//! ```text
//! next:  ended -> Rest
//!        secrets of settled steps, or of all when over -> Wipe
//!        over, the report is neither acknowledged nor given up ->
//!            tries left in this start -> Report
//!            end action not taken     -> EndAction
//!            otherwise                -> Rest
//!        over -> Leave (remove itself, then the end action unless it was taken)
//!        a restart was requested -> Rest        one is due -> Restart
//!        started too often -> Stop
//!        first step that is not done -> Perform, or Stop when it failed for good
//!        nothing left -> Finish
//! ```
//!
//! [`next`] is pure: the same job and journal give the same answer, so a power cut between any two
//! lines of the journal has the effect of one more start. A step is settled when it is done, or has
//! failed for good. Invariants:
//!
//! - A step that is done is never carried out again.
//! - A program that ended with a bad exit code is not run again. One that was interrupted by a
//!   restart, and every other kind of step, is tried [`ATTEMPTS`] times: services and cards may be
//!   late on a first start.
//! - The secrets of a step are wiped as soon as it is settled, before a restart that it needs; all
//!   of them when the job stops; the key of the report when it is acknowledged, refused, or given
//!   up.
//! - The report comes after the last step and is tried with the delays in [`REPORT_WAITS_SECONDS`];
//!   then the end action is taken, and the report is tried in [`REPORT_LATER_STARTS`] more starts,
//!   which do nothing else.
//! - The job stops after [`SPARE_BOOTS`] starts more than it has steps, so that no machine restarts
//!   for ever.
//! - The end action is taken once, and not at all if the job was stopped.

use crate::job::{Action, End, Job, OnError, ReportTo, Secret, Step, User, REPORT_ID};
use crate::journal::{Entry, Journal, StepRecord};
use crate::report;
use std::borrow::Cow;
use std::io;

/// Most attempts at a step.
pub const ATTEMPTS: u32 = 5;
/// Machine starts that a job may take in addition to one for each step.
pub const SPARE_BOOTS: usize = 10;
/// Delays in seconds before the second and later attempts within one start: Windows may still be
/// installing the card that is to be configured.
pub const WAITS_SECONDS: [u32; 4] = [5, 20, 60, 120];

/// Delays in seconds before each attempt of the report within one start: more than three minutes in
/// total.
pub const REPORT_WAITS_SECONDS: [u32; 8] = [0, 2, 5, 10, 20, 40, 60, 60];
/// Machine starts, after the one that ended the job, in which the report is tried again.
pub const REPORT_LATER_STARTS: usize = 5;

/// The next action of a job.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next<'a> {
    /// Overwrite the secrets of these steps in the job file, and the key of the report if
    /// [`REPORT_ID`] is in the list.
    Wipe(Vec<&'a str>),
    /// Carry out a step after a delay in seconds.
    Perform(&'a Step, u32),
    /// Restart the machine.
    Restart,
    /// End the job with this entry.
    Over(Entry),
    /// Send the report of the result after a delay in seconds.
    Report(&'a ReportTo, u32),
    /// Take the end action: the report was not acknowledged in this start, and later attempts are
    /// not waited for.
    EndAction(End),
    /// Remove service and job file; then take the end action, unless it was taken or the job was
    /// stopped.
    Leave(End),
    /// Do nothing until the next start, or for ever.
    Rest,
}

/// Decides the next action. `journal` holds the [`Entry::Boot`] of this start already.
#[must_use]
pub fn next<'a>(job: &'a Job, journal: &Journal) -> Next<'a> {
    if journal.ended() {
        return Next::Rest;
    }
    let over = journal.over();
    let settled = |step: &Step| over.is_some() || is_settled(step, &journal.step(&step.id));
    let wipe: Vec<&str> = job
        .steps
        .iter()
        .filter(|step| has_secret(step) && settled(step) && !journal.step(&step.id).wiped)
        .map(|step| step.id.as_str())
        .collect();
    if !wipe.is_empty() {
        return Next::Wipe(wipe);
    }
    if let Some(over) = over {
        let end = match over {
            Entry::Finished if !journal.end_action_taken() => job.end,
            _ => End::None,
        };
        return match &job.report {
            Some(report) => next_of_report(report, journal, end),
            None => Next::Leave(end),
        };
    }
    if journal.restart_asked() {
        return Next::Rest;
    }
    if journal.restart_due() {
        return Next::Restart;
    }
    if journal.boots() > job.steps.len() + SPARE_BOOTS {
        return Next::Over(Entry::Stopped {
            reason: format!(
                "the machine was started {} times before the job was over",
                journal.boots()
            ),
        });
    }
    for step in &job.steps {
        let record = journal.step(&step.id);
        if record.done {
            continue;
        }
        if !is_settled(step, &record) {
            return Next::Perform(step, wait_before(&record));
        }
        if stops(step) {
            let reason = match &record.reason {
                Some(reason) => format!("{}: {reason}", step.id),
                None => format!("{}: interrupted {} times", step.id, record.begun),
            };
            return Next::Over(Entry::Stopped { reason });
        }
    }
    Next::Over(Entry::Finished)
}

/// The next action of a job that is over and whose steps have no secrets any more.
fn next_of_report<'a>(to: &'a ReportTo, journal: &Journal, end: End) -> Next<'a> {
    let record = journal.step(REPORT_ID);
    let later = journal.boots_since_over();
    if !record.done && !journal.refused() && later <= REPORT_LATER_STARTS && !record.wiped {
        let tries = usize::try_from(record.failed_this_boot).unwrap_or(usize::MAX);
        if let Some(wait) = REPORT_WAITS_SECONDS.get(tries) {
            return Next::Report(to, *wait);
        }
        if later < REPORT_LATER_STARTS {
            return if journal.end_action_taken() {
                Next::Rest
            } else {
                Next::EndAction(end)
            };
        }
    }
    if record.wiped {
        Next::Leave(end)
    } else {
        Next::Wipe(vec![REPORT_ID])
    }
}

/// Outcome of a finished job for the report; the reported step is the one that stopped it.
fn came_of(job: &Job, journal: &Journal) -> report::Outcome {
    let reason = match journal.over() {
        Some(Entry::Stopped { reason }) => reason.clone(),
        _ => return report::Outcome::Done,
    };
    let stopped = job.steps.iter().find(|step| {
        let record = journal.step(&step.id);
        !record.done && is_settled(step, &record) && stops(step)
    });
    match stopped {
        Some(step) => report::Outcome::Failed {
            reason: journal.step(&step.id).reason.unwrap_or(reason),
            step: Some(step.id.clone()),
        },
        None => report::Outcome::Failed { step: None, reason },
    }
}

/// True if a step is done, or has failed for good.
fn is_settled(step: &Step, record: &StepRecord) -> bool {
    let answered = matches!(step.action, Action::Run(_)) && record.failed > 0;
    record.done || answered || record.begun >= ATTEMPTS
}

/// True if a failure of the step ends the job. Only the failure of a program may be ignored; all
/// other kinds are needed by later steps.
fn stops(step: &Step) -> bool {
    !matches!(&step.action, Action::Run(run) if run.on_error == OnError::Continue)
}

fn wait_before(record: &StepRecord) -> u32 {
    let index = usize::try_from(record.failed_this_boot).unwrap_or(usize::MAX);
    match index.checked_sub(1) {
        None => 0,
        Some(index) => WAITS_SECONDS
            .get(index)
            .or(WAITS_SECONDS.last())
            .copied()
            .unwrap_or(0),
    }
}

fn has_secret(step: &Step) -> bool {
    secret_of(step).is_some()
}

/// Values of secrets that are not wiped.
fn secrets(job: &Job) -> impl Iterator<Item = &str> {
    let of_report = job.report.iter().map(|report| &report.key);
    let of_steps = job.steps.iter().filter_map(secret_of);
    of_steps.chain(of_report).filter_map(Secret::value)
}

fn secret_of(step: &Step) -> Option<&Secret> {
    match &step.action {
        Action::User(User { password, .. }) => password.as_ref(),
        Action::Join { blob } => Some(blob),
        _ => None,
    }
}

/// Outcome of a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The step is done.
    Done,
    /// The step is done, and the machine has to restart before the next one.
    DoneRestart,
    /// The step failed: cause, and what to try.
    Failed(String),
    /// The service was stopped during the step, which is repeated at the next start.
    Interrupted,
}

/// The console's answer to a report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The report is stored; the answer is signed with the key of the report.
    Heard,
    /// The report is refused for good.
    Refused,
    /// No valid answer from any address, with the cause.
    Unheard(String),
}

/// The machine that the job runs on.
pub trait Executor {
    /// Writes an entry to the journal. After the return it survives a power cut.
    ///
    /// # Errors
    /// The entry cannot be written; nothing more is done in this start then.
    fn record(&mut self, entry: &Entry) -> io::Result<()>;
    /// Carries out a step.
    fn perform(&mut self, step: &Step) -> Outcome;
    /// Sends the report once to each address of the console, until one answers.
    fn report(&mut self, to: &ReportTo, came: &report::Outcome) -> Answer;
    /// Overwrites the secrets of these steps, or of [`REPORT_ID`], in the job file.
    ///
    /// # Errors
    /// A secret may still be in the file.
    fn wipe(&mut self, ids: &[&str]) -> io::Result<()>;
    /// Waits some seconds, or less if the service is being stopped.
    fn wait(&mut self, seconds: u32);
    /// True if the service is being stopped: no new step may begin.
    fn stopping(&self) -> bool;
    /// Requests a restart of the machine.
    ///
    /// # Errors
    /// The system refuses; the job continues at the next start then.
    fn restart(&mut self) -> io::Result<()>;
    /// Removes the job file, the service, and the program.
    ///
    /// # Errors
    /// One of them remains.
    fn remove(&mut self) -> io::Result<()>;
    /// Takes the end action.
    ///
    /// # Errors
    /// The system refuses.
    fn end(&mut self, end: End) -> io::Result<()>;
    /// Writes a line for people to the log. The line holds no secret.
    fn log(&mut self, line: &str);
}

/// Result of one start of the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pause {
    /// The machine is about to restart, or the service is being stopped; the job continues later.
    Restart,
    /// Every step had its turn; later starts do nothing or only report.
    Finished,
    /// The job was stopped for good by a failed step.
    Stopped,
}

/// Continues the job from the state in the journal, until the machine restarts or nothing is left.
///
/// # Errors
/// The journal cannot be written. Nothing is done without it: a machine whose disk is full would
/// otherwise do the same steps at every start, and restart for ever.
pub fn run(job: &Job, journal: &mut Journal, executor: &mut impl Executor) -> io::Result<Pause> {
    let mut steps = Steps {
        job,
        journal,
        executor,
    };
    if steps.journal.ended() {
        // The previous removal was incomplete: it is repeated, without a second end action.
        let removed = steps.executor.remove();
        steps.complain("removing the service", removed);
        return Ok(steps.pause());
    }
    steps.record(Entry::Boot)?;
    loop {
        match next(steps.job, steps.journal) {
            Next::Wipe(of) => steps.wipe(&of)?,
            Next::Perform(step, wait) => {
                if wait > 0 {
                    steps
                        .executor
                        .log(&format!("step {}: again in {wait} s", step.id));
                    steps.executor.wait(wait);
                }
                if steps.executor.stopping() {
                    steps
                        .executor
                        .log("the service is being stopped: the job goes on with the next start");
                    return Ok(Pause::Restart);
                }
                if steps.perform(step)? == Flow::Stop {
                    return Ok(Pause::Restart);
                }
            }
            Next::Restart => {
                steps.record(Entry::Restart)?;
                steps.executor.log("restarting the machine");
                let asked = steps.executor.restart();
                steps.complain("restarting", asked);
            }
            Next::Over(entry) => {
                match &entry {
                    Entry::Stopped { reason } => steps.log(&format!("stopped: {reason}")),
                    _ => steps.log("every step had its turn"),
                }
                steps.record(entry)?;
            }
            Next::Report(to, wait) => {
                if wait > 0 {
                    steps.executor.wait(wait);
                }
                if steps.executor.stopping() {
                    steps.executor.log(
                        "the service is being stopped: the report has its turn with the next start",
                    );
                    return Ok(steps.pause());
                }
                steps.report(to)?;
            }
            Next::EndAction(end) => {
                steps
                    .executor
                    .log("the report was not heard: later starts try again");
                steps.record(Entry::EndAction)?;
                steps.end(end);
            }
            Next::Leave(end) => {
                let removed = steps.executor.remove();
                steps.complain("removing the service", removed);
                steps.record(Entry::Ended)?;
                steps.end(end);
                return Ok(steps.pause());
            }
            Next::Rest => return Ok(steps.pause()),
        }
    }
}

/// Tells if this start continues.
#[derive(Eq, PartialEq)]
enum Flow {
    On,
    Stop,
}

struct Steps<'a, E> {
    job: &'a Job,
    journal: &'a mut Journal,
    executor: &'a mut E,
}

impl<E: Executor> Steps<'_, E> {
    fn record(&mut self, entry: Entry) -> io::Result<()> {
        self.executor.record(&entry)?;
        self.journal.push(entry);
        Ok(())
    }

    fn log(&mut self, line: &str) {
        let line = redacted(self.job, line).into_owned();
        self.executor.log(&line);
    }

    fn complain(&mut self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.log(&format!("{what} failed: {error}"));
        }
    }

    fn perform(&mut self, step: &Step) -> io::Result<Flow> {
        let attempt = self.journal.step(&step.id).begun.saturating_add(1);
        let kind = kind(&step.action);
        self.record(Entry::Begin(step.id.clone()))?;
        self.executor
            .log(&format!("step {}: {kind}, attempt {attempt}", step.id));
        let id = step.id.clone();
        let entry = match self.executor.perform(step) {
            Outcome::Done => {
                self.executor.log(&format!("step {id}: done"));
                Entry::Done(id)
            }
            Outcome::DoneRestart => {
                self.executor
                    .log(&format!("step {id}: done, wants a restart"));
                Entry::DoneRestart(id)
            }
            Outcome::Failed(reason) => {
                let reason = redacted(self.job, &reason).into_owned();
                self.executor.log(&format!("step {id}: failed: {reason}"));
                Entry::Failed { id, reason }
            }
            Outcome::Interrupted => {
                self.executor.log(&format!("step {id}: interrupted"));
                return Ok(Flow::Stop);
            }
        };
        self.record(entry)?;
        Ok(Flow::On)
    }

    fn report(&mut self, to: &ReportTo) -> io::Result<()> {
        let came = came_of(self.job, self.journal);
        self.record(Entry::Begin(REPORT_ID.into()))?;
        let entry = match self.executor.report(to, &came) {
            Answer::Heard => {
                self.executor.log("the console has heard the report");
                Entry::Done(REPORT_ID.into())
            }
            Answer::Refused => {
                self.executor.log("the console refused the report");
                Entry::Refused
            }
            Answer::Unheard(reason) => {
                let reason = redacted(self.job, &reason).into_owned();
                self.executor.log(&format!("report not heard: {reason}"));
                Entry::Failed {
                    id: REPORT_ID.into(),
                    reason,
                }
            }
        };
        self.record(entry)
    }

    fn end(&mut self, end: End) {
        if end != End::None {
            self.executor.log(&format!("end action: {end:?}"));
            let ended = self.executor.end(end);
            self.complain("the end action", ended);
        }
    }

    fn wipe(&mut self, ids: &[&str]) -> io::Result<()> {
        let wiped = self.executor.wipe(ids);
        let good = wiped.is_ok();
        self.complain("wiping secrets", wiped);
        for id in ids {
            let id = (*id).to_string();
            self.record(if good {
                Entry::Wiped(id)
            } else {
                Entry::NotWiped(id)
            })?;
        }
        Ok(())
    }

    fn pause(&self) -> Pause {
        match self.journal.over() {
            Some(Entry::Finished) => Pause::Finished,
            Some(_) => Pause::Stopped,
            None => Pause::Restart,
        }
    }
}

fn kind(action: &Action) -> &'static str {
    match action {
        Action::Network(_) => "network",
        Action::User(_) => "user",
        Action::Join { .. } => "join",
        Action::InstallDrivers { .. } => "install drivers",
        Action::Run(_) => "program",
    }
}

/// The text without the secrets of a job: a last protection in case a system puts one into an error
/// message. Secrets of fewer than four characters stay: replacing every `a` would only reveal them.
#[must_use]
pub fn redacted<'a>(job: &Job, text: &'a str) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for value in secrets(job) {
        if value.chars().count() >= 4 && text.contains(value) {
            text = Cow::Owned(text.replace(value, "***"));
        }
    }
    text
}
