//! Results that could not be stored: kept in memory, corrected by late outcomes, and stored when
//! possible.
//!
//! Invariants: while a result waits here, it is the only truth about its job, so a late outcome is
//! merged into it and never overwritten by it; an agent is sent `recorded` only when its outcome is
//! in the store.

use super::JobShared;
use super::folder::Folder;
use crate::context::Console;
use crate::store::StoreError;
use api::JobState;
use facts::order::EndAction;
use facts::target::TargetState;
use jobs::row::{CaptureRecord, JobRow, JobTargetRow};
use jobs::run::place::{awaits_word, late_outcome};
use protocol::control::{ConsoleMessage, Outcome};
use std::sync::Arc;
use std::time::Duration;

/// Time between two attempts to store a result.
const STORE_AGAIN: Duration = Duration::from_secs(5);

/// The result of a job or a capture that waits for the store.
pub struct Unstored {
    shared: Arc<JobShared>,
    kept: tokio::sync::Mutex<Kept>,
}

struct Kept {
    rows: Vec<JobTargetRow>,
    /// Record of the capture; `None` for a deployment.
    capture: Option<CaptureRecord>,
    /// Ids of the targets whose agents wait for `recorded`.
    owed: Vec<String>,
}

impl Unstored {
    /// Makes a waiting result; the agents of `owed` wait for it to be stored.
    pub fn new(
        shared: Arc<JobShared>,
        rows: Vec<JobTargetRow>,
        capture: Option<CaptureRecord>,
        owed: Vec<String>,
    ) -> Self {
        let kept = tokio::sync::Mutex::new(Kept {
            rows,
            capture,
            owed,
        });
        Self { shared, kept }
    }

    /// Returns the job as others see it.
    pub fn shared(&self) -> &Arc<JobShared> {
        &self.shared
    }

    /// Replaces a stored row's result with the kept one.
    pub async fn overlay(&self, row: &mut JobRow) {
        let kept = self.kept.lock().await;
        let view = self.shared.view();
        let stored = std::mem::replace(&mut row.job.targets, kept.rows.clone());
        // Reports of first starts have a table of their own, and may be newer than the result.
        for target in &mut row.job.targets {
            let mut stored = stored.iter().map(|row| &row.view);
            if let Some(known) = stored.find(|view| view.id == target.view.id) {
                target.view.first_start.clone_from(&known.first_start);
            }
        }
        row.job.state = view.state;
        row.job.root = view.root;
        if kept.capture.is_some() {
            row.job.capture.clone_from(&kept.capture);
        }
        row.ended = view.ended;
        row.session = view.session;
    }
}

impl Kept {
    fn owes(&mut self, target: &str) {
        if !self.owed.iter().any(|id| id == target) {
            self.owed.push(target.to_owned());
        }
    }
}

impl Console {
    /// Keeps a result and retries until it is stored.
    pub(crate) fn keep_result(self: &Arc<Self>, result: Unstored) {
        let result = Arc::new(result);
        self.jobs.keep(Arc::clone(&result));
        let console = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(STORE_AGAIN).await;
                let mut kept = result.kept.lock().await;
                match console.store_result(&result.shared, &mut kept).await {
                    Ok(()) | Err(StoreError::Stopped) => return,
                    Err(error) => {
                        tracing::debug!(job = result.shared.id, %error, "result still not stored");
                    }
                }
            }
        });
    }

    /// Merges an outcome into a result that waits for the store, and tries to store it. Returns
    /// false if no result of the job waits.
    pub(crate) async fn late_for_unstored(&self, id: u64, target: &str, outcome: &Outcome) -> bool {
        let Some(result) = self.jobs.unstored(id) else {
            return false;
        };
        let mut kept = result.kept.lock().await;
        // Another task may have stored it meanwhile.
        if self.jobs.unstored(id).is_none() {
            return false;
        }
        let shared = &result.shared;
        if let Some(row) = kept.rows.iter_mut().find(|row| row.view.id == target)
            && awaits_word(row)
        {
            let plan = shared.plan();
            let root = plan.image.proof_root();
            *row = late_outcome(row.clone(), outcome.clone(), root);
            tracing::info!(job = id, target, state = %row.view.state, "outcome reported late");
        }
        kept.owes(target);
        show(shared, &kept.rows);
        if let Err(error) = self.store_result(shared, &mut kept).await {
            tracing::warn!(job = id, target, %error, "late outcome kept until it can be stored");
        }
        true
    }

    /// Notes that an agent waits for `recorded`, which is sent when the result is stored. Returns
    /// false if no result of the job waits.
    pub(crate) async fn owe_word(&self, id: u64, target: &str) -> bool {
        let Some(result) = self.jobs.unstored(id) else {
            return false;
        };
        let mut kept = result.kept.lock().await;
        // Another task may have stored it meanwhile.
        if self.jobs.unstored(id).is_none() {
            return false;
        }
        kept.owes(target);
        true
    }

    async fn store_result(
        &self,
        shared: &Arc<JobShared>,
        kept: &mut Kept,
    ) -> Result<(), StoreError> {
        // Another task has stored it.
        if self.jobs.unstored(shared.id).is_none() {
            return Ok(());
        }
        let (rows, capture) = (kept.rows.clone(), kept.capture.clone());
        self.store
            .save_job(shared.view(), shared.id, rows, capture)
            .await?;
        self.jobs.forget(shared.id);
        tracing::info!(job = shared.id, "the result is stored now");
        let plan = shared.plan();
        for target in kept.owed.drain(..) {
            let mut rows = kept.rows.iter();
            let done = rows.any(|row| row.view.id == target && row.view.state == TargetState::Done);
            let after = match done {
                true => plan.after(&target, plan.request.end),
                false => EndAction::None,
            };
            let job = shared.id.to_string();
            self.roster
                .send(&target, ConsoleMessage::Recorded { job, after });
        }
        let folder = Folder::of(&self.settings.data_dir, shared.id);
        let written = match self.report(shared.id).await {
            Ok(report) => folder.write_report(&report).await,
            Err(error) => Err(std::io::Error::other(error)),
        };
        if let Err(error) = written {
            tracing::warn!(job = shared.id, %error, "the report could not be written");
        }
        Ok(())
    }
}

/// Updates the view of a job that is over to the present state of its targets.
fn show(shared: &JobShared, rows: &[JobTargetRow]) {
    let mut view = shared.view();
    view.targets = rows.iter().map(|row| row.view.clone()).collect();
    view.targets.sort_by(|a, b| a.name.cmp(&b.name));
    if rows.iter().all(|row| row.view.state == TargetState::Done) {
        view.state = JobState::Done;
    }
    shared.set_view(view);
}
