//! The reader of NTFS against ntfs-3g: what a mount shows is what the reader finds, for every size
//! of cluster, with holes, compression, several records and deep folders.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use diskmap::Volume;
use diskmap::ntfs::{FileName, Mft, NtfsError, Record, UpCase, kind, number};
use rustix::fs::{XattrFlags, lsetxattr};

use crate::ntfs::make;
use crate::support::*;

/// Number of the folder `$Extend`, which a mount does not show.
const EXTEND: u64 = 11;

/// An open volume in memory.
struct Opened {
    bytes: Vec<u8>,
    mft: Mft,
    upcase: UpCase,
}

impl Opened {
    fn new(image: &Path) -> Self {
        let bytes = fs::read(image).unwrap();
        let volume = Volume::new(&bytes, bytes.len() as u64);
        let mft = Mft::open(&volume).unwrap();
        let upcase = UpCase::read(&mft, &volume).unwrap();
        Self { bytes, mft, upcase }
    }

    fn volume(&self) -> Volume<'_> {
        Volume::new(&self.bytes, self.bytes.len() as u64)
    }

    fn find(&self, path: &str) -> Option<(Record, String)> {
        let parts: Vec<&str> = path.split('/').collect();
        let hit = self
            .mft
            .path(&self.volume(), &self.upcase, &parts)
            .unwrap()?;
        Some((hit.record, hit.name.text()))
    }

    fn stream(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        let (record, _) = self.find(path)?;
        let volume = self.volume();
        let stream = self.mft.find(&volume, &record, kind::DATA, name).unwrap()?;
        let whole = stream.read_all(&volume, 1 << 30).unwrap();
        // Parts of it are parts of the whole, also across compression units and clusters.
        for (at, len) in [(0, 4), (4095, 2), (65_530, 20), (70_001, 66_000)] {
            if at + len <= whole.len() {
                let part = stream.read(&volume, at as u64, len as u64).unwrap();
                assert!(part == whole[at..at + len], "{path}: {len} bytes at {at}");
            }
        }
        let behind = stream.read(&volume, stream.size(), 1);
        assert!(matches!(behind, Err(NtfsError::Structure { .. })));
        Some(whole)
    }
}

/// Paths of all files below `root` on a mount, without the file system's own.
fn files_below(root: &Path) -> Vec<String> {
    let said = ok("find", &[str(root), "-type", "f", "-printf", "%P\n"]);
    said.lines().map(str::to_owned).collect()
}

/// Every file of a mount, with its content.
fn same_as_mounted(opened: &Opened, image: &Path, bench: &Bench) -> usize {
    let mounted = Mounted::ntfs(image, bench.path("seen"), "ro");
    let paths = files_below(&mounted.at);
    for (index, path) in paths.iter().enumerate() {
        let there = fs::read(mounted.at.join(path)).unwrap();
        let found = opened.stream(path, "");
        assert!(found.as_deref() == Some(&there), "{path}");
        // Folders and names are found without regard to case, and told in their own spelling.
        if index % 5 == 0 {
            let (_, name) = opened.find(&path.to_uppercase()).unwrap();
            assert_eq!(Some(name.as_str()), path.rsplit('/').next());
        }
    }
    // The walk over all records finds the same names.
    let volume = opened.volume();
    let mut names = Vec::new();
    opened
        .mft
        .each_record(&volume, |record| {
            let record = record?;
            if record.file() > number::LAST_OF_SYSTEM {
                let found = FileName::in_record(&record)?;
                let shown = |name: &FileName| !name.is_folder && name.folder.number != EXTEND;
                names.extend(found.into_iter().filter(shown));
            }
            Ok::<(), NtfsError>(())
        })
        .unwrap();
    let mut names: Vec<_> = names.iter().map(FileName::text).collect();
    let mut expected: Vec<_> = paths
        .iter()
        .filter_map(|path| path.rsplit('/').next())
        .collect();
    names.sort();
    expected.sort_unstable();
    assert_eq!(names, expected);
    paths.len()
}

