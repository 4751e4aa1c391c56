//! Loop devices, mounts, and partitions in the view of Debian's own tools.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fill::hash_tree;
use super::process::{bash, run, text, tool};

pub(crate) const MIB: u64 = 1 << 20;

/// Makes a sparse file for an empty disk.
pub(crate) fn blank(folder: &Path, name: &str, size: u64) -> PathBuf {
    let disk = folder.join(name);
    fs::File::create(&disk)
        .and_then(|file| file.set_len(size))
        .expect("a disk");
    disk
}

/// A loop device; detached when dropped.
pub(crate) struct Loop {
    device: PathBuf,
}

impl Loop {
    /// Attaches the whole file as a disk.
    pub(crate) fn disk(file: &Path, sector_size: u32) -> Self {
        Self::attach(&["--sector-size", &sector_size.to_string(), text(file)])
    }

    /// Attaches a range of a file as a device of its own.
    pub(crate) fn part(file: &Path, part: &Part, sector_size: u32) -> Self {
        Self::attach(&[
            "--offset",
            &part.start.to_string(),
            "--sizelimit",
            &part.length.to_string(),
            "--sector-size",
            &sector_size.to_string(),
            text(file),
        ])
    }

    fn attach(words: &[&str]) -> Self {
        // Another process may take the free device between finding and attaching; losetup then
        // fails, and trying again is the documented way.
        let mut last = None;
        for _ in 0..5 {
            let mut all = vec!["--find", "--show"];
            all.extend(words);
            let attached = run(Command::new("losetup").args(all));
            if attached.code == Some(0) {
                return Self {
                    device: PathBuf::from(attached.stdout.trim()),
                };
            }
            last = Some(attached.story());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("no loop device: {}", last.unwrap_or_default());
    }

    pub(crate) fn path(&self) -> &Path {
        &self.device
    }

    pub(crate) fn text(&self) -> &str {
        text(&self.device)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.device)
            .status();
    }
}

/// A mounted file system; unmounted when dropped.
pub(crate) struct Mount {
    folder: tempfile::TempDir,
}

impl Mount {
    /// Mounts a device. `kind` is mount's name for it; `ntfs-3g` and `exfat-fuse` use FUSE.
    #[track_caller]
    pub(crate) fn new(kind: &str, device: &Path, options: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("diskcast-mount-")
            .tempdir()
            .expect("a folder to mount on");
        let (device, at) = (text(device), text(folder.path()));
        match kind {
            "ntfs-3g" => tool(&["ntfs-3g", "-o", options, device, at]),
            "exfat" => tool(&["mount.exfat-fuse", "-o", options, device, at]),
            kind => tool(&["mount", "-t", kind, "-o", options, device, at]),
        };
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // FUSE file systems may be busy for a moment after their last file was closed.
        for _ in 0..20 {
            if Command::new("umount")
                .arg(self.folder.path())
                .output()
                .is_ok_and(|ended| ended.status.success())
            {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.folder.path())
            .status();
    }
}

/// An ext4 in a file of its own, for disks of agents that have to hang.
pub(crate) struct Volume {
    mounted: Mount,
    _device: Loop,
}

impl Volume {
    #[track_caller]
    pub(crate) fn new(file: &Path, bytes: u64) -> Self {
        bash(&format!(
            "truncate -s {bytes} {0} && mkfs.ext4 -q {0}",
            text(file)
        ));
        let device = Loop::disk(file, 512);
        Self {
            mounted: Mount::new("ext4", device.path(), "noatime"),
            _device: device,
        }
    }

    /// Makes a disk in it, under a path outside: the log of an agent is beside its disk, and must
    /// not hang.
    #[track_caller]
    pub(crate) fn disk(&self, outside: &Path) {
        let inside = self
            .mounted
            .path()
            .join(outside.file_name().expect("a name"));
        std::os::unix::fs::symlink(inside, outside).expect("a link");
    }

    /// Freezes it: from here on every writer waits in the kernel.
    #[track_caller]
    pub(crate) fn freeze(&self) -> Frozen {
        let frozen = Frozen(self.mounted.path().to_owned());
        tool(&["fsfreeze", "--freeze", text(self.mounted.path())]);
        frozen
    }
}

/// A frozen file system; thawed when dropped, because processes that wait for it cannot be ended.
pub(crate) struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze")
            .args(["--unfreeze", text(&self.0)])
            .status();
    }
}

