//! Keeps a master unchanged while it is read: nobody else uses it, nobody takes it meanwhile, and
//! it is the same afterwards.
//!
//! Owns the descriptor a capture reads from. A block device is opened for exclusive use: the kernel
//! refuses that when it is mounted in any namespace, used as swap, or held by a volume, and nobody
//! can mount it until the claim is dropped. A regular file has no such claim: every loop device on
//! it is claimed, programs that have it open for writing are searched for, and its size and time
//! are compared before and after. Uses that cannot be detected this way are reported as a note.

use super::{DiskError, device, ground};
use rustix::fs::{AtFlags, CWD, FlockOperation, OFlags, StatxFlags, statx};
use rustix::io::Errno;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Magic numbers (statfs(2)) of file systems on which other machines or programs write unnoticed by
/// this kernel.
const REMOTE_FILE_SYSTEMS: [u64; 7] = [
    FUSE_SUPER_MAGIC,
    0x6969,      // NFS
    0xfe53_4d42, // SMB2
    0xff53_4d42, // CIFS
    0x517b,      // SMB
    0x0102_1997, // 9P
    0x00c3_6400, // Ceph
];

/// A FUSE server may report any time; that of QEMU always reports the present.
const FUSE_SUPER_MAGIC: u64 = 0x6573_5546;

/// Prefixes of block devices whose other end is on the network.
const REMOTE_DEVICES: [&str; 3] = ["nbd", "rbd", "drbd"];

/// A disk or file that is being read, and the claims that keep others from it.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    file: File,
    /// Loop devices on the same file: held, never read.
    _held: Vec<File>,
    /// Files whose size and time must not change, with their first values.
    still: Vec<(PathBuf, File, Stamp)>,
    notes: Vec<String>,
}

/// Size and time of the last change of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    len: u64,
    changed: Option<(i64, i64)>,
}

impl Stamp {
    /// Takes the values of a file; the time only if its file system keeps a meaningful one.
    fn of(meta: &Metadata, timed: bool) -> Self {
        Self {
            len: meta.len(),
            changed: timed.then(|| (meta.mtime(), meta.mtime_nsec())),
        }
    }
}

impl Claim {
    /// Opens the disk or file at `path` for reading and claims it.
    ///
    /// # Errors
    /// [`DiskError::InUse`] with all known users.
    pub(super) fn take(path: &Path) -> Result<Self, DiskError> {
        let meta = device::look(path)?;
        let in_use = |holders| {
            Err(DiskError::InUse {
                path: path.to_owned(),
                holders,
            })
        };
        let users = device::writers_of(path);
        if !users.is_empty() {
            return in_use(users);
        }
        let block = meta.file_type().is_block_device();
        let exclusive = if block {
            OFlags::EXCL
        } else {
            OFlags::NONBLOCK
        };
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(exclusive.bits().cast_signed())
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if is_busy(&error) => return in_use(vec![busy("it")]),
            Err(error) => return Err(DiskError::io("opening", path, error)),
        };
        let mut claim = Self {
            path: path.to_owned(),
            file,
            _held: Vec::new(),
            still: Vec::new(),
            notes: Vec::new(),
        };
        let mut holders = Vec::new();
        if block {
            claim.note_remote_device(&meta);
            // A disk whose bytes are in a file may be used through that file too.
            for backing in ground::backing_files(path) {
                claim.watch(&backing, path, &mut holders);
            }
        } else {
            claim.watch(path, path, &mut holders);
            // Programs that lock the file they write to (ntfs-3g, virtual machines) exclude each
            // other, and us; while this lock is held they refuse to start. Not every file system
            // supports locks.
            let locked = rustix::fs::fcntl_lock(&claim.file, FlockOperation::NonBlockingLockShared);
            if matches!(locked, Err(Errno::ACCESS | Errno::AGAIN)) {
                holders.push("another program has locked it for writing".into());
            }
        }
        holders.extend(open_for_writing(&meta));
        if holders.is_empty() {
            Ok(claim)
        } else {
            in_use(holders)
        }
    }

    /// Open file through which the disk or file is read.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Uses of the disk or file that could not be ruled out, one sentence each.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Checks that the files are the same as when they were claimed.
    ///
    /// # Errors
    /// [`DiskError::Refused`] with the file that changed.
    pub(super) fn check(&self) -> Result<(), DiskError> {
        for (path, file, before) in &self.still {
            let now = file
                .metadata()
                .map_err(|e| DiskError::io("looking at", path, e))?;
            if Stamp::of(&now, before.changed.is_some()) != *before {
                return Err(changed(&self.path, "its size or time is another now"));
            }
        }
        Ok(())
    }

    /// Watches a file: claims every loop device on it except `except`, and remembers size and time.
    fn watch(&mut self, file: &Path, except: &Path, holders: &mut Vec<String>) {
        let Ok(opened) = OpenOptions::new().read(true).open(file) else {
            let file = file.display();
            self.notes.push(format!(
                "{file} cannot be opened: whether it is used besides is not known"
            ));
            return;
        };
        let Ok(meta) = opened.metadata() else {
            return;
        };
        let own = fs::metadata(except).map(|meta| meta.rdev()).unwrap_or(0);
        for name in ground::loops_on(&meta) {
            let node = Path::new("/dev").join(&name);
            if fs::metadata(&node).is_ok_and(|meta| ground::same_disk(meta.rdev(), own)) {
                continue;
            }
            let taken = OpenOptions::new()
                .read(true)
                .custom_flags(OFlags::EXCL.bits().cast_signed())
                .open(&node);
            match taken {
                Ok(device) => self._held.push(device),
                Err(error) if is_busy(&error) => {
                    holders.push(busy(&format!("{} on it", node.display())));
                }
                Err(error) => self.notes.push(format!(
                    "{} lies on it and cannot be claimed ({error}): whether it is mounted somewhere is not known",
                    node.display()
                )),
            }
        }
        if !file.eq(&self.path) {
            holders.extend(open_for_writing(&meta));
        }
        let kind = rustix::fs::fstatfs(&opened).map_or(0, |stat| stat.f_type.cast_unsigned());
        if REMOTE_FILE_SYSTEMS.contains(&kind) {
            self.notes.push(format!(
                "{} lies on a network or FUSE file system: not everything that is written to it meanwhile shows here",
                file.display()
            ));
        }
        if !rustix::process::geteuid().is_root() {
            self.notes.push(
                "without root it is not seen whether a program of another user has it open".into(),
            );
        }
        self.still.push((
            file.to_owned(),
            opened,
            Stamp::of(&meta, kind != FUSE_SUPER_MAGIC),
        ));
    }

    fn note_remote_device(&mut self, meta: &Metadata) {
        let (major, minor) = (
            rustix::fs::major(meta.rdev()),
            rustix::fs::minor(meta.rdev()),
        );
        let Ok(sys) = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")) else {
            return;
        };
        let remote = sys.iter().filter_map(|part| part.to_str()).any(|part| {
            // iSCSI and Fibre Channel disks are below folders with these names.
            part.starts_with("session")
                || part.starts_with("rport-")
                || REMOTE_DEVICES.iter().any(|kind| part.starts_with(kind))
        });
        if remote {
            self.notes.push(format!(
                "{} is on a network: that no other machine writes to it cannot be seen from here",
                self.path.display()
            ));
        }
    }
}

