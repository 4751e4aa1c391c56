//! Facts of the machine for a check: link, memory, and read speed of its disks.
//!
//! Reads `/sys`, `/proc` and the first second of each disk. Best effort: facts that cannot be read
//! are left out. Never writes.

use disk::buffer::AlignedBuffer;
use disk::device;
use facts::target::DiskFacts;
use multicast::Duration;
use net::clock::Clock;
use protocol::control::{DiskSpeed, DoctorAnswer};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Time for which a disk is read.
const READ_FOR: Duration = Duration::from_secs(1);
/// Length of one read, in bytes.
const READ_BYTES: usize = 1 << 20;
/// Most disks that are read side by side; a machine with more is a server and not a target.
const MAX_DISKS: usize = 4;

/// Adds MTU, speed and duplex of an interface to the answer.
pub(super) fn link(name: &str, answer: &mut DoctorAnswer) {
    // The name comes from the kernel's own list, so it is safe in a path.
    let folder = Path::new("/sys/class/net").join(name);
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
    answer.mtu = read("mtu").and_then(|text| text.trim().parse().ok());
    // Virtual interfaces have no device, and report an invented speed.
    if folder.join("device").exists() {
        answer.speed_mbit_per_s = read("speed")
            .and_then(|text| text.trim().parse().ok())
            .filter(|speed| *speed > 0);
        answer.duplex = read("duplex")
            .map(|text| text.trim().to_owned())
            .filter(|duplex| duplex == "full" || duplex == "half");
    }
}

/// Bytes of memory that are free or can be freed.
pub(super) fn memory_available() -> Option<u64> {
    available(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|l| l.starts_with("MemAvailable:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Reads the beginning of each disk on offer for a second; `None` means the disks that the kernel
/// lists.
pub(super) fn disk_speeds(offers: Option<Vec<DiskFacts>>) -> Vec<DiskSpeed> {
    let disks = offers.unwrap_or_else(device::list);
    std::thread::scope(|scope| {
        let reading: Vec<_> = disks
            .iter()
            .filter(|disk| !disk.removable)
            .take(MAX_DISKS)
            .map(|disk| scope.spawn(|| speed_of(&disk.path)))
            .collect();
        reading
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    })
}

fn speed_of(path: &str) -> DiskSpeed {
    let mut speed = DiskSpeed {
        path: path.to_owned(),
        ..DiskSpeed::default()
    };
    match open(path).and_then(|file| read(&file)) {
        Ok(bytes_per_s) => speed.bytes_per_s = bytes_per_s,
        Err(error) => speed.error = Some(error.to_string()),
    }
    speed
}

/// Opens a file past the page cache, if the file system allows it.
fn open(path: &str) -> std::io::Result<File> {
    let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    OpenOptions::new()
        .read(true)
        .custom_flags(direct)
        .open(path)
        .or_else(|_| OpenOptions::new().read(true).open(path))
}

fn read(file: &File) -> std::io::Result<u64> {
    let clock = Clock::start();
    let mut buffer = AlignedBuffer::new(READ_BYTES);
    let mut at = 0u64;
    loop {
        let count = file.read_at(buffer.bytes_mut(), at)? as u64;
        at += count;
        let took = clock.now().as_micros().max(1);
        if count < READ_BYTES as u64 || took >= READ_FOR.as_micros() {
            return Ok(at.saturating_mul(1_000_000) / took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_a_missing_one_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![1; 3 << 20]).unwrap();
        let speed = speed_of(path.to_str().unwrap());
        assert!(speed.bytes_per_s > 0 && speed.error.is_none(), "{speed:?}");
        let gone = speed_of("/nonexistent/disk");
        assert!(gone.error.is_some() && gone.bytes_per_s == 0);
    }

    #[test]
    fn memory_of_any_text() {
        assert_eq!(
            available("MemTotal: 9 kB\nMemAvailable:   16 kB\n"),
            Some(16_384)
        );
        assert_eq!(available("MemAvailable: lots\n"), None);
        assert!(memory_available().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn the_loopback_has_an_mtu_and_no_speed() {
        let mut answer = DoctorAnswer::default();
        link("lo", &mut answer);
        assert!(answer.mtu.is_some_and(|mtu| mtu >= 1500));
        assert_eq!(answer.speed_mbit_per_s, None);
    }
}
