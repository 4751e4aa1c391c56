//! The task that owns a capture: waits for its target, orders it to read, and ends with an image or
//! a reason.
//!
//! ```text
//! waiting --target connected--> running: joined -> capturing -> verifying (the console reads its file back) --> done
//!              ^  connection lost, restarted: ordered again  |        failed | lost | cancelled <-- anything wrong
//!              +--------------------------------------------+
//! ```
//!
//! Invariants: `done` only after the image was read back and has its final name; an unfinished
//! image stays for a retry unless a technician cancelled; the agent is told about the end.

mod end;
mod patience;

use super::intake::Finished;
use super::upload::Upload;
use super::{believable, choose_disk};
use crate::context::Console;
use crate::job::core::Core;
use crate::job::{Input, JobShared, Recovery};
use crate::time::now_text;
use api::{ApiError, ErrorCode, JobState, JobView, SessionView};
use disk::DiskError;
use facts::disk_rule::titles;
use facts::hex;
use facts::same_disk::same_disk;
use facts::target::{DiskFacts, TargetState};
use jobs::naming::clean_line;
use jobs::row::{CaptureRecord, JobRow, JobTargetRow};
use jobs::run::meter::Meter;
use jobs::run::stall::Stall;
use protocol::control::{
    BulkOrder, CaptureOrder, ConsoleMessage, DiskOrder, Outcome, Progress, Unfinished,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Longest time without a connection before a master is lost: it may be booting again. The
/// unfinished image stays in any case.
const LOST_AFTER: Duration = Duration::from_secs(15 * 60);
/// Longest reason or note kept, in characters.
const MAX_TEXT: usize = 500;

/// Work on the console's own disk.
enum Busy {
    Nothing,
    /// Reading the unfinished image of an earlier upload.
    Preparing(JoinHandle<Result<u64, DiskError>>),
    /// Reading the finished image back.
    Finishing(JoinHandle<Result<Box<Finished>, DiskError>>),
}

enum Did {
    Prepared(Result<u64, DiskError>),
    Finished(Result<Box<Finished>, DiskError>),
}

/// Progress of the final check.
#[derive(Default)]
struct Checking {
    done: AtomicU64,
    total: AtomicU64,
    stop: AtomicBool,
}

/// State of a capture's task.
pub(super) struct CaptureRun {
    core: Core,
    upload: Arc<Upload>,
    place: JobTargetRow,
    finished: Option<Box<Finished>>,
    busy: Busy,
    checking: Arc<Checking>,
    meter: Meter,
    /// Time without progress in the agent's reports.
    said: Stall,
    /// Time without new data on the console.
    arrived: Stall,
    began: Option<Duration>,
    gone_since: Option<Duration>,
    ordered: bool,
}

impl CaptureRun {
    /// Makes the task's state from a stored capture, and begins to read its unfinished image.
    pub(super) fn new(
        console: Arc<Console>,
        row: JobRow,
        place: JobTargetRow,
        shared: Arc<JobShared>,
        upload: Arc<Upload>,
        inputs: mpsc::Receiver<Input>,
        recovery: Recovery,
    ) -> Self {
        let preparing = Arc::clone(&upload);
        Self {
            busy: Busy::Preparing(tokio::task::spawn_blocking(move || preparing.prepare())),
            core: Core::new(console, row, shared, inputs),
            finished: None,
            place,
            checking: Arc::default(),
            meter: Meter::default(),
            said: Stall::default(),
            arrived: Stall::default(),
            began: None,
            gone_since: (recovery == Recovery::Interrupted).then_some(Duration::ZERO),
            ordered: false,
            upload,
        }
    }

    /// Runs the capture to its end, or until the console ends.
    pub(super) async fn run(mut self) {
        let (name, image) = (
            self.place.view.name.clone(),
            self.core.row.request.image.clone(),
        );
        match self.core.state {
            JobState::Waiting => self.core.log(format!(
                "job {}: capture of {name} into {image}",
                self.core.id
            )),
            _ => self
                .core
                .log("the console was started again; waiting for the master".to_owned()),
        }
        let mut tick = Core::ticker();
        let upload = Arc::clone(&self.upload);
        while !self.is_over() {
            tokio::select! {
                input = self.core.inputs.recv() => match input {
                    Some(Input::Shutdown) | None => return self.interrupt().await,
                    Some(input) => self.handle(input).await,
                },
                did = next(&mut self.busy) => self.did(did).await,
                () = upload.changed.notified() => self.look_at_upload().await,
                _ = tick.tick() => self.tick().await,
            }
        }
        self.finish().await;
    }

    fn is_over(&self) -> bool {
        self.place.view.state.is_final()
    }

    async fn handle(&mut self, input: Input) {
        match input {
            Input::Connected {
                target,
                unfinished,
                instance,
            } if target == self.place.view.id => self.connected(&instance, unfinished).await,
            Input::Connected {
                target,
                unfinished: Some(_),
                ..
            } => self.core.refuse(&target, "this target is not in the job"),
            Input::Disconnected { target } if target == self.place.view.id => {
                // The message of a reconnect may arrive before the message of the disconnect.
                if self.core.console.roster.connection(&target).is_none() && self.ordered {
                    let now = self.core.now();
                    self.ordered = false;
                    self.gone_since.get_or_insert(now);
                    self.place.view.note = Some("connection lost; waiting for it".to_owned());
                    self.core
                        .log(format!("{}: connection lost", self.place.view.name));
                }
            }
            Input::Progress { progress, .. } => self.progress(progress).await,
            Input::Outcome { outcome, .. } => self.outcome(&outcome).await,
            Input::Log { text, .. } => {
                let view = &self.place.view;
                self.core.log_of(&view.id, &view.name, &text);
            }
            Input::Start(_, answer) => {
                let error = ApiError::new(ErrorCode::Refused, "a capture starts by itself");
                // The client may have disconnected.
                let _ = answer.send(Err(error));
            }
            Input::Add(_, answer) => {
                let error = ApiError::new(ErrorCode::Refused, "a capture has one target");
                let _ = answer.send(Err(error));
            }
            Input::Cancel(request, answer) => {
                let result = self.cancel(&request).await;
                let _ = answer.send(result);
            }
            Input::Connected { .. }
            | Input::Disconnected { .. }
            | Input::Status { .. }
            | Input::NotAdded { .. }
            | Input::FirstStart { .. }
            | Input::Unreadable(_)
            | Input::Shutdown => {}
        }
        self.show();
    }

    async fn connected(&mut self, instance: &str, unfinished: Option<Unfinished>) {
        match unfinished.and_then(|held| held.outcome) {
            Some(outcome) => self.outcome(&outcome).await,
            None => {
                if self
                    .place
                    .instance
                    .as_deref()
                    .is_some_and(|known| known != instance)
                {
                    let name = self.place.view.name.clone();
                    self.core.log(format!("{name} was started again"));
                }
                self.order().await;
            }
        }
    }

    /// Sends the order if the target is connected and the unfinished image has been read.
    async fn order(&mut self) {
        if !matches!(self.busy, Busy::Nothing) || self.is_over() {
            return;
        }
        let id = self.place.view.id.clone();
        let Some((link, instance, held)) = self.core.console.roster.connection(&id) else {
            return;
        };
        let disk = match self.disk() {
            Ok(disk) => disk,
            Err(reason) => {
                return self
                    .end(TargetState::Failed, &reason, Some(TargetState::Joined))
                    .await;
            }
        };
        let mut secret = [0u8; 32];
        if let Err(error) = getrandom::fill(&mut secret) {
            let reason = format!("drawing random bytes: {error}");
            return self.end(TargetState::Failed, &reason, None).await;
        }
        let secret = hex::encode(&secret);
        self.core.shared.set_token(0, &secret);
        self.upload.open(disk.size);
        let order = CaptureOrder {
            job: self.core.id_text.clone(),
            image: self
                .upload
                .wanted()
                .request
                .name
                .clone()
                .unwrap_or_default(),
            disk: DiskOrder::naming(&disk),
            wishes: self.upload.wanted().request.wishes.clone(),
            bulk: BulkOrder {
                port: self.core.console.settings.bulk_port,
                token: format!("0.{secret}"),
            },
        };
        if let Some(other) = held.filter(|held| *held != self.core.id_text) {
            let reason = format!("job {} takes its place", self.core.id);
            link.send(ConsoleMessage::Cancel { job: other, reason });
        }
        self.ordered = link.send(ConsoleMessage::Capture(Box::new(order)));
        if !self.ordered {
            return;
        }
        let now = self.core.now();
        let first = self.began.is_none();
        self.began.get_or_insert(now);
        self.gone_since = None;
        self.said.begin(now);
        self.arrived.begin(now);
        self.place.instance = Some(instance);
        self.place.view.disk = disk.title();
        self.place.disk = Some(disk);
        self.place.view.note = None;
        if self.core.state != JobState::Running {
            self.core.state = JobState::Running;
            self.core.started.get_or_insert_with(now_text);
            self.core.store_state(SessionView::default()).await;
        }
        if first || !believable(self.place.view.state) {
            self.place.view.state = TargetState::Joined;
            self.changed().await;
        }
    }

    /// Returns the chosen disk as the target names it now; the first time it is chosen by the rule.
    fn disk(&self) -> Result<DiskFacts, String> {
        let view = self
            .core
            .console
            .roster
            .view(&self.place.view.id)
            .map_err(|error| error.message)?;
        let Some(chosen) = &self.place.disk else {
            let rule = self.upload.wanted().request.disk.clone();
            let rule = rule.unwrap_or_default();
            return choose_disk(&rule, &view).map_err(|error| error.message);
        };
        let disks = &view.facts.disks;
        same_disk(disks, chosen.into()).cloned().ok_or_else(|| {
            format!(
                "the disk that was chosen ({}) is not there any more; the machine has: {}",
                chosen.title(),
                titles(disks)
            )
        })
    }

    async fn progress(&mut self, progress: Progress) {
        if !self.ordered || !believable(progress.state) {
            return;
        }
        // While the console reads the image back, reports of the target do not count.
        if matches!(self.busy, Busy::Finishing(_)) {
            return;
        }
        let now = self.core.now();
        self.said.heard(now, &progress);
        self.place.view.note = progress.note.map(|note| clean_line(&note, MAX_TEXT));
        if self.place.view.state != progress.state {
            self.place.view.state = progress.state;
            self.changed().await;
        }
    }

    async fn outcome(&mut self, outcome: &Outcome) {
        if self.is_over() {
            return;
        }
        // An agent never reports a finished image; only the console knows it.
        let reason = outcome
            .reason
            .as_deref()
            .map(|reason| clean_line(reason, MAX_TEXT))
            .filter(|reason| !reason.is_empty())
            .unwrap_or_else(|| "the agent gave no reason".to_owned());
        let step = outcome.step.filter(|step| believable(*step));
        self.stop_checking().await;
        self.end(TargetState::Failed, &reason, step).await;
    }

    async fn did(&mut self, did: Did) {
        self.busy = Busy::Nothing;
        match did {
            Did::Prepared(Ok(kept)) => {
                if kept > 0 {
                    self.core
                        .log(format!("{kept} chunks are there from before"));
                }
                self.order().await;
            }
            Did::Prepared(Err(error)) | Did::Finished(Err(error)) => self.failed(&error).await,
            Did::Finished(Ok(finished)) => self.done(finished).await,
        }
        self.show();
    }

    /// Handles a change on TCP 5003: a fault of the console's disk, or a complete upload.
    async fn look_at_upload(&mut self) {
        if let Some(error) = self.upload.take_failure() {
            return self.failed(&error).await;
        }
        if !self.upload.standing().complete || !matches!(self.busy, Busy::Nothing) {
            return;
        }
        self.read_standing();
        self.place.view.state = TargetState::Verifying;
        self.place.view.note = None;
        self.meter.reset();
        let (upload, checking) = (Arc::clone(&self.upload), Arc::clone(&self.checking));
        self.busy = Busy::Finishing(tokio::task::spawn_blocking(move || {
            let progress = |done, total| {
                checking.total.store(total, Ordering::Relaxed);
                checking.done.fetch_max(done, Ordering::Relaxed);
            };
            upload
                .finish(&progress, &|| checking.stop.load(Ordering::Relaxed))
                .map(Box::new)
        }));
        self.changed().await;
    }

    async fn failed(&mut self, error: &DiskError) {
        let reason = match error.hint() {
            Some(hint) => format!("the console: {} ({hint})", error.full()),
            None => format!("the console: {}", error.full()),
        };
        let step = self.place.view.state;
        self.end(TargetState::Failed, &reason, Some(step)).await;
    }

    async fn done(&mut self, finished: Box<Finished>) {
        let now = self.core.now();
        let view = &mut self.place.view;
        view.state = TargetState::Done;
        view.root = Some(finished.root.to_string());
        view.bytes_written = finished.file_bytes;
        view.done_bytes = view.total_bytes;
        view.note = None;
        view.reason = None;
        view.seconds = seconds(self.began, now);
        self.core.row.root = finished.root.to_string();
        self.finished = Some(finished);
        self.changed().await;
    }

    async fn tick(&mut self) {
        self.core.ticks += 1;
        let now = self.core.now();
        let lost = self
            .gone_since
            .is_some_and(|since| now.saturating_sub(since) > LOST_AFTER);
        if lost && matches!(self.busy, Busy::Nothing) {
            let minutes = LOST_AFTER.as_secs() / 60;
            let reason =
                format!("its connection ended and it did not come back within {minutes} min");
            self.end(TargetState::Lost, &reason, None).await;
        }
        if !self.ordered && self.gone_since.is_none() {
            self.wait().await;
        }
        self.look_for_stall().await;
        self.read_standing();
        self.show();
        if self.core.ticks.is_multiple_of(2) && self.core.state != JobState::Waiting {
            self.core.publish_progress();
        }
    }

    /// Orders the target when it connects for the first time.
    async fn wait(&mut self) {
        let connected = self
            .core
            .console
            .roster
            .connection(&self.place.view.id)
            .is_some();
        let state = if connected {
            TargetState::Ready
        } else {
            TargetState::Discovered
        };
        if self.place.view.state != state && self.core.state == JobState::Waiting {
            self.place.view.state = state;
            self.place.view.note =
                (!connected).then(|| "waiting for the machine to start its agent".to_owned());
            self.changed().await;
        }
        if connected {
            self.order().await;
        }
    }

    /// Updates bytes, rate and time left from the console's own counters.
    fn read_standing(&mut self) {
        let now = self.core.now();
        let (done, total) = match self.busy {
            Busy::Finishing(_) => (
                self.checking.done.load(Ordering::Relaxed),
                self.checking.total.load(Ordering::Relaxed),
            ),
            _ => {
                let standing = self.upload.standing();
                (standing.held.1, standing.total.1)
            }
        };
        if total == 0 || self.is_over() {
            self.place.view.rate_bytes_per_s = 0;
            self.place.view.eta_seconds = None;
            return;
        }
        self.meter.record(now, done);
        let view = &mut self.place.view;
        (view.done_bytes, view.total_bytes) = (done, total);
        view.rate_bytes_per_s = self.meter.rate_bytes_per_s(now);
        view.eta_seconds = self.meter.eta_seconds(now, total);
    }

    /// Stores, publishes and shows the target's state.
    async fn changed(&mut self) {
        let row = self.place.clone();
        self.core
            .console
            .store
            .post_job_target(self.core.id, 0, row)
            .await;
        self.show();
        self.core.announce(self.place.view.clone());
    }

    /// Returns the capture's record as it is stored and shown.
    fn record(&self) -> CaptureRecord {
        let mut record = self.upload.record();
        if let Some(finished) = &self.finished {
            record.survey = None;
            record.view.disk_bytes = finished.manifest.geometry.disk_size;
            record.view.file_bytes = finished.file_bytes;
            record.view.volumes = finished.volumes;
            record.view.meta = Some(finished.manifest.meta.clone());
        }
        record
    }

    /// Updates the job's view for the API.
    fn show(&self) {
        self.core.shared.set_view(JobView {
            chosen_root: None,
            start_note: None,
            unchecked: false,
            image_check: None,
            id: self.core.id_text.clone(),
            state: self.core.state,
            created: self.core.row.created.clone(),
            started: self.core.started.clone(),
            ended: self.core.ended.clone(),
            image: self.core.row.request.image.clone(),
            root: self.core.row.root.clone(),
            retry_of: self.core.row.retry_of.map(|id| id.to_string()),
            targets: vec![self.place.view.clone()],
            newcomers: Vec::new(),
            session: Default::default(),
            capture: Some(Box::new(self.record().view)),
        });
    }
}

async fn next(busy: &mut Busy) -> Did {
    let crashed = |error: tokio::task::JoinError| DiskError::Refused {
        message: format!("the console's own work failed: {error}"),
        hint: None,
    };
    match busy {
        Busy::Nothing => std::future::pending().await,
        Busy::Preparing(handle) => {
            Did::Prepared(handle.await.unwrap_or_else(|error| Err(crashed(error))))
        }
        Busy::Finishing(handle) => {
            Did::Finished(handle.await.unwrap_or_else(|error| Err(crashed(error))))
        }
    }
}

fn seconds(began: Option<Duration>, now: Duration) -> f64 {
    began.map_or(0.0, |began| now.saturating_sub(began).as_secs_f64())
}
