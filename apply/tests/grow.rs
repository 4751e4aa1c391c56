//! File systems grow to the size of their partitions; those that cannot grow stay unchanged.
#![allow(
    clippy::disallowed_methods,
    reason = "the edge: tests make files and run programs"
)]

mod ext_disk;

use apply::{Outcome, ProgramError, StepError};
use ext_disk::{Attached, Disk, Files, MIB, may_mount, tool};
use std::fs;
use std::os::unix::fs::FileExt;
use template::secrets::Secrets;
use template::step::{Action, FileSystem};

/// Hash of the first MiB of each file system, where superblocks and journals lie: an unwanted
/// change would show there.
fn content(disk: &Disk) -> blake3::Hash {
    let file = fs::File::open(&disk.file).unwrap();
    let mut hasher = blake3::Hasher::new();
    for slot in &disk.slots {
        let mut head = vec![0; 1 << 20];
        file.read_exact_at(&mut head, slot.offset).unwrap();
        hasher.update(&head);
    }
    hasher.finalize()
}

fn grow(partition: u32, file_system: FileSystem) -> Action {
    Action::GrowFileSystem {
        partition,
        file_system,
    }
}

#[test]
fn ntfs_and_xfs_grow_once_and_fat_stays() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[64, 420, 16]);
    let ntfs = Attached::new(&disk, 1);
    // The size is 24 MiB in sectors, given after the device.
    tool("mkntfs", &["-q", "-F", "-f", &ntfs.0, "49152"]);
    drop(ntfs);
    Attached::new(&disk, 2).run("mkfs.xfs", &["-q", "-f", "-d", "size=310m"]);
    Attached::new(&disk, 3).run("mkfs.fat", &[]);
    let steps = || {
        vec![
            grow(1, FileSystem::Ntfs),
            grow(2, FileSystem::Xfs),
            grow(3, FileSystem::Fat),
        ]
    };
    let report = disk
        .run(steps(), &Secrets::default(), &Files::default())
        .unwrap();
    let outcomes: Vec<Outcome> = report.steps.iter().map(|step| step.1).collect();
    assert_eq!(
        outcomes,
        [Outcome::Applied, Outcome::Applied, Outcome::Unchanged]
    );
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("checks the volume once")),
        "{report:?}"
    );
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("Fat cannot be grown")),
        "{report:?}"
    );

    let info = Attached::new(&disk, 1).run("ntfsresize", &["--info", "--force", "--force"]);
    let size = info
        .lines()
        .find_map(|line| line.strip_prefix("Current volume size:"))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap();
    let size: u64 = size.parse().unwrap();
    assert!((63 * MIB..=64 * MIB).contains(&size), "{info}");
    let superblock =
        Attached::new(&disk, 2).run("xfs_db", &["-r", "-c", "sb 0", "-c", "p dblocks"]);
    let blocks: u64 = superblock
        .trim()
        .strip_prefix("dblocks = ")
        .unwrap()
        .parse()
        .unwrap();
    assert!(blocks * 4096 > 416 * MIB, "{superblock}");
    Attached::new(&disk, 2).run("xfs_repair", &["-n"]);
    // The neighbouring file system did not change.
    Attached::new(&disk, 3).run("fsck.fat", &["-n"]);

    let before = content(&disk);
    let report = disk
        .run(steps(), &Secrets::default(), &Files::default())
        .unwrap();
    assert!(
        report.steps.iter().all(|step| step.1 == Outcome::Unchanged),
        "{report:?}"
    );
    assert_eq!(content(&disk), before);
}

#[test]
fn a_damaged_file_system_is_not_grown() {
    if !may_mount() {
        return;
    }
    let disk = Disk::new(&[24]);
    disk.ext4(1, &ext_disk::debian_tree(), 12, &[]);
    // The inode of the root folder, which e2fsck does not repair without a question.
    let table = disk.debugfs(1, "imap <2>");
    let block: u64 = table
        .split("located at block ")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .unwrap()
        .parse()
        .unwrap();
    let file = fs::OpenOptions::new().write(true).open(&disk.file).unwrap();
    let offset = disk.slots[0].offset + block * 1024;
    file.write_all_at(&[0; 1024], offset).unwrap();
    let error = disk
        .run(
            vec![grow(1, FileSystem::Ext)],
            &Secrets::default(),
            &Files::default(),
        )
        .unwrap_err();
    assert!(
        error.to_string().contains("the file system is damaged"),
        "{error}"
    );
    // The cause is the program's own end, and not text.
    let Some(StepError::Unexpected { source, .. }) = error.cause() else {
        panic!("{error:?}");
    };
    let program = source.downcast_ref::<ProgramError>();
    assert!(
        matches!(program, Some(ProgramError::Failed { program, code: Some(4), .. }) if program == "e2fsck"),
        "{program:?}"
    );
}
