//! Progress reports of a target: state, bytes, counters, about twice a second.

#![expect(
    clippy::disallowed_methods,
    reason = "an agent reports seconds of real time"
)]

use super::desk::{Desk, Work};
use super::job::Shared;
use facts::target::{Bottleneck, DiskFacts, TargetState};
use net::receiving::Health;
use protocol::control::{AgentMessage, Counters, Outcome, Progress};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Interval between two reports of an unchanged state.
const EVERY: Duration = Duration::from_millis(500);

/// Sends the reports of one job. The threads that read back use it too.
pub(super) struct Reporter {
    outbox: UnboundedSender<AgentMessage>,
    shared: Arc<Mutex<Shared>>,
    desk: Desk,
    started: Instant,
    view: Mutex<View>,
}

struct View {
    progress: Progress,
    /// Time of the last report.
    said: Option<Instant>,
}

impl Reporter {
    pub(super) fn new(
        job: String,
        outbox: UnboundedSender<AgentMessage>,
        shared: Arc<Mutex<Shared>>,
        desk: Desk,
    ) -> Self {
        let progress = Progress {
            job,
            state: TargetState::Joined,
            deaf: false,
            done_bytes: 0,
            total_bytes: 0,
            counters: Counters::default(),
            note: None,
            bottleneck: None,
            beat: 0,
        };
        Self {
            outbox,
            shared,
            desk,
            started: Instant::now(),
            view: Mutex::new(View {
                progress,
                said: None,
            }),
        }
    }

    /// Sets the state; reports at once if it has changed.
    pub(super) fn state_is(&self, state: TargetState) {
        self.update(|progress| {
            let changed = progress.state != state;
            if changed && state == TargetState::Verifying {
                progress.done_bytes = 0;
            }
            progress.state = state;
            changed
        });
        self.shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .state = state;
    }

    pub(super) fn state(&self) -> TargetState {
        self.with(|view| view.progress.state)
    }

    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    pub(super) fn counters(&self) -> Counters {
        self.with(|view| view.progress.counters.clone())
    }

    pub(super) fn total(&self, bytes: u64) {
        self.update(|progress| {
            progress.total_bytes = bytes;
            false
        });
    }

    pub(super) fn done(&self, bytes: u64) {
        self.update(|progress| {
            progress.done_bytes = bytes.min(progress.total_bytes);
            false
        });
    }

    /// Reports that work goes on, although there is nothing to count.
    pub(super) fn beat(&self) {
        self.update(|progress| {
            progress.beat = progress.beat.wrapping_add(1);
            true
        });
    }

    /// Sets the bytes read back. Several threads call it, so the count never falls.
    pub(super) fn verified(&self, bytes: u64) {
        self.update(|progress| {
            progress.done_bytes = progress.done_bytes.max(bytes);
            false
        });
    }

    pub(super) fn note(&self, note: Option<String>) {
        self.update(|progress| {
            let changed = progress.note != note;
            progress.note = note;
            changed
        });
    }

    /// Sets whether multicast fails to arrive here. Reported at once, since otherwise the console
    /// sends to no one.
    pub(super) fn deaf(&self, deaf: bool) {
        self.update(|progress| {
            let changed = progress.deaf != deaf;
            progress.deaf = deaf;
            changed
        });
    }

    pub(super) fn disk(&self, disk: &DiskFacts) {
        let title = disk.title();
        self.log(format!("writing {title}"));
        self.tell(|work| work.disk = title);
    }

    /// Sends a line for the job's log.
    pub(super) fn log(&self, text: String) {
        let job = self.with(|view| view.progress.job.clone());
        let _ = self.outbox.send(AgentMessage::Log {
            job: Some(job),
            text,
        });
    }

    pub(super) fn health(&self, health: &Health) {
        self.update(|progress| {
            let counters = &mut progress.counters;
            counters.packets_received = health.received;
            counters.packets_lost = health.lost;
            counters.packets_forged = health.forged;
            counters.kernel_drops = health.kernel_drops;
            counters.blocks_repaired = health.counters.restored;
            counters.blocks_skipped = health.counters.skipped;
            false
        });
    }

    /// Sets the bottleneck of the machine.
    pub(super) fn bottleneck(&self, bottleneck: Bottleneck) {
        self.update(|progress| {
            progress.bottleneck = Some(bottleneck);
            false
        });
    }

    /// Counts a block that was on the disk already; `bytes` of the image are there now.
    pub(super) fn kept(&self, bytes: u64, news: bool) {
        self.update(|progress| {
            progress.done_bytes = bytes.min(progress.total_bytes);
            progress.counters.blocks_kept += u64::from(news);
            false
        });
    }

    pub(super) fn bulk_block(&self) {
        self.update(|progress| {
            progress.counters.blocks_bulk += 1;
            false
        });
    }

    /// Counts a block that does not match the manifest; returns the count.
    pub(super) fn corrupt(&self) -> u64 {
        self.update(|progress| {
            progress.counters.blocks_corrupt += 1;
            false
        });
        self.counters().blocks_corrupt
    }

    /// Sends a report if one is due.
    pub(super) fn tick(&self) {
        self.update(|_| false);
    }

    /// Sends the outcome, the last report of the job.
    pub(super) fn outcome(&self, outcome: Outcome) {
        self.shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .conclude(outcome.clone());
        self.tell(|work| work.outcome = Some(outcome.clone()));
        let _ = self.outbox.send(AgentMessage::Outcome(Box::new(outcome)));
    }

    /// Shows the outcome of work on this machine's own screen only, because the console already
    /// knows it.
    pub(super) fn shown(&self, outcome: Outcome) {
        self.tell(|work| work.outcome = Some(outcome));
    }

    /// Changes the work shown on this machine's own screen.
    fn tell(&self, change: impl FnOnce(&mut Work)) {
        self.desk.tell(|standing| {
            if let Some(work) = &mut standing.work {
                change(work);
            }
        });
    }

    fn with<T>(&self, read: impl FnOnce(&mut View) -> T) -> T {
        read(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the report; sends it when `change` returns true or when it is due.
    fn update(&self, change: impl FnOnce(&mut Progress) -> bool) {
        let message = self.with(|view| {
            let urgent = change(&mut view.progress);
            let due = view.said.is_none_or(|at| at.elapsed() >= EVERY);
            (urgent || due).then(|| {
                view.said = Some(Instant::now());
                view.progress.clone()
            })
        });
        if let Some(progress) = message {
            self.tell(|work| work.progress = Some(progress.clone()));
            let _ = self.outbox.send(AgentMessage::Progress(progress));
        }
    }
}
