//! Former contents of a target do not show through a proven restore: every file system over every
//! other signature, and Debian's `blkid` and `wipefs` find one owner of each partition and one
//! table on the disk.
//!
//! The story: swap restored over LUKS2 was proven to the last byte and still identified as
//! `crypto_LUKS`; NTFS over btrfs had two owners, so it was mounted by neither name; an md 0.90
//! superblock at the end of a disk made an array of it at the next start.
#![allow(
    clippy::cast_possible_truncation,
    reason = "test arithmetic on small sizes"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests are the edge: they make files"
)]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use disk::DiskError;
use disk::deployment::Deployment;
use disk::fit::Fit;
use disk::restore::{self as library, Stage};

use common::disk::{MIB, blank, bytes_at, put_at};
use common::images::{capture, restore};
use common::process::{bash, run, text, tool};
use common::service::{Agent, Console, Place, stories};
use common::{full, scratch};

/// Size of every partition, the least in which blkid looks for ZFS, and offset of the first, in
/// bytes.
const PART: u64 = 64 * MIB;
const FIRST: u64 = MIB;

/// File systems to restore: name in blkid, and the command that makes it.
const FILE_SYSTEMS: [(&str, &str); 7] = [
    ("ext4", "mke2fs -q -F -t ext4 $v"),
    (
        "ntfs",
        "mkntfs -q -F -Q -p 2048 -H 255 -S 63 $v > /dev/null 2>&1",
    ),
    ("vfat", "mkfs.fat -F 32 -s 1 $v > /dev/null"),
    ("exfat", "mkfs.exfat $v > /dev/null"),
    ("swap", "mkswap -q $v"),
    ("xfs", "mkfs.xfs -q --unsupported $v"),
    ("btrfs", "mkfs.btrfs -q --mixed $v"),
];

/// Signatures of former contents: name in blkid, and the command that makes it. Arrays and pools
/// cannot be made in a container: their superblocks are written by hand, and blkid has to recognise
/// them first.
const FORMER: [(&str, &str); 13] = [
    (
        "crypto_LUKS",
        "cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 $v $k",
    ),
    (
        "crypto_LUKS",
        "cryptsetup -q luksFormat --type luks2 --luks2-metadata-size 4m --luks2-keyslots-size 4m --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $v $k",
    ),
    ("linux_raid_member", "md090"),
    ("linux_raid_member", "md1 $((PART - 8192)) 0"),
    ("linux_raid_member", "md1 0 1"),
    ("linux_raid_member", "md1 4096 2"),
    ("LVM2_member", "lvm"),
    ("bcache", "make-bcache --wipe-bcache -B $v > /dev/null"),
    ("zfs_member", "zfs"),
    ("btrfs", "mkfs.btrfs -q --mixed $v"),
    ("xfs", "mkfs.xfs -q --unsupported $v"),
    (
        "ntfs",
        "mkntfs -q -F -Q -p 2048 -H 255 -S 63 $v > /dev/null 2>&1",
    ),
    ("gpt", "sgdisk -n 1:2048:+4M $v > /dev/null"),
];

/// Indices of the former contents in the short form: LUKS2, both places of md at the end, LVM, ZFS,
/// btrfs and GPT.
const QUICK: [usize; 7] = [1, 2, 3, 6, 8, 9, 12];