/// The error for a master that changed.
pub(super) fn changed(path: &Path, how: &str) -> DiskError {
    DiskError::refused(
        format!("{} changed while it was read: {how}", path.display()),
        "stop what writes to it (a mount, a virtual machine, another machine), then capture again",
    )
}

fn busy(what: &str) -> String {
    format!(
        "{what} is mounted, perhaps in another mount namespace (lsns -t mnt), or held by another program"
    )
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
}

/// Programs that have this file or device open for writing, as far as `/proc` shows them.
fn open_for_writing(what: &Metadata) -> Vec<String> {
    let block = what.file_type().is_block_device();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found = Vec::new();
    for process in processes {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let handles = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten();
        let writes = handles.flatten().any(|handle| {
            // Not requested from a server, which may hang: the kernel's own values are enough.
            let flags = AtFlags::STATX_DONT_SYNC;
            let Ok(stat) = statx(CWD, handle.path(), flags, StatxFlags::BASIC_STATS) else {
                return false;
            };
            let same = if block {
                let number = rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
                u32::from(stat.stx_mode) & 0o170_000 == 0o060_000
                    && ground::same_disk(number, what.rdev())
            } else {
                stat.stx_ino == what.ino()
                    && rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor) == what.dev()
            };
            same && is_writable(&process.path(), &handle.file_name())
        });
        if writes {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(format!(
                "{} (process {pid}) has it open for writing",
                name.trim()
            ));
        }
    }
    found
}

/// True when a process opened the descriptor for writing: the last octal digit of `flags` in
/// proc_pid_fdinfo(5).
fn is_writable(process: &Path, handle: &std::ffi::OsStr) -> bool {
    let text = fs::read_to_string(process.join("fdinfo").join(handle)).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & 3 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_that_somebody_has_open_for_writing_is_in_use() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[1; 4096]).unwrap();
        let error = Claim::take(file.path()).unwrap_err();
        assert!(error.to_string().contains("open for writing"), "{error}");
        let path = file.into_temp_path();
        let claim = Claim::take(&path).unwrap();
        claim.check().unwrap();
        // A file that is written without being held open is noticed afterwards.
        fs::write(&path, [2; 8192]).unwrap();
        assert!(matches!(claim.check(), Err(DiskError::Refused { .. })));
    }
}
