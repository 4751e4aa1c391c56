//! The real hives, which are not in the repository. DISKCAST_HIVES names their folder; each is
//! compressed by xz.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::print_stdout, reason = "a test that did not run says so")]

use std::path::PathBuf;
use std::process::Command;

use hive::Hive;

/// The folder of real hives. Without it a test prints this and returns.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("DISKCAST_HIVES").map(PathBuf::from);
    let folder = folder.filter(|folder| folder.is_dir());
    if folder.is_none() {
        let ci = std::env::var_os("CI").is_some() && std::env::var_os("DISKCAST_HIVES").is_some();
        assert!(!ci, "DISKCAST_HIVES is set but is no folder");
        println!("did not run: DISKCAST_HIVES is not set");
    }
    folder
}

/// Unpacks one file of the folder.
pub(crate) fn unpack(folder: &std::path::Path, name: &str) -> Vec<u8> {
    let path = folder.join(format!("{name}.xz"));
    let unpacked = Command::new("xz").arg("-dc").arg(&path).output().unwrap();
    assert!(
        unpacked.status.success() && !unpacked.stdout.is_empty(),
        "{}",
        path.display()
    );
    unpacked.stdout
}

/// The hives of the folder, each with its logs.
pub(crate) const HIVES: [(&str, &[&str]); 14] = [
    ("bcd-efi/BCD", &[]),
    (
        "log-replay-1/NewDirtyHive",
        &[
            "log-replay-1/NewDirtyHive.LOG1",
            "log-replay-1/NewDirtyHive.LOG2",
        ],
    ),
    ("log-replay-1/RecoveredHive_Windows10", &[]),
    ("nt-hive-testhive/testhive", &[]),
    (
        "win10-16299-dirty-desktop-pm6c56d/SYSTEM",
        &[
            "win10-16299-dirty-desktop-pm6c56d/SYSTEM.LOG1",
            "win10-16299-dirty-desktop-pm6c56d/SYSTEM.LOG2",
        ],
    ),
    ("win10-19041-desktop-m3oshqu/SYSTEM", &[]),
    ("win10plus-sam-aes/SAM", &[]),
    ("win7-wks-win732bita/SYSTEM", &[]),
    ("win81-student-pc8/NTUSER.DAT", &[]),
    ("win81-student-pc8/SAM", &[]),
    ("win81-student-pc8/SECURITY", &[]),
    ("xp-m57-pat/SAM", &[]),
    ("xp-m57-pat/SECURITY", &[]),
    ("xp-m57-pat/SYSTEM", &[]),
];

/// Opens a hive of the folder with its logs.
pub(crate) fn open(folder: &std::path::Path, name: &str) -> Hive {
    let logs = HIVES
        .iter()
        .find(|(hive, _)| *hive == name)
        .map_or(&[][..], |(_, logs)| logs);
    let logs: Vec<Vec<u8>> = logs.iter().map(|log| unpack(folder, log)).collect();
    let logs: Vec<&[u8]> = logs.iter().map(Vec::as_slice).collect();
    Hive::open(unpack(folder, name), &logs).unwrap().0
}

/// The numbers of keys, values and data bytes below the root.
pub(crate) fn walk(hive: &Hive) -> (usize, usize, usize) {
    let mut waiting = vec![hive.root()];
    let mut counts = (0, 0, 0);
    while let Some(key) = waiting.pop() {
        counts.0 += 1;
        for value in hive.values(key).unwrap() {
            counts.1 += 1;
            counts.2 += value.data.len();
        }
        waiting.extend(hive.subkeys(key).unwrap());
    }
    counts
}
