//! What survives a restart of the console: targets, jobs and results.
//!
//! Owns: one thread with the one SQLite connection. Every call is sent to it and answered in order, so a read sees every
//! write made before it, and no async task ever waits for a disk on a runtime thread. Never decides anything.
//! Always holds: at most `QUEUE` calls wait; a call that cannot be carried out says so and changes nothing.

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
pub use rows::{CaptureRecord, JobRow, JobTargetRow, NewJob, TargetRow};

use api::{JobState, JobView, Offer, Plan, SessionView};
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

/// Calls that may wait for the disk. A room of 200 targets changing state at once is 200; a full queue makes callers wait.
const QUEUE: usize = 1024;

type Call = Box<dyn FnOnce(&mut Database) + Send>;

/// The way to the store; clones share it. The thread ends with the last clone.
#[derive(Clone)]
pub struct Store {
    calls: mpsc::Sender<Call>,
}

impl Store {
    /// Opens or makes the database at `path` and starts its thread. Blocks for as long as SQLite takes.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::start(Database::open(path)?)
    }

    /// Starts the thread for a database that is open.
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
            // Nobody waits any more when the caller was cancelled; the work is done all the same.
            let _ = answer.send(work(database));
        });
        self.calls
            .send(call)
            .await
            .map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }

    /// Every known target.
    pub async fn targets(&self) -> Result<Vec<TargetRow>, StoreError> {
        self.call(|db| db.targets()).await
    }

    /// Adds a target or replaces what is known of it.
    pub async fn save_target(&self, row: TargetRow) -> Result<(), StoreError> {
        self.call(move |db| db.save_target(&row)).await
    }

    /// Forgets a target; its results stay in its jobs.
    pub async fn delete_target(&self, id: String) -> Result<(), StoreError> {
        self.call(move |db| db.delete_target(&id)).await
    }

    /// Records a new job with its targets and gives it its number.
    pub async fn create_job(&self, job: NewJob) -> Result<u64, StoreError> {
        self.call(move |db| db.create_job(&job)).await
    }

    /// Records the plan of a job that further targets have joined.
    pub async fn save_plan(&self, id: u64, plan: Plan) -> Result<(), StoreError> {
        self.call(move |db| db.save_plan(id, &plan)).await
    }

    /// Records where a job stands.
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

    /// Records where a job and all its targets stand, and of a capture also its image, together.
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

    /// Records where a target of a job stands; `position` is its place in the job.
    pub async fn save_job_target(
        &self,
        id: u64,
        position: usize,
        row: JobTargetRow,
    ) -> Result<(), StoreError> {
        self.call(move |db| db.save_job_target(id, position, &row))
            .await
    }

    /// As `save_job_target`, without waiting for the disk; a failure is logged.
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

    /// Records where a capture that goes on stands.
    pub async fn save_capture(
        &self,
        id: u64,
        root: String,
        record: CaptureRecord,
    ) -> Result<(), StoreError> {
        self.call(move |db| db.save_capture(id, &root, &record))
            .await
    }

    /// The newest capture into this image.
    pub async fn last_capture(&self, image: String) -> Result<Option<CaptureRecord>, StoreError> {
        self.call(move |db| db.last_capture(&image)).await
    }

    /// Every offer, by name.
    pub async fn offers(&self) -> Result<Vec<Offer>, StoreError> {
        self.call(|db| db.offers()).await
    }

    /// Adds an offer or replaces it.
    pub async fn save_offer(&self, offer: Offer) -> Result<(), StoreError> {
        self.call(move |db| db.save_offer(&offer)).await
    }

    /// Takes an offer away.
    pub async fn delete_offer(&self, name: String) -> Result<(), StoreError> {
        self.call(move |db| db.delete_offer(&name)).await
    }

    /// One job.
    pub async fn job(&self, id: u64) -> Result<Option<JobRow>, StoreError> {
        self.call(move |db| db.job(id)).await
    }

    /// The newest `limit` jobs, newest first.
    pub async fn jobs(&self, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        self.call(move |db| db.jobs(limit)).await
    }

    /// Marks every running job as interrupted: called once, when the console starts.
    pub async fn interrupt_running(&self) -> Result<(), StoreError> {
        self.call(|db| db.interrupt_running()).await
    }

    /// Jobs that are not over: waiting or interrupted.
    pub async fn unfinished_jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        self.call(|db| db.unfinished_jobs()).await
    }
}
