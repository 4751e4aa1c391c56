//! A master disk made with Debian's own tools, and the expected content of its copies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::disk::{Fs, Loop, part};
use super::fill::{SOURCE_POISON, TARGET_POISON, poison_range, poisoned, same_tree};
use super::images::{capture, check_all};
use super::process::bash;
use super::scratch;

const MIB: u64 = 1 << 20;

/// A master disk and the expected content of a restored copy.
pub(crate) struct Master {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) disk: PathBuf,
    pub(crate) sector_size: u32,
    pub(crate) volumes: Vec<(u32, Fs, BTreeMap<String, String>)>,
}

impl Master {
    /// Makes a disk file of `size` bytes full of poison, partitioned by `script` (`$disk` is the
    /// device).
    pub(crate) fn new(size: u64, sector_size: u32, script: &str) -> Self {
        let folder = scratch();
        let disk = folder.path().join("master.raw");
        poisoned(&disk, size, SOURCE_POISON);
        // A disk in use is clean in the places of tables: sgdisk would rightly ask about poison
        // there.
        poison_range(&disk, 0, MIB, 0);
        poison_range(&disk, size - MIB, MIB, 0);
        Self::partitioned(folder, disk, sector_size, script)
    }

    pub(crate) fn partitioned(
        folder: tempfile::TempDir,
        disk: PathBuf,
        sector_size: u32,
        script: &str,
    ) -> Self {
        let device = Loop::disk(&disk, sector_size);
        bash(&format!("disk={}\n{script}\nsync", device.text()));
        drop(device);
        Self {
            folder,
            disk,
            sector_size,
            volumes: Vec::new(),
        }
    }

    pub(crate) fn put(mut self, number: u32, fs: Fs, megabytes: usize) -> Self {
        let device = Loop::part(
            &self.disk,
            &part(&self.disk, self.sector_size, number),
            self.sector_size,
        );
        let tree = fs.make(&device, self.sector_size, &format!("v{number}"), megabytes);
        fs.check(&device);
        self.volumes.push((number, fs, tree));
        self
    }

    pub(crate) fn size(&self) -> u64 {
        fs::metadata(&self.disk).expect("the master disk").len()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a target file filled with poison.
    pub(crate) fn target(&self, name: &str, size: u64) -> PathBuf {
        let target = self.file(name);
        poisoned(&target, size, TARGET_POISON);
        target
    }

    /// Captures and checks; returns the image.
    pub(crate) fn image(&self) -> PathBuf {
        let image = self.file("master.dcimg");
        let sector = self.sector_size.to_string();
        capture(&self.disk, &image, &["--sector-size", &sector]).ok();
        check_all(&image);
        image
    }

    /// Asserts for every volume of a restored disk that its own checker finds it clean and every
    /// file is equal.
    #[track_caller]
    pub(crate) fn same_volumes(&self, restored: &Path) {
        for (number, fs, tree) in &self.volumes {
            let device = Loop::part(
                restored,
                &part(restored, self.sector_size, *number),
                self.sector_size,
            );
            fs.check(&device);
            same_tree(
                &format!("partition {number} ({fs:?})"),
                tree,
                &fs.tree(&device),
            );
        }
    }
}
