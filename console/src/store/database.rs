//! Rows in and out of SQLite.
//!
//! Owns the connection and its settings. WAL with one writer: a killed console loses nothing that
//! was reported as stored. `synchronous=FULL`: nor does a loss of power; state changes are rare
//! beside the image itself. Invariants: a job and its targets appear together; a row that does not
//! parse is an error that names its column.
//!
//! # Errors
//! Every method returns [`StoreError::Sqlite`] if SQLite fails, [`StoreError::Damaged`] for a row that
//! does not parse, and [`StoreError::Range`] for a number that exceeds its column.

use super::rows::TargetRow;
use super::{first_starts, schema};
use api::{JobState, JobTarget, Offer, Plan, SessionView};
use facts::target::TargetState;
use jobs::row::{CaptureRecord, JobRow, JobTargetRow, NewJob};
use rusqlite::{Connection, Row, params};
use serde::{Serialize, de::DeserializeOwned};
use std::path::Path;

/// Errors of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite failed, for example on a full disk, without permission, or on a damaged file.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A newer console wrote the database.
    #[error("the database has schema {found}, this console knows {known}; use the newer diskcast")]
    Newer {
        /// Schema version of the database.
        found: i64,
        /// Newest schema version that this console knows.
        known: usize,
    },
    /// A row holds a value that this console does not write.
    #[error("database: column {column} is damaged: {source}")]
    Damaged {
        /// Name of the column.
        column: &'static str,
        /// Cause.
        source: serde_json::Error,
    },
    /// A number exceeds its column.
    #[error("database: {0} is out of range")]
    Range(u64),
    /// The store's thread could not start.
    #[error("starting the store: {0}")]
    Thread(std::io::Error),
    /// The store has ended.
    #[error("the store has stopped")]
    Stopped,
}

/// The database, used by one thread at a time.
pub struct Database {
    pub(super) connection: Connection,
}

