//! Master disks that were not shut down cleanly are refused by name, with the next step.
//!
//! partclone copies such a disk, exits 0, and loses data that programs had fsynced: the journal is
//! not replayed on the clone. A refusal costs a minute, the loss is found weeks later.
#![allow(
    clippy::disallowed_methods,
    reason = "tests are the edge: they open files"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::disk::{Fs, Loop, Mount, Part, bytes_at, part, put_at, same_bytes};
use common::fill::{TARGET_POISON, poisoned};
use common::images::{capture, info, partition, restore};
use common::process::{bash, text, tool};
use common::scratch;

const MIB: u64 = 1 << 20;

/// Makes a GPT disk with an empty partition 1 and the tested one as number 2.
fn disk(folder: &Path) -> (PathBuf, Part) {
    let disk = folder.join("master.raw");
    fs::File::create(&disk)
        .and_then(|f| f.set_len(64 * MIB))
        .expect("a disk");
    tool(&["sgdisk", "-n", "1:0:+2M", "-n", "2:0:+50M", text(&disk)]);
    let p = part(&disk, 512, 2);
    (disk, p)
}

/// Asserts a refusal that names the partition; then captures it whole with the option, and restores
/// it byte-equal.
#[track_caller]
fn refused_then_raw(folder: &Path, disk: &Path, p: &Part, words: &[&str]) {
    let image = folder.join("dirty.dcimg");
    let refused = capture(disk, &image, &[])
        .code(5)
        .says(words)
        .says(&["--raw-partition"]);
    assert!(
        refused.stderr.contains('2'),
        "the partition is not named\n{}",
        refused.story()
    );
    let left: Vec<_> = fs::read_dir(folder)
        .expect("listed")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("dcimg"))
        .collect();
    assert!(left.is_empty(), "a refused capture left {left:?}");

    capture(disk, &image, &["--raw-partition", "2"]).ok();
    assert_eq!(partition(&info(&image), 2)["capture"], "raw");
    let target = folder.join("target.raw");
    poisoned(&target, 64 * MIB, TARGET_POISON);
    restore(&image, &target, &[]).ok();
    same_bytes(
        "the partition captured whole",
        disk,
        &target,
        p.start,
        p.length,
    );
}

#[test]
fn ext4_mounted_and_fsynced_is_refused_where_partclone_loses_the_files() {
    let folder = scratch();
    let (live, p) = disk(folder.path());
    let copy = folder.path().join("power-cut.raw");
    {
        let device = Loop::part(&live, &p, 512);
        tool(&["mke2fs", "-q", "-F", "-t", "ext4", device.text()]);
        let mount = Mount::new("ext4", device.path(), "rw");
        let precious = mount.path().join("precious.txt");
        fs::write(&precious, b"fsynced, so it must survive").expect("written");
        fs::File::open(&precious)
            .and_then(|f| f.sync_all())
            .expect("fsynced");
        // Simulates a power failure: the copy has only the bytes that are on the medium now.
        bash(&format!(
            "sync -f {0}; cp --sparse=always {0} {1}",
            text(&live),
            text(&copy)
        ));
    }
    // Makes sure that the journal really needs replaying.
    let state = {
        let device = Loop::part(&copy, &p, 512);
        tool(&["dumpe2fs", "-h", device.text()]).stdout
    };
    assert!(
        state.contains("needs_recovery"),
        "not the disk this test is about: {state}"
    );
    refused_then_raw(folder.path(), &copy, &p, &["ext4", "partition 2"]);
}

#[test]
fn ntfs_marked_dirty_is_refused() {
    let folder = scratch();
    let (disk, p) = disk(folder.path());
    {
        let device = Loop::part(&disk, &p, 512);
        Fs::Ntfs.make(&device, 512, "win", 2);
        // ntfsfix without -d asks Windows to check the volume at its next start: it sets the dirty
        // flag.
        tool(&["ntfsfix", device.text()]);
    }
    refused_then_raw(folder.path(), &disk, &p, &["NTFS", "partition 2"]);
}

