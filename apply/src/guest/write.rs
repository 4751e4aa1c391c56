//! Changes: files that appear whole, folders, links, names and owners.

use super::attributes::{attribute_names, attribute_of, label_like};
use super::{Guest, Kind, Metadata, Owner, components, kind_of, metadata_of};
use crate::error::{At, Result, StepError};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, RawMode, Uid, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;

impl Guest {
    /// Begins a file that appears under its name only when it is finished.
    pub(crate) fn create(&self, path: &str, new: Owner) -> Result<NewFile> {
        let (parent, name) = self.parent(path)?.ok_or_else(|| no_folder(path))?;
        let old = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(metadata_of(&stat)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error).at(path),
        };
        if old.is_some_and(|old| old.kind == Kind::Directory) {
            return Err(StepError::unexpected(path, "it is a directory"));
        }
        let temporary = format!(".diskcast-new.{name}");
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let private = Mode::RUSR | Mode::WUSR;
        let file = match rustix::fs::openat(&parent, temporary.as_str(), flags, private) {
            // Left by an earlier, interrupted run.
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&parent, temporary.as_str(), AtFlags::empty())
                    .and_then(|()| rustix::fs::openat(&parent, temporary.as_str(), flags, private))
            }
            other => other,
        }
        .at(path)?;
        let mut this = NewFile {
            parent,
            temporary: Some(temporary),
            name: name.to_owned(),
            path: path.to_owned(),
            file: File::from(file),
        };
        this.dress(old.filter(|old| old.kind == Kind::File), new)?;
        Ok(this)
    }

    /// Writes a whole file and replaces what has its name.
    pub(crate) fn write(&self, path: &str, content: &[u8], new: Owner) -> Result<()> {
        let mut file = self.create(path, new)?;
        file.file.write_all(content).at(path)?;
        file.finish()
    }

    /// Writes over an existing regular file without replacing it: the inode stays, and with it what
    /// NTFS keeps there (its security descriptor). Not atomic.
    pub(crate) fn overwrite(&self, path: &str, content: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.openat2(path, flags, Mode::empty()).at(path)?;
        let stat = rustix::fs::fstat(&file).at(path)?;
        if kind_of(&stat) != Kind::File {
            return Err(StepError::unexpected(path, "it is not a regular file"));
        }
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let mut file = File::from(file);
        file.write_all(content)
            .and_then(|()| file.set_len(length))
            .and_then(|()| file.sync_all())
            .at(path)
    }

    /// Creates a directory and its parents; existing ones stay unchanged.
    pub(crate) fn create_directories(&self, path: &str, new: Owner) -> Result<()> {
        let mut so_far = String::new();
        for name in components(path)? {
            so_far.push('/');
            so_far.push_str(name);
            if self.exists(&so_far)? {
                continue;
            }
            let (parent, name) = self.parent(&so_far)?.ok_or_else(|| no_folder(&so_far))?;
            rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)).at(&so_far)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(&parent, name, flags, Mode::empty()).at(&so_far)?;
            label_like(&parent, &made);
            set_owner(made.as_fd(), new).at(&so_far)?;
            rustix::fs::fsync(&made).at(&so_far)?;
        }
        Ok(())
    }

    /// Creates a symbolic link and replaces what has its name.
    pub(crate) fn link(&self, path: &str, target: &str) -> Result<()> {
        self.remove(path)?;
        let (parent, name) = self.parent(path)?.ok_or_else(|| no_folder(path))?;
        rustix::fs::symlinkat(target, &parent, name).at(path)?;
        sync_directory(&parent).at(path)
    }

    /// Removes a file or a symbolic link (never its target); no error if there is none.
    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        let Some((parent, name)) = self.parent(path)? else {
            return Ok(());
        };
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) => sync_directory(&parent).at(path),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error).at(path),
        }
    }

    /// Renames a file or directory inside the root. An entry with the new name is replaced.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (old, old_name) = self.parent(from)?.ok_or_else(|| no_folder(from))?;
        let (new, new_name) = self.parent(to)?.ok_or_else(|| no_folder(to))?;
        rustix::fs::renameat(&old, old_name, &new, new_name).at(from)?;
        sync_directory(&new)
            .and_then(|()| sync_directory(&old))
            .at(to)
    }

    /// Sets owner and mode of a file or directory; a symbolic link is refused.
    pub(crate) fn own(&self, path: &str, owner: Owner) -> Result<()> {
        let (parent, name) = self.parent(path)?.ok_or_else(|| no_folder(path))?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::empty()).at(path)?;
        set_owner(file.as_fd(), owner)
            .and_then(|()| rustix::fs::fsync(&file))
            .at(path)
    }
}

/// A file that is being written under a temporary name; removed on drop unless it is finished.
#[derive(Debug)]
pub(crate) struct NewFile {
    parent: OwnedFd,
    temporary: Option<String>,
    name: String,
    path: String,
    /// The temporary file, open for writing.
    pub(crate) file: File,
}

impl NewFile {
    /// Gives the file owner, mode and attributes of the file it replaces, or those of a new one.
    fn dress(&mut self, old: Option<Metadata>, new: Owner) -> Result<()> {
        let Some(old) = old else {
            label_like(&self.parent, &self.file);
            return set_owner(self.file.as_fd(), new).at(&self.path);
        };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(&self.parent, self.name.as_str(), flags, Mode::empty())
            .at(&self.path)?;
        set_owner(self.file.as_fd(), old.owner).at(&self.path)?;
        for name in attribute_names(source.as_fd()) {
            if let Some(value) = attribute_of(source.as_fd(), &name) {
                rustix::fs::fsetxattr(&self.file, name.as_str(), &value, XattrFlags::empty())
                    .at(format_args!("{}: attribute {name}", self.path))?;
            }
        }
        Ok(())
    }

    /// Flushes the file and gives it its final name.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.file.sync_all().at(&self.path)?;
        if let Some(temporary) = self.temporary.as_deref() {
            rustix::fs::renameat(&self.parent, temporary, &self.parent, self.name.as_str())
                .at(&self.path)?;
        }
        self.temporary = None;
        sync_directory(&self.parent).at(&self.path)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.as_deref() {
            let _ = rustix::fs::unlinkat(&self.parent, temporary, AtFlags::empty());
        }
    }
}

fn set_owner(file: BorrowedFd<'_>, owner: Owner) -> Result<(), Errno> {
    // The owner first: changing it clears set-user-id.
    rustix::fs::fchown(
        file,
        Some(Uid::from_raw(owner.uid)),
        Some(Gid::from_raw(owner.gid)),
    )?;
    let mode: RawMode = owner.mode & 0o7777;
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
}

fn sync_directory(directory: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::fsync(directory) {
        // Not every FUSE file system supports it; unmounting writes everything anyway.
        Err(Errno::INVAL | Errno::NOSYS) => Ok(()),
        other => other,
    }
}

fn no_folder(path: &str) -> StepError {
    StepError::unexpected(path, "its folder does not exist")
}
