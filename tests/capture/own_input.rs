//! No input is deleted or overwritten by its own output, whatever its name.

use super::common::disk::Loop;
use super::common::images::{capture, check, restore};
use super::common::process::{diskcast, run, text, tool};
use super::common::{hash_file, scratch};
use super::{MIB, master};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

#[test]
fn a_master_whose_name_is_that_of_the_unfinished_image_stays() {
    // `capture m.partial m` used to empty its own master, put an "image of nothing" in its place
    // and end with 0.
    let folder = scratch();
    let place = |name: &str| folder.path().join(name);
    let master = place("m.partial");
    fs::write(&master, vec![0x5a; 4 * MIB as usize]).expect("written");
    let before = hash_file(&master);
    capture(&master, &place("m"), &[])
        .code(5)
        .says(&["m.partial"]);
    // Under another name the file is no rest of a capture either.
    fs::hard_link(&master, place("hard.partial")).expect("linked");
    symlink(&master, place("soft.partial")).expect("linked");
    for name in ["hard", "soft"] {
        capture(&master, &place(name), &[])
            .code(5)
            .says(&[&format!("{name}.partial")]);
    }
    let device = Loop::disk(&master, 512);
    capture(device.path(), &place("m"), &[])
        .code(5)
        .says(&["m.partial"]);
    assert_eq!(hash_file(&master), before);
    assert!(!place("m").exists());
}

#[test]
fn a_foreign_partial_file_stays() {
    let folder = scratch();
    let disk = master(folder.path(), 2);
    let place = |name: &str| folder.path().join(name);
    fs::write(
        place("new.dcimg.partial"),
        b"what another program is loading",
    )
    .expect("written");
    capture(&disk, &place("new.dcimg"), &[])
        .code(5)
        .says(&["new.dcimg.partial"]);
    assert_eq!(
        fs::read(place("new.dcimg.partial")).expect("still there"),
        b"what another program is loading"
    );
    assert!(!place("new.dcimg").exists());

    // A complete image that lacks its name must not be lost either.
    capture(&disk, &place("whole.dcimg"), &[]).ok();
    fs::rename(place("whole.dcimg"), place("whole.dcimg.partial")).expect("renamed");
    let before = hash_file(&place("whole.dcimg.partial"));
    capture(&disk, &place("whole.dcimg"), &[])
        .code(5)
        .says(&["whole.dcimg.partial"]);
    assert_eq!(hash_file(&place("whole.dcimg.partial")), before);
    // The rest of a killed capture does not block another one.
    let mut bytes = fs::read(place("whole.dcimg.partial")).expect("read");
    bytes.truncate(bytes.len() / 2);
    fs::write(place("cut.dcimg.partial"), bytes).expect("written");
    capture(&disk, &place("cut.dcimg"), &[]).ok();
    check(&place("cut.dcimg"), &[]).ok();
}

#[test]
fn a_capture_onto_itself_is_refused() {
    let folder = scratch();
    let disk = master(folder.path(), 1);
    let before = hash_file(&disk);
    capture(&disk, &disk, &[]).code(5).says(&[text(&disk)]);
    // Standard output leads to the master, opened with `1<>`.
    let script = format!(
        "{} image capture {} - 1<>{1}",
        env!("CARGO_BIN_EXE_diskcast"),
        text(&disk)
    );
    run(Command::new("bash").args(["-c", &script])).code(5);
    assert_eq!(hash_file(&disk), before);
}

#[test]
fn an_image_is_not_restored_over_itself_or_over_an_image() {
    let folder = scratch();
    let place = |name: &str| folder.path().join(name);
    let disk = master(folder.path(), 2);
    let image = place("a.dcimg");
    capture(&disk, &image, &[]).ok();
    let before = hash_file(&image);
    fs::hard_link(&image, place("hard.raw")).expect("linked");
    symlink(&image, place("soft.raw")).expect("linked");
    let device = Loop::disk(&image, 512);
    let names = [
        image.as_path(),
        &place("hard.raw"),
        &place("soft.raw"),
        device.path(),
    ];
    for target in names {
        restore(&image, target, &[])
            .code(5)
            .says(&[text(target), text(&image)]);
    }
    drop(device);
    // Image and disk in the wrong order: another image is no disk.
    let other = place("other.dcimg");
    fs::copy(&image, &other).expect("copied");
    restore(&image, &other, &[]).code(5).says(&["other.dcimg"]);
    for path in [&image, &other] {
        assert_eq!(hash_file(path), before, "{} changed", path.display());
    }
    agent_refuses(&other);
    assert_eq!(hash_file(&other), before);
}

/// An agent neither offers an image as a disk nor grows one.
fn agent_refuses(image: &Path) {
    for size in ["", "=200M"] {
        let offer = format!("{}{size}", text(image));
        let mut command = Command::new(super::common::agent::agent());
        super::common::process::clean(&mut command);
        let pin = "a".repeat(64);
        run(command.args([
            "run",
            "--once",
            "--console",
            "127.0.0.1:9",
            "--pin",
            &pin,
            "--disk",
            &offer,
        ]))
        .code_of(&[1, 2, 5])
        .says(&["image"]);
    }
}

#[test]
fn an_image_is_not_restored_onto_the_disk_it_lies_on() {
    // A file system of another mount namespace is not in our mount table. This one does not even
    // have a named device: only the device of its file system leads to it.
    let folder = scratch();
    let disk = master(folder.path(), 1);
    let image = folder.path().join("a.dcimg");
    capture(&disk, &image, &[]).ok();
    let store = folder.path().join("store.raw");
    fs::File::create(&store)
        .and_then(|f| f.set_len(64 * MIB))
        .expect("a disk");
    let device = Loop::disk(&store, 512);
    tool(&["mke2fs", "-q", "-F", "-t", "ext4", device.text()]);
    let mount = super::common::disk::Mount::new("ext4", device.path(), "rw");
    let stored = mount.path().join("a.dcimg");
    fs::copy(&image, &stored).expect("copied");
    for target in [&store, device.path()] {
        restore(&stored, target, &[])
            .code(5)
            .says(&[text(&stored), text(target), "lies on"]);
    }
    check(&stored, &[]).ok();
    capture(device.path(), &mount.path().join("b.dcimg"), &[])
        .code(5)
        .says(&["b.dcimg"]);
    drop(mount);
}

#[test]
fn a_refused_restore_leaves_no_file() {
    let folder = scratch();
    let disk = master(folder.path(), 1);
    let image = folder.path().join("a.dcimg");
    capture(&disk, &image, &[]).ok();
    let target = folder.path().join("new.raw");
    for more in [
        &["--grow", "7"][..],
        &["--partitions", "5"],
        &["--sector-size", "4096"],
        &["--partitions", "1", "--onto", "1"],
    ] {
        let said = restore(&image, &target, more).code_of(&[2, 5]);
        assert!(!target.exists(), "a file was made\n{}", said.story());
    }
    diskcast(["image", "restore", text(&image), text(&target)]).ok();
}
