//! ext2, ext3 and ext4 in all variants that mke2fs can make.

use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;

use diskmap::extents::ExtentSet;
use diskmap::usedmap::FsKind;

use crate::support::*;

/// The free blocks according to dumpe2fs, in bytes: an oracle that shares no code with our reader.
fn free_by_dumpe2fs(image: &Path) -> (u64, ExtentSet) {
    let said = ok("dumpe2fs", &[str(image)]);
    let field = |name: &str| -> u64 {
        let line = said.lines().find(|line| line.starts_with(name)).unwrap();
        line.split(':').nth(1).unwrap().trim().parse().unwrap()
    };
    let block = field("Block size");
    // With bigalloc, dumpe2fs ends a range at the first block of its last cluster.
    let cluster = if said.contains("Cluster size") {
        field("Cluster size")
    } else {
        block
    };
    let mut free = ExtentSet::new();
    for line in said.lines() {
        let Some(list) = line.trim().strip_prefix("Free blocks:") else {
            continue;
        };
        for part in list
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            // The summary line "Free blocks: N" precedes the groups and is not a list of ranges.
            let (Ok(first), Ok(last)) = (first.parse::<u64>(), last.parse::<u64>()) else {
                continue;
            };
            if line.starts_with(' ') {
                free.insert(first * block..last * block + cluster);
            }
        }
    }
    (field("Block count") * block, free)
}

fn span(range: &Range<u64>) -> u64 {
    range.end - range.start
}

/// Makes, fills, maps, copies, checks and compares one variant.
#[track_caller]
fn variant(kind: FsKind, bytes: u64, args: &[&str]) {
    let bench = Bench::new();
    let tree = bench.tree();
    let image = bench.image(bytes);
    let mut all = vec![
        "-q",
        "-F",
        "-E",
        "nodiscard",
        "-L",
        "master",
        "-d",
        str(&tree),
    ];
    all.extend(args);
    all.push(str(&image));
    ok("mke2fs", &all);
    // Deleted files leave holes in the allocation, which a map without details would miss.
    for name in ["file1500000", "sub/file20000", "many/small7"] {
        if tree.join(name).exists() {
            ok(
                "debugfs",
                &["-w", "-R", &format!("rm /{name}"), str(&image)],
            );
            fs::remove_file(tree.join(name)).unwrap();
        }
    }
    // debugfs does not update the counters of a bigalloc or uninit group; e2fsck does.
    let _ = run("e2fsck", &["-fy", str(&image)]);
    ok("e2fsck", &["-fn", str(&image)]);

    let map = used(&image);
    assert_eq!(map.fs.kind, kind, "{args:?}");
    assert_eq!(map.fs.label.as_deref(), Some("master"));
    let blkid = ok("blkid", &["-p", "-o", "value", "-s", "UUID", str(&image)]);
    assert_eq!(map.fs.uuid.as_deref(), Some(blkid.trim()));

    let (size, free) = free_by_dumpe2fs(&image);
    assert_eq!(map.fs.size, size);
    let ours = ExtentSet::from(map.extents.clone());
    let must = ExtentSet::from(0..size).subtract(&free);
    let missing = must.subtract(&ours);
    assert!(missing.is_empty(), "{args:?}: not captured {missing:?}");
    let extra: u64 = ours
        .subtract(&must)
        .within(0..size)
        .iter()
        .map(|r| span(&r))
        .sum();
    assert!(extra <= 64 << 10, "{args:?}: {extra} free bytes captured");

    let restored = poison_copy(&image, &map);
    ok("e2fsck", &["-fn", str(&restored)]);
    let out = bench.path("out");
    fs::create_dir(&out).unwrap();
    ok(
        "debugfs",
        &["-R", &format!("rdump / {}", str(&out)), str(&restored)],
    );
    same_files(&tree, &out);
}