impl Database {
    /// Opens the database at `path`, or creates it.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`] if the file cannot be opened, [`StoreError::Newer`] for a newer
    /// schema.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::prepare(Connection::open(path)?)
    }

    /// Opens a database in memory, which is gone with the process.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::prepare(Connection::open_in_memory()?)
    }

    fn prepare(mut connection: Connection) -> Result<Self, StoreError> {
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        // The answer is the mode in force: `memory` for a database in memory.
        connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        schema::migrate(&mut connection)?;
        Ok(Self { connection })
    }

    /// Returns every known target, by name.
    pub fn targets(&self) -> Result<Vec<TargetRow>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT id, name, instance, facts, approved, last_seen, facts_time FROM target ORDER BY name",
        )?;
        let mut rows = statement.query([])?;
        let mut targets = Vec::new();
        while let Some(row) = rows.next()? {
            targets.push(TargetRow {
                id: row.get(0)?,
                name: row.get(1)?,
                instance: row.get(2)?,
                facts: json(row, 3, "target.facts")?,
                approved: row.get(4)?,
                last_seen: row.get(5)?,
                facts_time: row.get(6)?,
            });
        }
        Ok(targets)
    }

    /// Stores a target; replaces its row if there is one.
    pub fn save_target(&self, row: &TargetRow) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO target (id, name, instance, facts, approved, last_seen, facts_time) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO UPDATE
             SET name = ?2, instance = ?3, facts = ?4, approved = ?5, last_seen = ?6, facts_time = ?7",
            params![
                row.id,
                row.name,
                row.instance,
                text("target.facts", &row.facts)?,
                row.approved,
                row.last_seen,
                row.facts_time,
            ],
        )?;
        Ok(())
    }

    /// Deletes a target.
    pub fn delete_target(&self, id: &str) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM identity WHERE target = ?1", [id])?;
        self.connection
            .execute("DELETE FROM target WHERE id = ?1", [id])?;
        Ok(())
    }

    /// Stores a job with all its targets; returns its number.
    pub fn create_job(&mut self, job: &NewJob) -> Result<u64, StoreError> {
        let request = job.request.without_secrets();
        let plan = Plan {
            request: request.clone(),
            ..job.plan.clone()
        };
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "INSERT INTO job (state, request, plan, root, encrypted, created, retry_of, session, capture)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                word(&job.state)?,
                text("job.request", &request)?,
                text("job.plan", &plan)?,
                job.root,
                job.encrypted,
                job.created,
                job.retry_of.map(signed).transpose()?,
                text("job.session", &SessionView::default())?,
                capture_text(job.capture.as_ref())?,
            ],
        )?;
        let id = unsigned(transaction.last_insert_rowid());
        for (position, row) in job.targets.iter().enumerate() {
            put_job_target(&transaction, id, position, row)?;
        }
        first_starts::ask(&transaction, id, &plan)?;
        transaction.commit()?;
        Ok(id)
    }

    /// Stores the plan of a job that further targets have joined.
    pub fn save_plan(&self, id: u64, plan: &Plan) -> Result<(), StoreError> {
        let plan = Plan {
            request: plan.request.without_secrets(),
            ..plan.clone()
        };
        self.connection.execute(
            "UPDATE job SET plan = ?2 WHERE id = ?1",
            params![signed(id)?, text("job.plan", &plan)?],
        )?;
        first_starts::ask(&self.connection, id, &plan)
    }

    /// Stores the state of a job; times that are `None` stay as they are.
    pub fn update_job(
        &self,
        id: u64,
        state: JobState,
        started: Option<&str>,
        ended: Option<&str>,
        session: &SessionView,
    ) -> Result<(), StoreError> {
        put_job(&self.connection, id, state, (started, ended), session)
    }

    /// Stores the state of one target of a job.
    pub fn save_job_target(
        &self,
        id: u64,
        position: usize,
        row: &JobTargetRow,
    ) -> Result<(), StoreError> {
        put_job_target(&self.connection, id, position, row)
    }

    /// Stores the states of a job and all its targets, and the record of a capture, in one
    /// transaction.
    pub fn save_job(
        &mut self,
        id: u64,
        state: JobState,
        times: (Option<&str>, Option<&str>),
        session: &SessionView,
        targets: &[JobTargetRow],
        capture: Option<(&str, &CaptureRecord)>,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        for (position, row) in targets.iter().enumerate() {
            put_job_target(&transaction, id, position, row)?;
        }
        if let Some((root, record)) = capture {
            put_capture(&transaction, id, root, record)?;
        }
        put_job(&transaction, id, state, times, session)?;
        transaction.commit()?;
        Ok(())
    }

    /// Stores the record of a capture, and the root of its image once there is one.
    pub fn save_capture(
        &self,
        id: u64,
        root: &str,
        record: &CaptureRecord,
    ) -> Result<(), StoreError> {
        put_capture(&self.connection, id, root, record)
    }

    /// Returns the record of the newest capture into this image.
    pub fn last_capture(&self, image: &str) -> Result<Option<CaptureRecord>, StoreError> {
        let rows = self.select_jobs(
            "WHERE capture IS NOT NULL AND json_extract(request, '$.image') = ?1 ORDER BY id DESC LIMIT 1",
            image,
        )?;
        Ok(rows.into_iter().next().and_then(|row| row.job.capture))
    }

    /// Returns every offer, by name.
    pub fn offers(&self) -> Result<Vec<Offer>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT offer FROM offer ORDER BY name")?;
        let mut rows = statement.query([])?;
        let mut offers = Vec::new();
        while let Some(row) = rows.next()? {
            offers.push(json(row, 0, "offer.offer")?);
        }
        Ok(offers)
    }

    /// Stores an offer; replaces the one of the same name.
    pub fn save_offer(&self, offer: &Offer) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO offer (name, offer) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET offer = ?2",
            params![offer.name, text("offer.offer", offer)?],
        )?;
        Ok(())
    }

    /// Stores how often an offer was taken. Does nothing if it was removed, or another one has its
    /// name now.
    pub fn count_offer(&self, offer: &Offer) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE offer SET offer = ?2 WHERE name = ?1 AND offer ->> '$.created' = ?3",
            params![offer.name, text("offer.offer", offer)?, offer.created],
        )?;
        Ok(())
    }

    /// Deletes an offer.
    pub fn delete_offer(&self, name: &str) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM offer WHERE name = ?1", [name])?;
        Ok(())
    }

    /// Returns one job.
    pub fn job(&self, id: u64) -> Result<Option<JobRow>, StoreError> {
        Ok(self.select_jobs("WHERE id = ?1", signed(id)?)?.pop())
    }

    /// Returns the newest `limit` jobs, newest first.
    pub fn jobs(&self, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        self.select_jobs("ORDER BY id DESC LIMIT ?1", i64::from(limit))
    }

    /// Returns the jobs that have not ended, oldest first.
    pub fn unfinished_jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        self.select_jobs(
            "WHERE state IN ('waiting', 'missed', 'interrupted') AND id > ?1 ORDER BY id",
            0,
        )
    }

    /// Marks every running job as interrupted.
    pub fn interrupt_running(&self) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE job SET state = 'interrupted' WHERE state = 'running'",
            [],
        )?;
        Ok(())
    }

    fn select_jobs(
        &self,
        which: &str,
        argument: impl rusqlite::ToSql,
    ) -> Result<Vec<JobRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT id, state, request, plan, root, encrypted, created, started, ended, retry_of, session,
                    capture FROM job {which}"
        ))?;
        let mut rows = statement.query([argument])?;
        let mut jobs = Vec::new();
        while let Some(row) = rows.next()? {
            let id = unsigned(row.get(0)?);
            jobs.push(JobRow {
                id,
                job: NewJob {
                    state: unword(row.get(1)?, "job.state")?,
                    request: json(row, 2, "job.request")?,
                    plan: json(row, 3, "job.plan")?,
                    root: row.get(4)?,
                    encrypted: row.get(5)?,
                    created: row.get(6)?,
                    retry_of: row.get::<_, Option<i64>>(9)?.map(unsigned),
                    targets: self.job_targets(id)?,
                    capture: row
                        .get::<_, Option<String>>(11)?
                        .map(|text| {
                            serde_json::from_str(&text).map_err(|source| StoreError::Damaged {
                                column: "job.capture",
                                source,
                            })
                        })
                        .transpose()?,
                },
                started: row.get(7)?,
                ended: row.get(8)?,
                session: json(row, 10, "job.session")?,
            });
        }
        Ok(jobs)
    }

    fn job_targets(&self, id: u64) -> Result<Vec<JobTargetRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT target, name, instance, state, reason, step, disk, disk_facts, done_bytes, total_bytes,
                    bytes_written, seconds, root, note, counters, disk_now
             FROM job_target WHERE job = ?1 ORDER BY position",
        )?;
        let mut rows = statement.query([signed(id)?])?;
        let mut first_starts = first_starts::of_job(&self.connection, id)?;
        let mut targets = Vec::new();
        while let Some(row) = rows.next()? {
            let state: TargetState = unword(row.get(3)?, "job_target.state")?;
            let step: Option<String> = row.get(5)?;
            let disk: Option<String> = row.get(7)?;
            let disk_now: Option<String> = row.get(15)?;
            let target: String = row.get(0)?;
            targets.push(JobTargetRow {
                view: JobTarget {
                    first_start: first_starts.remove(&target),
                    id: target,
                    name: row.get(1)?,
                    state,
                    reason: row.get(4)?,
                    step: step
                        .map(|step| unword(step, "job_target.step"))
                        .transpose()?,
                    disk: row.get(6)?,
                    done_bytes: unsigned(row.get(8)?),
                    total_bytes: unsigned(row.get(9)?),
                    bytes_written: unsigned(row.get(10)?),
                    disk_now: disk_now
                        .map(|now| unword(now, "job_target.disk_now"))
                        .transpose()?,
                    seconds: row.get(11)?,
                    rate_bytes_per_s: 0,
                    loss: 0.0,
                    eta_seconds: None,
                    root: row.get(12)?,
                    note: row.get(13)?,
                    bottleneck: None,
                    counters: json(row, 14, "job_target.counters")?,
                },
                instance: row.get(2)?,
                disk: disk
                    .map(|text| serde_json::from_str(&text))
                    .transpose()
                    .map_err(|source| StoreError::Damaged {
                        column: "job_target.disk_facts",
                        source,
                    })?,
            });
        }
        Ok(targets)
    }
}

