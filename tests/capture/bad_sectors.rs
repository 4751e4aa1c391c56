//! Masters that cannot be read everywhere.

use super::common::disk::{Loop, bytes_at, part, put_at, sgdisk_clean};
use super::common::failing::{Failing, SECTOR, sector_of};
use super::common::fill::{TARGET_POISON, poisoned};
use super::common::images::{capture, check, info, partition, restore};
use super::common::process::{diskcast, text, tool};
use super::common::scratch;
use super::{MIB, master};
use std::fs;
use std::path::Path;

#[test]
fn an_error_is_named_and_rescue_reads_on_around_it() {
    let folder = scratch();
    let disk = master(folder.path(), 4);
    let image = folder.path().join("a.dcimg");
    let bad = sector_of(&disk, "/noise.bin", 100) + 1;
    let failing = Failing::new(&disk, &[bad]);
    capture(&failing.path, &image, &[]).code(1).says(&[
        &format!("byte {}", bad * SECTOR),
        "partition 1",
        "ext4",
        "--rescue",
    ]);
    assert!(!image.exists());
    capture(&failing.path, &image, &["--rescue"])
        .ok()
        .says(&["could not be read", "partition 1"]);
    drop(failing);

    let holes = info(&image)["meta"]["holes"].clone();
    let hole = |what: &str| holes[0][what].as_u64().expect("a number");
    assert_eq!(holes.as_array().map(Vec::len), Some(1), "{holes}");
    assert_eq!(
        (hole("start"), hole("length")),
        (bad * SECTOR, SECTOR),
        "more than the sector is lost"
    );
    check(&image, &[]).ok().says(&["could not be read"]);
    let shown = diskcast(["image", "info", text(&image)]).ok().stdout;
    assert!(
        shown.contains(&format!("bytes {}..", bad * SECTOR)),
        "{shown}"
    );

    let target = folder.path().join("target.raw");
    restore(&image, &target, &[])
        .code(5)
        .says(&["holes", "--accept-holes"]);
    assert!(!target.exists());
    restore(&image, &target, &["--accept-holes"]).ok();
    assert_eq!(bytes_at(&target, bad * SECTOR, SECTOR), [0; 512]);
    for beside in [bad - 1, bad + 1] {
        assert_eq!(
            bytes_at(&target, beside * SECTOR, SECTOR),
            bytes_at(&disk, beside * SECTOR, SECTOR),
            "a sound sector beside the bad one is lost"
        );
    }
}

#[test]
fn a_map_that_does_not_read_is_never_taken_for_an_empty_one() {
    let folder = scratch();
    let disk = master(folder.path(), 2);
    let p = part(&disk, 512, 1);
    let device = Loop::part(&disk, &p, 512);
    let groups = tool(&["dumpe2fs", device.text()]).stdout;
    let line = groups.lines().find(|line| line.contains("Block bitmap at"));
    let block: u64 = line
        .and_then(|line| line.split("at ").nth(1))
        .and_then(|rest| rest.split([' ', ',']).next())
        .and_then(|word| word.parse().ok())
        .expect("the place of a bitmap");
    let size = if groups.contains("Block size:               1024") {
        1024
    } else {
        4096
    };
    drop(device);
    let bad = (p.start + block * size) / SECTOR;
    let failing = Failing::new(&disk, &[bad]);
    let image = folder.path().join("a.dcimg");
    capture(&failing.path, &image, &[]).code(1).says(&[
        "partition 1",
        "map of used blocks",
        &format!("byte {}", bad * SECTOR),
    ]);
    capture(&failing.path, &image, &["--rescue"]).ok();
    assert_eq!(partition(&info(&image), 1)["capture"], "raw");
}

#[test]
fn a_backup_table_that_does_not_read_is_made_anew() {
    let folder = scratch();
    let disk = master(folder.path(), 1);
    let sectors = fs::metadata(&disk).expect("the disk").len() / SECTOR;
    let image = folder.path().join("a.dcimg");
    for bad in [sectors - 1, sectors - 33] {
        let failing = Failing::new(&disk, &[bad]);
        capture(&failing.path, &image, &[])
            .ok()
            .says(&["backup GPT"]);
        drop(failing);
        let meta = &info(&image)["meta"];
        assert!(meta["holes"].is_null(), "{meta}");
        let target = folder.path().join("target.raw");
        poisoned(&target, sectors * SECTOR, TARGET_POISON);
        restore(&image, &target, &[]).ok();
        sgdisk_clean(&target);
        for path in [&image, &target] {
            fs::remove_file(path).expect("removed");
        }
    }
}

/// Marks the cluster at a byte of a whole-disk exFAT as bad, like `chkdsk /r`: bad in the table,
/// and used in the bitmap, which mkfs.exfat puts into cluster 2.
fn mark_bad_in_exfat(disk: &Path, at: u64) {
    let boot = bytes_at(disk, 0, 512);
    let word = |at: usize| {
        let bytes = boot[at..at + 4].try_into().expect("four bytes");
        u64::from(u32::from_le_bytes(bytes))
    };
    let (fat, heap) = (word(80) << boot[108], word(88) << boot[108]);
    let cluster = (at - heap) >> (boot[108] + boot[109]);
    put_at(disk, fat + (cluster + 2) * 4, &[0xf7, 0xff, 0xff, 0xff]);
    put_at(disk, heap + cluster / 8, &[1 << (cluster % 8)]);
}

#[test]
fn blocks_that_are_known_to_be_bad_are_not_read() {
    let folder = scratch();
    let image = folder.path().join("a.dcimg");
    let list = folder.path().join("list");
    fs::write(&list, "20000\n").expect("written");
    // mkfs.fat expects block numbers of 1 KiB, mke2fs those of the file system.
    let makes: [&[&str]; 4] = [
        &["mkfs.exfat", "-c", "4K"],
        &["mkfs.fat", "-F", "16", "-s", "4", "-l", text(&list)],
        &["mkfs.fat", "-F", "32", "-s", "1", "-l", text(&list)],
        &[
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "1024",
            "-l",
            text(&list),
        ],
    ];
    for words in makes {
        let disk = folder.path().join("master.raw");
        fs::File::create(&disk)
            .and_then(|f| f.set_len(48 * MIB))
            .expect("a disk");
        let mut words = words.to_vec();
        words.push(text(&disk));
        tool(&words);
        if words[0] == "mkfs.exfat" {
            mark_bad_in_exfat(&disk, 40_000 * SECTOR);
        }
        let failing = Failing::new(&disk, &[40_000, 40_001]);
        capture(&failing.path, &image, &[]).ok();
        drop(failing);
        let facts = info(&image);
        let excluded = partition(&facts, 0)["excluded"].clone();
        assert_eq!(excluded[0]["what"], "bad blocks", "{words:?}: {facts:#}");
        let start = excluded[0]["start"].as_u64().expect("a place");
        let length = excluded[0]["length"].as_u64().expect("a length");
        assert!(
            (start..start + length).contains(&(40_000 * SECTOR)) && length <= 4096,
            "{words:?}: {excluded}"
        );
        fs::remove_file(&image).expect("removed");
        fs::remove_file(&disk).expect("removed");
    }
}
