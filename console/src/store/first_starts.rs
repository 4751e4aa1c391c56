//! First starts: the targets that were asked to report, and their reports.
//!
//! Rows in and out, as in [`super::database`]. Invariant: a stored report is never replaced.

use super::Store;
use super::database::{Database, StoreError, signed, text};
use crate::first_start::{Asked, Taken};
use api::{FirstStart, Plan};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;

/// Stores the targets of a job that are asked to report; existing rows stay as they are.
pub(super) fn ask(connection: &Connection, job: u64, plan: &Plan) -> Result<(), StoreError> {
    let asked = plan
        .targets
        .iter()
        .filter(|target| target.reports_first_start());
    for target in asked {
        connection.execute(
            "INSERT OR IGNORE INTO first_start (job, target) VALUES (?1, ?2)",
            params![signed(job)?, target.id],
        )?;
    }
    Ok(())
}

/// Returns the first starts of a job's targets, for all that were asked to report.
pub(super) fn of_job(
    connection: &Connection,
    job: u64,
) -> Result<BTreeMap<String, FirstStart>, StoreError> {
    let sql = "SELECT target, report FROM first_start WHERE job = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    collect(statement.query([signed(job)?])?)
}

fn collect(mut rows: rusqlite::Rows<'_>) -> Result<BTreeMap<String, FirstStart>, StoreError> {
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let report: Option<String> = row.get(1)?;
        let known = match report {
            None => FirstStart::default(),
            Some(report) => {
                serde_json::from_str(&report).map_err(|source| StoreError::Damaged {
                    column: "first_start.report",
                    source,
                })?
            }
        };
        found.insert(row.get(0)?, known);
    }
    Ok(found)
}

impl Database {
    fn first_start_asked(&self, job: u64, target: &str) -> Result<Option<Asked>, StoreError> {
        // No job can have such a number.
        let Ok(job) = signed(job) else {
            return Ok(None);
        };
        let sql = "SELECT job.created, first_start.hmac FROM first_start JOIN job ON job.id = first_start.job
                   WHERE first_start.job = ?1 AND first_start.target = ?2";
        let row = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![job, target], |row| {
                Ok(Asked {
                    created: row.get(0)?,
                    hmac: row.get(1)?,
                })
            });
        Ok(row.optional()?)
    }

    fn hear_first_start(
        &self,
        job: u64,
        target: &str,
        hmac: &str,
        report: &FirstStart,
    ) -> Result<Taken, StoreError> {
        let changed = self.connection.execute(
            "UPDATE first_start SET hmac = ?3, report = ?4 WHERE job = ?1 AND target = ?2 AND hmac IS NULL",
            params![signed(job)?, target, hmac, text("first_start.report", report)?],
        )?;
        if changed == 1 {
            return Ok(Taken::New);
        }
        let known = self.first_start_asked(job, target)?;
        Ok(match known.and_then(|asked| asked.hmac) {
            Some(known) if known == hmac => Taken::Again,
            _ => Taken::Another,
        })
    }

    fn first_starts_of_targets(&self) -> Result<BTreeMap<String, FirstStart>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT last.target, first_start.report
             FROM (SELECT job_target.target AS target, max(job_target.job) AS job
                   FROM job_target JOIN job ON job.id = job_target.job
                   LEFT JOIN first_start AS own ON own.job = job_target.job AND own.target = job_target.target
                   WHERE job.capture IS NULL AND (job_target.state = 'done' OR own.report IS NOT NULL)
                   GROUP BY job_target.target) AS last
             JOIN first_start ON first_start.job = last.job AND first_start.target = last.target",
        )?;
        collect(statement.query([])?)
    }
}

impl Store {
    /// Returns the creation time of the target's job, and the HMAC of its report once there is one;
    /// `None` if it was not asked to report.
    pub async fn first_start_asked(
        &self,
        job: u64,
        target: String,
    ) -> Result<Option<Asked>, StoreError> {
        self.call(move |db| db.first_start_asked(job, &target))
            .await
    }

    /// Stores the report of a target, unless there is one already.
    pub async fn hear_first_start(
        &self,
        job: u64,
        target: String,
        hmac: String,
        report: FirstStart,
    ) -> Result<Taken, StoreError> {
        self.call(move |db| db.hear_first_start(job, &target, &hmac, &report))
            .await
    }

    /// Returns the first start of each target, after the last job that wrote its disk.
    pub async fn first_starts_of_targets(
        &self,
    ) -> Result<BTreeMap<String, FirstStart>, StoreError> {
        self.call(|db| db.first_starts_of_targets()).await
    }
}
