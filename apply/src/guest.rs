//! Files below the root of a mounted guest.
//!
//! Owns every access to a guest's files. No path, and no symbolic link or `..` of the guest, leads
//! out of its root: every path is opened by `openat2` with `RESOLVE_IN_ROOT`, which resolves
//! absolute links inside the root, and created, renamed and removed entries are named by a
//! directory handle and one name. A written file appears whole: a temporary file is flushed, then
//! renamed over the old one, with the old one's owner, mode and extended attributes. A symbolic
//! link in the place of such a file is replaced, never followed. Only regular files are read.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Stat, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
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

/// Extended attribute with the SELinux label.
const LABEL: &str = "security.selinux";

/// Largest extended attribute that is carried over, in bytes (the kernel's own limit is 64 KiB).
const MAX_XATTR: usize = 64 * 1024;

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
    pub(crate) fn new(at: &Path) -> Result<Self, String> {
        let root = rustix::fs::open(
            at,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        )
        .map_err(|error| format!("{}: {}", at.display(), io::Error::from(error)))?;
        Ok(Self {
            root,
            covered: Vec::new(),
        })
    }

    /// The same root, with folders that must not be written to.
    pub(crate) fn with_covered(&self, covered: Vec<String>) -> Result<Self, String> {
        let root = rustix::io::dup(&self.root).map_err(|error| named("/", error))?;
        Ok(Self { root, covered })
    }

    /// Refuses a path that the running system would not see.
    pub(crate) fn check_reachable(&self, path: &str) -> Result<(), String> {
        let hidden = self.covered.iter().find(|folder| {
            path.strip_prefix(folder.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        match hidden {
            None => Ok(()),
            Some(folder) => Err(format!(
                "{path}: the system mounts another file system at {folder}, which is not an ext or XFS partition of this \
                 disk named in /etc/fstab by UUID or label; name it so on the master"
            )),
        }
    }

    /// Resolved path of a folder, as the kernel reports it; `None` if there is no such folder.
    pub(crate) fn real_folder(&self, path: &str) -> Result<Option<PathBuf>, String> {
        let folder = match self.openat2(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(named(path, error)),
        };
        let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
        std::fs::read_link(&link)
            .map(Some)
            .map_err(|error| format!("{path}: {error}"))
    }

    /// Content of a regular file; symbolic links are followed inside the root. `None` if there is
    /// no such file.
    pub(crate) fn read(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, String> {
        let Some(file) = self.open(path)? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        file.take(max.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(|error| format!("{path}: {error}"))?;
        if u64::try_from(content.len()).unwrap_or(u64::MAX) > max {
            return Err(format!("{path} is larger than {max} bytes"));
        }
        Ok(Some(content))
    }

    /// Opens a regular file for reading; `None` if there is no such file.
    pub(crate) fn open(&self, path: &str) -> Result<Option<File>, String> {
        // NONBLOCK: opening a FIFO would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.openat2(path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(named(path, error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| named(path, error))?;
        if kind_of(&stat) != Kind::File {
            return Err(format!("{path} is not a regular file"));
        }
        Ok(Some(File::from(file)))
    }

    /// Metadata of a path; a symbolic link at its end is not followed. `None` if nothing is there.
    pub(crate) fn metadata(&self, path: &str) -> Result<Option<Metadata>, String> {
        let Some((parent, name)) = self.parent(path)? else {
            return Ok(None);
        };
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(metadata_of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(named(path, error)),
        }
    }

    /// True if the path exists; links are followed inside the root.
    pub(crate) fn exists(&self, path: &str) -> Result<bool, String> {
        match self.openat2(path, OFlags::PATH, Mode::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(error) => Err(named(path, error)),
        }
    }

    /// Target of a symbolic link; `None` if the path is not a link.
    pub(crate) fn link_target(&self, path: &str) -> Result<Option<String>, String> {
        let Some((parent, name)) = self.parent(path)? else {
            return Ok(None);
        };
        match rustix::fs::readlinkat(&parent, name, Vec::new()) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(named(path, error)),
        }
    }

    /// Names in a directory, sorted; empty if there is no such directory. Names that are not UTF-8
    /// are left out.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        self.each_name(path, |name| {
            if names.len() >= MAX_ENTRIES {
                return Err(format!("{path} has more than {MAX_ENTRIES} entries"));
            }
            names.push(name.to_owned());
            Ok(true)
        })?;
        names.sort();
        Ok(names)
    }

    /// At most two names in a directory that `like` accepts, however many there are; empty if there
    /// is no such directory.
    pub(crate) fn two_like(
        &self,
        path: &str,
        like: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, String> {
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
    fn each_name(
        &self,
        path: &str,
        mut look: impl FnMut(&str) -> Result<bool, String>,
    ) -> Result<(), String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = match self.openat2(path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(named(path, error)),
        };
        for entry in Dir::read_from(&directory).map_err(|error| named(path, error))? {
            let entry = entry.map_err(|error| named(path, error))?;
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

    /// Begins a file that appears under its name only when it is finished.
    pub(crate) fn create(&self, path: &str, new: Owner) -> Result<NewFile, String> {
        let (parent, name) = self
            .parent(path)?
            .ok_or_else(|| format!("{path}: its folder does not exist"))?;
        let old = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(metadata_of(&stat)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(named(path, error)),
        };
        if old.is_some_and(|old| old.kind == Kind::Directory) {
            return Err(format!("{path} is a directory"));
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
        .map_err(|error| named(path, error))?;
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
    pub(crate) fn write(&self, path: &str, content: &[u8], new: Owner) -> Result<(), String> {
        let mut file = self.create(path, new)?;
        file.file
            .write_all(content)
            .map_err(|error| full(path, &error))?;
        file.finish()
    }

    /// Writes over an existing regular file without replacing it: the inode stays, and with it what
    /// NTFS keeps there (its security descriptor). Not atomic.
    pub(crate) fn overwrite(&self, path: &str, content: &[u8]) -> Result<(), String> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self
            .openat2(path, flags, Mode::empty())
            .map_err(|error| named(path, error))?;
        let stat = rustix::fs::fstat(&file).map_err(|error| named(path, error))?;
        if kind_of(&stat) != Kind::File {
            return Err(format!("{path} is not a regular file"));
        }
        let length = u64::try_from(content.len()).map_err(|error| format!("{path}: {error}"))?;
        let mut file = File::from(file);
        file.write_all(content)
            .and_then(|()| file.set_len(length))
            .and_then(|()| file.sync_all())
            .map_err(|error| full(path, &error))
    }

    /// Creates a directory and its parents; existing ones stay unchanged.
    pub(crate) fn create_directories(&self, path: &str, new: Owner) -> Result<(), String> {
        let mut so_far = String::new();
        for name in components(path)? {
            so_far.push('/');
            so_far.push_str(name);
            if self.exists(&so_far)? {
                continue;
            }
            let (parent, name) = self
                .parent(&so_far)?
                .ok_or_else(|| format!("{so_far}: its folder does not exist"))?;
            rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))
                .map_err(|error| named(&so_far, error))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(&parent, name, flags, Mode::empty())
                .map_err(|error| named(&so_far, error))?;
            label_like(&parent, &made);
            set_owner(made.as_fd(), new).map_err(|error| named(&so_far, error))?;
            rustix::fs::fsync(&made).map_err(|error| named(&so_far, error))?;
        }
        Ok(())
    }

    /// Creates a symbolic link and replaces what has its name.
    pub(crate) fn link(&self, path: &str, target: &str) -> Result<(), String> {
        self.remove(path)?;
        let (parent, name) = self
            .parent(path)?
            .ok_or_else(|| format!("{path}: its folder does not exist"))?;
        rustix::fs::symlinkat(target, &parent, name).map_err(|error| named(path, error))?;
        sync_directory(&parent).map_err(|error| named(path, error))
    }

    /// Removes a file or a symbolic link (never its target); no error if there is none.
    pub(crate) fn remove(&self, path: &str) -> Result<(), String> {
        let Some((parent, name)) = self.parent(path)? else {
            return Ok(());
        };
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) => sync_directory(&parent).map_err(|error| named(path, error)),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(named(path, error)),
        }
    }

    /// Renames a file or directory inside the root. An entry with the new name is replaced.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), String> {
        let (old, old_name) = self
            .parent(from)?
            .ok_or_else(|| format!("{from}: its folder does not exist"))?;
        let (new, new_name) = self
            .parent(to)?
            .ok_or_else(|| format!("{to}: its folder does not exist"))?;
        rustix::fs::renameat(&old, old_name, &new, new_name).map_err(|error| named(from, error))?;
        sync_directory(&new)
            .and_then(|()| sync_directory(&old))
            .map_err(|error| named(to, error))
    }

    /// Sets owner and mode of a file or directory; a symbolic link is refused.
    pub(crate) fn own(&self, path: &str, owner: Owner) -> Result<(), String> {
        let (parent, name) = self
            .parent(path)?
            .ok_or_else(|| format!("{path}: its folder does not exist"))?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::empty())
            .map_err(|error| named(path, error))?;
        set_owner(file.as_fd(), owner)
            .and_then(|()| rustix::fs::fsync(&file))
            .map_err(|error| named(path, error))
    }

    /// Value of an extended attribute of a file or directory; `None` if there is no such attribute.
    pub(crate) fn attribute(&self, path: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
        let file = self
            .openat2(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
            .map_err(|error| named(path, error))?;
        Ok(attribute_of(file.as_fd(), name))
    }

    /// Sets an extended attribute of a file or directory.
    pub(crate) fn set_attribute(&self, path: &str, name: &str, value: &[u8]) -> Result<(), String> {
        let file = self
            .openat2(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
            .map_err(|error| named(path, error))?;
        rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())
            .and_then(|()| rustix::fs::fsync(&file))
            .map_err(|error| format!("{path}: attribute {name}: {}", io::Error::from(error)))
    }

    /// Free bytes in the file system of an existing folder.
    pub(crate) fn free_bytes(&self, folder: &str) -> Result<u64, String> {
        let directory = self
            .openat2(folder, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(|error| named(folder, error))?;
        let stat = rustix::fs::fstatvfs(&directory).map_err(|error| named(folder, error))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Handle of the parent folder of a path, and the last name; `None` if the folder does not
    /// exist.
    fn parent<'p>(&self, path: &'p str) -> Result<Option<(OwnedFd, &'p str)>, String> {
        let parts = components(path)?;
        let Some((name, above)) = parts.split_last() else {
            return Err(format!("{path:?} names no file"));
        };
        let folder = format!("/{}", above.join("/"));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match self.openat2(&folder, flags, Mode::empty()) {
            Ok(parent) => Ok(Some((parent, name))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(named(&folder, error)),
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
    fn dress(&mut self, old: Option<Metadata>, new: Owner) -> Result<(), String> {
        let told = |error| named(&self.path, error);
        let Some(old) = old else {
            label_like(&self.parent, &self.file);
            return set_owner(self.file.as_fd(), new).map_err(told);
        };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(&self.parent, self.name.as_str(), flags, Mode::empty())
            .map_err(told)?;
        set_owner(self.file.as_fd(), old.owner).map_err(told)?;
        for name in attribute_names(source.as_fd()) {
            if let Some(value) = attribute_of(source.as_fd(), &name) {
                rustix::fs::fsetxattr(&self.file, name.as_str(), &value, XattrFlags::empty())
                    .map_err(|error| {
                        format!(
                            "{}: attribute {name}: {}",
                            self.path,
                            io::Error::from(error)
                        )
                    })?;
            }
        }
        Ok(())
    }

    /// Flushes the file and gives it its final name.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        self.file
            .sync_all()
            .map_err(|error| full(&self.path, &error))?;
        if let Some(temporary) = self.temporary.as_deref() {
            rustix::fs::renameat(&self.parent, temporary, &self.parent, self.name.as_str())
                .map_err(|error| named(&self.path, error))?;
        }
        self.temporary = None;
        sync_directory(&self.parent).map_err(|error| named(&self.path, error))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.as_deref() {
            let _ = rustix::fs::unlinkat(&self.parent, temporary, AtFlags::empty());
        }
    }
}

/// Names between the slashes. `.` and `..` are refused: no plan needs them.
fn components(path: &str) -> Result<Vec<&str>, String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) || path.contains('\0') {
        return Err(format!("{path:?} is not a plain path"));
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

fn attribute_names(file: BorrowedFd<'_>) -> Vec<String> {
    let mut buffer = vec![0_u8; MAX_XATTR];
    let Ok(length) = rustix::fs::flistxattr(file, &mut buffer[..]) else {
        return Vec::new();
    };
    buffer
        .get(..length)
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| std::str::from_utf8(name).ok().map(str::to_owned))
        .collect()
}

fn attribute_of(file: BorrowedFd<'_>, name: &str) -> Option<Vec<u8>> {
    let mut buffer = vec![0_u8; MAX_XATTR];
    let length = rustix::fs::fgetxattr(file, name, &mut buffer[..]).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

/// Copies the SELinux label of the folder to a new entry, which is right for most of `/etc`; an
/// enforcing system relabels itself besides.
fn label_like(folder: &impl AsFd, new: &impl AsFd) {
    if let Some(label) = attribute_of(folder.as_fd(), LABEL) {
        let _ = rustix::fs::fsetxattr(new, LABEL, &label, XattrFlags::empty());
    }
}

fn sync_directory(directory: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::fsync(directory) {
        // Not every FUSE file system supports it; unmounting writes everything anyway.
        Err(Errno::INVAL | Errno::NOSYS) => Ok(()),
        other => other,
    }
}

fn named(path: &str, error: Errno) -> String {
    match error {
        Errno::NOSPC => no_room(path),
        Errno::ROFS => format!("{path}: the volume is read-only"),
        _ => format!("{path}: {}", io::Error::from(error)),
    }
}

fn full(path: &str, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::StorageFull {
        return no_room(path);
    }
    format!("{path}: {error}")
}

fn no_room(path: &str) -> String {
    format!(
        "{path}: no room left on the volume; free some on the master, or let the partition grow"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
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
            assert_eq!(guest.read(path, 100), Ok(None), "{path}");
        }
        assert_eq!(guest.read("/../outside", 100), Ok(None));
        guest.write("/etc/up", b"guest", me(0o640)).unwrap();
        guest.remove("/etc/absolute").unwrap();
        assert!(guest.write("/folder/outside", b"x", me(0o644)).is_err());
        assert!(guest.own("/etc/magic", me(0o777)).is_err());
        assert_eq!(fs::read(folder.path().join("outside")).unwrap(), b"host");
        assert_eq!(guest.read("/etc/up", 100), Ok(Some(b"guest".to_vec())));
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
                .contains("not a regular file")
        );
        assert!(guest.read("/", 10).is_err());
        assert!(
            guest
                .read("/file", 4)
                .unwrap_err()
                .contains("larger than 4 bytes")
        );
        assert_eq!(guest.read("/file", 5), Ok(Some(b"12345".to_vec())));
        assert_eq!(guest.read("/none/file", 5), Ok(None));
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
        assert_eq!(guest.list("/"), Ok(vec!["file".to_owned()]));
        assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"old");
        guest.overwrite("/file", b"n").unwrap();
        assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"n");
    }
}
