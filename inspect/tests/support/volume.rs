//! NTFS volumes for tests: made by mkntfs, mounted by ntfs-3g, always unmounted at the end.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "shared by the tests of several crates: each uses a part, and all touch files"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A new volume of `bytes` in `dir`.
pub fn new_volume(dir: &Path, bytes: u64) -> PathBuf {
    new_volume_with(dir, bytes, &["-s", "512"])
}

/// A new volume made with these options (sectors, clusters).
pub fn new_volume_with(dir: &Path, bytes: u64, options: &[&str]) -> PathBuf {
    let image = dir.join("volume.img");
    File::create(&image).unwrap().set_len(bytes).unwrap();
    let made = Command::new("mkntfs")
        .args(["-q", "-F", "-f", "-p", "0", "-H", "1", "-S", "1"])
        .args(options)
        .arg(&image)
        .output()
        .expect("mkntfs, of Debian's ntfs-3g");
    assert!(made.status.success(), "{made:?}");
    image
}

/// A volume mounted beside its image.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts the volume.
    pub fn new(image: &Path) -> Self {
        let point = image.with_extension("mnt");
        std::fs::create_dir_all(&point).unwrap();
        let status = Command::new("ntfs-3g")
            .args(["-o", "efs_raw,no_def_opts,silent"])
            .args([image, &point])
            .status()
            .expect("ntfs-3g");
        assert!(status.success(), "mounting {}", image.display());
        Self(point)
    }

    /// Writes a file and creates its parent folders; `/` separates names.
    pub fn put(&self, path: &str, content: &[u8]) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Mount point.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A program that another test is starting has this test's files open until its exec.
        let done = (0..250).any(|_| {
            let unmounted = Command::new("umount").arg(&self.0).status();
            let done = unmounted.is_ok_and(|status| status.success());
            if !done {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            done
        });
        if !done && !std::thread::panicking() {
            panic!("{} stays mounted", self.0.display());
        }
    }
}