#[test]
fn ext2_ext3_ext4_as_mke2fs_makes_them() {
    variant(FsKind::Ext2, 32 * MIB, &["-t", "ext2"]);
    variant(FsKind::Ext3, 32 * MIB, &["-t", "ext3"]);
    variant(FsKind::Ext4, 48 * MIB, &["-t", "ext4"]);
}

#[test]
fn block_sizes() {
    for block in ["1024", "2048", "4096"] {
        variant(FsKind::Ext4, 40 * MIB, &["-t", "ext4", "-b", block]);
        variant(FsKind::Ext2, 24 * MIB, &["-t", "ext2", "-b", block]);
    }
    variant(
        FsKind::Ext4,
        64 * MIB,
        &["-t", "ext4", "-b", "65536", "-O", "^has_journal"],
    );
}

#[test]
fn many_small_groups() {
    for features in [
        "flex_bg",
        "^flex_bg",
        "meta_bg,^resize_inode",
        "meta_bg,^resize_inode,^flex_bg",
        "^64bit",
        "^64bit,^metadata_csum,uninit_bg",
        "^metadata_csum,uninit_bg,^flex_bg",
        "^metadata_csum,^uninit_bg",
        "sparse_super2",
        "^sparse_super,^resize_inode",
        "^resize_inode",
        "metadata_csum_seed",
    ] {
        let group = [
            "-g", "1024", "-t", "ext4", "-b", "1024", "-N", "2000", "-O", features,
        ];
        variant(FsKind::Ext4, 24 * MIB, &group);
    }
    // 512 groups need more than one block of descriptors and several meta groups.
    let tiny = [
        "-g", "256", "-t", "ext4", "-b", "1024", "-N", "4096", "-J", "size=1",
    ];
    for features in [
        "^resize_inode",
        "meta_bg,^resize_inode,^flex_bg",
        "meta_bg,^resize_inode,^64bit",
    ] {
        let mut args = tiny.to_vec();
        args.extend(["-O", features]);
        variant(FsKind::Ext4, 40 * MIB, &args);
    }
}

#[test]
fn bigalloc_bits_are_clusters() {
    variant(
        FsKind::Ext4,
        64 * MIB,
        &["-t", "ext4", "-O", "bigalloc", "-C", "16384"],
    );
    variant(
        FsKind::Ext4,
        64 * MIB,
        &["-t", "ext4", "-O", "bigalloc", "-b", "1024", "-C", "16384"],
    );
    variant(
        FsKind::Ext4,
        64 * MIB,
        &[
            "-t",
            "ext4",
            "-O",
            "bigalloc,^metadata_csum,uninit_bg",
            "-C",
            "65536",
        ],
    );
}

#[test]
fn lazily_made_inode_tables_and_uninit_bitmaps() {
    variant(
        FsKind::Ext4,
        64 * MIB,
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-E",
            "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
        ],
    );
    variant(
        FsKind::Ext4,
        64 * MIB,
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-O",
            "^flex_bg",
            "-E",
            "nodiscard,lazy_itable_init=0",
        ],
    );
}

/// The bitmap of a group that was never used holds old content of the disk.
#[test]
fn uninit_bitmaps_are_not_read() {
    for features in ["metadata_csum", "^metadata_csum,uninit_bg", "^flex_bg"] {
        let bench = Bench::new();
        let image = bench.image(64 * MIB);
        let args = [
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "1024",
            "-E",
            "nodiscard",
            "-O",
            features,
        ];
        ok("mke2fs", &[&args[..], &[str(&image)]].concat());
        let before = used(&image);
        let said = ok("dumpe2fs", &[str(&image)]);
        let mut uninit = false;
        let mut spoiled = 0;
        for line in said.lines() {
            if line.starts_with("Group ") {
                uninit = line.contains("BLOCK_UNINIT");
            } else if uninit && line.contains("Block bitmap at ") {
                let block = number_after(line, "Block bitmap at ");
                patch(&image, block * 1024, &[0; 1024]);
                spoiled += 1;
            }
        }
        assert!(spoiled > 0, "{features}: no group is uninit");
        assert_eq!(used(&image), before);
        let restored = poison_copy(&image, &before);
        ok("e2fsck", &["-fn", str(&restored)]);
    }
}