/// Shell functions that write superblocks by hand: md 0.90 and 1.x (Linux md(4)), LVM2 label
/// (label_header of lib/label/label.h), and the uberblocks of the four labels of ZFS.
const BY_HAND: &str = r#"
put() { printf "$2" | dd of=$v bs=1 seek=$1 conv=notrunc status=none; }
md090() { at=$(( (PART / 65536 - 1) * 65536 )); put $at '\xfc\x4e\x2b\xa9\0\0\0\0\x5a\0\0\0'; put $((at + 20)) 'abcd'; put $((at + 52)) 'efghijklmnop'; }
md1() { put $1 '\xfc\x4e\x2b\xa9\1\0\0\0'; put $(($1 + 16)) 'abcdefghijklmnop'; put $(($1 + 144)) "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 / 512 & 255)) $(($1 / 512 >> 8 & 255)) $(($1 / 512 >> 16 & 255)) 0)"; }
lvm() { put 512 'LABELONE\1\0\0\0\0\0\0\0CRC!\x20\0\0\0LVM2 001abcdefghijklmnopqrstuvwxyz012345'; python3 - $v <<'PY'
import struct, sys
f = open(sys.argv[1], 'r+b'); f.seek(512); label = bytearray(f.read(512)); crc = 0xf597a6cf
for byte in label[20:]:
    crc ^= byte
    for _ in range(8): crc = crc >> 1 ^ (0xedb88320 if crc & 1 else 0)
label[16:20] = struct.pack('<I', crc); f.seek(512); f.write(label)
PY
}
zfs() { for label in 0 262144 $((PART - 524288)) $((PART - 262144)); do for n in $(seq 0 31); do put $((label + 131072 + n * 1024)) '\x0c\xb1\xba\0\0\0\0\0'; done; done; }
"#;

/// Makes a file of a partition's size with a file system or signature in it.
fn made(folder: &Path, name: &str, how: &str) -> PathBuf {
    let file = folder.join(name);
    bash(&format!(
        "set -e; PART={PART}; v={}; k={}; echo secret > $k; truncate -s {PART} $v\n{BY_HAND}\n{how}",
        text(&file),
        text(&folder.join("key")),
    ));
    file
}

/// Copies everything but the holes of `file` to an offset of `disk`.
fn place(file: &Path, disk: &Path, at: u64) {
    bash(&format!(
        "dd if={} of={} bs=1M seek={} conv=notrunc,sparse status=none",
        text(file),
        text(disk),
        at / MIB
    ));
}

/// Makes a disk with this number of partitions.
fn disk(file: &Path, partitions: usize) {
    let size = start(partitions) + 4 * MIB;
    let (folder, name) = (file.parent().expect("a folder"), file.file_name());
    blank(folder, &name.expect("a name").to_string_lossy(), size);
    let partitions: Vec<String> = (0..partitions)
        .map(|n| format!("-n {}:{}:+64M", n + 1, start(n) / 512))
        .collect();
    bash(&format!(
        "sgdisk {} {} > /dev/null",
        partitions.join(" "),
        text(file)
    ));
}

fn start(number: usize) -> u64 {
    FIRST + PART * number as u64
}

/// All signatures that blkid and wipefs find in a partition of a disk file, or in the whole of it:
/// names in order, each once.
fn found(disk: &Path, at: u64, size: u64) -> (String, Vec<String>) {
    let blkid = run(std::process::Command::new("blkid").args([
        "-p",
        "-o",
        "export",
        "-O",
        &at.to_string(),
        "-S",
        &size.to_string(),
        text(disk),
    ]));
    let value = |key: &str| {
        let mut lines = blkid.stdout.lines();
        lines.find_map(|line| line.strip_prefix(key).map(str::to_owned))
    };
    let one = match blkid.code {
        Some(0) => value("TYPE=")
            .or_else(|| value("PTTYPE="))
            .unwrap_or_default(),
        Some(8) => "ambivalent".to_owned(),
        _ => String::new(),
    };
    // wipefs has no offset option: it gets a sparse copy of the parts that it reads.
    let folder = scratch();
    let part = folder.path().join("part");
    let copy = |from: u64, length: u64| {
        let bytes = bytes_at(disk, at + from, length);
        put_at(&part, from, &bytes);
    };
    fs::File::create(&part)
        .and_then(|f| f.set_len(size))
        .expect("a sparse file");
    copy(0, 8 * MIB);
    copy(size - 4 * MIB, 4 * MIB);
    let listed = tool(&[
        "wipefs",
        "--noheadings",
        "-O",
        "TYPE",
        "--parsable",
        text(&part),
    ])
    .stdout;
    let mut all: Vec<String> = listed.lines().map(|line| line.trim().to_owned()).collect();
    all.dedup();
    (one, all)
}

/// True when there is a table, and nothing beside it.
fn is_table((one, all): &(String, Vec<String>)) -> bool {
    one == "gpt"
        && all
            .iter()
            .all(|name| ["gpt", "PMBR"].contains(&name.as_str()))
}

