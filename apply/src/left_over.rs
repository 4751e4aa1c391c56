//! Clean-up after a process that was killed while volumes were mounted and attached.
//!
//! Owns the record of attached devices in the work folder, and detaching them later. The record is
//! written before the device exists, because a process can end between the two. Nothing else is
//! touched than what such a record, or the kernel's list of mounts, shows below the folder of a
//! process that has ended, and loop devices only if disk and offset match the record.

use crate::device::{self, backing};
use crate::error::{At, Result};
use crate::mount::mounts_below;
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// File name of the record.
const RECORD: &str = "attached";
/// Longest record that is read, in bytes; it has one line for each partition.
const MOST_BYTES: u64 = 64 << 10;

/// Records that a loop device is about to be attached to a disk at a byte offset.
pub(crate) fn record(work: &Path, disk: &Path, offset: u64) -> Result<()> {
    let path = work.join(RECORD);
    fs::create_dir_all(work).at(work.display())?;
    // The path as the kernel spells it.
    let disk = fs::canonicalize(disk).at(disk.display())?;
    let mut options = fs::OpenOptions::new();
    let file = options.create(true).append(true).open(&path);
    let line = format!("{offset}\t{}\n", disk.display());
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .at(path.display())
}

/// Removes the record after every device in it is detached.
pub(crate) fn forget(work: &Path) {
    let _ = fs::remove_file(work.join(RECORD));
}

/// Unmounts and detaches what lies below `parent` in folders that are named `prefix` and the number
/// of a process that has ended. Returns one log line for each thing done.
pub fn clean_up(parent: &Path, prefix: &str) -> Vec<String> {
    let mut said = Vec::new();
    for folder in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        let process = name
            .strip_prefix(prefix)
            .and_then(|n| n.parse::<u32>().ok());
        let gone = process.is_some_and(|number| !Path::new(&format!("/proc/{number}")).exists());
        if !gone || !is_ours(&folder.path()) {
            continue;
        }
        // Another agent that starts at the same moment may do the same work. The lock makes sure
        // that the disk is free when either of them returns.
        if let Ok(turn) = fs::OpenOptions::new().read(true).open(folder.path())
            && flock(&turn, FlockOperation::LockExclusive).is_ok()
        {
            one(&folder.path(), &mut said);
        }
    }
    said
}

/// True for a folder of this user into which nobody else can have put anything.
fn is_ours(folder: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == own && found.mode() & 0o022 == 0)
}

fn one(folder: &Path, said: &mut Vec<String>) {
    // The innermost first: they come last in the list.
    let mounted = mounts_below(folder);
    for at in mounted.iter().rev() {
        let ended = unmount(at, UnmountFlags::NOFOLLOW)
            .or_else(|_| unmount(at, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH));
        said.push(match ended {
            Ok(()) => format!("{} was still mounted: unmounted", at.display()),
            Err(error) => format!("{} stays mounted: {error}", at.display()),
        });
    }
    let record = folder.join(RECORD);
    let short = fs::symlink_metadata(&record).is_ok_and(|f| f.is_file() && f.len() <= MOST_BYTES);
    let text = short.then(|| fs::read_to_string(&record).unwrap_or_default());
    for line in text.iter().flat_map(|text| text.lines()) {
        let Some((offset, disk)) = line.split_once('\t') else {
            continue;
        };
        for path in loops_on(disk, offset) {
            said.push(match device::detach(&path) {
                Ok(()) => format!("{} was still attached to {disk}: detached", path.display()),
                Err(error) => error.to_string(),
            });
        }
    }
    forget(folder);
    let inside: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    for path in inside {
        // Removes only empty mount points; a folder with contents belongs to another program.
        let _ = fs::remove_dir(path);
    }
    let _ = fs::remove_dir(folder);
}

/// Loop devices attached to a disk at this byte offset.
fn loops_on(disk: &str, offset: &str) -> Vec<PathBuf> {
    fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| Path::new("/dev").join(entry.file_name()))
        .filter(|path| {
            backing(path).is_some_and(|(now_disk, now_offset)| {
                now_disk.trim_end_matches('\n') == disk && now_offset.trim() == offset
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{self, SHORT};

    /// Regression: kill -9 hit the agent after `losetup` had attached the device and before the
    /// agent had read its name.
    #[test]
    fn a_device_whose_name_the_process_never_learned_is_detached() {
        let parent = tempfile::tempdir().unwrap();
        let disk = parent.path().join("disk.raw");
        fs::write(&disk, vec![0; 4 << 20]).unwrap();
        let folder = parent.path().join("work-4194305");
        record(&folder, &disk, 1 << 20).unwrap();
        let attach = |offset: &str| {
            let disk = disk.to_str().unwrap();
            let said = program::run("losetup", &["-f", "--show", "-o", offset, disk], SHORT);
            PathBuf::from(said.unwrap().success("losetup").unwrap().trim())
        };
        let [ours, other] = [attach("1048576"), attach("2097152")];
        let said = clean_up(parent.path(), "work-");
        let stays = backing(&other).is_some();
        device::detach(&other).unwrap();
        assert_eq!(backing(&ours), None, "{said:?}");
        assert!(stays, "somebody else's");
        assert!(!folder.exists());
    }

    /// Regression: an agent found the disk of its job in use, because another one that started with
    /// it was still detaching what both had found.
    #[test]
    fn who_comes_second_waits_until_the_first_is_through() {
        let parent = tempfile::tempdir().unwrap();
        // Larger than the largest process number.
        let folder = parent.path().join("work-4194305");
        fs::create_dir(&folder).unwrap();
        let first = fs::OpenOptions::new().read(true).open(&folder).unwrap();
        flock(&first, FlockOperation::LockExclusive).unwrap();
        let (told, hears) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                clean_up(parent.path(), "work-");
                told.send(()).unwrap();
            });
            let early = hears.recv_timeout(std::time::Duration::from_millis(200));
            assert!(early.is_err(), "it did not wait");
            assert!(folder.exists());
            drop(first);
            hears.recv().unwrap();
        });
        assert!(!folder.exists());
    }
}
