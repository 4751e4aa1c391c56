//! Machines that come after the confirmation of a job: shown while the job is watched, with a
//! question if a person can answer.
//!
//! Owns: the one question that may be open. While it is open no bar is drawn and events are kept
//! for later, so that nothing tears the line being typed. Always holds: the job never waits for the
//! answer; a question is withdrawn when its machines have gone or were added elsewhere, or when its
//! job has ended; a machine that was left out is not asked about again.

use super::job_add::{confirmed, newcomer_line};
use super::{plan_text, table};
use api::confirm;
use api::{AddPlan, AddRequest, ApiError, Event, JobView, Newcomer, Plan};
use client::{Client, segment};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeSet, VecDeque};
use std::io::stdin;
use std::time::Duration;
use terminal::output::Output;

/// Most events kept while a question is open; beyond it the oldest are not shown.
const KEPT: usize = 2000;
/// Interval between two checks for typed input. No thread waits in a read: it would take the answer
/// to a later question.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 4096;

/// The way newcomers are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    /// Not shown.
    Silent,
    /// One line for each.
    Say,
    /// A question.
    Ask,
}

/// The newcomers of a job, from the watcher's side.
pub(super) struct Desk<'a> {
    client: &'a Client,
    job: &'a str,
    out: &'a Output,
    mode: Mode,
    /// Ids of machines already shown or asked about.
    told: BTreeSet<String>,
    /// Machines that wait now.
    waiting: Vec<Newcomer>,
    open: Option<Question<'a>>,
    kept: VecDeque<Event>,
}

/// A question that waits for its answer. When dropped it ends its line and lets the bars be drawn
/// again.
struct Question<'a> {
    out: &'a Output,
    request: AddRequest,
    names: String,
    typed: Vec<u8>,
    /// True while the cursor stands behind the question.
    on_its_line: bool,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.on_its_line {
            self.out.ask("\n");
        }
        self.out.show_bars();
    }
}

impl<'a> Desk<'a> {
    /// The state for watching one job.
    pub(super) fn new(client: &'a Client, job: &'a str, out: &'a Output, mode: Mode) -> Self {
        Self {
            client,
            job,
            out,
            mode,
            told: BTreeSet::new(),
            waiting: Vec::new(),
            open: None,
            kept: VecDeque::new(),
        }
    }

    /// Updates the waiting machines from a progress event; withdraws a question whose machines have
    /// gone.
    pub(super) fn hear(&mut self, event: &Event) {
        let Event::Progress { view, .. } = event else {
            return;
        };
        self.waiting.clone_from(&view.newcomers);
        let asked = self.open.as_ref().map(|open| &open.request.expect_targets);
        let gone = |ids: &Vec<String>| {
            let mut waiting = view.newcomers.iter();
            !waiting.any(|one| ids.contains(&one.id))
        };
        if asked.is_some_and(gone) {
            self.withdraw("no longer waiting");
        }
    }

    /// Keeps an event for [`Self::kept`].
    pub(super) fn keep(&mut self, event: Event) {
        // Only the newest progress event matters.
        if matches!(event, Event::Progress { .. }) {
            self.kept
                .retain(|kept| !matches!(kept, Event::Progress { .. }));
        }
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(event);
    }

    /// Events that may be shown now: none while a question is open.
    pub(super) fn kept(&mut self) -> VecDeque<Event> {
        match self.open {
            Some(_) => VecDeque::new(),
            None => std::mem::take(&mut self.kept),
        }
    }

    /// Shows or asks about machines that are new.
    pub(super) async fn ask(&mut self) {
        if self.mode == Mode::Silent || self.open.is_some() {
            return;
        }
        let told = &mut self.told;
        let waiting = self.waiting.iter();
        let news: Vec<&Newcomer> = waiting.filter(|one| told.insert(one.id.clone())).collect();
        if news.is_empty() {
            return;
        }
        if self.mode == Mode::Ask
            && let Some(question) = self.question(&news).await
        {
            self.open = Some(question);
            return;
        }
        for newcomer in news {
            self.out.note(newcomer_line(newcomer));
        }
    }

