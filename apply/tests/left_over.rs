//! Leftovers of a killed process are cleaned up, and nothing else is touched.
#![allow(
    clippy::disallowed_methods,
    reason = "the edge: tests make files and run programs"
)]

mod ext_disk;

use ext_disk::{Attached, Disk, may_mount, tool};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// A process number beyond the kernel's own limit, which no process has.
const GONE: u32 = 4_194_305;

/// Output of a command that may fail.
fn said(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Returns true if the device shows this file. Another test may attach its own file to the same
/// number as soon as it is free.
fn is_attached(device: &str, file: &Path) -> bool {
    let file = file.to_str().unwrap();
    let list = ["--noheadings", "--output", "NAME", "--associated", file];
    said("losetup", &list)
        .lines()
        .any(|line| line.trim() == device)
}

fn is_mounted(at: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.contains(&at.display().to_string())
}

#[test]
fn mounts_and_devices_of_a_process_that_is_gone_are_undone() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[16, 16, 16]);
    let parent = tempfile::tempdir().unwrap();
    let folder = |number: u32| {
        let folder = parent.path().join(format!("work-{number}"));
        fs::create_dir_all(folder.join("partition-1")).unwrap();
        folder
    };
    let (gone, alive) = (folder(GONE), folder(std::process::id()));
    let others = folder(GONE + 1);
    fs::set_permissions(&others, fs::Permissions::from_mode(0o777)).unwrap();

    let devices = [1, 2, 3].map(|number| Attached::new(&disk, number));
    let names = devices.each_ref().map(|device| device.0.clone());
    tool("mke2fs", &["-q", "-F", &names[0]]);
    let at = gone.join("partition-1");
    tool("mount", &[&names[0], at.to_str().unwrap()]);
    // The record as it is before a device is attached; its second line has an offset that no device
    // shows.
    let offset = |index: usize| disk.slots[index].offset;
    let file = disk.file.canonicalize().unwrap();
    let line = |offset: u64| format!("{offset}\t{}\n", file.display());
    let record = line(offset(0)) + &line(offset(1) + 512);
    fs::write(gone.join("attached"), record).unwrap();
    for other in [&alive, &others] {
        fs::write(other.join("attached"), line(offset(2))).unwrap();
    }

    let lines = apply::clean_up(parent.path(), "work-");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("unmounted") && lines[1].contains("detached"));
    assert!(!is_mounted(&at) && !gone.exists());
    let left = names.each_ref().map(|name| is_attached(name, &file));
    assert_eq!(left, [false, true, true]);
    let [first, _second, _third] = devices;
    // The code under test detaches it.
    std::mem::forget(first);
    assert!(alive.join("attached").exists() && others.join("attached").exists());
    assert!(apply::clean_up(parent.path(), "work-").is_empty());
    assert!(apply::clean_up(&parent.path().join("nowhere"), "work-").is_empty());
}
