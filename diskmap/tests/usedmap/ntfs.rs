//! NTFS volumes made by mkntfs and filled by ntfs-3g, and the states that Windows leaves.

use std::fs;
use std::path::{Path, PathBuf};

use diskmap::extents::ExtentSet;
use diskmap::usedmap::{FsKind, MapOptions, Mapping, UsedMap};

use crate::support::*;

pub(crate) fn make(bench: &Bench, bytes: u64, args: &[&str]) -> PathBuf {
    let image = bench.image(bytes);
    // With all of these options mkntfs does not have to guess.
    let mut all = vec![
        "-F", "-Q", "-q", "-L", "Mäster", "-p", "0", "-H", "0", "-S", "0",
    ];
    if !args.contains(&"-s") {
        all.extend(["-s", "512"]);
    }
    all.extend(args);
    all.push(str(&image));
    ok("mkntfs", &all);
    image
}

pub(crate) fn populate(bench: &Bench, image: &Path) -> PathBuf {
    let tree = bench.tree();
    let mounted = Mounted::ntfs(image, bench.path("mnt"), "rw");
    fs::write(mounted.at.join("gone"), noise(77, 2_000_000)).unwrap();
    ok(
        "cp",
        &["-r", &format!("{}/.", str(&tree)), str(&mounted.at)],
    );
    fs::remove_file(mounted.at.join("gone")).unwrap();
    mounted.unmount();
    tree
}

/// The number of used clusters according to libntfs, from the mounted volume.
fn used_by_ntfscluster(image: &Path) -> u64 {
    let said = ok("ntfscluster", &["-i", str(image)]);
    let field = |name: &str| -> u64 {
        let line = said.lines().find(|line| line.starts_with(name)).unwrap();
        line.split(':').nth(1).unwrap().trim().parse().unwrap()
    };
    let cluster = field("bytes per cluster");
    field("bytes per volume") / cluster - field("clusters of free space")
}

pub(crate) fn check_copy(bench: &Bench, image: &Path, map: &UsedMap, tree: &Path) {
    let restored = poison_copy(image, map);
    let said = ok("ntfsfix", &["-n", str(&restored)]);
    assert!(!said.contains("BAD") && !said.contains("FAILED"), "{said}");
    let last = fs::metadata(image).unwrap().len() - 512;
    assert_eq!(
        peek(image, last, 512),
        peek(&restored, last, 512),
        "backup boot sector"
    );
    assert_eq!(&peek(&restored, last, 8)[3..7], b"NTFS");
    let again = Mounted::ntfs(&restored, bench.path("again"), "ro");
    same_files(tree, &again.at);
}

#[test]
fn cluster_sizes() {
    for (cluster, bytes) in [
        ("512", 24 * MIB),
        ("1024", 24 * MIB + 3 * 512),
        ("2048", 24 * MIB),
        ("4096", 32 * MIB),
        ("8192", 32 * MIB),
        ("16384", 33_000_448),
        ("32768", 32 * MIB),
        ("65536", 48 * MIB),
        ("1048576", 64 * MIB),
        ("2097152", 64 * MIB),
    ] {
        let bench = Bench::new();
        let image = make(&bench, bytes, &["-c", cluster]);
        let tree = if cluster.len() > 5 {
            // With few clusters, a few files fill the volume.
            let tree = bench.path("few");
            fs::create_dir(&tree).unwrap();
            fs::write(tree.join("one"), noise(1, 3_000_000)).unwrap();
            let mounted = Mounted::ntfs(&image, bench.path("mnt"), "rw");
            ok(
                "cp",
                &["-r", &format!("{}/.", str(&tree)), str(&mounted.at)],
            );
            mounted.unmount();
            tree
        } else {
            populate(&bench, &image)
        };
        let map = used(&image);
        let unit: u64 = cluster.parse().unwrap();
        assert_eq!(map.fs.kind, FsKind::Ntfs);
        assert_eq!(u64::from(map.fs.block_size), unit);
        assert_eq!(map.fs.label.as_deref(), Some("Mäster"));
        assert_eq!(map.fs.size, bytes / 512 * 512 - 512);
        let blkid = ok("blkid", &["-p", "-o", "value", "-s", "UUID", str(&image)]);
        assert_eq!(map.fs.uuid.as_deref(), Some(blkid.trim()));
        // The used clusters of the bitmap plus the end of the partition: no fewer than libntfs
        // counts.
        let counted = used_by_ntfscluster(&image) * unit;
        let tail = 64 << 10;
        assert!(
            map.used_bytes() >= counted,
            "{cluster}: {} < {counted}",
            map.used_bytes()
        );
        assert!(map.used_bytes() <= counted + tail + unit + 512, "{cluster}");
        check_copy(&bench, &image, &map, &tree);
    }
}

