//! exFAT volumes made by mkfs.exfat. No available tool writes files into one without a kernel
//! driver, so clusters are allocated by hand as a driver would: bit, FAT entry and directory entry.

use std::path::{Path, PathBuf};

use diskmap::extents::ExtentSet;
use diskmap::usedmap::FsKind;

use crate::support::*;

fn make(bench: &Bench, bytes: u64, args: &[&str]) -> PathBuf {
    let image = bench.image(bytes);
    let mut all = vec!["-L", "Mäster"];
    all.extend(args);
    all.push(str(&image));
    ok("mkfs.exfat", &all);
    image
}

struct Layout {
    fat: u64,
    heap: u64,
    cluster: u64,
    root: u64,
}

impl Layout {
    fn of(image: &Path) -> Self {
        let boot = peek(image, 0, 512);
        let word = |at: usize| u64::from(u32::from_le_bytes(boot[at..at + 4].try_into().unwrap()));
        Self {
            fat: word(80) << boot[108],
            heap: word(88) << boot[108],
            cluster: 1u64 << (boot[108] + boot[109]),
            root: word(96),
        }
    }

    fn place(&self, cluster: u64) -> u64 {
        self.heap + (cluster - 2) * self.cluster
    }

    fn mark_bad(&self, image: &Path, cluster: u64) {
        let entry = 0xFFFF_FFF7_u32.to_le_bytes();
        patch(image, self.fat + cluster * 4, &entry);
    }

    fn take(&self, image: &Path, cluster: u64) {
        let bit = cluster - 2;
        let at = self.place(2) + bit / 8; // mkfs.exfat begins with the bitmap
        let byte = peek(image, at, 1)[0];
        patch(image, at, &[byte | 1 << (bit % 8)]);
    }
}

/// Adds a file of one cluster to the root directory.
fn add_file(image: &Path, layout: &Layout, cluster: u64, content: &[u8]) {
    add_to(
        image,
        layout,
        layout.place(layout.root),
        0x20,
        cluster,
        content,
    );
}

/// Adds a file or folder of one cluster to the directory at a byte position: an entry set with its
/// checksum and the flag NoFatChain.
fn add_to(
    image: &Path,
    layout: &Layout,
    directory: u64,
    attributes: u8,
    cluster: u64,
    content: &[u8],
) {
    let mut set = vec![0u8; 96];
    set[0] = 0x85;
    set[1] = 2;
    set[4] = attributes;
    set[32] = 0xC0;
    set[33] = 3;
    set[35] = 1;
    let len = (content.len() as u64).to_le_bytes();
    set[40..48].copy_from_slice(&len);
    set[52..56].copy_from_slice(&(cluster as u32).to_le_bytes());
    set[56..64].copy_from_slice(&len);
    set[64] = 0xC1;
    set[66] = b'A';
    let name_hash = [b'A', 0].iter().fold(0u16, |sum, byte| {
        sum.rotate_right(1).wrapping_add(u16::from(*byte))
    });
    set[36..38].copy_from_slice(&name_hash.to_le_bytes());
    let sum = set
        .iter()
        .enumerate()
        .filter(|(at, _)| !matches!(at, 2 | 3))
        .fold(0u16, |sum, (_, byte)| {
            sum.rotate_right(1).wrapping_add(u16::from(*byte))
        });
    set[2..4].copy_from_slice(&sum.to_le_bytes());
    let mut at = directory;
    while peek(image, at, 1)[0] != 0 {
        at += 32;
    }
    patch(image, at, &set);
    patch(image, layout.place(cluster), content);
    layout.take(image, cluster);
}

