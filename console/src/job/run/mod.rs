//! The task that owns a job: waits for its start, runs its session, and ends it.
//!
//! ```text
//! waiting --start rule--> running --every place final--> done | failed | cancelled
//!                            ^ first target back
//! interrupted ---------------+   (the console was started again)
//! ```
//!
//! Invariants: every change of a place's state is published, stored and shown together
//! ([`JobRun::changed`]); an agent is sent `recorded` only after its outcome is in the store; the
//! job ends when every place is final, and not before.

mod end;
mod image;
mod members;
mod newcomers;
mod start;

use super::core::Core;
use super::order::{self, Session};
use super::{Input, JobShared};
use crate::context::Console;
use crate::master::MasterImage;
use api::{JobState, JobView, Newcomer, SessionView};
use image::Gate;
use jobs::row::JobRow;
use jobs::run::connect::Claim;
use jobs::run::course;
use jobs::run::meter::Meter;
use jobs::run::place::Place;
use jobs::schedule;
use net::sending::SendingEvent;
use newcomers::ByRule;
use protocol::control::ConsoleMessage;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;

/// Ticks between two attempts to store outcomes whose first write failed.
const STORE_AGAIN: u64 = 20;
/// Maximum number of image blocks named in one message; 4096 numbers are about 30 KiB of JSON.
const BLOCKS_PER_MESSAGE: usize = 4096;

/// Origin of a job's task: a new job, or one recovered after a restart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recovery {
    /// A new job, or one that still waits for its start.
    New,
    /// A job that ran when the last console ended; its targets may come back.
    Interrupted,
}

/// State of a deployment's task.
pub struct JobRun {
    core: Core,
    image: Arc<MasterImage>,
    places: Vec<Place>,
    index: HashMap<String, usize>,
    /// Machines that came after the confirmation and wait.
    newcomers: Vec<Newcomer>,
    /// Newcomers that `--also-new` matches, by id.
    by_rule: HashMap<String, ByRule>,
    session: Option<Session>,
    session_view: SessionView,
    wire: Meter,
    /// Start of the session in this console, by the job's clock. A restart of the console therefore
    /// starts the time limit again.
    begun_at: Duration,
    grace: Duration,
    gate: Gate,
    /// True if the start was requested; it may still wait for the image check.
    start_asked: bool,
    /// Targets that came back during the image check, and what their agents said.
    held_back: Vec<(String, Claim)>,
}

impl JobRun {
    /// Makes the task's state from a stored job and the image it sends.
    pub fn new(
        console: Arc<Console>,
        row: JobRow,
        shared: Arc<JobShared>,
        image: Arc<MasterImage>,
        inputs: mpsc::Receiver<Input>,
        recovery: Recovery,
    ) -> Self {
        let mut places: Vec<Place> = row.job.targets.iter().cloned().map(Place::new).collect();
        if recovery == Recovery::Interrupted {
            for place in places.iter_mut().filter(|place| !place.is_final()) {
                place.gone_since = Some(Duration::ZERO);
                place.recovered = true;
            }
        }
        Self {
            index: places
                .iter()
                .enumerate()
                .map(|(i, place)| (place.id().to_owned(), i))
                .collect(),
            newcomers: Vec::new(),
            by_rule: HashMap::new(),
            grace: match recovery {
                Recovery::New => console.settings.patience.lost_after,
                Recovery::Interrupted => console.settings.patience.recover_after,
            },
            session: None,
            wire: Meter::default(),
            session_view: row.session.clone(),
            begun_at: Duration::ZERO,
            gate: Gate::default(),
            start_asked: false,
            held_back: Vec::new(),
            core: Core::new(console, row, shared, inputs),
            image,
            places,
        }
    }

    /// Runs the job to its end, or until the console ends.
    pub async fn run(mut self) {
        match self.core.state {
            JobState::Interrupted => {
                self.core.log(
                    "the console was started again; waiting for the targets to come back"
                        .to_owned(),
                );
            }
            _ => self.core.log(format!(
                "job {} for {} targets: {}",
                self.core.id,
                self.places.len(),
                self.core.row.request.image
            )),
        }
        for i in 0..self.places.len() {
            if self.places[i].is_final() && self.core.state == JobState::Waiting {
                self.changed(i).await;
            }
        }
        let mut tick = Core::ticker();
        while !self.places.iter().all(Place::is_final) || self.awaits_more() {
            tokio::select! {
                input = self.core.inputs.recv() => match input {
                    Some(Input::Shutdown) | None => return self.interrupt().await,
                    Some(input) => self.handle(input).await,
                },
                event = next_event(&mut self.session) => self.sent(event).await,
                _ = tick.tick() => self.tick().await,
            }
        }
        self.finish().await;
    }