fn number_after(line: &str, words: &str) -> u64 {
    let rest = line.split(words).nth(1).unwrap();
    rest.split([' ', ',']).next().unwrap().parse().unwrap()
}

#[test]
fn odd_sizes_leave_slack_and_short_last_groups() {
    for bytes in [9_000_000, 16 * MIB + 4096 + 512, 25_165_824 + 77 * 1024] {
        variant(
            FsKind::Ext4,
            bytes,
            &["-t", "ext4", "-b", "1024", "-J", "size=1"],
        );
        variant(FsKind::Ext2, bytes, &["-t", "ext2", "-b", "4096"]);
    }
}

/// Story: partclone copies the same volume and exits 0, and six fsynced files are wrong.
#[test]
fn mounted_and_synced_is_refused_though_the_superblock_says_clean() {
    let bench = Bench::new();
    let image = bench.image(64 * MIB);
    ok("mke2fs", &["-q", "-F", "-t", "ext4", str(&image)]);
    let mounted = Mounted::loopback(&image, bench.path("mnt"), "loop");
    for index in 0..6u64 {
        let path = mounted.at.join(format!("synced{index}"));
        fs::write(&path, noise(index, 3_000_000)).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
    }
    let crashed = bench.path("crashed.img");
    fs::copy(&image, &crashed).unwrap();
    mounted.unmount();

    assert_eq!(
        peek(&crashed, 1024 + 0x3A, 2),
        [1, 0],
        "superblock says clean"
    );
    let (reason, hint) = refused(&crashed);
    assert!(reason.contains("needs recovery"), "{reason}");
    assert!(hint.contains("e2fsck -p"), "{hint}");
    let partclone = run(
        "partclone.ext4",
        &[
            "-c",
            "-q",
            "-s",
            str(&crashed),
            "-o",
            str(&bench.path("partclone.img")),
            "-L",
            str(&bench.path("log")),
        ],
    );
    assert!(
        partclone.status.success(),
        "partclone learned to refuse: {}",
        text(&partclone)
    );

    // After the recovery it is an ordinary volume and the files are right.
    let _ = run("e2fsck", &["-p", str(&crashed)]);
    let restored = poison_copy(&crashed, &used(&crashed));
    ok("e2fsck", &["-fn", str(&restored)]);
    let out = bench.path("out");
    fs::create_dir(&out).unwrap();
    ok(
        "debugfs",
        &["-R", &format!("rdump / {}", str(&out)), str(&restored)],
    );
    for index in 0..6u64 {
        assert!(fs::read(out.join(format!("synced{index}"))).unwrap() == noise(index, 3_000_000));
    }
}

/// The files are written by the kernel, not by mke2fs: delayed allocation, extents, deletions.
#[test]
fn written_by_the_kernel_and_unmounted() {
    for (kind, args) in [
        (FsKind::Ext2, &["-t", "ext2", "-b", "1024"][..]),
        (
            FsKind::Ext4,
            &["-t", "ext4", "-O", "^flex_bg", "-g", "8192"][..],
        ),
    ] {
        let bench = Bench::new();
        let tree = bench.tree();
        let image = bench.image(48 * MIB);
        let mut all = vec!["-q", "-F", "-E", "nodiscard"];
        all.extend(args);
        all.push(str(&image));
        ok("mke2fs", &all);
        let mounted = Mounted::loopback(&image, bench.path("mnt"), "loop");
        fs::write(mounted.at.join("gone"), noise(9, 5_000_000)).unwrap();
        ok(
            "cp",
            &["-a", &format!("{}/.", str(&tree)), str(&mounted.at)],
        );
        ok("sync", &["-f", str(&mounted.at)]);
        fs::remove_file(mounted.at.join("gone")).unwrap();
        if kind == FsKind::Ext2 {
            ok("sync", &["-f", str(&mounted.at)]);
            let (reason, _) = refused(&image);
            assert!(reason.contains("mounted"), "{reason}");
        }
        mounted.unmount();
        let map = used(&image);
        assert_eq!(map.fs.kind, kind);
        let restored = poison_copy(&image, &map);
        ok("e2fsck", &["-fn", str(&restored)]);
        let again = Mounted::loopback(&restored, bench.path("again"), "loop,ro");
        same_files(&tree, &again.at);
    }
}

