//! What templates leave behind: bindings, sealed secrets, findings of images.
//!
//! Rows in and out, as in [`super::database`]; never opens what is sealed.

use super::database::{Database, StoreError, json, text};
use super::{Call, Store};
use rusqlite::{OptionalExtension, params};
use template::bind::Binding;
use template::findings::Findings;

/// Raised when inspection learns to see more: what was found before is looked for again.
const FINDINGS_VERSION: i64 = 6;

/// A secret, without its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretRow {
    /// Name.
    pub name: String,
    /// When it was set, RFC 3339.
    pub changed: String,
}

impl Database {
    fn bindings(&self) -> Result<Vec<Binding>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT binding FROM binding ORDER BY machine")?;
        let mut rows = statement.query([])?;
        let mut bindings = Vec::new();
        while let Some(row) = rows.next()? {
            bindings.push(json(row, 0, "binding.binding")?);
        }
        Ok(bindings)
    }

    fn save_bindings(&mut self, bindings: &[Binding]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        for binding in bindings {
            transaction.execute(
                "INSERT INTO binding (machine, binding) VALUES (?1, ?2) ON CONFLICT (machine) DO UPDATE SET binding = ?2",
                params![key_of(binding)?, text("binding.binding", binding)?],
            )?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn delete_binding(&self, binding: &Binding) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM binding WHERE machine = ?1", [key_of(binding)?])?;
        Ok(())
    }

    fn secrets(&self) -> Result<Vec<SecretRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT name, changed FROM secret ORDER BY name")?;
        let rows = statement.query_map([], |row| {
            Ok(SecretRow {
                name: row.get(0)?,
                changed: row.get(1)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn sealed_secret(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sealed = self
            .connection
            .query_row("SELECT sealed FROM secret WHERE name = ?1", [name], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(sealed)
    }

    fn save_secret(&self, row: &SecretRow, sealed: &[u8]) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO secret (name, sealed, changed) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET sealed = ?2, changed = ?3",
            params![row.name, sealed, row.changed],
        )?;
        Ok(())
    }

    fn add_secret(&self, row: &SecretRow, sealed: &[u8]) -> Result<bool, StoreError> {
        let added = self.connection.execute(
            "INSERT INTO secret (name, sealed, changed) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO NOTHING",
            params![row.name, sealed, row.changed],
        )?;
        Ok(added > 0)
    }

    fn delete_secret(&self, name: &str) -> Result<bool, StoreError> {
        let gone = self
            .connection
            .execute("DELETE FROM secret WHERE name = ?1", [name])?;
        Ok(gone > 0)
    }

    fn job_secrets(&self, job: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let sealed = self
            .connection
            .query_row(
                "SELECT sealed FROM job_secret WHERE job = ?1",
                [number(job)?],
                |row| row.get(0),
            )
            .optional()?;
        Ok(sealed)
    }

    fn save_job_secrets(&self, job: u64, sealed: &[u8]) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO job_secret (job, sealed) VALUES (?1, ?2) ON CONFLICT (job) DO UPDATE SET sealed = ?2",
            params![number(job)?, sealed],
        )?;
        Ok(())
    }

    fn delete_job_secrets(&self, job: u64) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM job_secret WHERE job = ?1", [number(job)?])?;
        Ok(())
    }

    fn findings(&self, root: &str) -> Result<Option<Findings>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT findings FROM inspection WHERE root = ?1 AND version = ?2")?;
        let mut rows = statement.query(params![root, FINDINGS_VERSION])?;
        match rows.next()? {
            Some(row) => Ok(Some(json(row, 0, "inspection.findings")?)),
            None => Ok(None),
        }
    }

    fn save_findings(&self, root: &str, findings: &Findings) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO inspection (root, version, findings) VALUES (?1, ?2, ?3)
             ON CONFLICT (root) DO UPDATE SET version = ?2, findings = ?3",
            params![
                root,
                FINDINGS_VERSION,
                text("inspection.findings", findings)?
            ],
        )?;
        Ok(())
    }
}

/// The bytes that were drawn once for this machine: cards and UUIDs change, and several machines may be known by one dock.
fn key_of(binding: &Binding) -> Result<String, StoreError> {
    text("binding.seed", &binding.seed)
}

fn number(job: u64) -> Result<i64, StoreError> {
    i64::try_from(job).map_err(|_| StoreError::Range(job))
}

impl Store {
    /// Every name and address that was handed out.
    pub async fn bindings(&self) -> Result<Vec<Binding>, StoreError> {
        self.call(|db| db.bindings()).await
    }

    /// Adds bindings or replaces those of the same machines, all or none.
    pub async fn save_bindings(&self, bindings: Vec<Binding>) -> Result<(), StoreError> {
        self.call(move |db| db.save_bindings(&bindings)).await
    }

    /// Gives a name and address back.
    pub async fn delete_binding(&self, binding: Binding) -> Result<(), StoreError> {
        self.call(move |db| db.delete_binding(&binding)).await
    }

    /// Every secret, by name, without its value.
    pub async fn secrets(&self) -> Result<Vec<SecretRow>, StoreError> {
        self.call(|db| db.secrets()).await
    }

    /// A secret as it is sealed.
    pub async fn sealed_secret(&self, name: String) -> Result<Option<Vec<u8>>, StoreError> {
        self.call(move |db| db.sealed_secret(&name)).await
    }

    /// Adds a secret or replaces it.
    pub async fn save_secret(&self, row: SecretRow, sealed: Vec<u8>) -> Result<(), StoreError> {
        self.call(move |db| db.save_secret(&row, &sealed)).await
    }

    /// Adds a secret under a name that none has; says whether it did.
    pub async fn add_secret(&self, row: SecretRow, sealed: Vec<u8>) -> Result<bool, StoreError> {
        self.call(move |db| db.add_secret(&row, &sealed)).await
    }

    /// Forgets a secret; says whether there was one.
    pub async fn delete_secret(&self, name: String) -> Result<bool, StoreError> {
        self.call(move |db| db.delete_secret(&name)).await
    }

    /// What a job needs to go on after a restart, as it is sealed.
    pub async fn job_secrets(&self, job: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.call(move |db| db.job_secrets(job)).await
    }

    /// Keeps what a job needs to go on.
    pub async fn save_job_secrets(&self, job: u64, sealed: Vec<u8>) -> Result<(), StoreError> {
        self.call(move |db| db.save_job_secrets(job, &sealed)).await
    }

    /// Forgets it, without waiting for the disk; a failure is logged.
    pub async fn forget_job_secrets(&self, job: u64) {
        let call: Call = Box::new(move |database| {
            if let Err(error) = database.delete_job_secrets(job) {
                tracing::error!(job, %error, "sealed secrets of the job not removed");
            }
        });
        if self.calls.send(call).await.is_err() {
            tracing::error!(
                job,
                "sealed secrets of the job not removed: the store has stopped"
            );
        }
    }

    /// What was found in the image with this root.
    pub async fn findings(&self, root: String) -> Result<Option<Findings>, StoreError> {
        self.call(move |db| db.findings(&root)).await
    }

    /// Remembers what was found in an image.
    pub async fn save_findings(&self, root: String, findings: Findings) -> Result<(), StoreError> {
        self.call(move |db| db.save_findings(&root, &findings))
            .await
    }
}