#[test]
fn cluster_sizes() {
    for (cluster, bytes) in [
        ("512", 8 * MIB),
        ("4K", 32 * MIB),
        ("32K", 48 * MIB),
        ("128K", 64 * MIB),
        ("1M", 64 * MIB),
    ] {
        let bench = Bench::new();
        let image = make(&bench, bytes, &["-c", cluster]);
        let layout = Layout::of(&image);
        let far = (bytes - layout.heap) / layout.cluster / 2 + 2;
        let content = noise(3, 400);
        add_file(&image, &layout, far, &content);
        ok("fsck.exfat", &["-n", str(&image)]);
        let map = used(&image);
        assert_eq!(map.fs.kind, FsKind::ExFat);
        assert_eq!(map.fs.label.as_deref(), Some("Mäster"));
        assert_eq!(u64::from(map.fs.block_size), layout.cluster);
        let blkid = ok("blkid", &["-p", "-o", "value", "-s", "UUID", str(&image)]);
        assert_eq!(map.fs.uuid.as_deref(), Some(blkid.trim()));
        let extents = ExtentSet::from(map.extents.clone());
        assert!(extents.contains(0..layout.heap));
        assert!(extents.contains(layout.place(far)..layout.place(far + 1)));
        assert!(!extents.contains(layout.place(far + 1)..layout.place(far + 2)));
        let restored = poison_copy(&image, &map);
        ok("fsck.exfat", &["-n", str(&restored)]);
        assert_eq!(peek(&restored, layout.place(far), 400), content);
    }
}

#[test]
fn dirt_is_refused_and_damage_is_raw() {
    let bench = Bench::new();
    let image = make(&bench, 32 * MIB, &["-c", "4K"]);
    let layout = Layout::of(&image);
    patch(&image, 106, &[2]);
    let (reason, hint) = refused(&image);
    assert!(reason.contains("not cleanly unmounted"), "{reason}");
    assert!(hint.contains("fsck.exfat"), "{hint}");
    patch(&image, 106, &[4]);
    assert!(refused(&image).0.contains("disk errors"));
    patch(&image, 106, &[1]);
    assert!(raw(&image).contains("TexFAT"));
    patch(&image, 106, &[0]);
    used(&image);

    let root = layout.fat + layout.root * 4;
    let cases: &[(u64, &[u8], &str)] = &[
        (100, &[1], "checksum"),
        (root, &(layout.root as u32).to_le_bytes(), "longer than"),
        (root, &[0, 0, 0, 0], "cluster 0"),
        (layout.place(2), &[0], "free"),
        (layout.place(layout.root), &[0], "no allocation bitmap"),
    ];
    for (at, bytes, word) in cases {
        let before = peek(&image, *at, bytes.len());
        patch(&image, *at, bytes);
        assert!(raw(&image).contains(word), "{word}: {}", raw(&image));
        patch(&image, *at, &before);
    }
}

#[test]
fn bad_clusters_are_left_out_and_files_with_an_old_mark_are_not() {
    let bench = Bench::new();
    let image = make(&bench, 32 * MIB, &["-c", "4K"]);
    let layout = Layout::of(&image);
    // The folder and files are contiguous, so their FAT entries are left over from an earlier
    // volume.
    let folder = vec![0; 4096];
    add_to(
        &image,
        &layout,
        layout.place(layout.root),
        0x10,
        300,
        &folder,
    );
    add_to(
        &image,
        &layout,
        layout.place(300),
        0x20,
        500,
        &noise(5, 4096),
    );
    add_file(&image, &layout, 700, &noise(7, 4096));
    ok("fsck.exfat", &["-n", str(&image)]);
    for cluster in [300, 500, 700, 900, 901, 2000] {
        layout.mark_bad(&image, cluster);
    }
    // Cluster 2000 stays free in the bitmap, so its mark is ignored.
    for cluster in [900, 901] {
        layout.take(&image, cluster);
    }
    let map = used(&image);
    let bad = map
        .excluded
        .iter()
        .map(|bad| (bad.what.as_str(), bad.range.clone()));
    let expected = layout.place(900)..layout.place(902);
    assert_eq!(bad.collect::<Vec<_>>(), [("bad blocks", expected.clone())]);
    let extents = ExtentSet::from(map.extents);
    assert!(!extents.intersects(expected));
    for cluster in [300, 500, 700] {
        let range = layout.place(cluster)..layout.place(cluster + 1);
        assert!(extents.contains(range), "{cluster} is lost");
    }
    // If a folder contains itself or leads out of the volume, no cluster counts as bad.
    patch(&image, layout.place(300) + 4, &[0x10]);
    for cluster in [300_u32, 1 << 30] {
        patch(&image, layout.place(300) + 52, &cluster.to_le_bytes());
        assert_eq!(used(&image).excluded, [], "{cluster}");
    }
}
