//! What comes next: job and journal in, one action out. And the loop that carries it out through an [`Executor`].
//!
//! ```text
//! next:  ended -> Rest
//!        secrets of settled steps, or of all when over -> Wipe
//!        over -> Leave (remove itself, then the end action)
//!        a restart was asked for -> Rest        one is due -> Restart
//!        started too often -> Stop              first step that is not settled -> Perform, or Stop when it failed
//!        nothing left -> Finish
//! ```
//!
//! [`next`] is pure: the same job and journal give the same answer, so a power cut between any two lines of the journal is only another
//! start. A step is settled when it is done, or failed for good. Holds always:
//!
//! - a step that is done is never carried out again;
//! - a program that ended with a bad exit code is not run again: it has given its answer. One that was interrupted by a restart, and every
//!   other kind of step, is tried [`ATTEMPTS`] times: services and cards may be late on a first start;
//! - the secrets of a step are wiped as soon as it is settled, before a restart it wants; all of them when the job stops;
//! - the job stops after [`SPARE_BOOTS`] starts more than it has steps, so that nothing restarts a machine for ever;
//! - the end action is taken once, and not at all when the job was stopped.

use crate::job::{Action, End, Job, OnError, Secret, Step, User};
use crate::journal::{Entry, Journal, StepRecord};
use std::borrow::Cow;
use std::io;

/// How often a step is begun at most.
pub const ATTEMPTS: u32 = 5;
/// Starts of the machine beyond one for each step.
pub const SPARE_BOOTS: usize = 10;
/// Seconds before the second and later attempts within one start: Windows may still be installing the card it is to configure.
pub const WAITS_SECONDS: [u32; 4] = [5, 20, 60, 120];

/// What comes next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next<'a> {
    /// The secrets of these steps are overwritten in the job file.
    Wipe(Vec<&'a Step>),
    /// A step, after waiting some seconds.
    Perform(&'a Step, u32),
    /// The machine restarts.
    Restart,
    /// The job is over: the last entry but one.
    Over(Entry),
    /// Service and job file go; then, when every step had its turn, the end action.
    Leave(End),
    /// Nothing before the next start, or for ever.
    Rest,
}

/// Decides. `journal` has the [`Entry::Boot`] of this start already.
#[must_use]
pub fn next<'a>(job: &'a Job, journal: &Journal) -> Next<'a> {
    if journal.ended() {
        return Next::Rest;
    }
    let over = journal.over();
    let settled = |step: &Step| over.is_some() || is_settled(step, &journal.step(&step.id));
    let wipe: Vec<&Step> = job
        .steps
        .iter()
        .filter(|step| has_secret(step) && settled(step) && !journal.step(&step.id).wiped)
        .collect();
    if !wipe.is_empty() {
        return Next::Wipe(wipe);
    }
    match over {
        Some(Entry::Finished) => return Next::Leave(job.end),
        Some(_) => return Next::Leave(End::None),
        None => {}
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

/// Done, or failed for good.
fn is_settled(step: &Step, record: &StepRecord) -> bool {
    let answered = matches!(step.action, Action::Run(_)) && record.failed > 0;
    record.done || answered || record.begun >= ATTEMPTS
}

/// Does its failure end the job? Every other kind than a program is needed by what follows.
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

fn secret_of(step: &Step) -> Option<&Secret> {
    match &step.action {
        Action::User(User { password, .. }) => password.as_ref(),
        Action::Join { blob } => Some(blob),
        _ => None,
    }
}

/// How a step went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It is done, and the machine has to restart before the next.
    DoneRestart,
    /// It failed: why, and what to try.
    Failed(String),
    /// The service is being stopped in the middle of it: it has its turn again with the next start.
    Interrupted,
}

/// The machine the job runs on.
pub trait Executor {
    /// Writes an entry to the journal. When this returns, it survives a power cut.
    ///
    /// # Errors
    /// When it cannot be written; nothing more is done in this start then.
    fn record(&mut self, entry: &Entry) -> io::Result<()>;
    /// Carries a step out.
    fn perform(&mut self, step: &Step) -> Outcome;
    /// Overwrites the secrets of these steps in the job file.
    ///
    /// # Errors
    /// When they may still be there.
    fn wipe(&mut self, ids: &[&str]) -> io::Result<()>;
    /// Waits some seconds, or less when the machine is stopping.
    fn wait(&mut self, seconds: u32);
    /// The service is being stopped: no new step.
    fn stopping(&self) -> bool;
    /// Asks for a restart of the machine.
    ///
    /// # Errors
    /// When the system refuses; the job goes on with the next start then.
    fn restart(&mut self) -> io::Result<()>;
    /// Removes the job file, the service, and the program.
    ///
    /// # Errors
    /// When something stays.
    fn remove(&mut self) -> io::Result<()>;
    /// The end action.
    ///
    /// # Errors
    /// When the system refuses.
    fn end(&mut self, end: End) -> io::Result<()>;
    /// A line for people. Holds no secret.
    fn log(&mut self, line: &str);
}

/// How a start of the program went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pause {
    /// The machine is about to restart, or is being stopped; the job goes on then.
    Restart,
    /// Every step had its turn.
    Finished,
    /// The job was stopped for good by a step that failed.
    Stopped,
}

/// Carries on with the job, from wherever the journal says it is, until the machine restarts or nothing is left.
///
/// # Errors
/// When the journal cannot be written. Nothing is done without it: a machine whose disk is full would do the same steps
/// at every start, and restart for ever.
pub fn run(job: &Job, journal: &mut Journal, executor: &mut impl Executor) -> io::Result<Pause> {
    let mut steps = Steps {
        job,
        journal,
        executor,
    };
    if steps.journal.ended() {
        // The last removal was not complete: once more, and no second end action.
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
            Next::Leave(end) => {
                let removed = steps.executor.remove();
                steps.complain("removing the service", removed);
                steps.record(Entry::Ended)?;
                if end != End::None {
                    steps.executor.log(&format!("end action: {end:?}"));
                    let ended = steps.executor.end(end);
                    steps.complain("the end action", ended);
                }
                return Ok(steps.pause());
            }
            Next::Rest => return Ok(steps.pause()),
        }
    }
}

/// Does this start go on?
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

    fn wipe(&mut self, of: &[&Step]) -> io::Result<()> {
        let ids: Vec<&str> = of.iter().map(|step| step.id.as_str()).collect();
        let wiped = self.executor.wipe(&ids);
        let good = wiped.is_ok();
        self.complain("wiping secrets", wiped);
        for id in ids {
            let id = id.to_string();
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

/// A text without the secrets of a job: the last line of defence, should a system put one into an error message. Secrets of fewer than four
/// characters are left: replacing every `a` would only show where they are.
#[must_use]
pub fn redacted<'a>(job: &Job, text: &'a str) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for value in job
        .steps
        .iter()
        .filter_map(secret_of)
        .filter_map(Secret::value)
    {
        if value.chars().count() >= 4 && text.contains(value) {
            text = Cow::Owned(text.replace(value, "***"));
        }
    }
    text
}
