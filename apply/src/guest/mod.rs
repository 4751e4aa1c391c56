//! Files below the root of a mounted guest.
//!
//! Owns every access to a guest's files. No path, and no symbolic link or `..` of the guest, leads
//! out of its root: every path is opened by `openat2` with `RESOLVE_IN_ROOT`, which resolves
//! absolute links inside the root, and created, renamed and removed entries are named by a
//! directory handle and one name. A written file appears whole: a temporary file is flushed, then
//! renamed over the old one, with the old one's owner, mode and extended attributes. A symbolic
//! link in the place of such a file is replaced, never followed. Only regular files are read.
//!
//! Here is the way to a path, and reading; `write` has the changes, `attributes` the extended
//! attributes.

mod attributes;
mod write;

pub(crate) use write::NewFile;

use crate::error::{At, Result, StepError};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Owner and mode of a new file or directory. An existing one keeps its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Owner {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Permission bits.
    pub(crate) mode: u32,
}

impl Owner {
    /// Owner root, group root, with these permission bits.
    pub(crate) const fn root(mode: u32) -> Self {
        Self {
            uid: 0,
            gid: 0,
            mode,
        }
    }
}

/// Type of a directory entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// Anything else.
    Other,
}

/// Metadata of an entry; a symbolic link is not followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Metadata {
    /// Type.
    pub(crate) kind: Kind,
    /// Owner and permission bits.
    pub(crate) owner: Owner,
    /// Length in bytes.
    pub(crate) length: u64,
}

/// Most entries of one directory that are read; a larger directory is refused as hostile.
const MAX_ENTRIES: usize = 100_000;

/// A mounted root.
#[derive(Debug)]
pub(crate) struct Guest {
    root: OwnedFd,
    /// Folders over which the running system mounts another file system that could not be mounted
    /// here.
    covered: Vec<String>,
}

impl Guest {
    /// Opens the root at a mount point.
    pub(crate) fn new(at: &Path) -> Result<Self> {
        let root = rustix::fs::open(
            at,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        )
        .at(at.display())?;
        Ok(Self {
            root,
            covered: Vec::new(),
        })
    }

    /// The same root, with folders that must not be written to.
    pub(crate) fn with_covered(&self, covered: Vec<String>) -> Result<Self> {
        let root = rustix::io::dup(&self.root).at("/")?;
        Ok(Self { root, covered })
    }

    /// Refuses a path that the running system would not see.
    pub(crate) fn check_reachable(&self, path: &str) -> Result<()> {
        let hidden = self.covered.iter().find(|folder| {
            path.strip_prefix(folder.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        match hidden {
            None => Ok(()),
            Some(folder) => Err(StepError::refused(
                format!(
                    "{path}: the system mounts another file system at {folder}, which is not an ext or XFS partition of \
                     this disk named in /etc/fstab by UUID or label"
                ),
                "name it so on the master",
            )),
        }
    }

    /// Resolved path of a folder, as the kernel reports it; `None` if there is no such folder.
    pub(crate) fn real_folder(&self, path: &str) -> Result<Option<PathBuf>> {
        let folder = match self.openat2(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error).at(path),
        };
        let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
        std::fs::read_link(&link).map(Some).at(path)
    }

    /// Content of a regular file; symbolic links are followed inside the root. `None` if there is
    /// no such file.
    pub(crate) fn read(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open(path)? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        file.take(max.saturating_add(1))
            .read_to_end(&mut content)
            .at(path)?;
        if u64::try_from(content.len()).unwrap_or(u64::MAX) > max {
            let fault = format!("it is larger than {max} bytes");
            return Err(StepError::unexpected(path, fault));
        }
        Ok(Some(content))
    }

    /// Opens a regular file for reading; `None` if there is no such file.
    pub(crate) fn open(&self, path: &str) -> Result<Option<File>> {
        // NONBLOCK: opening a FIFO would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.openat2(path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error).at(path),
        };
        let stat = rustix::fs::fstat(&file).at(path)?;
        if kind_of(&stat) != Kind::File {
            return Err(StepError::unexpected(path, "it is not a regular file"));
        }
        Ok(Some(File::from(file)))
    }

    /// Metadata of a path; a symbolic link at its end is not followed. `None` if nothing is there.
    pub(crate) fn metadata(&self, path: &str) -> Result<Option<Metadata>> {
        let Some((parent, name)) = self.parent(path)? else {
            return Ok(None);
        };
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(metadata_of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).at(path),
        }
    }

    /// True if the path exists; links are followed inside the root.
    pub(crate) fn exists(&self, path: &str) -> Result<bool> {
        match self.openat2(path, OFlags::PATH, Mode::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(error) => Err(error).at(path),
        }
    }

