//! The owner of a job: waits for its start, runs its session, and ends it.
//!
//! ```text
//! waiting --start rule--> running --every place final--> done | failed | cancelled
//!                            ^ first target back
//! interrupted ---------------+   (the console was started again)
//! ```
//!
//! What always holds: every change of a place's state is published, stored and shown together ([`JobRun::changed`]); an agent
//! is told `recorded` only after its outcome went to the store; the job ends when each place is final and not before.

use super::folder::{Folder, Journal};
use super::meter::Meter;
use super::order::Session;
use super::place::Place;
use super::{Input, JobShared, log_event, summary_of};
use crate::console::api::{
    ApiError, CancelRequest, ErrorCode, Event, JobState, JobView, Report, SCHEMA_VERSION,
    SessionView, StartRule,
};
use crate::console::context::Console;
use crate::console::naming::clean_line;
use crate::console::plan::{self, PlanImage};
use crate::console::select::Selector;
use crate::console::store::{JobRow, NewJob};
use crate::console::time::{now_text, until};
use crate::net::control::{ConsoleMessage, EndAction, Outcome, Unfinished};
use crate::net::sending::SendingEvent;
use crate::target::{DiskFacts, TargetState};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

/// How often the job looks at its clock.
const TICK: Duration = Duration::from_millis(250);
/// Image blocks named in one message; 4096 numbers are about 30 KiB of JSON.
const BLOCKS_PER_MESSAGE: usize = 4096;
/// Lines one target may put into the log of a job.
const MAX_LOG_LINES: u32 = 2000;

/// Whether the job was there before the console was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recovery {
    /// A new job, or one that still waits for its start.
    New,
    /// It ran when the last console ended: its targets may come back.
    Interrupted,
}

/// The task's state.
pub struct JobRun {
    console: Arc<Console>,
    shared: Arc<JobShared>,
    inputs: mpsc::Receiver<Input>,
    row: NewJob,
    id: u64,
    id_text: String,
    state: JobState,
    started: Option<String>,
    ended: Option<String>,
    places: Vec<Place>,
    index: HashMap<String, usize>,
    session: Option<Session>,
    session_view: SessionView,
    wire: Meter,
    journal: Journal,
    folder: Folder,
    epoch: Instant,
    ticks: u64,
    grace: Duration,
    cancelled: bool,
}

impl JobRun {
    /// A job out of the store, with the image it sends.
    pub fn new(
        console: Arc<Console>,
        row: JobRow,
        shared: Arc<JobShared>,
        inputs: mpsc::Receiver<Input>,
        recovery: Recovery,
    ) -> Self {
        let folder = Folder::of(&console.settings.data_dir, row.id);
        let mut places: Vec<Place> = row.job.targets.iter().cloned().map(Place::new).collect();
        if recovery == Recovery::Interrupted {
            for place in places.iter_mut().filter(|place| !place.is_final()) {
                place.gone_since = Some(Duration::ZERO);
            }
        }
        Self {
            index: places
                .iter()
                .enumerate()
                .map(|(i, place)| (place.id().to_owned(), i))
                .collect(),
            journal: Journal::start(folder.clone()),
            grace: match recovery {
                Recovery::New => console.settings.patience.lost_after,
                Recovery::Interrupted => console.settings.patience.recover_after,
            },
            id: row.id,
            id_text: row.id.to_string(),
            state: row.job.state,
            started: row.started,
            ended: None,
            session: None,
            wire: Meter::default(),
            session_view: row.session,
            row: row.job,
            epoch: Instant::now(),
            ticks: 0,
            cancelled: false,
            console,
            shared,
            inputs,
            places,
            folder,
        }
    }

