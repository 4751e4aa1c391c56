//! Loads drivers for devices: those present at the start, and those that appear later.
//!
//! ```text
//! uevents (netlink) joined -> walk of /sys, network first -> uevents for ever
//! ```
//!
//! Disks behind USB, NVMe or a slow controller, and the partitions of a driver's own bus, appear
//! seconds after the first walk; the kernel announces each with a uevent. The socket is opened
//! before the walk, so no device is missed. When announcements were lost (the socket overran), all
//! of `/sys` is walked again.

use super::load::Modules;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Netlink group of the kernel's own announcements; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;
/// Longest announcement that is read, in bytes: twice the kernel's `UEVENT_BUFFER_SIZE`.
const MESSAGE_BYTES: usize = 4096;
/// Deepest level of folders below `/sys/devices` that is searched; the deepest real ones are about
/// twenty.
const MAX_DEPTH: usize = 40;
/// Seconds without announcements after which `/sys` is walked again, in case one was missed.
const WALK_AGAIN_SECONDS: i64 = 10;

/// State of the drivers for devices present at the start.
#[derive(Clone, Default)]
pub struct Devices(Arc<AtomicBool>);

impl Devices {
    /// True once drivers were looked up for every device present at the start, and for the devices
    /// that these drivers made appear.
    pub fn settled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Loads the drivers of this machine's devices, now and later, on a thread of its own.
///
/// # Errors
/// The thread cannot be started.
pub fn start(modules: Arc<Modules>) -> std::io::Result<Devices> {
    let devices = Devices::default();
    let settled = devices.clone();
    std::thread::Builder::new()
        .name("devices".into())
        .spawn(move || {
            let announcements = match announcements() {
                Ok(socket) => Some(socket),
                Err(error) => {
                    tracing::warn!(%error, "no announcements of new devices; looking for them every {WALK_AGAIN_SECONDS} s");
                    None
                }
            };
            // The network comes first: it takes seconds to come up, and disks can appear meanwhile.
            walk(&modules, is_network);
            walk(&modules, is_device);
            modules.load_always();
            // The drivers loaded so far may have brought new devices.
            walk(&modules, is_device);
            settled.0.store(true, Ordering::Relaxed);
            walk(&modules, is_anything);
            follow(&modules, announcements.as_ref());
        })?;
    Ok(devices)
}

fn announcements() -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(KOBJECT_UEVENT),
    )?;
    bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
    Ok(socket)
}

/// Loads drivers for every present device that `wanted` accepts; repeated while that makes new
/// devices appear.
fn walk(modules: &Modules, wanted: fn(&str) -> bool) {
    // Most devices appear at the end of their driver's load. Three rounds cover a bus, a controller
    // and the devices behind it.
    for _ in 0..3 {
        let mut found = Vec::new();
        collect(Path::new("/sys/devices"), 0, &mut found);
        found.retain(|modalias| wanted(modalias));
        found.dedup();
        if found.iter().map(|m| modules.load_for(m)).sum::<usize>() == 0 {
            return;
        }
    }
}

/// True for real devices. Processor aliases (faster ciphers) are excluded: nothing waits for them.
fn is_device(modalias: &str) -> bool {
    !modalias.starts_with("cpu:")
}

fn is_anything(_: &str) -> bool {
    true
}

/// True for PCI class 02, and for the bus of virtual machines' cards.
fn is_network(modalias: &str) -> bool {
    (modalias.starts_with("pci:") && modalias.contains("bc02"))
        || modalias.starts_with("virtio:d00000001")
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<String>) {
    if depth > MAX_DEPTH {
        return;
    }
    let mut below: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // Links lead back up and around.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => below.push(entry.path()),
            Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => {
                if let Ok(modalias) = fs::read_to_string(entry.path()) {
                    found.push(modalias.trim().to_owned());
                }
            }
            _ => {}
        }
    }
    for folder in below {
        collect(&folder, depth + 1, found);
    }
}

fn follow(modules: &Modules, announcements: Option<&OwnedFd>) {
    let mut buffer = vec![0; MESSAGE_BYTES];
    let pause = Timespec {
        tv_sec: WALK_AGAIN_SECONDS,
        tv_nsec: 0,
    };
    loop {
        let mut waits: Vec<PollFd<'_>> = announcements
            .iter()
            .map(|socket| PollFd::new(*socket, PollFlags::IN))
            .collect();
        match poll(&mut waits, Some(&pause)) {
            Ok(0) => walk(modules, is_device),
            Ok(_) => {
                if let Some(socket) = announcements {
                    read(modules, socket, &mut buffer);
                }
            }
            // Interrupted: wait again.
            Err(_) => {}
        }
    }
}

fn read(modules: &Modules, socket: &OwnedFd, buffer: &mut [u8]) {
    loop {
        match recvfrom(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((_, len, _)) => {
                if let Some(modalias) = buffer.get(..len).and_then(appeared) {
                    modules.load_for(modalias);
                }
            }
            Err(rustix::io::Errno::NOBUFS) => walk(modules, is_device),
            Err(_) => return,
        }
    }
}

/// The modalias in the announcement of a new device: `add@/devices/...`, then `KEY=value` texts,
/// each ended by a zero byte.
fn appeared(message: &[u8]) -> Option<&str> {
    let mut fields = message.split(|byte| *byte == 0);
    if !fields.next()?.starts_with(b"add@") {
        return None;
    }
    fields
        .find_map(|field| field.strip_prefix(b"MODALIAS="))
        .and_then(|modalias| std::str::from_utf8(modalias).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_devices_with_a_modalias_ask() {
        let message =
            b"add@/devices/pci0000:00/0000:00:03.0\0ACTION=add\0MODALIAS=pci:v1\0SEQNUM=1\0";
        assert_eq!(appeared(message), Some("pci:v1"));
        assert_eq!(appeared(b"remove@/devices/x\0MODALIAS=pci:v1\0"), None);
        assert_eq!(appeared(b"add@/devices/x\0ACTION=add\0"), None);
        assert_eq!(appeared(b"add@/devices/x\0MODALIAS=\xff\0"), None);
        assert_eq!(appeared(b""), None);
    }
}
