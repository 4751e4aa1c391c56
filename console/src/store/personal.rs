//! Stored data of templates: bindings, sealed secrets, and findings of images.
//!
//! Rows in and out, as in [`super::database`]; sealed values are never opened here.

use super::database::{Database, StoreError, json, text};
use super::{Call, Store};
use rusqlite::{OptionalExtension, params};
use template::bind::Binding;
use template::findings::Findings;

/// Version of the findings. It is raised when inspection learns to find more; older findings are
/// then ignored.
const FINDINGS_VERSION: i64 = 6;

/// A secret, without its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretRow {
    /// Name of the secret.
    pub name: String,
    /// Time of its last change, RFC 3339.
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

/// Returns the key of a binding: the random bytes drawn once for its machine. Cards and UUIDs can
/// change, and several machines may share a dock.
fn key_of(binding: &Binding) -> Result<String, StoreError> {
    text("binding.seed", &binding.seed)
}

fn number(job: u64) -> Result<i64, StoreError> {
    i64::try_from(job).map_err(|_| StoreError::Range(job))
}

impl Store {
    /// Returns the bindings: every name and address that was handed out.
    pub async fn bindings(&self) -> Result<Vec<Binding>, StoreError> {
        self.call(|db| db.bindings()).await
    }

    /// Stores bindings, all or none; replaces those of the same machines.
    pub async fn save_bindings(&self, bindings: Vec<Binding>) -> Result<(), StoreError> {
        self.call(move |db| db.save_bindings(&bindings)).await
    }

    /// Deletes a binding, so that its name and address are free.
    pub async fn delete_binding(&self, binding: Binding) -> Result<(), StoreError> {
        self.call(move |db| db.delete_binding(&binding)).await
    }

    /// Returns every secret, by name, without its value.
    pub async fn secrets(&self) -> Result<Vec<SecretRow>, StoreError> {
        self.call(|db| db.secrets()).await
    }

    /// Returns the sealed value of a secret.
    pub async fn sealed_secret(&self, name: String) -> Result<Option<Vec<u8>>, StoreError> {
        self.call(move |db| db.sealed_secret(&name)).await
    }

    /// Stores a secret; replaces the one of the same name.
    pub async fn save_secret(&self, row: SecretRow, sealed: Vec<u8>) -> Result<(), StoreError> {
        self.call(move |db| db.save_secret(&row, &sealed)).await
    }

    /// Stores a secret under an unused name; returns false if the name is in use.
    pub async fn add_secret(&self, row: SecretRow, sealed: Vec<u8>) -> Result<bool, StoreError> {
        self.call(move |db| db.add_secret(&row, &sealed)).await
    }

    /// Deletes a secret; returns false if there was none.
    pub async fn delete_secret(&self, name: String) -> Result<bool, StoreError> {
        self.call(move |db| db.delete_secret(&name)).await
    }

    /// Returns the sealed secrets that a job needs after a restart.
    pub async fn job_secrets(&self, job: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.call(move |db| db.job_secrets(job)).await
    }

    /// Stores the sealed secrets that a job needs after a restart.
    pub async fn save_job_secrets(&self, job: u64, sealed: Vec<u8>) -> Result<(), StoreError> {
        self.call(move |db| db.save_job_secrets(job, &sealed)).await
    }

    /// Deletes the secrets of a job without waiting for the disk; a failure is logged.
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

    /// Returns the findings of the image with this root.
    pub async fn findings(&self, root: String) -> Result<Option<Findings>, StoreError> {
        self.call(move |db| db.findings(&root)).await
    }

    /// Stores the findings of an image.
    pub async fn save_findings(&self, root: String, findings: Findings) -> Result<(), StoreError> {
        self.call(move |db| db.save_findings(&root, &findings))
            .await
    }
}