    /// Runs the job to its end, or until the console ends.
    pub async fn run(mut self) {
        match self.state {
            JobState::Interrupted => {
                self.log(
                    "the console was started again; waiting for the targets to come back"
                        .to_owned(),
                );
            }
            _ => self.log(format!(
                "job {} for {} targets: {}",
                self.id,
                self.places.len(),
                self.row.request.image
            )),
        }
        for i in 0..self.places.len() {
            if self.places[i].is_final() && self.state == JobState::Waiting {
                self.changed(i).await;
            }
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(self.places.iter().all(Place::is_final) && !self.awaits_more()) {
            tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(Input::Shutdown) | None => return self.interrupt().await,
                    Some(input) => self.handle(input).await,
                },
                event = next_event(&mut self.session) => self.sent(event).await,
                _ = tick.tick() => self.tick().await,
            }
        }
        self.finish().await;
    }

    /// A job that waits for a number of targets may still get some.
    fn awaits_more(&self) -> bool {
        self.state == JobState::Waiting
            && !self.cancelled
            && matches!(self.row.request.start, StartRule::Count(_))
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn log(&mut self, text: String) {
        tracing::info!(job = self.id, "{text}");
        let event = log_event(&self.id_text, text);
        self.journal.write(&event);
        self.shared.events.publish(event);
    }

    async fn handle(&mut self, input: Input) {
        match input {
            Input::Connected {
                target,
                instance,
                unfinished,
            } => self.connected(&target, &instance, unfinished).await,
            Input::Disconnected { target } => self.disconnected(&target),
            Input::Status {
                target,
                session,
                status,
            } => {
                if let (Some(&i), Some(own)) = (self.index.get(&target), &self.session)
                    && own.id() == session
                    && self.places[i].ordered
                    && let Some(sending) = own.sending()
                {
                    sending.status(receiver(i), *status);
                }
            }
            Input::Progress { target, progress } => {
                if let Some(&i) = self.index.get(&target) {
                    let now = self.now();
                    if self.places[i].ordered && self.places[i].progress(now, progress) {
                        self.changed(i).await;
                    }
                }
            }
            Input::Outcome { target, outcome } => {
                if let Some(&i) = self.index.get(&target) {
                    self.outcome(i, *outcome).await;
                }
            }
            Input::Log { target, text } => {
                if let Some(&i) = self.index.get(&target) {
                    let place = &mut self.places[i];
                    place.log_lines = place.log_lines.saturating_add(1);
                    let name = place.name().to_owned();
                    match place.log_lines {
                        n if n < MAX_LOG_LINES => self.log(format!("{name}: {text}")),
                        MAX_LOG_LINES => self.log(format!(
                            "{name}: more than {MAX_LOG_LINES} lines; the rest is left out"
                        )),
                        _ => {}
                    }
                }
            }
            Input::Start(answer) => {
                let result = self.start_by_hand().await;
                // The one who asked may have gone.
                let _ = answer.send(result);
            }
            Input::Cancel(request, answer) => {
                let result = self.cancel(&request).await;
                let _ = answer.send(result);
            }
            Input::Shutdown => {}
        }
        self.show();
    }

    async fn tick(&mut self) {
        self.ticks += 1;
        match self.state {
            JobState::Waiting => self.wait().await,
            JobState::Running | JobState::Interrupted => self.look_for_lost().await,
            JobState::Done | JobState::Failed | JobState::Cancelled => {}
        }
        let now = self.now();
        self.places.iter_mut().for_each(|place| place.refresh(now));
        self.read_counters();
        self.show();
        if self.ticks.is_multiple_of(2) && self.state != JobState::Waiting {
            self.shared.events.publish(Event::Progress {
                job: self.id_text.clone(),
                view: Box::new(self.shared.view()),
            });
        }
    }

    // ---- waiting for the start ----

    async fn wait(&mut self) {
        for i in 0..self.places.len() {
            let connected = self
                .console
                .roster
                .connection(self.places[i].id())
                .is_some();
            let state = if connected {
                TargetState::Ready
            } else {
                TargetState::Discovered
            };
            if !self.places[i].is_final() && self.places[i].state() != state {
                self.places[i].row.view.state = state;
                self.changed(i).await;
            }
        }
        // Once a second is soon enough to notice a machine that was switched on.
        if matches!(self.row.request.start, StartRule::Count(_)) && self.ticks.is_multiple_of(4) {
            self.admit_newcomers().await;
        }
        let waiting = self.places.iter().filter(|place| !place.is_final());
        let ready = self
            .places
            .iter()
            .filter(|place| place.state() == TargetState::Ready)
            .count();
        let due = match &self.row.request.start {
            StartRule::All => ready == waiting.count(),
            StartRule::Now => true,
            StartRule::Count(count) => ready >= usize::try_from(*count).unwrap_or(usize::MAX),
            StartRule::At(time) => until(time).is_none_or(|left| left.is_zero()),
            StartRule::Manual => false,
        };
        if due {
            self.begin().await;
        }
    }

    /// `--start N` was said before the room was switched on: machines that match and come later belong to it.
    async fn admit_newcomers(&mut self) {
        let image = PlanImage {
            summary: self.shared.image.summary(),
            table: self.shared.image.table(),
        };
        let candidates: Vec<_> = self
            .console
            .roster
            .candidates()
            .into_iter()
            .filter(|candidate| {
                candidate.view.connected && !self.index.contains_key(&candidate.view.id)
            })
            .collect();
        let Ok(plan) = plan::make(&self.row.request, &image, &candidates, None) else {
            return;
        };
        for target in plan
            .targets
            .into_iter()
            .filter(|target| target.refused.is_none())
        {
            let ids = [target.id.clone()];
            if self
                .console
                .roster
                .claim(&self.id_text, &ids, TargetState::Ready)
                .is_err()
            {
                continue;
            }
            let mut row =
                super::super::jobs::place_row(&target, self.shared.image.summary().used_bytes);
            row.view.state = TargetState::Ready;
            self.index.insert(target.id.clone(), self.places.len());
            self.places.push(Place::new(row));
            self.log(format!(
                "{} joins: it matches {}",
                target.name, self.row.request.targets
            ));
            self.changed(self.places.len() - 1).await;
        }
    }

    async fn start_by_hand(&mut self) -> Result<(), ApiError> {
        if self.state != JobState::Waiting {
            let message = format!("job {} is not waiting for its start", self.id);
            return Err(ApiError::new(ErrorCode::Refused, message));
        }
        let ready = |place: &Place| {
            !place.is_final() && self.console.roster.connection(place.id()).is_some()
        };
        if !self.places.iter().any(ready) {
            return Err(ApiError::new(
                ErrorCode::Refused,
                format!("no target of job {} is ready", self.id),
            )
            .hint("diskcast target list shows who is connected"));
        }
        self.begin().await;
        Ok(())
    }

    /// The session starts with everyone who is there; a target of the plan that comes later still joins.
    async fn begin(&mut self) {
        self.state = JobState::Running;
        self.started = Some(now_text());
        self.store_job().await;
        if !self.open_session().await {
            return;
        }
        for i in 0..self.places.len() {
            if !self.places[i].is_final() {
                self.order(i, None).await;
            }
        }
    }

    /// False when there is no session and everyone has failed.
    async fn open_session(&mut self) -> bool {
        let roster = &self.console.roster;
        let facts: Vec<_> = self
            .places
            .iter()
            .filter_map(|place| roster.view(place.id()).ok())
            .map(|view| view.facts)
            .collect();
        match Session::open(&self.console, &self.shared.image, &self.row.request, &facts) {
            Ok((session, fault)) => {
                let (main, second) = (session.main, session.second);
                match fault {
                    None => self.log(format!("session on {main} and {second}")),
                    Some(fault) => self.log(format!(
                        "no multicast ({fault}); targets are served over TCP 5003"
                    )),
                }
                self.session = Some(session);
                true
            }
            Err(reason) => {
                self.log(format!("the session cannot start: {reason}"));
                for i in 0..self.places.len() {
                    self.end(
                        i,
                        TargetState::Failed,
                        &format!("the session could not start: {reason}"),
                    )
                    .await;
                }
                false
            }
        }
    }

    // ---- targets ----

    /// Sends a target its order. `resumed` is the state in which it goes on after a reconnect.
    async fn order(&mut self, i: usize, resumed: Option<TargetState>) {
        let now = self.now();
        let id = self.places[i].id().to_owned();
        let Some((link, instance, held)) = self.console.roster.connection(&id) else {
            self.places[i].gone_since.get_or_insert(now);
            return;
        };
        let disk = match self.disk_of(i, resumed.is_some()) {
            Ok(disk) => disk,
            Err(reason) => return self.end(i, TargetState::Failed, &reason).await,
        };
        let Some(session) = &self.session else { return };
        let receivers = self.places.iter().filter(|place| !place.is_final()).count();
        let port = self.console.settings.bulk_port;
        let grow = self.row.request.grow.clone();
        let (order, secret) =
            match session.order(self.id, i, &self.shared.image, &disk, port, receivers, grow) {
                Ok(order) => order,
                Err(reason) => return self.end(i, TargetState::Failed, &reason).await,
            };
        if let Some(other) = held.filter(|held| *held != self.id_text) {
            let reason = format!("job {} takes its place", self.id);
            link.send(ConsoleMessage::Cancel { job: other, reason });
        }
        self.shared.set_token(i, &secret);
        let place = &mut self.places[i];
        place.row.instance = Some(instance);
        place.began.get_or_insert(now);
        place.ordered = link.send(ConsoleMessage::Order(Box::new(order)));
        place.gone_since = if place.ordered { None } else { Some(now) };
        place.row.view.state = resumed.unwrap_or(TargetState::Joined);
        if place.ordered
            && let Some(sending) = session.sending()
        {
            sending.add_receiver(receiver(i));
        }
        self.changed(i).await;
    }

    /// The disk that was confirmed, when the machine still has it. In the middle of a job the agent itself knows better.
    fn disk_of(&self, i: usize, resumed: bool) -> Result<DiskFacts, String> {
        let place = &self.places[i];
        let disk = place.row.disk.clone().ok_or("the plan names no disk")?;
        let view = self
            .console
            .roster
            .view(place.id())
            .map_err(|error| error.message)?;
        let same = |now: &DiskFacts| {
            now.path == disk.path && now.serial == disk.serial && now.size == disk.size
        };
        if resumed || view.facts.disks.iter().any(same) {
            return Ok(disk);
        }
        let has = view
            .facts
            .disks
            .iter()
            .map(DiskFacts::title)
            .collect::<Vec<_>>()
            .join("; ");
        Err(format!(
            "the disk that was confirmed ({}) is not there any more; the machine has: {has}",
            disk.title()
        ))
    }

    async fn connected(&mut self, target: &str, instance: &str, unfinished: Option<Unfinished>) {
        let Some(&i) = self.index.get(target) else {
            if unfinished.is_some() {
                self.refuse(target, "this target is not in the job");
            }
            return;
        };
        if self.state == JobState::Waiting {
            return;
        }
        let known = self.places[i].row.instance.clone();
        let same = known.as_deref() == Some(instance);
        match unfinished {
            Some(_) if !same => {
                self.refuse(target, "another agent has this target's place in the job");
                self.restarted(i).await;
            }
            Some(held) if held.root != self.row.root => {
                self.refuse(target, "the job is about another image");
                self.end(
                    i,
                    TargetState::Failed,
                    "the agent holds another image under this job's number",
                )
                .await;
            }
            Some(Unfinished {
                outcome: Some(outcome),
                ..
            }) => self.outcome(i, outcome).await,
            Some(held) => match self.places[i].state() {
                TargetState::Done | TargetState::Failed => self.recorded(i),
                TargetState::Dropped => self.refuse(target, "the target was dropped from the job"),
                _ => self.resume(i, held.state).await,
            },
            None if self.places[i].is_final() => {}
            // It comes late, or its order was lost with the connection.
            None if known.is_none() || same => {
                if self.have_session().await {
                    self.order(i, None).await;
                }
            }
            None => self.restarted(i).await,
        }
    }

    async fn restarted(&mut self, i: usize) {
        if !self.places[i].is_final() {
            self.end(
                i,
                TargetState::Lost,
                "the agent was started again in the middle of the job",
            )
            .await;
        }
    }

    /// A target goes on where it was; also one that was given up as lost, as long as the job runs.
    async fn resume(&mut self, i: usize, state: TargetState) {
        let id = self.places[i].id().to_owned();
        if self
            .console
            .roster
            .claim(&self.id_text, std::slice::from_ref(&id), state)
            .is_err()
        {
            return self.refuse(&id, "the target is in another job now");
        }
        if !self.have_session().await {
            return;
        }
        let name = self.places[i].name().to_owned();
        self.places[i].row.view.reason = None;
        self.log(format!("{name} is back"));
        let state = if state.is_final() {
            TargetState::Joined
        } else {
            state
        };
        self.order(i, Some(state)).await;
    }

    /// After a restart of the console the session begins with the first target that needs it.
    async fn have_session(&mut self) -> bool {
        if self.session.is_some() {
            return true;
        }
        self.state = JobState::Running;
        self.started.get_or_insert_with(now_text);
        self.store_job().await;
        self.open_session().await
    }

    fn disconnected(&mut self, target: &str) {
        let now = self.now();
        if let Some(&i) = self.index.get(target)
            && !self.places[i].is_final()
            && self.state != JobState::Waiting
        {
            let place = &mut self.places[i];
            place.ordered = false;
            place.gone_since.get_or_insert(now);
            place.row.view.note = Some("connection lost".to_owned());
            // Nobody waits for it: when it is back it says anew what it lacks.
            if let Some(sending) = self.session.as_ref().and_then(Session::sending) {
                sending.remove_receiver(receiver(i));
            }
        }
    }

    async fn look_for_lost(&mut self) {
        let now = self.now();
        // A target of the plan that never came may still come while anybody is at work.
        let working = self
            .places
            .iter()
            .any(|place| !place.is_final() && place.row.instance.is_some());
        for i in 0..self.places.len() {
            let place = &self.places[i];
            let never_came = place.row.instance.is_none();
            let gone = place
                .gone_since
                .is_some_and(|since| now.saturating_sub(since) > self.grace);
            if place.is_final() || !gone || (never_came && working) {
                continue;
            }
            let reason = if never_came {
                "it did not connect while the job ran".to_owned()
            } else {
                format!(
                    "its connection ended and it did not come back within {} s",
                    self.grace.as_secs()
                )
            };
            self.end(i, TargetState::Lost, &reason).await;
        }
        let patience = self.console.settings.patience;
        if now > patience.recover_after {
            self.grace = patience.lost_after;
        }
    }

    fn refuse(&self, target: &str, reason: &str) {
        let message = ConsoleMessage::Cancel {
            job: self.id_text.clone(),
            reason: reason.to_owned(),
        };
        self.console.roster.send(target, message);
    }

    /// Tells an agent that its outcome is safe.
    fn recorded(&self, i: usize) {
        let place = &self.places[i];
        // Only a proven machine restarts by itself: a technician wants to look at the others.
        let after = if place.state() == TargetState::Done {
            self.row.request.end
        } else {
            EndAction::None
        };
        self.console.roster.send(
            place.id(),
            ConsoleMessage::Recorded {
                job: self.id_text.clone(),
                after,
            },
        );
    }

    async fn outcome(&mut self, i: usize, outcome: Outcome) {
        let open = !matches!(
            self.places[i].state(),
            TargetState::Done | TargetState::Failed
        );
        let proven = super::place::judge(&outcome, &self.row.root).0 == TargetState::Done;
        // What was proven stays proven, even when the word of it came after the target was given up or dropped.
        if open && (proven || self.places[i].state() != TargetState::Dropped) {
            let root = self.row.root.clone();
            self.places[i].outcome(outcome, &root);
            let row = self.places[i].row.clone();
            if let Err(error) = self.console.store.save_job_target(self.id, i, row).await {
                self.log(format!(
                    "{}: the result could not be stored: {error}",
                    self.places[i].name()
                ));
            }
            self.recorded(i);
            self.left(i).await;
        } else {
            self.recorded(i);
        }
    }

    /// Ends a place without the agent's word.
    async fn end(&mut self, i: usize, state: TargetState, reason: &str) {
        if self.places[i].is_final() {
            return;
        }
        let now = self.now();
        self.places[i].end(now, state, reason);
        self.left(i).await;
    }

    /// A place has become final: it needs nothing from the session any more.
    async fn left(&mut self, i: usize) {
        self.changed(i).await;
        let place = &mut self.places[i];
        place.ordered = false;
        self.shared.drop_token(i);
        if let Some(sending) = self.session.as_ref().and_then(Session::sending) {
            sending.remove_receiver(receiver(i));
        }
        self.console
            .roster
            .release(self.places[i].id(), &self.id_text);
    }

    /// Publishes, stores and shows a place's state.
    async fn changed(&mut self, i: usize) {
        let now = self.now();
        self.places[i].refresh(now);
        let place = &self.places[i];
        self.console
            .roster
            .set_job_state(place.id(), &self.id_text, place.state());
        let event = Event::State {
            job: self.id_text.clone(),
            time: now_text(),
            target: Box::new(place.row.view.clone()),
        };
        self.console
            .store
            .post_job_target(self.id, i, place.row.clone())
            .await;
        self.journal.write(&event);
        self.show();
        self.shared.events.publish(event);
    }

    // ---- the session ----

    async fn sent(&mut self, event: SendingEvent) {
        match event {
            SendingEvent::Complete(_) => {}
            SendingEvent::UseBulk { receiver, blocks } => {
                if let Some(place) = usize::try_from(receiver)
                    .ok()
                    .and_then(|i| self.places.get(i))
                {
                    self.use_bulk(place, &blocks);
                }
            }
            SendingEvent::Note(text) => self.log(text),
            SendingEvent::Failed(reason) => {
                self.log(format!(
                    "multicast has stopped ({reason}); targets go on over TCP 5003"
                ));
                let all: Vec<u32> = (0..self.shared.image.image_blocks()).collect();
                for place in self.places.iter().filter(|place| place.ordered) {
                    self.use_bulk(place, &all);
                }
            }
        }
    }

    fn use_bulk(&self, place: &Place, blocks: &[u32]) {
        for blocks in blocks.chunks(BLOCKS_PER_MESSAGE) {
            let message = ConsoleMessage::UseBulk {
                job: self.id_text.clone(),
                blocks: blocks.to_vec(),
            };
            self.console.roster.send(place.id(), message);
        }
    }

    fn read_counters(&mut self) {
        let now = self.now();
        self.session_view.bulk_bytes = self.shared.bulk_bytes.load(Ordering::Relaxed);
        let Some(session) = &self.session else { return };
        if let Some(sending) = session.sending() {
            let counted = super::order::view(&sending.snapshot());
            self.wire.record(now, counted.wire_bytes);
            // What really went out: the sender's own rate is what it would send if anybody lacked something.
            let rate = self.wire.rate_bytes_per_s(now);
            self.console.throttle.set(self.id, session.known_cap, rate);
            let bulk_bytes = self.session_view.bulk_bytes;
            self.session_view = SessionView {
                bulk_bytes,
                rate_bytes_per_s: rate,
                ..counted
            };
        }
    }

    // ---- the end ----

    async fn cancel(&mut self, request: &CancelRequest) -> Result<(), ApiError> {
        let reason = request.reason.as_deref().map_or_else(
            || "dropped by a technician".to_owned(),
            |reason| format!("dropped by a technician: {}", clean_line(reason, 200)),
        );
        let chosen: Vec<usize> = match &request.targets {
            None => (0..self.places.len())
                .filter(|i| !self.places[*i].is_final())
                .collect(),
            Some(text) => self.select(text)?,
        };
        if request.targets.is_none() {
            self.cancelled = true;
            self.log("cancelled by a technician".to_owned());
        }
        for i in chosen {
            self.refuse(&self.places[i].id().to_owned(), &reason);
            self.end(i, TargetState::Dropped, &reason).await;
        }
        Ok(())
    }

    /// Unfinished places of this job that a selector means, connected or not.
    fn select(&self, text: &str) -> Result<Vec<usize>, ApiError> {
        let selector: Selector = text
            .parse()
            .map_err(|error| ApiError::new(ErrorCode::Usage, format!("--targets: {error}")))?;
        let chosen: Vec<usize> = (0..self.places.len())
            .filter(|i| !self.places[*i].is_final())
            .filter(|i| {
                // Everyone in the job counts as there: a dead machine is what one wants to drop.
                let view = self.console.roster.view(self.places[*i].id());
                view.is_ok_and(|mut view| {
                    view.connected = true;
                    selector.matches(&view)
                })
            })
            .collect();
        if chosen.is_empty() {
            let message = format!("no unfinished target of job {} matches {text:?}", self.id);
            return Err(ApiError::new(ErrorCode::NothingMatched, message));
        }
        Ok(chosen)
    }

    async fn store_job(&mut self) {
        let (started, ended) = (self.started.clone(), self.ended.clone());
        let view = self.session_view.clone();
        if let Err(error) = self
            .console
            .store
            .update_job(self.id, self.state, started, ended, view)
            .await
        {
            self.log(format!(
                "the state of job {} could not be stored: {error}",
                self.id
            ));
        }
    }

    /// The console ends; the store says what the next one finds.
    async fn interrupt(mut self) {
        if self.state != JobState::Waiting {
            self.state = JobState::Interrupted;
            self.log("the console ends; the job goes on when it is started again".to_owned());
        }
        self.store_job().await;
        if let Some(session) = self.session.take() {
            session.close(&self.console);
        }
        self.journal.close().await;
    }

    async fn finish(mut self) {
        self.read_counters();
        if let Some(session) = self.session.take() {
            session.close(&self.console);
        }
        self.console.throttle.clear(self.id);
        let all_done = self
            .places
            .iter()
            .all(|place| place.state() == TargetState::Done);
        self.state = match (self.cancelled, all_done) {
            (_, true) => JobState::Done,
            (true, false) => JobState::Cancelled,
            (false, false) => JobState::Failed,
        };
        self.ended = Some(now_text());
        self.session_view.rate_bytes_per_s = 0;
        let now = self.now();
        self.places.iter_mut().for_each(|place| place.refresh(now));
        self.store_job().await;
        self.show();
        let view = self.shared.view();
        let summary = summary_of(&view, &self.folder.report());
        let report = Report {
            schema_version: SCHEMA_VERSION,
            job: view,
            plan: self.shared.plan.clone(),
            summary: Some(summary.clone()),
        };
        if let Err(error) = self.folder.write_report(&report).await {
            self.log(format!(
                "the report could not be written to {}: {error}",
                self.folder.report().display()
            ));
        }
        let event = Event::Summary(Box::new(summary));
        self.journal.write(&event);
        self.journal.close().await;
        tracing::info!(job = self.id, state = ?self.state, "job over");
        self.console.jobs.remove(self.id);
        self.shared.events.publish(event);
    }

    /// Lets the API see the job as it is now.
    fn show(&self) {
        let mut targets: Vec<_> = self
            .places
            .iter()
            .map(|place| place.row.view.clone())
            .collect();
        targets.sort_by(|a, b| a.name.cmp(&b.name));
        self.shared.set_view(JobView {
            id: self.id_text.clone(),
            state: self.state,
            created: self.row.created.clone(),
            started: self.started.clone(),
            ended: self.ended.clone(),
            image: self.row.request.image.clone(),
            root: self.row.root.clone(),
            retry_of: self.row.retry_of.map(|id| id.to_string()),
            targets,
            session: self.session_view.clone(),
        });
    }
}

/// The receiver number of a place in the session.
fn receiver(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

async fn next_event(session: &mut Option<Session>) -> SendingEvent {
    match session {
        Some(session) => session.next_event().await,
        None => std::future::pending().await,
    }
}
