//! FAT12, FAT16 and FAT32 volumes made by mkfs.fat and filled by mtools.

use std::fs;
use std::path::{Path, PathBuf};

use diskmap::usedmap::FsKind;

use crate::support::*;

fn make(bench: &Bench, bytes: u64, args: &[&str]) -> PathBuf {
    let image = bench.image(bytes);
    let mut all = vec!["-n", "MASTER", "-i", "C0FFEE42"];
    all.extend(args);
    all.push(str(&image));
    ok("mkfs.fat", &all);
    image
}

/// Fills the volume and deletes a file, which leaves a hole.
fn populate(bench: &Bench, image: &Path) -> PathBuf {
    let tree = bench.tree();
    // mtools uses no configuration of the machine and skips its own sanity checks.
    let gone = bench.path("gone");
    fs::write(&gone, noise(7, 300_000)).unwrap();
    mtools("mcopy", image, &[str(&gone), "::gone"]);
    for name in ["sub", "many", "empty"] {
        mtools("mcopy", image, &["-s", str(&tree.join(name)), "::"]);
    }
    mtools("mdel", image, &["::gone"]);
    for entry in fs::read_dir(&tree).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            mtools("mcopy", image, &[str(&path), "::"]);
        }
    }
    tree
}

fn mtools(tool: &str, image: &Path, args: &[&str]) {
    let mut all = vec!["-i", str(image)];
    all.extend(args);
    ok(tool, &all);
}

#[track_caller]
fn variant(kind: FsKind, bytes: u64, args: &[&str]) {
    let bench = Bench::new();
    let image = make(&bench, bytes, args);
    let tree = populate(&bench, &image);
    let restored = check_count_and_copy(&image, kind, args);
    let out = bench.path("out");
    fs::create_dir(&out).unwrap();
    mtools("mcopy", &restored, &["-s", "-n", "::", str(&out)]);
    // mtools creates a directory for "::" itself when the whole volume is copied.
    let root = if out.join("sub").exists() {
        out
    } else {
        fs::read_dir(&out).unwrap().next().unwrap().unwrap().path()
    };
    same_files(&tree, &root);
}

/// Compares the map with the count of fsck.fat, and checks the copy with fsck.fat.
#[track_caller]
fn check_count_and_copy(image: &Path, kind: FsKind, args: &[&str]) -> PathBuf {
    let bytes = fs::metadata(image).unwrap().len();
    let said = ok("fsck.fat", &["-n", "-v", str(image)]);
    let map = used(image);
    assert_eq!(map.fs.kind, kind, "{args:?}");
    assert_eq!(map.fs.label.as_deref(), Some("MASTER"));
    assert_eq!(map.fs.uuid.as_deref(), Some("C0FF-EE42"));
    // "image.img: 140 files, 2345/8167 clusters"
    let mut lines = said.lines();
    let summary = lines.find(|line| line.contains(" files, ")).unwrap();
    let counts = summary
        .rsplit(", ")
        .next()
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let (taken, all) = counts.split_once('/').unwrap();
    let (taken, all): (u64, u64) = (taken.parse().unwrap(), all.parse().unwrap());
    let unit = u64::from(map.fs.block_size);
    let free = (all - taken) * unit;
    let tail = 64 << 10;
    let expected = bytes - free;
    assert!(
        map.used_bytes() >= expected,
        "{args:?}: {} < {expected}",
        map.used_bytes()
    );
    assert!(
        map.used_bytes() <= expected + tail,
        "{args:?}: {}",
        map.used_bytes()
    );

    let restored = poison_copy(image, &map);
    ok("fsck.fat", &["-n", str(&restored)]);
    restored
}

#[test]
fn every_type_and_cluster_size() {
    variant(FsKind::Fat12, 8 * MIB, &["-F", "12", "-s", "8"]);
    variant(
        FsKind::Fat12,
        16 * MIB,
        &["-F", "12", "-s", "16", "-f", "1"],
    );
    variant(FsKind::Fat16, 16 * MIB, &["-F", "16", "-s", "2"]);
    variant(
        FsKind::Fat16,
        48 * MIB,
        &["-F", "16", "-s", "8", "-r", "512"],
    );
    variant(FsKind::Fat16, 24 * MIB, &["-F", "16", "-s", "4", "-f", "1"]);
    variant(FsKind::Fat32, 48 * MIB, &["-F", "32", "-s", "1"]);
    variant(
        FsKind::Fat32,
        64 * MIB,
        &["-F", "32", "-s", "1", "-R", "64"],
    );
    variant(
        FsKind::Fat16,
        48 * MIB,
        &["-F", "16", "-S", "2048", "-s", "4"],
    );
}

