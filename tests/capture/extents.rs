//! Many small extents: their cost is counted in system calls, which no other load on the machine
//! changes.

use super::MIB;
use super::common::disk::{blank, bytes_at, put_at, same_bytes};
use super::common::fill::{TARGET_POISON, noise, poisoned};
use super::common::images::{capture, info};
use super::common::process::{diskcast_command, text, tool};
use super::common::scratch;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const CLUSTER: u64 = 4096;

/// Offset and length, in bytes, of the first of the two tables of a FAT32 volume.
fn layout(disk: &Path) -> (u64, u64) {
    let boot = bytes_at(disk, 0, 64);
    let number = |at: usize, bytes: usize| {
        let field = boot[at..at + bytes].iter().rev();
        field.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    (number(14, 2) * 512, number(36, 4) * 512)
}

/// Makes a FAT32 volume with every other cluster in use; returns the number of used ones too.
fn comb(folder: &Path) -> (PathBuf, u64) {
    let disk = blank(folder, "comb.raw", 320 * MIB);
    tool(&["mkfs.fat", "-F", "32", "-s", "8", text(&disk)]);
    let (fat, fat_bytes) = layout(&disk);
    let data = fat + 2 * fat_bytes;
    let clusters = (320 * MIB - data) / CLUSTER;
    // Cluster 2 is the root directory.
    let mut table = bytes_at(&disk, fat, fat_bytes);
    for cluster in (4..clusters + 2).step_by(2) {
        let at = cluster as usize * 4;
        table[at..at + 4].copy_from_slice(&0x0fff_ffff_u32.to_le_bytes());
    }
    for copy in 0..2 {
        put_at(&disk, fat + copy * fat_bytes, &table);
    }
    let content = noise("comb", MIB as usize);
    for at in (data + CLUSTER..320 * MIB - MIB).step_by(content.len()) {
        put_at(&disk, at, &content);
    }
    (disk, clusters / 2)
}

/// Runs a command to its end and counts its read and write calls.
fn calls(command: &mut Command) -> (u64, u64) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let pid = rustix::process::Pid::from_child(&child);
    // Ended but not yet reaped, so that the kernel still has its counters.
    waitid(
        WaitId::Pid(pid),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    )
    .expect("it ends");
    let io = fs::read_to_string(format!("/proc/{}/io", child.id())).expect("its counters");
    let ended = child.wait().expect("it ended");
    assert!(ended.success(), "{ended}");
    let count = |name: &str| {
        let line = io.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {io}"))
    };
    (count("syscr:"), count("syscw:"))
}

#[test]
fn many_small_extents_are_written_and_read_back_in_few_calls() {
    // 115,000 single-block extents used to cost 115,000 writes and as many reads, each with a wait
    // for the disk.
    let folder = scratch();
    let (disk, extents) = comb(folder.path());
    let image = folder.path().join("comb.dcimg");
    capture(&disk, &image, &[]).ok();
    let used = info(&image)["used_bytes"].as_u64().expect("bytes");
    assert!(
        extents > 30_000 && used < extents * CLUSTER * 5 / 4,
        "{extents} extents in {used} bytes"
    );
    let target = folder.path().join("target.raw");
    for written in [false, true] {
        let _ = fs::remove_file(&target);
        if written {
            poisoned(&target, 320 * MIB, TARGET_POISON);
        }
        let words = ["image", "restore", text(&image), text(&target), "--yes"];
        let (reads, writes) = calls(&mut diskcast_command(words));
        assert!(
            writes < extents / 16 && reads < extents / 16,
            "{extents} extents took {writes} writes and {reads} reads"
        );
        let (fat, fat_bytes) = layout(&disk);
        let middle = fat + 2 * fat_bytes + (20_000 - 2) * CLUSTER;
        same_bytes("a cluster in use", &disk, &target, middle, CLUSTER);
    }
}