/// A partition, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: u32,
    pub(crate) start: u64,
    pub(crate) length: u64,
    /// Type: `83`, or a GUID.
    pub(crate) kind: String,
}

/// The partitions of a disk file from `sfdisk --json`. Its unit is the sector size it assumes, so
/// disks of 4096-byte sectors are read through a loop device.
pub(crate) fn parts(disk: &Path, sector_size: u32) -> Vec<Part> {
    let device;
    let asked = if sector_size == 512 || disk.starts_with("/dev") {
        disk
    } else {
        device = Loop::disk(disk, sector_size);
        device.path()
    };
    let said = tool(&["sfdisk", "--json", text(asked)]).json();
    let table = &said["partitiontable"];
    let list = table["partitions"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|p| {
            let node = p["node"].as_str().unwrap_or_default();
            let digits: String = node
                .chars()
                .rev()
                .take_while(char::is_ascii_digit)
                .collect();
            Part {
                number: digits
                    .chars()
                    .rev()
                    .collect::<String>()
                    .parse()
                    .unwrap_or_else(|e| panic!("number of {node}: {e}")),
                start: p["start"].as_u64().expect("start") * u64::from(sector_size),
                length: p["size"].as_u64().expect("size") * u64::from(sector_size),
                kind: p["type"].as_str().unwrap_or_default().to_owned(),
            }
        })
        .collect()
}

/// Partition `number` of a disk file.
#[track_caller]
pub(crate) fn part(disk: &Path, sector_size: u32, number: u32) -> Part {
    parts(disk, sector_size)
        .into_iter()
        .find(|p| p.number == number)
        .unwrap_or_else(|| panic!("{} has no partition {number}", disk.display()))
}

/// Reads bytes of a file at an offset.
pub(crate) fn bytes_at(file: &Path, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).expect("fits memory")];
    fs::File::open(file)
        .and_then(|file| file.read_exact_at(&mut bytes, offset))
        .unwrap_or_else(|e| panic!("reading {} at {offset}: {e}", file.display()));
    bytes
}

/// Writes bytes into a file at an offset.
pub(crate) fn put_at(file: &Path, offset: u64, bytes: &[u8]) {
    fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|file| file.write_all_at(bytes, offset))
        .unwrap_or_else(|e| panic!("writing {} at {offset}: {e}", file.display()));
}

/// Writes an MBR by hand: type, first sector, sectors.
pub(crate) fn mbr(disk: &Path, entries: &[(u8, u32, u32)]) {
    put_at(disk, 510, &[0x55, 0xaa]);
    for (slot, (kind, start, sectors)) in entries.iter().enumerate() {
        let mut entry = [0u8; 16];
        entry[4] = *kind;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..].copy_from_slice(&sectors.to_le_bytes());
        put_at(disk, 446 + 16 * slot as u64, &entry);
    }
}

/// Asserts that two disks hold the same bytes in a range.
#[track_caller]
pub(crate) fn same_bytes(what: &str, one: &Path, other: &Path, start: u64, length: u64) {
    let (a, b) = (bytes_at(one, start, length), bytes_at(other, start, length));
    if let Some(at) = a.iter().zip(&b).position(|(a, b)| a != b) {
        panic!(
            "{what}: byte {} of the disk is {:#04x} in {} and {:#04x} in {}",
            start + at as u64,
            a[at],
            one.display(),
            b[at],
            other.display()
        );
    }
}

/// File systems that these tests make, and check with Debian's own checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fs {
    Ext4,
    Ntfs,
    Fat,
    Exfat,
    Swap,
}

