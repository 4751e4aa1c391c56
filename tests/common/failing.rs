//! Disks that do not read everywhere: a FUSE file that really answers with EIO, by QEMU's storage daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::process::{text, wait_for};

/// Bytes of a sector, the least that fails.
pub(crate) const SECTOR: u64 = 512;

/// A disk file of which some sectors cannot be read.
pub(crate) struct Failing {
    daemon: Child,
    pub(crate) path: PathBuf,
}

impl Failing {
    pub(crate) fn new(disk: &Path, sectors: &[u64]) -> Self {
        let path = disk.with_extension("failing");
        fs::write(&path, b"").expect("a place to mount on");
        let rules: Vec<_> = sectors
            .iter()
            .map(|sector| {
                serde_json::json!({
                    "event": "none", "iotype": "read", "errno": 5, "sector": sector, "once": false,
                })
            })
            .collect();
        let node = serde_json::json!({
            "driver": "blkdebug", "node-name": "disk", "inject-error": rules,
            "image": {"driver": "file", "filename": text(disk), "read-only": true},
            "read-only": true,
        });
        let export = format!(
            "type=fuse,id=e,node-name=disk,mountpoint={},writable=off",
            text(&path)
        );
        let daemon = Command::new("qemu-storage-daemon")
            .args(["--blockdev", &node.to_string(), "--export", &export])
            .spawn()
            .expect("qemu-storage-daemon");
        wait_for("the FUSE file", || {
            fs::metadata(&path).ok().filter(|meta| meta.len() > 0)
        });
        Self { daemon, path }
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).output();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