/// XFS and btrfs are captured whole, 64 MiB each, so nothing can be left in theirs: only the longer
/// form has them.
fn systems() -> &'static [(&'static str, &'static str)] {
    &FILE_SYSTEMS[..if full() { 7 } else { 5 }]
}

#[test]
fn no_file_system_shows_what_was_there_before_it() {
    let folder = scratch();
    let folder = folder.path();
    let master = folder.join("master.raw");
    disk(&master, systems().len());
    for (number, (name, how)) in systems().iter().enumerate() {
        place(&made(folder, name, how), &master, start(number));
    }
    // Results of the tools on a clean disk: wipefs takes the boot sectors of NTFS and exFAT for
    // tables too.
    let alone: Vec<_> = (0..systems().len())
        .map(|number| found(&master, start(number), PART))
        .collect();
    for ((one, all), (name, _)) in alone.iter().zip(systems()) {
        assert_eq!(one, name, "{all:?}");
    }
    let image = folder.join("master.dcimg");
    capture(&master, &image, &[]).ok();

    let mut wrong = Vec::new();
    for (index, (former, how)) in FORMER.iter().enumerate() {
        if !full() && !QUICK.contains(&index) {
            continue;
        }
        let before = made(folder, &format!("before-{index}"), how);
        assert_eq!(found(&before, 0, PART).0, *former, "{how}");
        let target = folder.join("target.raw");
        disk(&target, systems().len());
        for number in 0..systems().len() {
            place(&before, &target, start(number));
        }
        // The same on the whole disk: before its first partition, and at its end.
        let size = fs::metadata(&target).expect("a disk").len();
        put_at(&target, 0, &bytes_at(&before, 0, FIRST));
        put_at(
            &target,
            size - 4 * MIB,
            &bytes_at(&before, PART - 4 * MIB, 4 * MIB),
        );
        restore(&image, &target, &[]).ok();
        for (number, (name, _)) in systems().iter().enumerate() {
            let now = found(&target, start(number), PART);
            if now != alone[number] {
                wrong.push(format!("{name} over {former} ({how}): {now:?}"));
            }
        }
        let now = found(&target, 0, size);
        if !is_table(&now) {
            wrong.push(format!("the disk over {former} ({how}): {now:?}"));
        }
        fs::remove_file(before).expect("removed");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn onto_a_partition_nothing_is_left_in_it_and_nothing_else_is_touched() {
    let folder = scratch();
    let folder = folder.path();
    let master = folder.join("master.raw");
    disk(&master, 1);
    place(&made(folder, "swap", "mkswap -q $v"), &master, start(0));
    let image = folder.join("master.dcimg");
    capture(&master, &image, &[]).ok();

    let target = folder.join("target.raw");
    disk(&target, 4);
    let luks = made(folder, "luks", FORMER[1].1);
    for number in 1..4 {
        place(&luks, &target, start(number));
        put_at(
            &target,
            start(number) + PART - 65536 * 2,
            b"an md superblock at the end",
        );
    }
    let before = folder.join("before.raw");
    fs::copy(&target, &before).expect("a copy");
    restore(&image, &target, &["--partitions", "1", "--onto", "3"]).ok();
    assert_eq!(
        found(&target, start(2), PART),
        ("swap".to_owned(), vec!["swap".to_owned()])
    );
    let tail = bytes_at(&target, start(3) - 2 * MIB, 2 * MIB);
    assert!(
        tail.iter().all(|byte| *byte == 0),
        "the end of the partition"
    );
    let end = fs::metadata(&target).expect("a disk").len();
    for (from, to) in [(0, start(2)), (start(3), end)] {
        common::disk::same_bytes("outside the partition", &before, &target, from, to - from);
    }
}

#[test]
fn an_agent_leaves_nothing_of_what_was_there_either() {
    // The journal of the agent is in the place of btrfs's superblock, and is read before that
    // becomes zero.
    let folder = scratch();
    let folder = folder.path();
    let master = folder.join("master.raw");
    let systems = [4, 0, 1, 2].map(|index| FILE_SYSTEMS[index]);
    disk(&master, systems.len());
    for (number, (name, how)) in systems.iter().enumerate() {
        place(&made(folder, name, how), &master, start(number));
    }
    let alone: Vec<_> = (0..systems.len())
        .map(|number| found(&master, start(number), PART))
        .collect();
    let image = folder.join("master.dcimg");
    capture(&master, &image, &[]).ok();

    // LUKS2, md 1.0, ZFS and btrfs; on the disk itself the front of btrfs and the end of md 0.90.
    let target = folder.join("target.raw");
    disk(&target, systems.len());
    for (number, former) in [1, 3, 8, 9].into_iter().enumerate() {
        let before = made(folder, &format!("before-{former}"), FORMER[former].1);
        assert_eq!(found(&before, 0, PART).0, FORMER[former].0);
        place(&before, &target, start(number));
    }
    put_at(&target, 0, &bytes_at(&folder.join("before-9"), 0, FIRST));
    let array = made(folder, "before-2", FORMER[2].1);
    let size = fs::metadata(&target).expect("a disk").len();
    let end = bytes_at(&array, PART - 4 * MIB, 4 * MIB);
    put_at(&target, size - 4 * MIB, &end);

    let free = [
        "--listen",
        "127.0.0.1",
        "--control-port",
        "0",
        "--bulk-port",
        "0",
    ];
    let console = Console::start(Place::Here, folder, "lo", &free);
    let agent = Agent::start(Place::Here, &console, &target, 0, &[]);
    console.wait_ready(1);
    let words = ["--targets", "all", "--reuse", "never", "--yes"];
    let done = console.cli(&[&["deploy", "--image", text(&image)][..], &words].concat());
    assert_eq!(
        done.code,
        Some(0),
        "{}\n{}",
        done.story(),
        stories(&console, &[agent])
    );
    for (number, expected) in alone.iter().enumerate() {
        let now = found(&target, start(number), PART);
        assert_eq!(&now, expected, "partition {}", number + 1);
    }
    let whole = found(&target, 0, size);
    assert!(is_table(&whole), "{whole:?}");
}

#[test]
fn what_comes_back_where_it_was_made_zero_ends_the_restore() {
    let folder = scratch();
    let folder = folder.path();
    let master = folder.join("master.raw");
    disk(&master, 1);
    place(&made(folder, "swap", "mkswap -q $v"), &master, start(0));
    let file = folder.join("master.dcimg");
    capture(&master, &file, &[]).ok();
    let image = library::open_image(&file, None).expect("an image");
    let size = image.manifest().geometry.disk_size;

    // The second header of a LUKS2, the last MiB of a partition, and a superblock at the end of the
    // disk.
    let places = [start(0) + 4 * MIB, start(1) - MIB, size - 2 * MIB];
    for lie in [None].into_iter().chain(places.map(Some)) {
        let target = folder.join("target.raw");
        let _ = fs::remove_file(&target);
        let facts = library::target_facts(&target, size).expect("a target");
        let manifest = Arc::new(image.manifest().clone());
        let deployment = Deployment::prepare(&facts, manifest, None, &Fit::default());
        let deployment = Arc::new(deployment.expect("it fits"));
        // Simulates a disk that loses a write: other bytes are there once the first chunk is
        // written.
        let lied = AtomicBool::new(lie.is_none());
        let progress = |stage: Stage, _, _| {
            if stage == Stage::Writing
                && let (false, Some(at)) = (lied.swap(true, Ordering::Relaxed), lie)
            {
                put_at(&target, at, b"!");
            }
        };
        let restored = library::restore(&image, &file, &deployment, 1, &progress, &|| false);
        match (lie, restored) {
            (None, restored) => drop(restored.expect("an honest disk")),
            (Some(at), Err(error @ DiskError::NotBlank { offset, .. })) => {
                assert_eq!(offset, at);
                let said = error.to_string();
                assert!(said.contains(text(&target)) && said.contains(&at.to_string()));
                assert!(error.hint().is_some_and(|hint| hint.contains("cable")));
                let front = bytes_at(&target, 0, FIRST);
                assert!(front.iter().all(|byte| *byte == 0), "a table of a lie");
            }
            (lie, other) => panic!("{lie:?}: {other:?}"),
        }
    }
}