impl Fs {
    /// Makes the file system on a device whose blocks hold poison, fills it with a tree, deletes
    /// some of it again, and returns the tree that a restored copy must have.
    pub(crate) fn make(
        self,
        device: &Loop,
        sector_size: u32,
        seed: &str,
        megabytes: usize,
    ) -> BTreeMap<String, String> {
        let dev = device.text();
        match self {
            Self::Ext4 => {
                tool(&[
                    "mke2fs",
                    "-q",
                    "-F",
                    "-t",
                    "ext4",
                    "-L",
                    seed,
                    "-E",
                    "nodiscard,lazy_itable_init=0",
                    dev,
                ]);
                self.fill_mounted(device, "ext4", "nodiscard", seed, megabytes);
            }
            Self::Ntfs => {
                let sector = sector_size.to_string();
                tool(&[
                    "mkntfs", "-q", "-Q", "-F", "-s", &sector, "-c", "4096", "-p", "2048", "-H",
                    "255", "-S", "63", "-L", seed, dev,
                ]);
                self.fill_mounted(device, "ntfs-3g", "noatime", seed, megabytes);
            }
            Self::Exfat => {
                tool(&["mkfs.exfat", "-L", seed, dev]);
                self.fill_mounted(device, "exfat", "noatime", seed, megabytes);
            }
            Self::Fat => {
                let sector = sector_size.to_string();
                tool(&["mkfs.fat", "-S", &sector, "-n", "ESP", dev]);
                let source = tempfile::tempdir().expect("a folder");
                super::fill::tree(source.path(), seed, megabytes);
                // mtools copies by itself, so the kernel needs no FAT driver.
                bash(&format!(
                    "cd {}; export MTOOLS_SKIP_CHECK=1; LC_ALL=C.UTF-8; export LC_ALL; mcopy -i {dev} -s -Q ./* ::/
                     head -c 2000000 /dev/zero | tr '\\0' Z > junk; mcopy -i {dev} -Q junk ::/; mdel -i {dev} ::/junk; sync",
                    text(source.path())
                ));
            }
            Self::Swap => {
                tool(&["mkswap", "-q", "-L", seed, dev]);
                return BTreeMap::new();
            }
        }
        self.tree(device)
    }

    fn fill_mounted(self, device: &Loop, kind: &str, options: &str, seed: &str, megabytes: usize) {
        let mount = Mount::new(kind, device.path(), options);
        let root = mount.path();
        // A large file, deleted again, leaves stale blocks among used ones, as on a disk in use.
        super::fill::poisoned(&root.join("junk"), 4 << 20, super::fill::SOURCE_POISON);
        super::fill::tree(root, seed, megabytes);
        if self == Self::Ext4 {
            super::fill::unix_extras(root);
        }
        bash("sync");
        fs::remove_file(root.join("junk")).expect("deleted");
        bash("sync");
    }

    /// Reads every file on it through a driver that is not ours.
    pub(crate) fn tree(self, device: &Loop) -> BTreeMap<String, String> {
        match self {
            Self::Ext4 => hash_tree(Mount::new("ext4", device.path(), "ro").path(), true),
            Self::Ntfs => hash_tree(Mount::new("ntfs-3g", device.path(), "ro").path(), false),
            Self::Exfat => hash_tree(Mount::new("exfat", device.path(), "ro").path(), false),
            Self::Fat => {
                let out = tempfile::tempdir().expect("a folder");
                bash(&format!(
                    "cd {}; LC_ALL=C.UTF-8 MTOOLS_SKIP_CHECK=1 mcopy -i {} -s -Q -n ::/ .",
                    text(out.path()),
                    device.text()
                ));
                hash_tree(out.path(), false)
            }
            Self::Swap => BTreeMap::new(),
        }
    }

    /// Asserts that its makers' own checker finds nothing wrong.
    #[track_caller]
    pub(crate) fn check(self, device: &Loop) {
        let dev = device.text();
        match self {
            Self::Ext4 => tool(&["e2fsck", "-f", "-n", dev]),
            Self::Ntfs => tool(&["ntfsfix", "-n", dev]),
            Self::Fat => tool(&["fsck.fat", "-n", dev]),
            Self::Exfat => tool(&["fsck.exfat", "-n", dev]),
            Self::Swap => tool(&["swaplabel", dev]),
        };
    }
}

/// Asserts that `sgdisk -v` finds no problem.
#[track_caller]
pub(crate) fn sgdisk_clean(disk: &Path) {
    let said = tool(&["sgdisk", "--verify", text(disk)]);
    assert!(
        said.stdout.contains("No problems found"),
        "sgdisk is not content\n{}",
        said.story()
    );
}

/// Asserts that `sfdisk --verify` finds no problem.
#[track_caller]
pub(crate) fn sfdisk_clean(disk: &Path) {
    let said = tool(&["sfdisk", "--verify", text(disk)]);
    let all = format!("{}{}", said.stdout, said.stderr);
    assert!(
        all.contains("No errors detected") && !all.contains("overlap"),
        "sfdisk is not content\n{}",
        said.story()
    );
}
