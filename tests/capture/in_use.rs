//! A master in use is refused, whatever uses it: a mount of another namespace, a FUSE file system,
//! a virtual machine, a program.

use super::common::disk::{Fs, Loop, bytes_at, part, put_at};
use super::common::images::{capture, info};
use super::common::process::{DISKCAST, bash, clean, held_when, signal, text, tool, wait_for};
use super::common::scratch;
use super::{MIB, master};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A script in a mount namespace of its own that has reached its `echo ready`. It ends when
/// dropped, because its standard input closes.
struct Elsewhere(Child);

impl Elsewhere {
    fn new(script: &str) -> Self {
        let mut child = Command::new("unshare")
            .args(["--mount", "bash", "-euc", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), "ready", "the script did not get that far");
        Self(child)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn nothing_left(image: &Path) {
    let partial = format!("{}.partial", text(image));
    assert!(!image.exists() && !Path::new(&partial).exists());
}

#[test]
fn a_mount_of_another_namespace_is_seen_through_device_and_file() {
    let folder = scratch();
    let disk = master(folder.path(), 2);
    let image = folder.path().join("a.dcimg");
    let at = folder.path().join("at");
    fs::create_dir(&at).expect("a folder");
    let whole = Loop::disk(&disk, 512);
    let first = Loop::part(&disk, &part(&disk, 512, 1), 512);
    let elsewhere = Elsewhere::new(&format!(
        "mount {} {}; echo ready; read -r _ || true; umount {1}",
        first.text(),
        text(&at)
    ));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read");
    assert!(
        !mounts.contains(text(&at)),
        "the mount shows here: not what this test is about"
    );
    // The device itself, the file below it, and another device on that file.
    for source in [first.path(), &disk, whole.path()] {
        capture(source, &image, &[])
            .code(5)
            .says(&["in use", "namespace"]);
        nothing_left(&image);
    }
    drop(elsewhere);
    capture(whole.path(), &image, &[]).ok();
}

#[test]
fn nobody_mounts_a_disk_while_it_is_captured() {
    let folder = scratch();
    let disk = master(folder.path(), 24);
    let image = folder.path().join("a.dcimg");
    let device = Loop::part(&disk, &part(&disk, 512, 1), 512);
    let mut capturing = slow_capture(device.path(), &image);
    let at = folder.path().join("at");
    fs::create_dir(&at).expect("a folder");
    let mounted = Command::new("mount")
        .args([device.path(), at.as_path()])
        .output()
        .expect("mount");
    if mounted.status.success() {
        bash(&format!("umount {}", text(&at)));
    }
    signal(capturing.id(), "CONT");
    assert!(!mounted.status.success(), "a disk that is read was mounted");
    assert!(capturing.wait().expect("ended").success());
}

/// A slow capture that is stopped after the beginning of its image.
fn slow_capture(source: &Path, image: &Path) -> Child {
    let mut command = Command::new(DISKCAST);
    clean(&mut command);
    let mut child = command
        .args(["image", "capture", text(source), text(image)])
        .args(["--level", "12", "--threads", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let partial = format!("{}.partial", text(image));
    held_when(child.id(), "the beginning of an image", || {
        let begun = fs::metadata(&partial).is_ok_and(|meta| meta.len() > 0);
        let running = child.try_wait().expect("asked").is_none();
        assert!(running, "the capture was over before it could be disturbed");
        begun.then_some(())
    });
    child
}

#[test]
fn a_file_that_changes_while_it_is_read_becomes_no_image() {
    let folder = scratch();
    let disk = master(folder.path(), 24);
    let image = folder.path().join("a.dcimg");
    let capturing = slow_capture(&disk, &image);
    // Opened, written and closed at once: no program has it open before or after.
    put_at(&disk, 40 * MIB, b"written meanwhile");
    signal(capturing.id(), "CONT");
    let ended = capturing.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(5), "{said}");
    assert!(said.contains("changed while it was read"), "{said}");
    nothing_left(&image);
}

#[test]
fn ntfs_mounted_through_fuse_is_seen_on_a_device_and_in_a_file() {
    let folder = scratch();
    let volume = folder.path().join("volume.raw");
    fs::File::create(&volume)
        .and_then(|f| f.set_len(48 * MIB))
        .expect("a volume");
    tool(&[
        "mkntfs",
        "-q",
        "-Q",
        "-F",
        "-p",
        "0",
        "-H",
        "0",
        "-S",
        "0",
        text(&volume),
    ]);
    let image = folder.path().join("a.dcimg");
    let at = folder.path().join("at");
    fs::create_dir(&at).expect("a folder");
    let writer = |on: &str| {
        format!(
            "ntfs-3g {on} {0}; (while :; do head -c 60000 /dev/urandom > {0}/$((RANDOM % 50)); done) & echo ready; read -r _ || true; kill $!; wait || true; until umount {0}; do sleep 0.1; done",
            text(&at)
        )
    };
    let device = Loop::disk(&volume, 512);
    let elsewhere = Elsewhere::new(&writer(device.text()));
    for source in [device.path(), &volume] {
        capture(source, &image, &[]).code(5).says(&["in use"]);
        nothing_left(&image);
    }
    drop(elsewhere);
    drop(device);
    let elsewhere = Elsewhere::new(&writer(text(&volume)));
    capture(&volume, &image, &[])
        .code(5)
        .says(&["in use", "ntfs-3g", "for writing"]);
    nothing_left(&image);
    drop(elsewhere);
    // ntfs-3g closes the file a moment after its mount is gone.
    wait_for("the end of ntfs-3g", || {
        (capture(&volume, &image, &[]).code == Some(0)).then_some(())
    });
}

#[test]
fn ntfs_whose_mirror_is_not_its_table_is_refused() {
    let folder = scratch();
    let volume = folder.path().join("volume.raw");
    fs::File::create(&volume)
        .and_then(|f| f.set_len(48 * MIB))
        .expect("a volume");
    let device = Loop::disk(&volume, 512);
    Fs::Ntfs.make(&device, 512, "win", 1);
    drop(device);
    let boot = bytes_at(&volume, 0, 512);
    let cluster = u64::from(u16::from_le_bytes([boot[11], boot[12]])) * u64::from(boot[13]);
    let place = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&boot[at..at + 8]);
        u64::from_le_bytes(bytes) * cluster
    };
    let (table, mirror) = (place(0x30), place(0x38));
    assert_eq!(
        bytes_at(&volume, table, 4096),
        bytes_at(&volume, mirror, 4096)
    );
    let image = folder.path().join("a.dcimg");
    // The LSN of record 0, which a driver changes with each write: first in one copy, then in the
    // other.
    put_at(&volume, mirror + 8, &[0x77; 4]);
    capture(&volume, &image, &[])
        .code(5)
        .says(&["$MFTMirr", "record 0", "--raw-partition"]);
    nothing_left(&image);
    capture(&volume, &image, &["--raw-partition", "0"]).ok();
}

#[test]
fn a_file_that_a_virtual_machine_may_write_is_in_use() {
    let folder = scratch();
    let disk = master(folder.path(), 1);
    let image = folder.path().join("a.dcimg");
    let open = format!(
        "file,node-name=disk,filename={},read-only=off,auto-read-only=off",
        text(&disk)
    );
    let mut machine = Command::new("qemu-storage-daemon")
        .args(["--blockdev", &open])
        .args([
            "--nbd-server",
            &format!("addr.type=unix,addr.path={}/nbd", text(folder.path())),
        ])
        .args(["--export", "nbd,id=e,node-name=disk,writable=on"])
        .spawn()
        .expect("qemu-storage-daemon");
    wait_for("its socket", || {
        folder.path().join("nbd").exists().then_some(())
    });
    let said = capture(&disk, &image, &[]);
    machine.kill().expect("killed");
    machine.wait().expect("gone");
    said.code(5).says(&["in use", "qemu-storage"]);
    capture(&disk, &image, &[]).ok();
    // A local file that is not in use needs no note.
    let warnings = &info(&image)["meta"]["warnings"];
    assert!(!warnings.to_string().contains("in use"), "{warnings}");
}
