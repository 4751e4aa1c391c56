//! Images in several files: divided at a given size or at the file system's limit, and joined by
//! the name of the first file.

use super::common::disk::{Loop, Mount, part, same_bytes};
use super::common::images::{capture, check, check_all, info, restore};
use super::common::process::{DISKCAST, clean, diskcast, run, text, tool};
use super::common::scratch;
use super::{MIB, master};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn files(folder: &Path) -> BTreeSet<String> {
    let all = fs::read_dir(folder).expect("listed").flatten();
    all.map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("dcimg"))
        .collect()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_divided_image_is_whole_by_its_first_name() {
    let folder = scratch();
    let place = |name: &str| folder.path().join(name);
    let disk = master(folder.path(), 40);
    let image = place("a.dcimg");
    capture(&disk, &image, &["--volume-size", "16M"]).ok();
    let parts = ["a.dcimg", "a.dcimg.002", "a.dcimg.003"];
    assert_eq!(files(folder.path()), names(&parts));
    let sum: u64 = parts
        .iter()
        .map(|name| fs::metadata(place(name)).expect("a part").len())
        .inspect(|length| assert!(*length <= 16 * MIB))
        .sum();
    assert_eq!(info(&image)["file_bytes"], sum);
    check_all(&image);
    let target = place("target.raw");
    restore(&image, &target, &[]).ok();
    let p = part(&disk, 512, 1);
    same_bytes(
        "the first MiB of its partition",
        &disk,
        &target,
        p.start,
        MIB,
    );

    // Every command names a missing part.
    for missing in ["a.dcimg.002", "a.dcimg.003"] {
        fs::rename(place(missing), place("aside")).expect("moved");
        let target = place("never.raw");
        for said in [
            check(&image, &[]),
            diskcast(["image", "info", text(&image)]),
            restore(&image, &target, &[]),
        ] {
            said.code(7).says(&[missing]);
        }
        assert!(!target.exists());
        fs::rename(place("aside"), place(missing)).expect("moved");
    }
    diskcast(["image", "info", text(&place("a.dcimg.002"))])
        .code(7)
        .says(&["first part"]);
    // A file behind the last part with such a name does not belong to the image.
    fs::write(place("a.dcimg.004"), b"a stray").expect("written");
    check(&image, &[]).ok();
    // A second capture neither overwrites a part nor continues another capture's part.
    capture(&disk, &image, &["--volume-size", "16M"]).code(5);
    fs::remove_file(&image).expect("removed");
    capture(&disk, &image, &["--volume-size", "16M"])
        .code(5)
        .says(&["a.dcimg.002"]);
    assert!(!image.exists());
}

#[test]
fn a_stray_second_part_does_not_disturb() {
    let folder = scratch();
    let disk = master(folder.path(), 1);
    let image = folder.path().join("a.dcimg");
    let stray = folder.path().join("a.dcimg.002");
    capture(&disk, &image, &[]).ok();
    let target = folder.path().join("target.raw");
    for content in [&b"notes"[..], &fs::read(&image).expect("read")] {
        fs::write(&stray, content).expect("written");
        check_all(&image);
        info(&image);
        let _ = fs::remove_file(&target);
        restore(&image, &target, &[]).ok();
    }
    fs::remove_file(&stray).expect("removed");
    fs::create_dir(&stray).expect("made");
    check_all(&image);
}

#[test]
fn an_image_is_cut_where_files_may_not_grow() {
    let folder = scratch();
    let disk = master(folder.path(), 24);
    let image = folder.path().join("a.dcimg");
    let limited = |kib: u64, image: &Path| {
        let script = format!(
            "ulimit -f {kib}; exec {DISKCAST} image capture {} {} --level 1",
            text(&disk),
            text(image)
        );
        let mut command = Command::new("bash");
        clean(&mut command);
        run(command.args(["-c", &script]))
    };
    limited(16 << 10, &image).ok();
    assert_eq!(files(folder.path()), names(&["a.dcimg", "a.dcimg.002"]));
    check_all(&image);
    let other = folder.path().join("b.dcimg");
    limited(64, &other).code(5).says(&["ulimit"]);
    assert!(!other.exists());
}

#[test]
fn a_capture_onto_fat_is_made_of_parts_and_cleans_up() {
    let folder = scratch();
    let disk = master(folder.path(), 12);
    let stick = folder.path().join("stick.raw");
    fs::File::create(&stick)
        .and_then(|f| f.set_len(64 * MIB))
        .expect("a stick");
    let device = Loop::disk(&stick, 512);
    tool(&["mkfs.vfat", "-F", "32", device.text()]);
    let mounted = Command::new("modprobe").arg("vfat").output();
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.contains("vfat") {
        // This kernel has no FAT; the test above uses a limit of the process instead.
        drop(mounted);
        return;
    }
    let mount = Mount::new("vfat", device.path(), "rw");
    let image = mount.path().join("a.dcimg");
    capture(&disk, &image, &[]).ok();
    check(&image, &[]).ok();
}