fn plain(bench: &Bench, args: &[&str]) -> std::path::PathBuf {
    let image = bench.image(24 * MIB);
    let mut all = vec!["-q", "-F"];
    all.extend(args);
    all.push(str(&image));
    ok("mke2fs", &all);
    image
}

#[test]
fn damage_is_raw_and_dirt_is_refused() {
    let bench = Bench::new();
    // Without checksums, the free count and the rule for metadata must detect the damage.
    let image = plain(&bench, &["-t", "ext2", "-b", "1024"]);
    let said = ok("dumpe2fs", &[str(&image)]);
    let line = said
        .lines()
        .find(|line| line.contains("Block bitmap at"))
        .unwrap();
    let block = number_after(line, "Block bitmap at ");
    let bitmap = peek(&image, block * 1024, 8);
    patch(&image, block * 1024, &[0; 8]);
    assert!(raw(&image).contains("free clusters"), "{}", raw(&image));
    patch(&image, block * 1024, &bitmap);
    used(&image);

    for (state, word) in [(0u8, "mounted"), (3, "errors")] {
        patch(&image, 1024 + 0x3A, &[state, 0]);
        assert!(refused(&image).0.contains(word));
    }
    patch(&image, 1024 + 0x3A, &[1, 0]);
    for feature in [0x1u32, 0x1000, 0x8000_0000] {
        let before = peek(&image, 1024 + 0x60, 4);
        patch(&image, 1024 + 0x60, &feature.to_le_bytes());
        assert!(raw(&image).contains("incompat"), "{feature:#x}");
        patch(&image, 1024 + 0x60, &before);
    }
    patch(&image, 1024 + 0x4, &u32::MAX.to_le_bytes());
    assert!(raw(&image).contains("in a partition of"), "{}", raw(&image));

    // With checksums, a single flipped bit in superblock, descriptor or bitmap is detected.
    let image = plain(&bench, &["-t", "ext4", "-b", "1024", "-O", "^flex_bg"]);
    let said = ok("dumpe2fs", &[str(&image)]);
    let line = said
        .lines()
        .find(|line| line.contains("Block bitmap at"))
        .unwrap();
    let block = number_after(line, "Block bitmap at ");
    for (at, word) in [
        (1024 + 0x78, "superblock checksum"),
        (2048 + 0xC, "checksum of the descriptor"),
        (block * 1024 + 500, "checksum of the bitmap"),
    ] {
        let byte = peek(&image, at, 1)[0];
        patch(&image, at, &[byte ^ 1]);
        assert!(raw(&image).contains(word), "{word}: {}", raw(&image));
        patch(&image, at, &[byte]);
    }
    used(&image);
}

#[test]
fn journal_on_another_device_is_raw() {
    let bench = Bench::new();
    let journal = bench.image(8 * MIB);
    ok(
        "mke2fs",
        &["-q", "-F", "-b", "1024", "-O", "journal_dev", str(&journal)],
    );
    assert!(
        raw(&journal).contains("journal device"),
        "{}",
        raw(&journal)
    );
    let image = bench.path("main.img");
    fs::write(&image, vec![0; 24 << 20]).unwrap();
    ok(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "1024",
            "-O",
            "^metadata_csum",
            str(&image),
        ],
    );
    patch(&image, 1024 + 0xE0, &[0; 4]);
    assert!(raw(&image).contains("another device"), "{}", raw(&image));
}
