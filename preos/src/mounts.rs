//! The file systems of the pre-OS.
//!
//! Owns the mounts of the start. A file system that is mounted already (devtmpfs, by some kernels)
//! is left unchanged.

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::path::Path;

/// Kind and mount point. `/run` and `/tmp` are in memory, like everything here.
const ALL: [(&str, &str); 6] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];
/// Mount point of the firmware variables.
pub const EFI_VARIABLES: &str = "/sys/firmware/efi/efivars";
/// Kinds of file systems without data on a disk.
const VIRTUAL: [&str; 9] = [
    "proc", "sysfs", "devtmpfs", "devpts", "tmpfs", "rootfs", "ramfs", "efivarfs", "cgroup2",
];

/// Mounts everything; returns a description of each failure.
pub fn mount_all() -> Vec<String> {
    let mut problems = Vec::new();
    for (kind, place) in ALL {
        let _ = fs::create_dir_all(place);
        if let Err(error) = add(kind, kind, place, MountFlags::NOSUID) {
            problems.push(format!("mounting {kind} at {place}: {error}"));
        }
    }
    // Programs expect these; without them `/dev/stdin` and process substitution do not work.
    for (link, to) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        let _ = std::os::unix::fs::symlink(to, link);
    }
    problems
}

/// Mounts one file system, unless the same source is mounted there already.
///
/// # Errors
/// The kernel's error.
pub fn add(kind: &str, source: &str, place: &str, flags: MountFlags) -> rustix::io::Result<()> {
    match mount(source, place, kind, flags, None::<&std::ffi::CStr>) {
        Err(Errno::BUSY) => Ok(()),
        other => other,
    }
}

/// Unmounts file systems with data, the latest first. One in use is unmounted once it is free.
pub fn unmount_data() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines().rev() {
        let mut fields = line.split(' ');
        let (Some(place), Some(kind)) = (fields.nth(1), fields.next()) else {
            continue;
        };
        if VIRTUAL.contains(&kind) || place == "/" {
            continue;
        }
        // The kernel writes blanks and some other characters as octal numbers; our mount points
        // have none.
        if let Err(error) = unmount(Path::new(place), UnmountFlags::empty()) {
            tracing::warn!(place, %error, "still in use; unmounted when it no longer is");
            let _ = unmount(Path::new(place), UnmountFlags::DETACH);
        }
    }
}
