//! A folder or a file that appears whole or not at all.
//!
//! It is written beside its place under a name that contains the process id, then renamed.
//! Leftovers of a process that was killed are removed by the next one.

use crate::bundle::{BundleError, at};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A temporary path beside the target; removed when dropped, unless it was put in place.
pub(super) struct Beside {
    target: PathBuf,
    partial: PathBuf,
    placed: bool,
}

impl Beside {
    /// Makes a free name beside `target`, and removes the leftovers of ended processes.
    pub(super) fn new(target: &Path) -> Result<Self, BundleError> {
        let refused = || BundleError::Refused {
            message: format!("{} names no file", target.display()),
            hint: "give a path with a name at its end".to_owned(),
        };
        let target = std::path::absolute(target).map_err(at("finding", target))?;
        let name = target
            .file_name()
            .ok_or_else(refused)?
            .to_string_lossy()
            .into_owned();
        let parent = target.parent().ok_or_else(refused)?;
        std::fs::create_dir_all(parent).map_err(at("making", parent))?;
        let prefix = format!(".{name}.partial-");
        for entry in std::fs::read_dir(parent)
            .map_err(at("reading", parent))?
            .flatten()
        {
            let owner = entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_prefix(&prefix)?.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                remove(&entry.path());
            }
        }
        let partial = parent.join(format!("{prefix}{}", std::process::id()));
        remove(&partial);
        Ok(Self {
            target,
            partial,
            placed: false,
        })
    }

    /// The path to write to.
    pub(super) fn path(&self) -> &Path {
        &self.partial
    }

    /// The final path.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Replaces the target with the written file or folder, in one step where the file system can.
    pub(super) fn place(mut self) -> Result<(), BundleError> {
        let exchanged = self.target.is_dir()
            && renameat_with(CWD, &self.partial, CWD, &self.target, RenameFlags::EXCHANGE).is_ok();
        if !exchanged {
            if self.target.is_dir() {
                remove(&self.target);
            }
            std::fs::rename(&self.partial, &self.target)
                .map_err(at("renaming to", &self.target))?;
        }
        self.placed = !exchanged;
        if let Some(parent) = self.target.parent() {
            sync(parent).map_err(at("syncing", parent))?;
        }
        // After an exchange the partial name is the old folder, which `drop` removes.
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.placed {
            remove(&self.partial);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a folder is synced by its own handle"
)]
fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Best effort: a leftover is hidden, and removed by the next run.
fn remove(path: &Path) {
    let _ = match std::fs::symlink_metadata(path) {
        Ok(facts) if facts.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => Ok(()),
    };
}
