//! Support for the tests: images, tools, and the copy onto a poisoned device.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use diskmap::usedmap::{MapOptions, Mapping, UsedMap, map_partition};
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;

/// Byte that fills the free space of a source.
const BEFORE: u8 = 0x5A;
/// Byte that fills a target.
const AFTER: u8 = 0xA5;

/// A temporary directory for one test.
pub(crate) struct Bench {
    dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An image of `bytes` bytes, all of them `BEFORE`.
    pub(crate) fn image(&self, bytes: u64) -> PathBuf {
        let path = self.path("source.img");
        fill(&path, bytes, BEFORE);
        path
    }

    /// A directory with files of many sizes, the same in every run.
    pub(crate) fn tree(&self) -> PathBuf {
        let root = self.path("tree");
        for dir in ["", "sub", "sub/deeper", "empty", "many"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let sizes = [
            0, 1, 100, 511, 512, 513, 4095, 4096, 4097, 20_000, 65_536, 100_001, 1_500_000,
        ];
        for (index, size) in sizes.into_iter().enumerate() {
            let dir = ["", "sub", "sub/deeper"][index % 3];
            fs::write(
                root.join(dir).join(format!("file{size}")),
                noise(index as u64, size),
            )
            .unwrap();
        }
        for index in 0..120u64 {
            let size = (index * 37 % 3000) as usize;
            fs::write(
                root.join(format!("many/small{index}")),
                noise(1000 + index, size),
            )
            .unwrap();
        }
        root
    }
}

/// Pseudo-random bytes, the same every time.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

fn fill(path: &Path, bytes: u64, value: u8) {
    let file = File::create(path).unwrap();
    let piece = vec![value; MIB as usize];
    let mut at = 0;
    while at < bytes {
        let len = MIB.min(bytes - at) as usize;
        file.write_all_at(&piece[..len], at).unwrap();
        at += len as u64;
    }
}

/// Runs a tool and returns its output, whatever its exit code.
pub(crate) fn run(tool: &str, args: &[&str]) -> Output {
    match Command::new(tool)
        .args(args)
        .env("LC_ALL", "C.UTF-8")
        .output()
    {
        Ok(output) => output,
        Err(error) => panic!("{tool} is needed by this test and could not be run: {error}"),
    }
}

/// Runs a tool that must succeed, and returns its output.
#[track_caller]
pub(crate) fn ok(tool: &str, args: &[&str]) -> String {
    let output = run(tool, args);
    let said = text(&output);
    assert!(
        output.status.success(),
        "{tool} {args:?}: {}\n{said}",
        output.status
    );
    said
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub(crate) fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn mapping_with(path: &Path, options: &MapOptions) -> Mapping {
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    map_partition(&file, length, options).unwrap()
}

pub(crate) fn mapping(path: &Path) -> Mapping {
    mapping_with(path, &MapOptions::default())
}

/// The map of an image that must have one, checked against the promises of a map.
#[track_caller]
pub(crate) fn used(path: &Path) -> UsedMap {
    let length = fs::metadata(path).unwrap().len();
    match mapping(path) {
        Mapping::Used(map) => {
            let mut end = 0;
            for (index, run) in map.extents.iter().enumerate() {
                assert!(run.start < run.end && run.end <= length, "{run:?}");
                assert!(index == 0 || end < run.start, "{run:?} after {end}");
                end = run.end;
            }
            map
        }
        other => panic!("no map: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn refused(path: &Path) -> (String, String) {
    match mapping(path) {
        Mapping::Refused { reason, hint, .. } => {
            assert!(hint.contains("--raw-partition"), "{hint}");
            (reason, hint)
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn raw(path: &Path) -> String {
    match mapping(path) {
        Mapping::Raw { reason, .. } => reason,
        other => panic!("not raw: {other:?}"),
    }
}

/// Copies only the ranges of the map to a device full of `AFTER`.
pub(crate) fn poison_copy(source: &Path, map: &UsedMap) -> PathBuf {
    let target = source.with_extension("restored");
    let bytes = fs::metadata(source).unwrap().len();
    fill(&target, bytes, AFTER);
    let from = File::open(source).unwrap();
    let to = OpenOptions::new().write(true).open(&target).unwrap();
    for run in &map.extents {
        let mut at = run.start;
        while at < run.end {
            let mut piece = vec![0; MIB.min(run.end - at) as usize];
            from.read_exact_at(&mut piece, at).unwrap();
            to.write_all_at(&piece, at).unwrap();
            at += piece.len() as u64;
        }
    }
    target
}

/// Overwrites bytes of an image.
pub(crate) fn patch(path: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// Reads bytes of an image.
pub(crate) fn peek(path: &Path, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut bytes, at)
        .unwrap();
    bytes
}

/// All files below `root` with their contents.
pub(crate) fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "lost+found") {
                    todo.push(path);
                }
            } else {
                let name = path.strip_prefix(root).unwrap().to_path_buf();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Compares two trees by name and content, and names a file that differs.
#[track_caller]
pub(crate) fn same_files(expected: &Path, actual: &Path) {
    let (expected, actual) = (contents(expected), contents(actual));
    let names: Vec<_> = expected.keys().collect();
    assert_eq!(names, actual.keys().collect::<Vec<_>>());
    for (name, bytes) in &expected {
        assert!(bytes == &actual[name], "{} differs", name.display());
    }
}

/// A mounted file system; it is unmounted on drop.
pub(crate) struct Mounted {
    pub(crate) at: PathBuf,
    /// The image, if the kernel mounted it through a loop device.
    looped: Option<PathBuf>,
    /// The FUSE daemon, which must have ended before the image is complete.
    daemon: Option<Child>,
}

impl Mounted {
    pub(crate) fn loopback(image: &Path, at: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&at).unwrap();
        ok("mount", &["-o", options, str(image), str(&at)]);
        Self {
            at,
            looped: Some(image.to_owned()),
            daemon: None,
        }
    }

    pub(crate) fn ntfs(image: &Path, at: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&at).unwrap();
        let daemon = Command::new("ntfs-3g")
            .args(["-o", &format!("no_detach,{options}"), str(image), str(&at)])
            .stderr(Stdio::null())
            .spawn();
        let mut mounted = match daemon {
            Ok(daemon) => Self {
                at,
                looped: None,
                daemon: Some(daemon),
            },
            Err(error) => panic!("ntfs-3g is needed by this test and could not be run: {error}"),
        };
        for _ in 0..6000 {
            if run("mountpoint", &["-q", str(&mounted.at)])
                .status
                .success()
            {
                return mounted;
            }
            let daemon = mounted.daemon.as_mut().unwrap();
            if let Some(status) = daemon.try_wait().unwrap() {
                panic!("ntfs-3g could not mount {}: {status}", image.display());
            }
            sleep(Duration::from_millis(20));
        }
        panic!("ntfs-3g did not mount {}", image.display());
    }

    pub(crate) fn unmount(self) {}
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A program just started by another test has the open files of this process until its exec.
        for _ in 0..1500 {
            if run("umount", &[str(&self.at)]).status.success() {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        // A mount namespace created meanwhile by another process keeps the file system, and with it
        // the loop device, until it ends.
        if let Some(image) = &self.looped {
            for _ in 0..1500 {
                let devices = run("losetup", &["--associated", str(image)]);
                if devices.stdout.is_empty() {
                    break;
                }
                sleep(Duration::from_millis(20));
            }
        }
        if let Some(daemon) = &mut self.daemon {
            // A daemon that never mounted the file system would not end.
            if std::thread::panicking() {
                let _ = daemon.kill();
            }
            let _ = daemon.wait();
        }
    }
}
