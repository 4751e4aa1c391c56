//! Stored identities: the values that each target is known by, and the values that several machines
//! share.

use super::Store;
use super::database::{Database, StoreError, json, text};
use facts::identity::{Record, Shared, Value};
use rusqlite::params;

/// Changes of identities, stored in one transaction.
#[derive(Clone, Debug, Default)]
pub struct IdentityRows {
    /// Targets with their identity records.
    pub records: Vec<(String, Record)>,
    /// Targets that turned out to be another one.
    pub gone: Vec<String>,
    /// Values that several machines share.
    pub shared: Vec<Value>,
    /// Values that belong to one machine after all.
    pub own_again: Vec<Value>,
}

impl Database {
    fn identities(&self) -> Result<(Vec<(String, Record)>, Shared), StoreError> {
        let mut records = Vec::new();
        let mut statement = self
            .connection
            .prepare("SELECT target, record FROM identity ORDER BY target")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            records.push((row.get(0)?, json(row, 1, "identity.record")?));
        }
        let mut shared = Vec::new();
        let mut statement = self
            .connection
            .prepare("SELECT value FROM shared_value ORDER BY value")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            shared.push(json(row, 0, "shared_value.value")?);
        }
        Ok((records, shared.into_iter().collect()))
    }

    fn save_identities(&mut self, changed: &IdentityRows) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        for (target, record) in &changed.records {
            transaction.execute(
                "INSERT INTO identity (target, record) VALUES (?1, ?2) ON CONFLICT (target) DO UPDATE SET record = ?2",
                params![target, text("identity.record", record)?],
            )?;
        }
        for target in &changed.gone {
            transaction.execute("DELETE FROM identity WHERE target = ?1", [target])?;
            transaction.execute("DELETE FROM target WHERE id = ?1", [target])?;
        }
        for value in &changed.shared {
            let value = text("shared_value.value", value)?;
            transaction.execute(
                "INSERT INTO shared_value (value) VALUES (?1) ON CONFLICT (value) DO NOTHING",
                [value],
            )?;
        }
        for value in &changed.own_again {
            let value = text("shared_value.value", value)?;
            transaction.execute("DELETE FROM shared_value WHERE value = ?1", [value])?;
        }
        transaction.commit()?;
        Ok(())
    }
}

impl Store {
    /// Returns the identity records of all targets, and the values that several of them share.
    pub async fn identities(&self) -> Result<(Vec<(String, Record)>, Shared), StoreError> {
        self.call(|db| db.identities()).await
    }

    /// Stores changes of identities, all or none.
    pub async fn save_identities(&self, changed: IdentityRows) -> Result<(), StoreError> {
        self.call(move |db| db.save_identities(&changed)).await
    }
}