#[test]
fn sectors_of_4096_bytes() {
    let bench = Bench::new();
    let image = make(&bench, 32 * MIB, &["-s", "4096", "-c", "4096"]);
    let map = used(&image);
    assert_eq!(map.fs.size, 32 * MIB - 4096);
    let restored = poison_copy(&image, &map);
    assert_eq!(
        peek(&image, 32 * MIB - 4096, 4096),
        peek(&restored, 32 * MIB - 4096, 4096)
    );
    ok("ntfsinfo", &["-m", str(&restored)]);
}

#[test]
fn partclone_agrees_on_the_count_and_loses_the_backup_boot_sector() {
    let bench = Bench::new();
    let image = make(&bench, 24 * MIB, &["-c", "4096"]);
    populate(&bench, &image);
    let packed = bench.path("packed");
    let said = ok(
        "partclone.ntfs",
        &[
            "-c",
            "-s",
            str(&image),
            "-o",
            str(&packed),
            "-L",
            str(&bench.path("log")),
        ],
    );
    let line = said
        .lines()
        .find(|line| line.contains("Space in use"))
        .unwrap();
    let blocks: u64 = line
        .split('=')
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let map = used(&image);
    let volume =
        ExtentSet::from(map.extents.clone()).within(0..map.fs.size / 4096 * 4096 - (64 << 10));
    assert_eq!(blocks, used_by_ntfscluster(&image));
    assert!(volume.total() <= blocks * 4096 && volume.total() + (64 << 10) + 4096 >= blocks * 4096);
}

/// A root directory as in Windows: page files beside hundreds of names, so that the index has
/// nodes.
fn windows(bench: &Bench, cluster: &str) -> (PathBuf, PathBuf) {
    let image = make(bench, 48 * MIB, &["-c", cluster]);
    let tree = bench.tree();
    let mounted = Mounted::ntfs(&image, bench.path("mnt"), "rw,windows_names");
    for index in 0..400u64 {
        let name = format!("a rather long name in the root directory {index}.txt");
        fs::write(tree.join(&name), noise(index, 60)).unwrap();
    }
    ok(
        "cp",
        &["-r", &format!("{}/.", str(&tree)), str(&mounted.at)],
    );
    fs::write(mounted.at.join("pagefile.sys"), noise(1, 4_000_000)).unwrap();
    fs::write(mounted.at.join("SwapFile.sys"), noise(2, 1_000_000)).unwrap();
    fs::write(
        mounted.at.join("hiberfil.sys"),
        [vec![0; 4096], noise(3, 3_000_000)].concat(),
    )
    .unwrap();
    // The same name in another directory is an ordinary file.
    fs::write(mounted.at.join("sub/pagefile.sys"), noise(4, 500_000)).unwrap();
    fs::write(tree.join("sub/pagefile.sys"), noise(4, 500_000)).unwrap();
    mounted.unmount();
    (image, tree)
}