    /// Target of a symbolic link; `None` if the path is not a link.
    pub(crate) fn link_target(&self, path: &str) -> Result<Option<String>> {
        let Some((parent, name)) = self.parent(path)? else {
            return Ok(None);
        };
        match rustix::fs::readlinkat(&parent, name, Vec::new()) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(error).at(path),
        }
    }

    /// Names in a directory, sorted; empty if there is no such directory. Names that are not UTF-8
    /// are left out.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.each_name(path, |name| {
            if names.len() >= MAX_ENTRIES {
                let fault = format!("it has more than {MAX_ENTRIES} entries");
                return Err(StepError::unexpected(path, fault));
            }
            names.push(name.to_owned());
            Ok(true)
        })?;
        names.sort();
        Ok(names)
    }

    /// At most two names in a directory that `like` accepts, however many there are; empty if there
    /// is no such directory.
    pub(crate) fn two_like(&self, path: &str, like: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.each_name(path, |name| {
            if like(name) {
                names.push(name.to_owned());
            }
            Ok(names.len() < 2)
        })?;
        names.sort();
        Ok(names)
    }

    /// Passes the names in a directory to a function until it returns false. Names that are not
    /// UTF-8 are left out.
    fn each_name(&self, path: &str, mut look: impl FnMut(&str) -> Result<bool>) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = match self.openat2(path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(error).at(path),
        };
        for entry in Dir::read_from(&directory).at(path)? {
            let entry = entry.at(path)?;
            let more = match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => true,
                Ok(name) => look(name)?,
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Free bytes in the file system of an existing folder.
    pub(crate) fn free_bytes(&self, folder: &str) -> Result<u64> {
        let directory = self
            .openat2(folder, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .at(folder)?;
        let stat = rustix::fs::fstatvfs(&directory).at(folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Handle of the parent folder of a path, and the last name; `None` if the folder does not
    /// exist.
    fn parent<'p>(&self, path: &'p str) -> Result<Option<(OwnedFd, &'p str)>> {
        let parts = components(path)?;
        let Some((name, above)) = parts.split_last() else {
            return Err(StepError::unexpected(path, "it names no file"));
        };
        let folder = format!("/{}", above.join("/"));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match self.openat2(&folder, flags, Mode::empty()) {
            Ok(parent) => Ok(Some((parent, name))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error).at(&folder),
        }
    }

    fn openat2(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: a rename elsewhere on the machine raced with the walk (openat2(2)).
        for _ in 0..16 {
            match rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }
}

/// Names between the slashes. `.` and `..` are refused: no plan needs them.
fn components(path: &str) -> Result<Vec<&str>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) || path.contains('\0') {
        return Err(StepError::unexpected(
            format_args!("{path:?}"),
            "it is not a plain path",
        ));
    }
    Ok(parts)
}

fn kind_of(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

fn metadata_of(stat: &Stat) -> Metadata {
    Metadata {
        kind: kind_of(stat),
        owner: Owner {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
        },
        length: u64::try_from(stat.st_size).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    fn me(mode: u32) -> Owner {
        Owner {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            mode,
        }
    }

    #[test]
    fn no_link_leads_out_and_one_in_a_files_place_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(folder.path().join("outside"), "host").unwrap();
        symlink("../../outside", root.join("etc/up")).unwrap();
        symlink(folder.path().join("outside"), root.join("etc/absolute")).unwrap();
        symlink("/proc/self/root", root.join("etc/magic")).unwrap();
        symlink(folder.path(), root.join("folder")).unwrap();
        let guest = Guest::new(&root).unwrap();
        for path in [
            "/etc/up",
            "/etc/absolute",
            "/etc/magic/etc/passwd",
            "/folder/outside",
        ] {
            assert_eq!(guest.read(path, 100).unwrap(), None, "{path}");
        }
        assert_eq!(guest.read("/../outside", 100).unwrap(), None);
        guest.write("/etc/up", b"guest", me(0o640)).unwrap();
        guest.remove("/etc/absolute").unwrap();
        assert!(guest.write("/folder/outside", b"x", me(0o644)).is_err());
        assert!(guest.own("/etc/magic", me(0o777)).is_err());
        assert_eq!(fs::read(folder.path().join("outside")).unwrap(), b"host");
        assert_eq!(guest.read("/etc/up", 100).unwrap().unwrap(), b"guest");
        assert_eq!(guest.metadata("/etc/up").unwrap().unwrap().owner, me(0o640));
        assert!(guest.write("/etc/../x", b"x", me(0o644)).is_err());
    }

    #[test]
    fn what_is_no_file_or_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let guest = Guest::new(folder.path()).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), Mode::RUSR).unwrap();
        fs::write(folder.path().join("file"), "12345").unwrap();
        assert!(
            guest
                .read("/pipe", 10)
                .unwrap_err()
                .to_string()
                .contains("not a regular file")
        );
        assert!(guest.read("/", 10).is_err());
        assert!(
            guest
                .read("/file", 4)
                .unwrap_err()
                .to_string()
                .contains("larger than 4 bytes")
        );
        assert_eq!(guest.read("/file", 5).unwrap().unwrap(), b"12345");
        assert_eq!(guest.read("/none/file", 5).unwrap(), None);
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing_and_one_left_earlier_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        let guest = Guest::new(folder.path()).unwrap();
        fs::write(folder.path().join(".diskcast-new.file"), "cut off").unwrap();
        fs::write(folder.path().join("file"), "old").unwrap();
        let mut new = guest.create("/file", me(0o600)).unwrap();
        new.file.write_all(b"half").unwrap();
        drop(new);
        assert_eq!(guest.list("/").unwrap(), ["file"]);
        assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"old");
        guest.overwrite("/file", b"n").unwrap();
        assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"n");
    }
}