    /// Plans the machines and asks; `None` when they cannot be planned or no question is possible.
    async fn question(&self, news: &[&Newcomer]) -> Option<Question<'a>> {
        let ids: Vec<String> = news.iter().map(|one| format!("id:{}", one.id)).collect();
        let targets = ids.join(",");
        let asked = AddPlan {
            targets: targets.clone(),
        };
        let planned = self.client.post(&self.path("add-plan"), &asked).await;
        let plan: Plan = planned
            .inspect_err(|error: &ApiError| self.out.detail(&error.message))
            .ok()?;
        let (taken, refused) = plan_text::split(&plan);
        if taken.is_empty() {
            return None;
        }
        self.out.hide_bars();
        let names: Vec<String> = taken.iter().map(|one| table::clean(&one.name)).collect();
        let names = names.join(", ");
        self.out
            .note(format!("came after the confirmation: {names}"));
        for target in &taken {
            let disk = target.disk.as_ref().map(confirm::shown).unwrap_or_default();
            self.out.note(format!(
                "  {}  {}",
                table::clean(&target.name),
                table::clean(&disk)
            ));
        }
        let own = plan_text::personal_lines(&taken);
        own.iter().for_each(|line| self.out.note(line));
        for target in refused {
            let why = plan_text::refusal(target);
            self.out.note(format!("  cannot take the image: {why}"));
        }
        let disks = table::count(taken.len(), "disk");
        self.out.ask(&format!(
            "Erase and write {disks} as well? Type {} to add to job {}, anything else to leave it out: ",
            taken.len(),
            table::clean(self.job)
        ));
        Some(Question {
            out: self.out,
            request: confirmed(&plan, targets),
            names,
            typed: Vec::new(),
            on_its_line: true,
        })
    }

    /// The typed line; `None` at the end of input. Waits for ever while no question is open.
    /// Cancel-safe.
    pub(super) async fn typed(&mut self) -> Option<String> {
        match &mut self.open {
            Some(question) => question.line().await,
            None => std::future::pending().await,
        }
    }

    /// Adds the machines if the typed line is their number.
    pub(super) async fn answered(&mut self, typed: Option<String>) {
        let Some(mut question) = self.open.take() else {
            return;
        };
        match &typed {
            // The typed line ended the line of the question.
            Some(_) => question.on_its_line = false,
            // The input has ended: later newcomers are only shown.
            None => self.mode = Mode::Say,
        }
        let (names, request) = (question.names.clone(), question.request.clone());
        drop(question);
        let (out, job) = (self.out, table::clean(self.job));
        let number = request.expect_targets.len().to_string();
        if typed.is_none_or(|typed| typed.trim() != number) {
            out.note(format!(
                "left out: {names}; `diskcast job add {job} --targets NAME` asks again"
            ));
            return;
        }
        let added = self.client.post(&self.path("add"), &request).await;
        match added.map(|_: JobView| ()) {
            Ok(()) => out.note(format!("added to job {job}: {names}")),
            // The machines are shown again in their new state.
            Err(error) => {
                out.error(&error);
                self.forget(&request.expect_targets);
            }
        }
    }

    /// Withdraws an open question; its machines are asked about again when they wait again.
    pub(super) fn withdraw(&mut self, why: &str) {
        if let Some(question) = self.open.take() {
            let names = question.names.clone();
            self.forget(&question.request.expect_targets);
            drop(question);
            self.out.note(format!("{why}: {names}"));
        }
    }

    fn forget(&mut self, ids: &[String]) {
        ids.iter().for_each(|id| {
            self.told.remove(id);
        });
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/jobs/{}/{rest}", segment(self.job))
    }
}

impl Question<'_> {
    async fn line(&mut self) -> Option<String> {
        loop {
            let terminal = stdin();
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let mut wanted = [PollFd::new(&terminal, PollFlags::IN)];
            // A terminal delivers whole lines: when there is input, the read does not wait.
            if !poll(&mut wanted, Some(&now)).is_ok_and(|ready| ready > 0) {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            let mut piece = [0; 512];
            let read = rustix::io::read(&terminal, &mut piece).ok()?;
            let piece = piece.get(..read).filter(|piece| !piece.is_empty())?;
            if self.typed.len() + piece.len() <= MAX_ANSWER {
                self.typed.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                return Some(String::from_utf8_lossy(&self.typed).into_owned());
            }
        }
    }
}