#[test]
fn what_a_mount_shows_is_what_the_reader_finds() {
    for (cluster, sector) in [
        ("512", "512"),
        ("4096", "4096"),
        ("16384", "512"),
        ("65536", "512"),
    ] {
        let bench = Bench::new();
        let image = make(&bench, 32 * MIB, &["-c", cluster, "-s", sector]);
        let tree = bench.tree();
        {
            let mounted = Mounted::ntfs(&image, bench.path("mnt"), "rw");
            ok(
                "cp",
                &["-r", &format!("{}/.", str(&tree)), str(&mounted.at)],
            );
            // A folder whose index has levels, with names that differ in what $UpCase knows.
            let many = mounted.at.join("Öde Ordner");
            fs::create_dir(&many).unwrap();
            for index in 0..150 {
                let name = format!("ein ziemlich langer Name, Äpfel und Öfen Nr. {index}");
                fs::write(many.join(name), index.to_string()).unwrap();
            }
            let sparse = File::create(mounted.at.join("sparse")).unwrap();
            sparse.write_all_at(&noise(9, 70_000), 1_000_000).unwrap();
            sparse.set_len(3_000_000).unwrap();
            drop(sparse);
            mounted.unmount();
        }
        let opened = Opened::new(&image);
        assert!(same_as_mounted(&opened, &image, &bench) > 250, "{cluster}");
        assert!(opened.find("Öde Ordner/no such").is_none());
        assert!(opened.find("sparse/below a file").is_none());
        let (record, _) = opened.find("sub/deeper").unwrap();
        assert!(record.is_folder());
    }
}

#[test]
fn compressed_files_and_named_streams() {
    let bench = Bench::new();
    let image = make(&bench, 48 * MIB, &["-c", "4096"]);
    let text =
        |len: usize| -> Vec<u8> { b"lorem ipsum ".iter().copied().cycle().take(len).collect() };
    {
        let mounted = Mounted::ntfs(
            &image,
            bench.path("mnt"),
            "rw,compression,streams_interface=windows",
        );
        let packed = mounted.at.join("packed");
        fs::create_dir(&packed).unwrap();
        // A compressed folder: new files in it are compressed.
        let flags = 0x810_u32.to_be_bytes();
        lsetxattr(
            &packed,
            "system.ntfs_attrib_be",
            &flags,
            XattrFlags::empty(),
        )
        .unwrap();
        for (name, content) in [
            ("text", text(300_000)),
            ("noise", noise(1, 300_000)),
            // A last unit of three clusters that does not get smaller takes four.
            ("short noise", [text(65_536), noise(2, 12_288)].concat()),
            (
                "mixed",
                [noise(3, 100_000), text(100_000), noise(4, 50_000)].concat(),
            ),
            ("zeros", [vec![0; 200_000], noise(5, 10)].concat()),
            ("tiny", text(20)),
        ] {
            fs::write(packed.join(name), content).unwrap();
        }
        fs::write(mounted.at.join("plain"), b"main").unwrap();
        fs::write(mounted.at.join("plain:other"), noise(6, 9000)).unwrap();
        mounted.unmount();
    }
    let opened = Opened::new(&image);
    assert_eq!(same_as_mounted(&opened, &image, &bench), 7);
    let (record, _) = opened.find("packed/text").unwrap();
    let stream = opened.mft.find(&opened.volume(), &record, kind::DATA, "");
    assert!(
        !stream.unwrap().unwrap().is_stored_as_is(),
        "nothing was compressed"
    );
    assert_eq!(opened.stream("plain", "other"), Some(noise(6, 9000)));
    assert_eq!(opened.stream("plain", "third"), None);
}

/// A file whose runs, and whose names, need several records.
#[test]
fn files_in_several_records() {
    let bench = Bench::new();
    let image = make(&bench, 48 * MIB, &["-c", "512"]);
    {
        let mounted = Mounted::ntfs(&image, bench.path("mnt"), "rw");
        let (one, other) = (
            File::create(mounted.at.join("one")).unwrap(),
            File::create(mounted.at.join("other")).unwrap(),
        );
        // Written in turns, so that neither is in one piece, with holes between.
        for index in 0..1500u64 {
            one.write_all_at(&noise(index, 512), index * 1024).unwrap();
            other
                .write_all_at(&noise(index, 512), index * 1536)
                .unwrap();
        }
        let folder = mounted.at.join("names");
        fs::create_dir(&folder).unwrap();
        for index in 0..40 {
            let name = format!("another name of the same file, number {index}");
            fs::hard_link(mounted.at.join("one"), folder.join(name)).unwrap();
        }
        drop((one, other));
        mounted.unmount();
    }
    let opened = Opened::new(&image);
    same_as_mounted(&opened, &image, &bench);
    let (record, _) = opened.find("one").unwrap();
    let listed = record.attributes().unwrap();
    assert!(
        listed
            .iter()
            .any(|found| found.kind == kind::ATTRIBUTE_LIST),
        "one record was enough"
    );
    let names = opened.mft.names(&opened.volume(), &record).unwrap();
    assert_eq!(names.len(), 41);
}