#[test]
fn page_files_of_a_clean_volume_are_left_out() {
    for cluster in ["512", "4096", "65536"] {
        let bench = Bench::new();
        let (image, tree) = windows(&bench, cluster);
        let map = used(&image);
        let unit: u64 = cluster.parse().unwrap();
        let of = |what: &str| -> u64 {
            let mine = map.excluded.iter().filter(|excluded| excluded.what == what);
            mine.map(|excluded| excluded.range.end - excluded.range.start)
                .sum()
        };
        // The last 64 KiB of the partition are always captured.
        for (what, expected) in [
            ("pagefile.sys", 4_000_000u64.next_multiple_of(unit)),
            ("swapfile.sys", 1_000_000u64.next_multiple_of(unit)),
            (
                "hiberfil.sys",
                3_004_096u64.next_multiple_of(unit) - unit.max(4096),
            ),
        ] {
            let left_out = of(what);
            assert!(
                left_out <= expected && left_out + (64 << 10) >= expected,
                "{what}: {left_out}"
            );
        }
        let extents = ExtentSet::from(map.extents.clone());
        assert!(
            map.excluded
                .iter()
                .all(|excluded| !extents.intersects(excluded.range.clone()))
        );

        let all = match mapping_with(
            &image,
            &MapOptions {
                keep_page_files: true,
                ..MapOptions::default()
            },
        ) {
            Mapping::Used(all) => all,
            other => panic!("{other:?}"),
        };
        let left_out: u64 = map
            .excluded
            .iter()
            .map(|e| e.range.end - e.range.start)
            .sum();
        assert_eq!(all.used_bytes(), map.used_bytes() + left_out);
        assert!(all.excluded.is_empty());

        let restored = poison_copy(&image, &map);
        ok("ntfsfix", &["-n", str(&restored)]);
        let again = Mounted::ntfs(&restored, bench.path("again"), "ro");
        assert_eq!(
            fs::read(again.at.join("hiberfil.sys")).unwrap()[..4096],
            [0; 4096]
        );
        assert_eq!(
            fs::metadata(again.at.join("pagefile.sys")).unwrap().len(),
            4_000_000
        );
        for name in ["pagefile.sys", "SwapFile.sys", "hiberfil.sys"] {
            fs::write(tree.join(name), fs::read(again.at.join(name)).unwrap()).unwrap();
        }
        same_files(&tree, &again.at);
    }
}

#[test]
fn odd_page_files_are_kept() {
    let bench = Bench::new();
    let image = make(&bench, 24 * MIB, &["-c", "4096"]);
    let mounted = Mounted::ntfs(&image, bench.path("mnt"), "rw");
    // Sparse, resident and hard-linked files: Windows creates none of these.
    let sparse = fs::File::create(mounted.at.join("pagefile.sys")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &[1; 8192], 1_000_000).unwrap();
    drop(sparse);
    fs::write(mounted.at.join("swapfile.sys"), b"tiny").unwrap();
    fs::write(mounted.at.join("hiberfil.sys"), vec![0; 100_000]).unwrap();
    fs::hard_link(mounted.at.join("hiberfil.sys"), mounted.at.join("also")).unwrap();
    mounted.unmount();
    assert_eq!(used(&image).excluded, []);
}

#[test]
fn hibernated_windows_is_refused() {
    for mark in ["hibr", "HIBR", "RSTR"] {
        let bench = Bench::new();
        let image = make(&bench, 24 * MIB, &["-c", "4096"]);
        let mounted = Mounted::ntfs(&image, bench.path("mnt"), "rw");
        let content = [mark.as_bytes(), &noise(5, 200_000)].concat();
        fs::write(mounted.at.join("hiberfil.sys"), content).unwrap();
        mounted.unmount();
        let (reason, hint) = refused(&image);
        assert!(
            reason.contains("hibernated") && reason.contains(mark),
            "{reason}"
        );
        assert!(hint.contains("shutdown /s /t 0"), "{hint}");
    }
    // A resumed Windows is known not to be hibernated.
    let bench = Bench::new();
    let image = make(&bench, 24 * MIB, &["-c", "4096"]);
    let mounted = Mounted::ntfs(&image, bench.path("mnt"), "rw");
    fs::write(
        mounted.at.join("hiberfil.sys"),
        [&b"wake"[..], &noise(5, 200_000)].concat(),
    )
    .unwrap();
    mounted.unmount();
    used(&image);
}

#[test]
fn the_dirty_flag_is_refused() {
    let bench = Bench::new();
    let image = make(&bench, 24 * MIB, &["-c", "4096"]);
    used(&image);
    ok("ntfsfix", &[str(&image)]); // repairs nothing here, and asks Windows for a chkdsk
    let (reason, hint) = refused(&image);
    assert!(reason.contains("dirty"), "{reason}");
    assert!(hint.contains("chkdsk"), "{hint}");
}

