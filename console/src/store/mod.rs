//! The console's persistent state: targets, jobs and results.
//!
//! Owns one thread with the one SQLite connection. Every call is sent to it and answered in order,
//! so a read sees every earlier write, and no async task waits for a disk on a runtime thread.
//! Makes no decisions. Invariants: at most `QUEUE` calls wait; a call that fails returns an error
//! and changes nothing.
//!
//! # Errors
//! Every call returns [`StoreError::Stopped`] after the end of the thread, and the errors of the
//! [`Database`] method that it runs.

mod checks;
mod database;
mod first_starts;
mod identity;
mod personal;
mod rows;
mod schema;

pub use database::{Database, StoreError};
pub use identity::IdentityRows;
pub use personal::SecretRow;
pub use rows::TargetRow;

use jobs::row::{CaptureRecord, JobRow, JobTargetRow, NewJob};

use api::{JobState, JobView, Offer, Plan, SessionView};
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

/// Maximum number of calls that wait for the disk. 200 targets that change state at once make 200;
/// a full queue makes callers wait.
const QUEUE: usize = 1024;

type Call = Box<dyn FnOnce(&mut Database) + Send>;

/// Handle of the store; clones share it. The thread ends with the last clone.
#[derive(Clone)]
pub struct Store {
    calls: mpsc::Sender<Call>,
}

impl Store {
    /// Opens the database at `path`, or creates it, and starts its thread. Blocks for as long as
    /// SQLite takes.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be opened, has a newer schema, or the thread cannot start.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::start(Database::open(path)?)
    }

    /// Starts the thread for an open database.
    ///
    /// # Errors
    /// [`StoreError::Thread`].
    pub fn start(mut database: Database) -> Result<Self, StoreError> {
        let (calls, mut waiting) = mpsc::channel::<Call>(QUEUE);
        let run = move || {
            while let Some(call) = waiting.blocking_recv() {
                call(&mut database);
            }
        };
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(run)
            .map_err(StoreError::Thread)?;
        Ok(Self { calls })
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let call: Call = Box::new(move |database| {
            // The caller may have been cancelled; the work is done all the same.
            let _ = answer.send(work(database));
        });
        self.calls
            .send(call)
            .await
            .map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }

    /// Returns every known target, by name.
    pub async fn targets(&self) -> Result<Vec<TargetRow>, StoreError> {
        self.call(|db| db.targets()).await
    }

    /// Stores a target; replaces its row if there is one.
    pub async fn save_target(&self, row: TargetRow) -> Result<(), StoreError> {
        self.call(move |db| db.save_target(&row)).await
    }

    /// Deletes a target; its results stay in its jobs.
    pub async fn delete_target(&self, id: String) -> Result<(), StoreError> {
        self.call(move |db| db.delete_target(&id)).await
    }

    /// Stores a new job with its targets; returns its number.
    pub async fn create_job(&self, job: NewJob) -> Result<u64, StoreError> {
        self.call(move |db| db.create_job(&job)).await
    }

    /// Stores the plan of a job that further targets have joined.
    pub async fn save_plan(&self, id: u64, plan: Plan) -> Result<(), StoreError> {
        self.call(move |db| db.save_plan(id, &plan)).await
    }

    /// Stores the state of a job.
    pub async fn update_job(
        &self,
        id: u64,
        state: JobState,
        started: Option<String>,
        ended: Option<String>,
        session: SessionView,
    ) -> Result<(), StoreError> {
        self.call(move |db| {
            db.update_job(id, state, started.as_deref(), ended.as_deref(), &session)
        })
        .await
    }

    /// Stores the states of a job and all its targets, and the record of a capture, in one
    /// transaction.
    pub async fn save_job(
        &self,
        view: JobView,
        id: u64,
        targets: Vec<JobTargetRow>,
        capture: Option<CaptureRecord>,
    ) -> Result<(), StoreError> {
        self.call(move |db| {
            let times = (view.started.as_deref(), view.ended.as_deref());
            let capture = capture.as_ref().map(|record| (view.root.as_str(), record));
            db.save_job(id, view.state, times, &view.session, &targets, capture)
        })
        .await
    }

    /// Stores the state of a target of a job; `position` is its place in the job.
    pub async fn save_job_target(
        &self,
        id: u64,
        position: usize,
        row: JobTargetRow,
    ) -> Result<(), StoreError> {
        self.call(move |db| db.save_job_target(id, position, &row))
            .await
    }

    /// Queues `save_job_target` without waiting for the disk; a failure is logged.
    pub async fn post_job_target(&self, id: u64, position: usize, row: JobTargetRow) {
        let call: Call = Box::new(move |database| {
            if let Err(error) = database.save_job_target(id, position, &row) {
                tracing::error!(job = id, target = row.view.name, %error, "state not recorded");
            }
        });
        if self.calls.send(call).await.is_err() {
            tracing::error!(job = id, "state not recorded: the store has stopped");
        }
    }

    /// Stores the record of a capture that goes on.
    pub async fn save_capture(
        &self,
        id: u64,
        root: String,
        record: CaptureRecord,
    ) -> Result<(), StoreError> {
        self.call(move |db| db.save_capture(id, &root, &record))
            .await
    }

    /// Returns the record of the newest capture into this image.
    pub async fn last_capture(&self, image: String) -> Result<Option<CaptureRecord>, StoreError> {
        self.call(move |db| db.last_capture(&image)).await
    }

    /// Returns every offer, by name.
    pub async fn offers(&self) -> Result<Vec<Offer>, StoreError> {
        self.call(|db| db.offers()).await
    }

    /// Stores an offer; replaces the one of the same name.
    pub async fn save_offer(&self, offer: Offer) -> Result<(), StoreError> {
        self.call(move |db| db.save_offer(&offer)).await
    }

    /// Stores how often an offer was taken. Does nothing if it was removed, or another one has its
    /// name now.
    pub async fn count_offer(&self, offer: Offer) -> Result<(), StoreError> {
        self.call(move |db| db.count_offer(&offer)).await
    }

    /// Deletes an offer.
    pub async fn delete_offer(&self, name: String) -> Result<(), StoreError> {
        self.call(move |db| db.delete_offer(&name)).await
    }

    /// Returns one job.
    pub async fn job(&self, id: u64) -> Result<Option<JobRow>, StoreError> {
        self.call(move |db| db.job(id)).await
    }

    /// Returns the newest `limit` jobs, newest first.
    pub async fn jobs(&self, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        self.call(move |db| db.jobs(limit)).await
    }

    /// Marks every running job as interrupted; called once, when the console starts.
    pub async fn interrupt_running(&self) -> Result<(), StoreError> {
        self.call(|db| db.interrupt_running()).await
    }

    /// Returns the jobs that have not ended, oldest first.
    pub async fn unfinished_jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        self.call(|db| db.unfinished_jobs()).await
    }
}
