//! Records of image files that were checked and found whole.
//!
//! Rows in and out, as in [`super::database`].

use super::Store;
use super::database::{Database, StoreError, json, text};
use crate::image_check::CheckRecord;
use rusqlite::params;

impl Database {
    fn image_check(&self, path: &str) -> Result<Option<CheckRecord>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT path, root, files, checked FROM image_check WHERE path = ?1")?;
        let mut rows = statement.query([path])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some(CheckRecord {
            path: row.get(0)?,
            root: row.get(1)?,
            files: json(row, 2, "image_check.files")?,
            checked: row.get(3)?,
        }))
    }

    fn save_image_check(&self, record: &CheckRecord) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT OR REPLACE INTO image_check (path, root, files, checked) VALUES (?1, ?2, ?3, ?4)",
            params![record.path, record.root, text("image_check.files", &record.files)?, record.checked],
        )?;
        Ok(())
    }

    fn delete_image_check(&self, path: &str) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM image_check WHERE path = ?1", [path])?;
        Ok(())
    }
}

impl Store {
    /// Returns the last check without a fault of the image at this path.
    pub async fn image_check(&self, path: String) -> Result<Option<CheckRecord>, StoreError> {
        self.call(move |db| db.image_check(&path)).await
    }

    /// Stores the record of a check without a fault.
    pub async fn save_image_check(&self, record: CheckRecord) -> Result<(), StoreError> {
        self.call(move |db| db.save_image_check(&record)).await
    }

    /// Deletes the record of a check.
    pub async fn delete_image_check(&self, path: String) -> Result<(), StoreError> {
        self.call(move |db| db.delete_image_check(&path)).await
    }
}