    /// Returns true if the job waits for a number of targets and may still get some.
    fn awaits_more(&self) -> bool {
        course::awaits_more(&self.core.row.request, self.core.state)
            && !self.core.cancelled
            && self.session_view.damage.is_none()
    }

    /// Returns true if no target has an order yet.
    fn is_before_start(&self) -> bool {
        matches!(self.core.state, JobState::Waiting | JobState::Missed)
    }

    async fn handle(&mut self, input: Input) {
        match input {
            Input::Connected {
                target,
                instance,
                unfinished,
            } => {
                let claim = Claim {
                    instance,
                    unfinished,
                };
                self.connected(&target, claim).await;
            }
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
                    if !self.places[i].hears && status.main.received > 0 {
                        self.places[i].hears = true;
                        self.core.console.roster.hears_multicast(&target);
                    }
                    sending.status(receiver(i), *status);
                }
            }
            Input::Progress { target, progress } => {
                if let Some(&i) = self.index.get(&target) {
                    let now = self.core.now();
                    if self.places[i].ordered {
                        self.hears(i, !progress.deaf);
                        if self.places[i].progress(now, progress) {
                            self.changed(i).await;
                        }
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
                    self.core.log_of(&target, self.places[i].name(), &text);
                }
            }
            Input::FirstStart { target, report } => {
                if let Some(&i) = self.index.get(&target) {
                    let line = format!("{}: {}", self.places[i].name(), report.line());
                    self.places[i].row.view.first_start = Some(*report);
                    self.core.log(line);
                }
            }
            Input::Start(confirmed, answer) => {
                let result = self.start_by_hand(&confirmed).await;
                // The client may have disconnected.
                let _ = answer.send(result);
            }
            Input::NotAdded { target, reason } => self.not_added(target, reason),
            Input::Add(addition, answer) => {
                let result = self.add(*addition).await;
                let _ = answer.send(result);
            }
            Input::Cancel(request, answer) => {
                let result = self.cancel(&request).await;
                let _ = answer.send(result);
            }
            Input::Unreadable(text) => self.unreadable(text).await,
            Input::Shutdown => {}
        }
        self.show();
    }

    /// Records whether multicast reaches a target. One that it does not reach is served over TCP
    /// 5003 only.
    fn hears(&mut self, i: usize, hears: bool) {
        if self.places[i].deaf == hears {
            self.places[i].deaf = !hears;
            if let Some(sending) = self.session.as_ref().and_then(Session::sending) {
                sending.set_bulk_only(receiver(i), !hears);
            }
        }
    }

    async fn tick(&mut self) {
        self.core.ticks += 1;
        self.look_at_check().await;
        match self.core.state {
            JobState::Waiting | JobState::Missed => self.wait().await,
            JobState::Running | JobState::Interrupted => {
                self.look_at_limits().await;
                if self.core.ticks.is_multiple_of(STORE_AGAIN) {
                    self.store_again().await;
                }
            }
            JobState::Done | JobState::Failed | JobState::Cancelled => {}
        }
        let now = self.core.now();
        self.places.iter_mut().for_each(|place| place.refresh(now));
        self.read_counters();
        self.show();
        let checking = matches!(self.gate, Gate::Checking(_));
        if self.core.ticks.is_multiple_of(2) && (!self.is_before_start() || checking) {
            self.show_progress();
        }
    }

    /// Stores, publishes and shows a place's state.
    async fn changed(&mut self, i: usize) {
        let row = self.places[i].stored();
        self.core
            .console
            .store
            .post_job_target(self.core.id, i, row)
            .await;
        self.announce(i);
    }

    /// Publishes and shows a state that is already stored.
    fn announce(&mut self, i: usize) {
        let now = self.core.now();
        self.places[i].refresh(now);
        self.show();
        self.core.announce(self.places[i].row.view.clone());
    }

    async fn store_job(&mut self) {
        self.core.store_state(self.session_view.clone()).await;
    }

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
            SendingEvent::Note(text) => self.core.log(text),
            SendingEvent::Demoted { receiver, reason } => self.set_aside(receiver, Some(reason)),
            SendingEvent::Promoted(receiver) => self.set_aside(receiver, None),
            SendingEvent::Silent(receiver) => {
                let silent = "it says nothing; the room goes on without it";
                self.set_aside(receiver, Some(silent.to_owned()));
            }
            SendingEvent::Back(receiver) => self.set_aside(receiver, None),
            SendingEvent::Unreadable(reason) => self.unreadable(reason).await,
            SendingEvent::Failed(reason) => {
                self.core.log(format!(
                    "multicast has stopped ({reason}); targets go on over TCP 5003"
                ));
                let all: Vec<u32> = (0..self.image.image_blocks()).collect();
                for place in self.places.iter().filter(|place| place.ordered) {
                    self.use_bulk(place, &all);
                }
            }
        }
    }

    /// Records that the session does not wait for a target and why, or with `None` that it counts
    /// again. The reason stays in its row until then.
    fn set_aside(&mut self, receiver: u32, reason: Option<String>) {
        let place = usize::try_from(receiver)
            .ok()
            .and_then(|i| self.places.get_mut(i));
        let Some(place) = place.filter(|place| !place.is_final()) else {
            return;
        };
        let line = match &reason {
            Some(reason) => format!("{}: {reason}", place.name()),
            None => format!("{}: counts like the others again", place.name()),
        };
        place.row.view.note.clone_from(&reason);
        place.aside = reason;
        self.core.log(line);
        self.show();
    }

    fn use_bulk(&self, place: &Place, blocks: &[u32]) {
        for blocks in blocks.chunks(BLOCKS_PER_MESSAGE) {
            let message = ConsoleMessage::UseBulk {
                job: self.core.id_text.clone(),
                blocks: blocks.to_vec(),
            };
            self.core.console.roster.send(place.id(), message);
        }
    }

    fn read_counters(&mut self) {
        let now = self.core.now();
        self.session_view.bulk_bytes = self.core.shared.bulk_bytes.load(Ordering::Relaxed);
        let Some(session) = &self.session else { return };
        if let Some(sending) = session.sending() {
            let counted = order::view(&sending.snapshot());
            self.wire.record(now, counted.wire_bytes);
            // Measured from sent bytes: the sender's own rate is a limit, which an idle sender does
            // not use.
            let rate = self.wire.rate_bytes_per_s(now);
            self.core
                .console
                .throttle
                .set(self.core.id, session.known_cap, rate);
            let bulk_bytes = self.session_view.bulk_bytes;
            self.session_view = SessionView {
                bulk_bytes,
                damage: self.session_view.damage.take(),
                rate_bytes_per_s: rate,
                ..counted
            };
        }
    }

    /// Updates the job's view for the API.
    fn show(&self) {
        let mut targets: Vec<_> = self
            .places
            .iter()
            .map(|place| place.row.view.clone())
            .collect();
        targets.sort_by(|a, b| a.name.cmp(&b.name));
        self.core.shared.set_view(JobView {
            id: self.core.id_text.clone(),
            state: self.core.state,
            created: self.core.row.created.clone(),
            started: self.core.started.clone(),
            ended: self.core.ended.clone(),
            image: self.core.row.request.image.clone(),
            root: self.core.row.root.clone(),
            chosen_root: self.core.shared.plan().image.chosen_root.clone(),
            retry_of: self.core.row.retry_of.map(|id| id.to_string()),
            targets,
            newcomers: self.newcomers.clone(),
            session: self.session_view.clone(),
            start_note: schedule::note(
                &self.core.row.request,
                self.core.state,
                self.core.started.as_deref(),
            ),
            unchecked: self.core.shared.plan().unchecked(),
            image_check: self.check_view(),
            capture: None,
        });
    }
}

/// Returns the receiver number of a place in the session.
fn receiver(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

async fn next_event(session: &mut Option<Session>) -> SendingEvent {
    match session {
        Some(session) => session.next_event().await,
        None => std::future::pending().await,
    }
}
