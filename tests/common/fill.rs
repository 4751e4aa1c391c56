//! File trees with known content, and hashes of trees, which prove that they were copied whole.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Fill byte of a master disk before file systems are made on it. Free blocks keep it, so that an
/// image with free blocks grows, and one that misses used blocks cannot be right by luck.
pub(crate) const SOURCE_POISON: u8 = 0x5A;
/// Fill byte of a target before a restore: a used block that was never written still has it.
pub(crate) const TARGET_POISON: u8 = 0xA5;

/// Bytes that do not compress, the same for the same seed (BLAKE3's extendable output).
pub(crate) fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Text that compresses about like documents.
pub(crate) fn prose(seed: &str, length: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "disk ",
        "image ",
        "target ",
        "console ",
        "agent ",
        "chunk ",
        "session ",
        "and ",
        "the ",
        "of ",
        "sector ",
        "proven ",
        "block ",
        "table ",
        "room ",
        "written.\n",
    ];
    let mut bytes = Vec::with_capacity(length + 16);
    for byte in noise(seed, length) {
        if bytes.len() >= length {
            break;
        }
        bytes.extend_from_slice(WORDS[usize::from(byte & 15)].as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Makes a tree of about `megabytes`: small files, text, noise, zeros, a hole, deep folders, odd
/// names, an empty file.
pub(crate) fn tree(root: &Path, seed: &str, megabytes: usize) {
    let put = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("inside root"))
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        fs::write(&path, bytes).unwrap_or_else(|e| panic!("writing {}: {e}", path.display()));
    };
    for i in 0..200 {
        put(
            &format!("small/{}/file-{i}.txt", i % 7),
            &prose(&format!("{seed} small {i}"), i * 37 % 5000),
        );
    }
    put("deep/a/b/c/d/e/f/g/h/file with spaces.txt", b"deep");
    put("names/\u{e4}\u{f6}\u{fc} \u{3a9}.txt", b"not ASCII");
    put("empty", b"");
    put("zeros.bin", &vec![0; 1 << 20]);
    let each = megabytes * (1 << 20) / 4;
    put("noise.bin", &noise(&format!("{seed} noise"), each));
    put("text.txt", &prose(&format!("{seed} text"), each));
    // Grown in turns, so that their extents interleave.
    for turn in 0..8 {
        for name in ["turn-a.bin", "turn-b.bin"] {
            let path = root.join(name);
            let mut file = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .expect("a file");
            std::io::Write::write_all(
                &mut file,
                &noise(&format!("{seed} {name} {turn}"), each / 8),
            )
            .expect("written");
            file.sync_all().expect("synced");
        }
    }
}

/// Adds things that only Unix file systems have: links, modes, a sparse file.
pub(crate) fn unix_extras(root: &Path) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    symlink("small/0/file-0.txt", root.join("short-link")).expect("symlink");
    symlink("x".repeat(200), root.join("long-link")).expect("symlink");
    fs::hard_link(root.join("text.txt"), root.join("hard-link.txt")).expect("hard link");
    fs::set_permissions(root.join("text.txt"), fs::Permissions::from_mode(0o4755)).expect("mode");
    let sparse = fs::File::create(root.join("sparse.bin")).expect("file");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"far out", 30 << 20).expect("written");
}

/// Every path below `root` with its kind, size and content hash; on Unix file systems also mode and
/// time.
pub(crate) fn hash_tree(root: &Path, unix: bool) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk(root, root, unix, &mut found);
    assert!(
        found.len() > 1,
        "{} is empty: nothing would be compared",
        root.display()
    );
    found
}

fn walk(root: &Path, folder: &Path, unix: bool, found: &mut BTreeMap<String, String>) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|e| panic!("reading {}: {e}", folder.display()));
    for entry in entries {
        let path = entry
            .unwrap_or_else(|e| panic!("reading {}: {e}", folder.display()))
            .path();
        let name = path
            .strip_prefix(root)
            .expect("below root")
            .to_string_lossy()
            .into_owned();
        let meta =
            fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut said = if meta.is_dir() {
            walk(root, &path, unix, found);
            "folder".to_owned()
        } else if meta.is_symlink() {
            format!(
                "link to {}",
                fs::read_link(&path).expect("a link").display()
            )
        } else {
            let bytes =
                fs::read(&path).unwrap_or_else(|e| panic!("reading {}: {e}", path.display()));
            format!("{} bytes {}", bytes.len(), blake3::hash(&bytes).to_hex())
        };
        if unix {
            said = format!(
                "{said} mode {:o} links {} time {}.{}",
                meta.mode(),
                meta.nlink(),
                meta.mtime(),
                meta.mtime_nsec()
            );
        }
        found.insert(name, said);
    }
}

/// Asserts that two trees are equal; names the differences instead of printing both.
#[track_caller]
pub(crate) fn same_tree(
    what: &str,
    expected: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
) {
    let mut differences = Vec::new();
    for (name, value) in expected {
        match found.get(name) {
            None => differences.push(format!("{name} is missing")),
            Some(other) if other != value => {
                differences.push(format!("{name}: {value} became {other}"))
            }
            Some(_) => {}
        }
    }
    for name in found.keys().filter(|name| !expected.contains_key(*name)) {
        differences.push(format!("{name} appeared"));
    }
    assert!(
        differences.is_empty(),
        "{what}: {} of {} files differ:\n{}",
        differences.len(),
        expected.len(),
        differences
            .iter()
            .take(10)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
}

/// Makes a file of `size` bytes, all `poison`.
pub(crate) fn poisoned(path: &Path, size: u64, poison: u8) {
    let mut file =
        fs::File::create(path).unwrap_or_else(|e| panic!("creating {}: {e}", path.display()));
    let block = vec![poison; 1 << 20];
    let mut left = size;
    while left > 0 {
        let now = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        std::io::Write::write_all(&mut file, &block[..now])
            .unwrap_or_else(|e| panic!("filling {}: {e}", path.display()));
        left -= now as u64;
    }
}

/// Overwrites a range of a file with `poison`.
pub(crate) fn poison_range(path: &Path, start: u64, length: u64, poison: u8) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap_or_else(|e| panic!("opening {}: {e}", path.display()));
    let block = vec![poison; 1 << 20];
    let mut at = start;
    while at < start + length {
        let now =
            usize::try_from(start + length - at).map_or(block.len(), |left| left.min(block.len()));
        file.write_all_at(&block[..now], at)
            .unwrap_or_else(|e| panic!("filling {}: {e}", path.display()));
        at += now as u64;
    }
}

/// Adds one file to the ext4 volume on a device.
pub(crate) fn put_noise_file(device: &super::disk::Loop, name: &str, bytes: &[u8]) {
    let mount = super::disk::Mount::new("ext4", device.path(), "rw");
    fs::write(mount.path().join(name), bytes).unwrap_or_else(|e| panic!("writing {name}: {e}"));
}