fn capture_text(record: Option<&CaptureRecord>) -> Result<Option<String>, StoreError> {
    record
        .map(|record| text("job.capture", &record.without_password()))
        .transpose()
}

fn put_capture(
    connection: &Connection,
    id: u64,
    root: &str,
    record: &CaptureRecord,
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE job SET root = ?2, capture = ?3 WHERE id = ?1",
        params![signed(id)?, root, capture_text(Some(record))?],
    )?;
    Ok(())
}

fn put_job(
    connection: &Connection,
    id: u64,
    state: JobState,
    (started, ended): (Option<&str>, Option<&str>),
    session: &SessionView,
) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE job SET state = ?2, started = coalesce(?3, started), ended = coalesce(?4, ended), session = ?5
         WHERE id = ?1",
        params![signed(id)?, word(&state)?, started, ended, text("job.session", session)?],
    )?;
    Ok(())
}

fn put_job_target(
    connection: &Connection,
    id: u64,
    position: usize,
    row: &JobTargetRow,
) -> Result<(), StoreError> {
    let view = &row.view;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO job_target (job, position, target, name, instance, state, reason, step, disk,
                disk_facts, done_bytes, total_bytes, bytes_written, seconds, root, note, counters, disk_now)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )?
        .execute(params![
            signed(id)?,
            signed(position as u64)?,
            view.id,
            view.name,
            row.instance,
            view.state.as_str(),
            view.reason,
            view.step.map(TargetState::as_str),
            view.disk,
            row.disk.as_ref().map(|disk| text("job_target.disk_facts", disk)).transpose()?,
            signed(view.done_bytes)?,
            signed(view.total_bytes)?,
            signed(view.bytes_written)?,
            // SQLite has no NaN: it would become NULL and break the row.
            if view.seconds.is_finite() { view.seconds } else { 0.0 },
            view.root,
            view.note,
            text("job_target.counters", &view.counters)?,
            view.disk_now.as_ref().map(word).transpose()?,
        ])?;
    Ok(())
}

