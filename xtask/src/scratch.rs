//! A folder that is removed with its owner, on success and on failure.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::Failure;

/// A new empty folder, removed with its contents when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes a folder under `parent`, named after `label` and this process.
    pub(crate) fn new(parent: &Path, label: &str) -> Result<Self, Failure> {
        let path = parent.join(format!("diskcast-{label}-{}", std::process::id()));
        // Left by a killed process with the same id.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)
            .map_err(|error| Failure::new(format!("making {}: {error}", path.display())))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A path inside, as text for command lines.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