/// Position of the first byte of the first run of a system file.
pub(crate) fn place(image: &Path, record: &str) -> u64 {
    let sector = peek(image, 0, 64);
    let cluster = u64::from(sector[13]) * 512;
    let said = ok("ntfsinfo", &["-i", record, "-v", str(image)]);
    let run = said
        .lines()
        .skip_while(|line| !line.contains("$DATA (0x80)"))
        .skip_while(|line| !line.contains("Runlist:"))
        .nth(1)
        .unwrap();
    let lcn = run.split_whitespace().nth(1).unwrap();
    u64::from_str_radix(lcn.trim_start_matches("0x"), 16).unwrap() * cluster
}

/// A restart page as written by Windows, with one open client.
fn restart_page(version: (u16, u16), flags: u16, in_use: u16, lsn: u64) -> Vec<u8> {
    let mut page = vec![0u8; 4096];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"RSTR");
    put(4, &30u16.to_le_bytes());
    put(6, &9u16.to_le_bytes());
    put(16, &4096u32.to_le_bytes());
    put(20, &4096u32.to_le_bytes());
    put(24, &48u16.to_le_bytes());
    put(26, &version.1.to_le_bytes());
    put(28, &version.0.to_le_bytes());
    put(48, &lsn.to_le_bytes());
    put(56, &1u16.to_le_bytes());
    put(60, &in_use.to_le_bytes());
    put(62, &flags.to_le_bytes());
    // The update sequence: mark 7 at the end of each stride, and the replaced zeros in the list.
    put(30, &7u16.to_le_bytes());
    for stride in 1..=8usize {
        put(stride * 512 - 2, &7u16.to_le_bytes());
    }
    page
}

#[test]
fn an_open_log_is_refused_and_a_closed_one_is_not() {
    let bench = Bench::new();
    let image = make(&bench, 24 * MIB, &["-c", "4096"]);
    let log = place(&image, "2");
    let write = |first: &[u8], second: &[u8]| {
        patch(&image, log, first);
        patch(&image, log + 4096, second);
    };
    let open = restart_page((1, 1), 0, 0, 10);
    let closed = restart_page((1, 1), 2, 0, 20);
    let closed_xp = restart_page((1, 1), 0, 0xFFFF, 20);
    let fast = restart_page((2, 0), 2, 0, 30);
    write(&open, &closed);
    used(&image);
    write(&closed_xp, &open);
    used(&image);
    write(&open, &restart_page((1, 1), 0, 0, 9));
    assert!(refused(&image).0.contains("lost power"));
    write(&closed, &fast);
    let (reason, hint) = refused(&image);
    assert!(reason.contains("Fast Startup"), "{reason}");
    assert!(hint.contains("shutdown /s /t 0"), "{hint}");
    let mut torn = fast.clone();
    torn[1023] = 9;
    write(&torn, &closed);
    used(&image);
    write(&torn, &torn);
    assert!(
        raw(&image).contains("no readable restart page"),
        "{}",
        raw(&image)
    );
    write(&restart_page((3, 0), 2, 0, 1), &closed_xp[..16]);
    assert!(raw(&image).contains("version 3.0"), "{}", raw(&image));
}

#[test]
fn damage_is_raw() {
    let bench = Bench::new();
    let image = make(&bench, 24 * MIB, &["-c", "4096"]);
    let mft = place(&image, "0");
    let bitmap = place(&image, "6");
    let cases: &[(u64, &[u8], &str)] = &[
        (mft + 6 * 1024 + 510, &[0xEE, 0xEE], "torn"),
        (mft + 6 * 1024, b"BAAD", "FILE"),
        (mft + 3 * 1024 + 0x16, &[0], "not in use"),
        (bitmap, &[0], "metadata"),
        (0x28, &u64::MAX.to_le_bytes(), "sectors"),
        (13, &[3], "sectors per cluster"),
        (0x30, &[0xFF; 8], "outside"),
        (0x40, &[9], "file records"),
        (11, &[0, 0x30], "sectors of"),
    ];
    for (at, bytes, word) in cases {
        let before = peek(&image, *at, bytes.len());
        patch(&image, *at, bytes);
        let reason = raw(&image);
        assert!(reason.contains(word), "{word}: {reason}");
        patch(&image, *at, &before);
    }
    used(&image);
}
