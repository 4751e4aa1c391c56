//! The tables, and the migration of older databases.
//!
//! `PRAGMA user_version` counts the steps that were taken. A step is never edited after a release;
//! a later step repairs it.

use super::StoreError;
use rusqlite::Connection;

/// Migration steps. All steps that one start takes are in one transaction.
const STEPS: [&str; 8] = [
    "
    CREATE TABLE target (
        id        TEXT PRIMARY KEY,
        name      TEXT NOT NULL UNIQUE,
        instance  TEXT NOT NULL,
        facts     TEXT NOT NULL,
        approved  INTEGER NOT NULL,
        last_seen TEXT NOT NULL
    ) STRICT;

    CREATE TABLE job (
        id        INTEGER PRIMARY KEY AUTOINCREMENT,
        state     TEXT NOT NULL,
        request   TEXT NOT NULL,
        plan      TEXT NOT NULL,
        root      TEXT NOT NULL,
        encrypted INTEGER NOT NULL,
        created   TEXT NOT NULL,
        started   TEXT,
        ended     TEXT,
        retry_of  INTEGER,
        session   TEXT NOT NULL
    ) STRICT;

    CREATE TABLE job_target (
        job           INTEGER NOT NULL REFERENCES job(id),
        position      INTEGER NOT NULL,
        target        TEXT NOT NULL,
        name          TEXT NOT NULL,
        instance      TEXT,
        state         TEXT NOT NULL,
        reason        TEXT,
        step          TEXT,
        disk          TEXT NOT NULL,
        disk_facts    TEXT,
        done_bytes    INTEGER NOT NULL,
        total_bytes   INTEGER NOT NULL,
        bytes_written INTEGER NOT NULL,
        seconds       REAL NOT NULL,
        root          TEXT,
        note          TEXT,
        counters      TEXT NOT NULL,
        PRIMARY KEY (job, position)
    ) STRICT, WITHOUT ROWID;

    CREATE INDEX job_state ON job(state);
",
    // Captures are jobs; offers are deployments that people at the targets start.
    "
    ALTER TABLE job ADD COLUMN capture TEXT;

    CREATE TABLE offer (
        name  TEXT PRIMARY KEY,
        offer TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    // Templates: bindings of names and addresses, secrets, and findings of images.
    "
    CREATE TABLE binding (
        machine TEXT PRIMARY KEY,
        binding TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE secret (
        name    TEXT PRIMARY KEY,
        sealed  BLOB NOT NULL,
        changed TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE job_secret (
        job    INTEGER PRIMARY KEY REFERENCES job(id),
        sealed BLOB NOT NULL
    ) STRICT;

    CREATE TABLE inspection (
        root     TEXT PRIMARY KEY,
        version  INTEGER NOT NULL,
        findings TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    // Image files whose stored bytes were found whole, by path, for one state of the files.
    "
    CREATE TABLE image_check (
        path    TEXT PRIMARY KEY,
        root    TEXT NOT NULL,
        files   TEXT NOT NULL,
        checked TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    // Identities of machines. Several machines may share a card (a dock), so a binding's key is
    // random bytes of its own.
    "
    CREATE TABLE identity (
        target TEXT PRIMARY KEY,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE shared_value (
        value TEXT PRIMARY KEY
    ) STRICT, WITHOUT ROWID;

    UPDATE OR REPLACE binding SET machine = json_extract(binding, '$.seed');
",
    // State of a target's disk after a job.
    "
    ALTER TABLE job_target ADD COLUMN disk_now TEXT;
",
    // Time of the facts about a target's disks. Unknown in older databases: as old as possible.
    "
    ALTER TABLE target ADD COLUMN facts_time TEXT NOT NULL DEFAULT '1970-01-01T00:00:00Z';
",
    // Targets that are asked to report their first start, and their reports. Older jobs asked for
    // none.
    "
    CREATE TABLE first_start (
        job    INTEGER NOT NULL REFERENCES job(id),
        target TEXT NOT NULL,
        hmac   TEXT,
        report TEXT,
        PRIMARY KEY (job, target)
    ) STRICT, WITHOUT ROWID;

    CREATE INDEX job_target_target ON job_target(target, job);
",
];

/// Brings the tables up to date.
///
/// # Errors
/// [`StoreError::Newer`] for a database that a newer console wrote.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    if done > STEPS.len() {
        return Err(StoreError::Newer {
            found,
            known: STEPS.len(),
        });
    }
    let transaction = connection.transaction()?;
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    let now = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    transaction.pragma_update(None, "user_version", now)?;
    transaction.commit()?;
    Ok(())
}
