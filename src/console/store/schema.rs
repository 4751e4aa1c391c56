//! The tables, and how an older database becomes today's.
//!
//! `PRAGMA user_version` counts the steps that were taken. A step is never edited after a release: the next one repairs it.

use super::StoreError;
use rusqlite::Connection;

/// One step each; all of a start's steps commit together or not at all.
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
    // Templates: names and addresses that were handed out, secrets, what was found in images.
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
    // Image files whose stored bytes were found whole: by path, for the files as they were then.
    "
    CREATE TABLE image_check (
        path    TEXT PRIMARY KEY,
        root    TEXT NOT NULL,
        files   TEXT NOT NULL,
        checked TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    // Who a machine is. Several machines may be known by one card (a dock), so a binding is kept by its own random bytes.
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
    // What a target's disk is after a job.
    "
    ALTER TABLE job_target ADD COLUMN disk_now TEXT;
",
    // The age of what is known of a target's disks. Not known before: as old as it can be.
    "
    ALTER TABLE target ADD COLUMN facts_time TEXT NOT NULL DEFAULT '1970-01-01T00:00:00Z';
",
    // Targets that are to report their first start, and what they reported. Jobs made before asked for nothing.
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

/// Brings the tables up to date. Errors: a database that a newer console made.
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
