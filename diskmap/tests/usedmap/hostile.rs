//! Damaged and hostile partitions: any bytes give a result, in bounded time and without a panic.

use std::cell::Cell;
use std::fs;
use std::io;
use std::sync::OnceLock;

use diskmap::ReadAt;
use diskmap::usedmap::{MapOptions, Mapping, map_partition};
use proptest::prelude::*;

use crate::support::*;

/// A device that counts the bytes read.
struct Counted<'a> {
    bytes: &'a [u8],
    read: Cell<u64>,
    calls: Cell<u64>,
}

impl ReadAt for Counted<'_> {
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
        assert!(buf.len() <= 4 << 20, "one read of {} bytes", buf.len());
        let count = self.bytes.read_at(pos, buf)?;
        self.read.set(self.read.get() + count as u64);
        self.calls.set(self.calls.get() + 1);
        Ok(count)
    }
}

/// One small image for each reader.
fn specimens() -> &'static [Vec<u8>] {
    static SPECIMENS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SPECIMENS.get_or_init(|| {
        let made: &[(&str, &[&str])] = &[
            (
                "mke2fs",
                &["-q", "-F", "-t", "ext2", "-b", "1024", "-g", "512"],
            ),
            (
                "mke2fs",
                &[
                    "-q",
                    "-F",
                    "-t",
                    "ext4",
                    "-b",
                    "1024",
                    "-O",
                    "^metadata_csum,^has_journal",
                ],
            ),
            (
                "mke2fs",
                &[
                    "-q",
                    "-F",
                    "-t",
                    "ext2",
                    "-b",
                    "1024",
                    "-g",
                    "256",
                    "-O",
                    "meta_bg,^resize_inode",
                ],
            ),
            (
                "mkntfs",
                &[
                    "-F", "-Q", "-q", "-c", "512", "-s", "512", "-p", "0", "-H", "0", "-S", "0",
                ],
            ),
            ("mkfs.fat", &["-F", "12"]),
            ("mkfs.fat", &["-F", "16", "-s", "1"]),
            ("mkfs.fat", &["-F", "32", "-s", "1"]),
            ("mkfs.exfat", &["-c", "512"]),
            ("mkswap", &["-q"]),
        ];
        made.iter()
            .map(|(tool, args)| {
                let bench = Bench::new();
                let image = bench.path("specimen");
                fs::write(&image, vec![0; 4 << 20]).unwrap();
                let mut all = args.to_vec();
                all.push(str(&image));
                ok(tool, &all);
                used(&image);
                fs::read(&image).unwrap()
            })
            .collect()
    })
}

/// Maps a partition, and checks the result and the number of bytes read against their bounds.
fn map_bounded(bytes: &[u8]) -> Mapping {
    let dev = Counted {
        bytes,
        read: Cell::new(0),
        calls: Cell::new(0),
    };
    let length = bytes.len() as u64;
    let mapping = map_partition(&dev, length, &MapOptions::default()).unwrap();
    // Every structure is read once or a few times, never many times the partition.
    assert!(
        dev.read.get() <= 8 * length + MIB,
        "read {} of {length}",
        dev.read.get()
    );
    assert!(
        dev.calls.get() <= length / 64 + 1000,
        "{} reads",
        dev.calls.get()
    );
    if let Mapping::Used(map) = &mapping {
        let mut end = 0;
        for run in &map.extents {
            assert!(run.start < run.end && run.end <= length);
            assert!(run.start > end || run.start == 0);
            end = run.end;
        }
    }
    mapping
}

/// Positions of damage: the front, which has the headers, more often than the rest.
fn damage() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let place = prop_oneof![
        4 => 0usize..512,
        4 => 1024usize..2048,
        3 => 2048usize..4096,
        3 => 0usize..64 << 10,
        2 => 0usize..4 << 20,
    ];
    let value = prop_oneof![any::<u8>(), Just(0u8), Just(0xFF), Just(1), Just(0x80)];
    proptest::collection::vec((place, value), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, .. ProptestConfig::default() })]

    #[test]
    fn damaged_specimens_have_an_answer(index in 0usize..9, damage in damage(), cut in prop::option::of(0usize..4 << 20)) {
        let mut bytes = specimens()[index].clone();
        for (at, value) in damage {
            bytes[at] = value;
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        map_bounded(&bytes);
    }

    #[test]
    fn damaged_ntfs_metadata_has_an_answer(record in 0usize..12, damage in proptest::collection::vec((0usize..1024, any::<u8>()), 1..6)) {
        let mut bytes = specimens()[3].clone();
        let mft = usize::try_from(u64::from_le_bytes(bytes[0x30..0x38].try_into().unwrap())).unwrap() * 512;
        for (at, value) in damage {
            bytes[mft + record * 1024 + at] = value;
        }
        map_bounded(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_signature_have_an_answer(kind in 0usize..5, bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        let mut bytes = bytes;
        let (at, signature): (usize, &[u8]) = [
            (1080, &b"\x53\xEF"[..]),
            (3, b"NTFS    "),
            (3, b"EXFAT   "),
            (4086, b"SWAPSPACE2"),
            (510, b"\x55\xAA"),
        ][kind];
        if let Some(place) = bytes.get_mut(at..at + signature.len()) {
            place.copy_from_slice(signature);
        }
        map_bounded(&bytes);
    }
}

/// A partition of terabytes with a small header: memory and reads are limited by what it declares.
#[test]
fn a_huge_sparse_partition_is_mapped_in_windows() {
    let bench = Bench::new();
    for (tool, args) in [
        (
            "mke2fs",
            &[
                "-q",
                "-F",
                "-t",
                "ext4",
                "-O",
                "^has_journal",
                "-N",
                "16384",
                "-E",
                "lazy_itable_init=1,nodiscard",
            ][..],
        ),
        ("mkfs.exfat", &["-c", "1M"][..]),
        ("mkswap", &["-q"][..]),
    ] {
        let image = bench.path("huge");
        fs::File::create(&image)
            .unwrap()
            .set_len(256 << 30)
            .unwrap();
        let mut all = args.to_vec();
        all.push(str(&image));
        ok(tool, &all);
        let file = fs::File::open(&image).unwrap();
        let mapping = map_partition(&file, 256 << 30, &MapOptions::default()).unwrap();
        match mapping {
            Mapping::Used(map) => {
                assert!(map.used_bytes() < 1 << 30, "{tool}: {}", map.used_bytes())
            }
            other => panic!("{tool}: {other:?}"),
        }
        fs::remove_file(&image).unwrap();
    }
}

/// The bad-block list of a hostile ext volume names one block of numbers again and again: 16384
/// blocks of 64 KiB would be read.
#[test]
fn a_list_of_bad_blocks_is_not_read_again_and_again() {
    const BLOCK: usize = 64 << 10;
    const LIST: usize = 400;
    let bench = Bench::new();
    let image = bench.path("specimen");
    fs::write(&image, vec![0; 32 << 20]).unwrap();
    ok(
        "mke2fs",
        &["-q", "-F", "-t", "ext2", "-b", "65536", str(&image)],
    );
    let field = format!("set_inode_field <1> block[DIND] {LIST}");
    ok("debugfs", &["-w", "-R", &field, str(&image)]);
    let mut bytes = fs::read(&image).unwrap();
    let next = u32::try_from(LIST + 1).unwrap().to_le_bytes();
    for entry in bytes[LIST * BLOCK..(LIST + 1) * BLOCK].chunks_exact_mut(4) {
        entry.copy_from_slice(&next);
    }
    assert!(matches!(map_bounded(&bytes), Mapping::Used(_)));
}
