//! Disks that cannot be read everywhere: a FUSE file that really answers with EIO, by QEMU's
//! storage daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::disk::{Loop, part};
use super::process::{text, tool, wait_for};

/// Bytes of a sector, the smallest unit that can fail.
pub(crate) const SECTOR: u64 = 512;

/// A disk file with some unreadable sectors.
pub(crate) struct Failing {
    daemon: Child,
    pub(crate) path: PathBuf,
}

impl Failing {
    pub(crate) fn new(disk: &Path, sectors: &[u64]) -> Self {
        Self::slow(disk, sectors, 0)
    }

    /// A disk with a limited read rate, in bytes a second; 0 is unlimited.
    pub(crate) fn slow(disk: &Path, sectors: &[u64], rate: u64) -> Self {
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
        let mut node = serde_json::json!({
            "driver": "blkdebug", "node-name": "failing", "read-only": true,
            "image": {"driver": "file", "filename": text(disk), "read-only": true},
        });
        // An empty list is not accepted.
        if !rules.is_empty() {
            node["inject-error"] = rules.into();
        }
        let limit = serde_json::json!({
            "qom-type": "throttle-group", "id": "limit", "limits": {"bps-read": rate},
        });
        let throttle = serde_json::json!({
            "driver": "throttle", "node-name": "disk", "throttle-group": "limit", "file": "failing",
            "read-only": true,
        });
        let export = format!(
            "type=fuse,id=e,node-name=disk,mountpoint={},writable=off",
            text(&path)
        );
        let daemon = Command::new("qemu-storage-daemon")
            .args(["--object", &limit.to_string()])
            .args(["--blockdev", &node.to_string()])
            .args(["--blockdev", &throttle.to_string(), "--export", &export])
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

/// The first sector of a file on an ext4 partition of a disk.
pub(crate) fn sector_of(disk: &Path, file: &str, block: u64) -> u64 {
    let p = part(disk, 512, 1);
    let device = Loop::part(disk, &p, 512);
    let said = tool(&[
        "debugfs",
        "-R",
        &format!("bmap {file} {block}"),
        device.text(),
    ]);
    let block: u64 = said.stdout.trim().parse().expect("a block number");
    let size = tool(&["dumpe2fs", "-h", device.text()]).stdout;
    let line = size.lines().find(|line| line.starts_with("Block size"));
    let size: u64 = line
        .and_then(|line| line.split_whitespace().last())
        .and_then(|word| word.parse().ok())
        .expect("a block size");
    (p.start + block * size) / SECTOR
}
