//! A relocated boot sector equals the one that the tool itself makes for that start.

use std::path::{Path, PathBuf};

use diskmap::{boot_sector_copy, boot_sector_is_last_too, relocate_boot_sector};
use proptest::prelude::*;

use crate::support::*;

const START: u64 = 0x0123_4567;

fn fat(bench: &Bench, name: &str, bytes: u64, bits: &str, start: u64) -> PathBuf {
    let image = bench.path(name);
    std::fs::File::create(&image)
        .unwrap()
        .set_len(bytes)
        .unwrap();
    let start = start.to_string();
    let arguments = ["--invariant", "-F", bits, "-h", &start, str(&image)];
    ok("mkfs.fat", &arguments);
    image
}

/// Relocates the boot sector and its copy in an image, as a caller does.
fn relocate(image: &Path, start: u64) {
    let mut sector = peek(image, 0, 512);
    let copy = boot_sector_copy(&sector);
    assert!(relocate_boot_sector(&mut sector, start));
    assert!(!relocate_boot_sector(&mut sector, start), "already there");
    patch(image, 0, &sector);
    if let Some(at) = copy {
        let mut sector = peek(image, at, 512);
        assert!(relocate_boot_sector(&mut sector, start), "the copy at {at}");
        patch(image, at, &sector);
    }
}

#[test]
fn fat_as_mkfs_writes_it() {
    let bench = Bench::new();
    for (bits, bytes, copy) in [
        ("12", 2 * MIB, None),
        ("16", 16 * MIB, None),
        ("32", 40 * MIB, Some(6 * 512)),
    ] {
        let moved = fat(&bench, "moved.img", bytes, bits, 0);
        let made = fat(&bench, "made.img", bytes, bits, START);
        assert_eq!(boot_sector_copy(&peek(&moved, 0, 512)), copy, "FAT{bits}");
        let whole = |image: &Path| std::fs::read(image).unwrap();
        assert!(whole(&moved) != whole(&made));
        relocate(&moved, START);
        assert!(whole(&moved) == whole(&made), "FAT{bits}");
        // A relocation back gives the old bytes; a start of more than 32 bits becomes 0.
        relocate(&moved, START << 32);
        assert_eq!(peek(&moved, 0x1C, 4), [0; 4]);
        // fsck.fat compares the boot sector with its copy.
        let said = ok("fsck.fat", &["-n", "-v", str(&moved)]);
        assert!(!said.contains("differences"), "{said}");
    }
}

#[test]
fn ntfs_as_mkntfs_writes_it() {
    let bench = Bench::new();
    let make = |name: &str, start: u64| {
        let image = bench.path(name);
        std::fs::File::create(&image)
            .unwrap()
            .set_len(8 * MIB)
            .unwrap();
        let start = start.to_string();
        #[rustfmt::skip]
        let arguments = ["-F", "-Q", "-q", "-s", "512", "-p", &start, "-H", "255", "-S", "63", str(&image)];
        ok("mkntfs", &arguments);
        image
    };
    let (moved, made) = (make("moved.img", 0), make("made.img", START));
    let copy = boot_sector_copy(&peek(&moved, 0, 512)).unwrap();
    assert_eq!(copy, 8 * MIB - 512);
    relocate(&moved, START);
    for at in [0, copy] {
        let (mut ours, theirs) = (peek(&moved, at, 512), peek(&made, at, 512));
        // The serial number is random.
        ours[0x48..0x50].copy_from_slice(&theirs[0x48..0x50]);
        assert_eq!(ours, theirs, "sector at {at}");
    }
    // In a larger partition ntfsfix expects the copy in the last sector.
    let primary = peek(&moved, 0, 512);
    assert!(boot_sector_is_last_too(&primary));
    let larger = std::fs::File::options().write(true).open(&moved).unwrap();
    larger.set_len(9 * MIB).unwrap();
    assert!(!run("ntfsfix", &["-n", str(&moved)]).status.success());
    patch(&moved, 9 * MIB - 512, &primary);
    ok("ntfsfix", &["-n", str(&moved)]);
}

#[test]
fn others_are_left_alone() {
    let bench = Bench::new();
    for (tool, arguments) in [
        ("mkfs.ext4", &["-q", "-F"][..]),
        ("mkfs.exfat", &[]),
        ("mkswap", &["-q"]),
    ] {
        let image = bench.path("other.img");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(8 * MIB)
            .unwrap();
        let mut all = arguments.to_vec();
        all.push(str(&image));
        ok(tool, &all);
        let before = peek(&image, 0, 128 << 10);
        for len in [512, 128 << 10] {
            let mut bytes = before[..len].to_vec();
            assert!(!relocate_boot_sector(&mut bytes, START), "{tool}");
            assert!(bytes == before[..len]);
            assert_eq!(boot_sector_copy(&bytes), None, "{tool}");
        }
        if tool == "mkfs.exfat" {
            assert_eq!(before[0x40..0x48], [0; 8], "what the module header says");
        }
    }
    // XFS, LUKS and BitLocker are recognised by their signatures.
    for (at, signature) in [(0, &b"XFSB"[..]), (0, b"LUKS\xBA\xBE"), (3, b"-FVE-FS-")] {
        let mut bytes = vec![0; 512];
        bytes[510..].copy_from_slice(&[0x55, 0xAA]);
        bytes[at..at + signature.len()].copy_from_slice(signature);
        assert!(!relocate_boot_sector(&mut bytes, START));
    }
    // The remains of an older FAT in front of an ext4 are not changed.
    let old = fat(&bench, "old.img", 16 * MIB, "16", 0);
    let mut both = peek(&old, 0, 4096);
    both[1080..1082].copy_from_slice(&[0x53, 0xEF]);
    assert!(!relocate_boot_sector(&mut both, START));
    both.truncate(511);
    assert!(!relocate_boot_sector(&mut both, START));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_change_in_one_field(mut bytes in proptest::collection::vec(any::<u8>(), 0..1200), ntfs in any::<bool>(), fat in any::<bool>(), start in any::<u64>()) {
        if let (true, Some(head)) = (fat, bytes.get_mut(..512)) {
            head[0] = 0xEB;
            head[11..14].copy_from_slice(&[0, 2, 8]);
            head[16] = 2;
            head[21] = 0xF8;
            head[510..].copy_from_slice(&[0x55, 0xAA]);
        }
        if let (true, Some(name)) = (ntfs, bytes.get_mut(3..11)) {
            name.copy_from_slice(b"NTFS    ");
        }
        let before = bytes.clone();
        let _ = boot_sector_copy(&bytes);
        let changed = relocate_boot_sector(&mut bytes, start);
        prop_assert_eq!(changed, bytes != before);
        if changed {
            prop_assert_eq!(&bytes[..0x1C], &before[..0x1C]);
            prop_assert_eq!(&bytes[0x20..], &before[0x20..]);
        }
    }
}