pub(super) fn text<T: Serialize>(column: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Damaged { column, source })
}

pub(super) fn json<T: DeserializeOwned>(
    row: &Row<'_>,
    index: usize,
    column: &'static str,
) -> Result<T, StoreError> {
    let text: String = row.get(index)?;
    serde_json::from_str(&text).map_err(|source| StoreError::Damaged { column, source })
}

/// Returns the name of a unit variant, as serde and the API spell it.
fn word<T: Serialize>(value: &T) -> Result<String, StoreError> {
    Ok(text("a word", value)?.trim_matches('"').to_owned())
}

fn unword<T: DeserializeOwned>(word: String, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(word))
        .map_err(|source| StoreError::Damaged { column, source })
}

pub(super) fn signed(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Range(value))
}

/// Columns hold only values that `signed` accepted; a negative one, which another program wrote,
/// reads as 0.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::DeployRequest;
    use api::{ImageSummary, StartRule};
    use facts::order::EndAction;
    use facts::target::{DiskFacts, Facts};

    fn new_job(state: JobState) -> NewJob {
        let request = DeployRequest {
            image: "/i.dcimg".to_owned(),
            password: Some("hunter2".to_owned()),
            targets: "all".to_owned(),
            start: StartRule::Count(2),
            end: EndAction::Restart,
            ..DeployRequest::default()
        };
        let image = ImageSummary {
            path: "/i.dcimg".to_owned(),
            root: "ab".repeat(32),
            file_bytes: 1,
            disk_bytes: 2,
            sector_size: 512,
            used_bytes: 3,
            wire_bytes: 4,
            created: String::new(),
            partitions: vec![],
            signed_by: Vec::new(),
            set: None,
            chosen_root: None,
            checked: None,
        };
        let plan = Plan {
            r#type: "plan".to_owned(),
            schema_version: 1,
            request: request.clone(),
            image,
            targets: vec![],
            expected_seconds: None,
            files: vec![],
            notes: vec![],
        };
        NewJob {
            state,
            request,
            plan,
            root: "ab".repeat(32),
            encrypted: true,
            created: "2030-01-01T00:00:00Z".to_owned(),
            retry_of: None,
            targets: vec![
                target("t-1", TargetState::Joined),
                target("t-2", TargetState::Receiving),
            ],
            capture: None,
        }
    }

    fn target(id: &str, state: TargetState) -> JobTargetRow {
        JobTargetRow {
            view: JobTarget {
                id: id.to_owned(),
                name: id.to_owned(),
                state,
                reason: None,
                disk: "/d".to_owned(),
                done_bytes: 5,
                total_bytes: 10,
                disk_now: None,
                first_start: None,
                bytes_written: 0,
                seconds: f64::NAN,
                rate_bytes_per_s: 0,
                loss: 0.0,
                eta_seconds: None,
                root: None,
                step: None,
                note: None,
                bottleneck: None,
                counters: Default::default(),
            },
            instance: Some("i".to_owned()),
            disk: Some(DiskFacts {
                path: "/d".to_owned(),
                size: 10,
                logical_sector: 512,
                ..DiskFacts::default()
            }),
        }
    }

    #[test]
    fn an_offer_that_was_removed_or_replaced_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Database::open(&folder.path().join("console.db")).unwrap();
        let offer = |created: &str, taken| Offer {
            name: "lab".to_owned(),
            note: None,
            targets: "all".to_owned(),
            action: api::OfferAction::Deploy {
                request: DeployRequest::default(),
                root: String::new(),
            },
            limit: Some(1),
            until: None,
            created: created.to_owned(),
            taken,
        };
        let counted = |counted: Offer| {
            store.count_offer(&counted).unwrap();
            let offers = store.offers().unwrap();
            offers.iter().map(|offer| offer.taken).collect::<Vec<_>>()
        };
        assert_eq!(counted(offer("1", 1)), [0; 0]);
        store.save_offer(&offer("1", 0)).unwrap();
        assert_eq!(counted(offer("0", 1)), [0]);
        assert_eq!(counted(offer("1", 1)), [1]);
    }

    /// After a console was killed during a job, its knowledge is in the store: running became
    /// interrupted, and waiting still waits.
    #[test]
    fn a_restart_finds_jobs_and_results() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.db");
        let mut first = Database::open(&path).unwrap();
        let running = first.create_job(&new_job(JobState::Running)).unwrap();
        let waiting = first.create_job(&new_job(JobState::Waiting)).unwrap();
        let over = first.create_job(&new_job(JobState::Done)).unwrap();
        let mut done = target("t-1", TargetState::Done);
        done.view.root = Some("ab".repeat(32));
        first.save_job_target(running, 0, &done).unwrap();
        first.save_target(&target_row("t-1", "pc-1")).unwrap();
        // Simulates a kill: no close and no checkpoint, and the WAL stays as it is.
        std::mem::forget(first);

        let second = Database::open(&path).unwrap();
        second.interrupt_running().unwrap();
        let unfinished = second.unfinished_jobs().unwrap();
        let states: Vec<_> = unfinished
            .iter()
            .map(|job| (job.id, job.job.state))
            .collect();
        assert_eq!(
            states,
            [
                (running, JobState::Interrupted),
                (waiting, JobState::Waiting)
            ]
        );
        let targets = &unfinished[0].job.targets;
        assert_eq!(targets[0].view.state, TargetState::Done);
        assert_eq!(targets[1].view.state, TargetState::Receiving);
        assert_eq!(targets[1].instance.as_deref(), Some("i"));
        assert_eq!(targets[1].disk.as_ref().unwrap().size, 10);
        assert_eq!(
            second
                .jobs(10)
                .unwrap()
                .iter()
                .map(|job| job.id)
                .collect::<Vec<_>>(),
            [over, waiting, running]
        );
        assert_eq!(second.targets().unwrap(), [target_row("t-1", "pc-1")]);
    }

    #[test]
    fn the_password_never_reaches_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.db");
        let mut database = Database::open(&path).unwrap();
        let id = database.create_job(&new_job(JobState::Waiting)).unwrap();
        assert_eq!(
            database.job(id).unwrap().unwrap().job.request.password,
            None
        );
        drop(database);
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
        }
    }

    fn target_row(id: &str, name: &str) -> TargetRow {
        TargetRow {
            id: id.to_owned(),
            name: name.to_owned(),
            instance: "i".to_owned(),
            facts: Facts {
                hostname: name.to_owned(),
                ..Facts::default()
            },
            approved: true,
            last_seen: "2030-01-01T00:00:00Z".to_owned(),
            facts_time: "2029-12-31T00:00:00Z".to_owned(),
        }
    }

    #[test]
    fn targets_are_replaced_and_names_stay_unique() {
        let database = Database::in_memory().unwrap();
        database.save_target(&target_row("t-1", "pc-1")).unwrap();
        database.save_target(&target_row("t-1", "pc-9")).unwrap();
        assert!(database.save_target(&target_row("t-2", "pc-9")).is_err());
        database.delete_target("t-1").unwrap();
        assert!(database.targets().unwrap().is_empty());
        assert!(database.job(99).unwrap().is_none());
    }

    /// The targets that report their first start are known from the plan, including those that join
    /// later. The jobs in a database of an older console request no reports.
    #[test]
    fn who_reports_its_first_start_is_known_from_the_plan() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.db");
        let mut database = Database::open(&path).unwrap();
        database.create_job(&new_job(JobState::Done)).unwrap();
        let back = "DROP TABLE first_start; DROP INDEX job_target_target; PRAGMA user_version = 7;";
        database.connection.execute_batch(back).unwrap();
        drop(database);

        database = Database::open(&path).unwrap();
        let known = |database: &Database, id: u64| -> Vec<bool> {
            let row = database.job(id).unwrap().unwrap();
            let asked = |row: &JobTargetRow| row.view.first_start.is_some();
            row.job.targets.iter().map(asked).collect()
        };
        assert_eq!(known(&database, 1), [false, false]);
        let planned = |id: &str, report: bool, refused: Option<&str>| -> serde_json::Value {
            let job = serde_json::json!({"steps": [], "end": "none", "report": report});
            let action = serde_json::json!({"do": "first-boot", "partition": 1, "job": job, "executable": null});
            let step = serde_json::json!({"id": "firstboot", "what": "", "when": "first-boot", "action": action});
            serde_json::json!({"id": id, "name": id, "refused": refused, "personal": {"steps": [step]}})
        };
        let mut job = new_job(JobState::Waiting);
        let targets = serde_json::json!([planned("t-1", true, None), planned("t-2", false, None)]);
        job.plan.targets = serde_json::from_value(targets).unwrap();
        let id = database.create_job(&job).unwrap();
        assert_eq!(known(&database, id), [true, false]);
        let later = serde_json::json!([planned("t-1", true, None), planned("t-2", true, None)]);
        job.plan.targets = serde_json::from_value(later).unwrap();
        database.save_plan(id, &job.plan).unwrap();
        assert_eq!(known(&database, id), [true, true]);
        let refused = serde_json::json!([planned("t-1", true, Some("too small"))]);
        job.plan.targets = serde_json::from_value(refused).unwrap();
        let id = database.create_job(&job).unwrap();
        assert_eq!(known(&database, id), [false, false]);
    }

    #[test]
    fn a_newer_database_and_a_damaged_one_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.db");
        drop(Database::open(&path).unwrap());
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(matches!(
            Database::open(&path),
            Err(StoreError::Newer { found: 99, .. })
        ));
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        assert!(matches!(Database::open(&path), Err(StoreError::Sqlite(_))));
    }
}