/// A FAT32 with fewer clusters than the specification requires, as on many EFI system partitions.
/// Linux and Windows read it as FAT32; mtools does not, so it stays empty here.
#[test]
fn fat32_of_few_clusters_is_still_fat32() {
    for (bytes, args) in [
        (32 * MIB, ["-F", "32", "-S", "512", "-s", "8"]),
        (64 * MIB, ["-F", "32", "-S", "4096", "-s", "1"]),
    ] {
        let bench = Bench::new();
        let image = make(&bench, bytes, &args);
        check_count_and_copy(&image, FsKind::Fat32, &args);
    }
}

#[test]
fn bad_clusters_are_left_out() {
    let bench = Bench::new();
    let image = make(&bench, 16 * MIB, &["-F", "16", "-s", "4", "-f", "1"]);
    let before = used(&image);
    let reserved = u64::from(peek(&image, 14, 1)[0]);
    patch(&image, reserved * 512 + 2 * 3000, &[0xF7, 0xFF]);
    let after = used(&image);
    assert_eq!(after.extents, before.extents);
    let [bad] = after.excluded.as_slice() else {
        panic!("{:?}", after.excluded);
    };
    assert_eq!(bad.what, "bad blocks");
    assert_eq!(bad.range.end - bad.range.start, 2048);
}

#[test]
fn dirt_is_refused_and_damage_is_raw() {
    for (kind, args, at, entry, state_at) in [
        (
            FsKind::Fat16,
            ["-F", "16", "-s", "4"],
            2u64,
            &[0xFFu8, 0x7F][..],
            37u64,
        ),
        (
            FsKind::Fat32,
            ["-F", "32", "-s", "1"],
            4,
            &[0xFF, 0xFF, 0xFF, 0x07],
            65,
        ),
    ] {
        let bench = Bench::new();
        let image = make(&bench, 48 * MIB, &args);
        let reserved = u64::from(peek(&image, 14, 1)[0]) * 512;
        let good = peek(&image, reserved + at, entry.len());
        patch(&image, reserved + at, entry);
        let (reason, hint) = refused(&image);
        assert!(reason.contains("not cleanly unmounted"), "{kind}: {reason}");
        assert!(hint.contains("fsck.fat"), "{hint}");
        // The other bit means errors.
        let mut errors = good.clone();
        *errors.last_mut().unwrap() &= if kind == FsKind::Fat16 { 0xBF } else { 0xFB };
        patch(&image, reserved + at, &errors);
        assert!(refused(&image).0.contains("disk errors"));
        patch(&image, reserved + at, &good);
        patch(&image, state_at, &[1]);
        assert!(refused(&image).0.contains("not cleanly unmounted"));
        patch(&image, state_at, &[0]);
        used(&image);

        patch(&image, reserved + 4000, &[1]);
        assert!(raw(&image).contains("differ"), "{}", raw(&image));
        patch(&image, reserved + 4000, &[0]);
        patch(&image, reserved, &[0xF0]);
        assert!(raw(&image).contains("media"), "{}", raw(&image));
        patch(&image, reserved, &[0xF8]);
        patch(&image, 32, &[0xFF; 4]);
        patch(&image, 19, &[0; 2]);
        assert!(raw(&image).contains("in a partition of"), "{}", raw(&image));
    }
}

#[test]
fn slack_behind_a_smaller_file_system_is_kept_when_it_holds_something() {
    let bench = Bench::new();
    let image = bench.path("source.img");
    fs::write(&image, vec![0; 20 << 20]).unwrap();
    ok("mkfs.fat", &["-F", "16", "-s", "4", str(&image), "16384"]);
    let plain = used(&image);
    assert_eq!(plain.fs.size, 16 * MIB);
    patch(&image, 18 * MIB + 5000, b"a label of something else");
    let kept = used(&image);
    assert_eq!(kept.used_bytes(), plain.used_bytes() + 4096);
    assert!(kept.extents.contains(&(18 * MIB + 4096..18 * MIB + 8192)));
}