#[test]
fn ntfs_with_a_hibernated_windows_is_refused() {
    let folder = scratch();
    let (disk, p) = disk(folder.path());
    {
        let device = Loop::part(&disk, &p, 512);
        tool(&[
            "mkntfs",
            "-q",
            "-Q",
            "-F",
            "-p",
            "0",
            "-H",
            "255",
            "-S",
            "63",
            device.text(),
        ]);
        let mount = Mount::new("ntfs-3g", device.path(), "noatime");
        let mut file = b"hibr".to_vec();
        file.resize(64 << 10, 0x11);
        fs::write(mount.path().join("hiberfil.sys"), file).expect("written");
    }
    refused_then_raw(folder.path(), &disk, &p, &["partition 2"]);
}

#[test]
fn fat_marked_dirty_is_refused() {
    let folder = scratch();
    let (disk, p) = disk(folder.path());
    {
        let device = Loop::part(&disk, &p, 512);
        Fs::Fat.make(&device, 512, "fat", 1);
    }
    // FAT16: bit 15 of the second entry of each FAT means "clean shutdown"; a mounted volume has it
    // cleared. The boot sector's own dirty bit (byte 37) means the same for Linux.
    let boot = bytes_at(&disk, p.start, 512);
    let reserved = u64::from(u16::from_le_bytes([boot[14], boot[15]]));
    let fat32 = boot[22] == 0 && boot[23] == 0;
    assert!(!fat32, "50 MiB become FAT16 by default");
    let length = u64::from(u16::from_le_bytes([boot[22], boot[23]])) * 512;
    for copy in 0..u64::from(boot[16]) {
        let at = p.start + reserved * 512 + copy * length + 2;
        let entry = bytes_at(&disk, at, 2);
        put_at(&disk, at, &[entry[0], entry[1] & 0x7f]);
    }
    put_at(&disk, p.start + 37, &[boot[37] | 1]);
    refused_then_raw(folder.path(), &disk, &p, &["FAT", "partition 2"]);
}

#[test]
fn page_files_of_a_clean_windows_are_left_out_and_recorded() {
    let folder = scratch();
    let (disk, p) = disk(folder.path());
    {
        let device = Loop::part(&disk, &p, 512);
        tool(&[
            "mkntfs",
            "-q",
            "-Q",
            "-F",
            "-p",
            "0",
            "-H",
            "255",
            "-S",
            "63",
            device.text(),
        ]);
        let mount = Mount::new("ntfs-3g", device.path(), "noatime");
        poisoned(&mount.path().join("pagefile.sys"), 12 * MIB, 0x33);
        fs::write(mount.path().join("kept.txt"), vec![0x44; 100_000]).expect("written");
    }
    let image = folder.path().join("lean.dcimg");
    capture(&disk, &image, &[]).ok();
    let facts = info(&image);
    let said = partition(&facts, 2);
    let excluded = said["excluded"].as_array().cloned().unwrap_or_default();
    let bytes: u64 = excluded.iter().filter_map(|e| e["length"].as_u64()).sum();
    assert!(bytes >= 11 * MIB, "the page file came along: {said:#}");
    assert!(excluded.iter().all(|e| {
        e["what"]
            .as_str()
            .is_some_and(|w| w.to_lowercase().contains("pagefile"))
    }));

    let target = folder.path().join("target.raw");
    poisoned(&target, 64 * MIB, TARGET_POISON);
    restore(&image, &target, &[]).ok();
    let device = Loop::part(&target, &p, 512);
    Fs::Ntfs.check(&device);
    {
        let mount = Mount::new("ntfs-3g", device.path(), "ro");
        let length = fs::metadata(mount.path().join("pagefile.sys"))
            .expect("its name stays")
            .len();
        assert_eq!(length, 12 * MIB, "only its contents are left out");
        assert_eq!(
            fs::read(mount.path().join("kept.txt")).expect("read"),
            vec![0x44; 100_000]
        );
    }

    // With the option the content is included.
    let whole = folder.path().join("whole.dcimg");
    capture(&disk, &whole, &["--keep-page-files"]).ok();
    assert!(
        partition(&info(&whole), 2)["excluded"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
}
