//! Content that is recognised and captured whole, and windows on partitions.

use std::fs::File;

use diskmap::ReadAt;
use diskmap::usedmap::{FsKind, MapOptions, Mapping, Window, map_partition};

use crate::support::*;

fn opaque(bytes: &[u8]) -> (FsKind, String) {
    match map_partition(&bytes, bytes.len() as u64, &MapOptions::default()).unwrap() {
        Mapping::Raw {
            fs: Some(fs),
            reason,
        } => (fs.kind, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn signatures_are_named() {
    let cases: &[(FsKind, usize, &[u8])] = &[
        (FsKind::BitLocker, 3, b"-FVE-FS-"),
        (FsKind::Luks, 0, b"LUKS\xBA\xBE"),
        (FsKind::Xfs, 0, b"XFSB"),
        (FsKind::ReFs, 3, b"ReFS\0\0\0\0"),
        (FsKind::Apfs, 32, b"NXSB"),
        (FsKind::HfsPlus, 1024, b"H+\0\x04"),
        (FsKind::F2fs, 1024, &[0x10, 0x20, 0xF5, 0xF2]),
        (FsKind::Btrfs, 65_600, b"_BHRfS_M"),
        (FsKind::MdRaid, 4096, &[0xFC, 0x4E, 0x2B, 0xA9]),
        (
            FsKind::MdRaid,
            (1 << 20) - (64 << 10),
            &[0xFC, 0x4E, 0x2B, 0xA9],
        ),
        (FsKind::MdRaid, (1 << 20) - 8192, &[0xFC, 0x4E, 0x2B, 0xA9]),
        (
            FsKind::Zfs,
            (128 << 10) + 5 * 1024,
            &[0x0C, 0xB1, 0xBA, 0, 0, 0, 0, 0],
        ),
    ];
    for (kind, at, signature) in cases {
        let mut bytes = vec![0; 1 << 20];
        bytes[*at..*at + signature.len()].copy_from_slice(signature);
        let (found, reason) = opaque(&bytes);
        assert_eq!(found, *kind);
        assert!(reason.contains("1 MiB"), "{reason}");
    }
    let mut bytes = vec![0; 1 << 20];
    bytes[512..520].copy_from_slice(b"LABELONE");
    bytes[536..544].copy_from_slice(b"LVM2 001");
    assert_eq!(opaque(&bytes).0, FsKind::LvmPv);
}

#[test]
fn bitlocker_says_what_a_copy_is_bound_to() {
    let mut bytes = vec![0; 1 << 20];
    bytes[3..11].copy_from_slice(b"-FVE-FS-");
    assert!(opaque(&bytes).1.contains("TPM"));
}

#[test]
fn nothing_and_too_much_are_both_raw() {
    let bench = Bench::new();
    let image = bench.image(MIB);
    assert_eq!(raw(&image), "no known file system");
    ok("mkswap", &["-q", str(&image)]);
    patch(&image, 0, b"LUKS\xBA\xBE");
    let reason = raw(&image);
    assert!(
        reason.contains("luks") && reason.contains("swap"),
        "{reason}"
    );
}

#[test]
fn empty_and_tiny_partitions_have_an_answer() {
    for length in [0usize, 1, 511, 512, 1023, 4096, 70_000] {
        let bytes = vec![0u8; length];
        let found = map_partition(&bytes, length as u64, &MapOptions::default()).unwrap();
        assert!(matches!(found, Mapping::Raw { .. }), "{found:?}");
    }
}

#[test]
fn a_device_shorter_than_its_partition_is_an_error() {
    let bytes = vec![0u8; 1000];
    assert!(map_partition(&bytes, 4096, &MapOptions::default()).is_err());
}

#[test]
fn a_window_shows_a_partition_and_nothing_around_it() {
    let bench = Bench::new();
    let swap = bench.image(MIB);
    ok("mkswap", &["-q", str(&swap)]);
    let mut disk = vec![7u8; 1 << 19];
    disk.extend(std::fs::read(&swap).unwrap());
    disk.extend(vec![7u8; 1 << 19]);
    let window = Window::new(&disk, 1 << 19, MIB);
    let file = File::open(&swap).unwrap();
    assert_eq!(
        map_partition(&window, MIB, &MapOptions::default()).unwrap(),
        map_partition(&file, MIB, &MapOptions::default()).unwrap()
    );
    let mut end = [0; 16];
    assert_eq!(window.read_at(MIB - 4, &mut end).unwrap(), 4);
    assert_eq!(window.read_at(MIB, &mut end).unwrap(), 0);
    assert_eq!(window.read_at(u64::MAX, &mut end).unwrap(), 0);
}
