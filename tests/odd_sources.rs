//! Sources named as a disk or an image that are none, or of another kind: refused by name, with the
//! next step, and nothing is made, written or waited for.
#![allow(
    clippy::cast_possible_truncation,
    reason = "test arithmetic on small sizes"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests are the edge: they make files"
)]

mod common;

use std::fs;
use std::path::Path;

use common::disk::{Fs, Loop, MIB, blank, bytes_at, mbr, part, put_at, same_bytes};
use common::fill::{TARGET_POISON, noise, poisoned};
use common::images::{capture, check, info, partition, restore};
use common::master::Master;
use common::process::{DISKCAST, bash, diskcast, text, tool};
use common::{hash_file, scratch};

#[test]
fn containers_are_refused_by_name_and_taken_as_bytes_only_on_request() {
    let folder = scratch();
    let folder = folder.path();
    let raw = blank(folder, "disk.raw", 8 * MIB);
    put_at(&raw, MIB, &noise("inside", MIB as usize));
    let raw_text = text(&raw);
    for (name, make, says) in [
        (
            "a.qcow2",
            "qemu-img convert -O qcow2 $raw $file",
            "qcow2 image",
        ),
        (
            "a.vhdx",
            "qemu-img convert -O vhdx $raw $file",
            "VHDX image",
        ),
        (
            "a.vmdk",
            "qemu-img convert -O vmdk $raw $file",
            "VMDK image",
        ),
        (
            "flat.vmdk",
            "qemu-img convert -O vmdk -o subformat=monolithicFlat $raw $file",
            "descriptor of a VMDK",
        ),
        ("a.vdi", "qemu-img convert -O vdi $raw $file", "VDI image"),
        ("a.vhd", "qemu-img convert -O vpc $raw $file", "VHD image"),
        (
            "fixed.vhd",
            "qemu-img convert -O vpc -o subformat=fixed $raw $file",
            "VHD image",
        ),
        ("a.zst", "zstd -q $raw -o $file", "zstd file"),
        ("a.xz", "xz -c -0 $raw > $file", "xz file"),
        ("a.gz", "gzip -c $raw > $file", "gzip file"),
        (
            "a.bz2",
            "python3 -c 'import bz2,sys; sys.stdout.buffer.write(bz2.compress(b\"x\" * 9999))' > $file",
            "bzip2 file",
        ),
        (
            "a.ptcl",
            "truncate -s 8M $file.fs; mke2fs -q -F -t ext4 $file.fs; partclone.ext4 -c -s $file.fs -o $file -q -L /dev/null 2> /dev/null",
            "partclone stream",
        ),
    ] {
        let file = folder.join(name);
        bash(&format!("raw={raw_text} file={}; {make}", text(&file)));
        let image = file.with_extension("dcimg");
        capture(&file, &image, &[]).code(5).says(&[says, "--raw"]);
        assert!(!image.exists());
        // It is no image either, and no disk to write to.
        diskcast(["image", "info", text(&file)])
            .code(5)
            .says(&[says]);
    }
    let qcow2 = folder.join("a.qcow2");
    let image = folder.join("bytes.dcimg");
    capture(&qcow2, &image, &["--raw"]).ok();
    let back = folder.join("back");
    restore(&image, &back, &[]).ok();
    assert_eq!(hash_file(&qcow2), hash_file(&back));
    let before = hash_file(&qcow2);
    restore(&image, &qcow2, &[]).code(5).says(&["qcow2 image"]);
    assert_eq!(hash_file(&qcow2), before);

    for (files, says) in [
        (&["clonezilla-img", "disk", "parts"][..], "Clonezilla"),
        (&["d1.mbr", "d1p1.img"], "FOG"),
        (&["readme"], "is a folder"),
    ] {
        let dir = folder.join(files[0]).with_extension("dir");
        fs::create_dir(&dir).expect("a folder");
        for file in files {
            fs::write(dir.join(file), "x").expect("a file");
        }
        let image = folder.join("dir.dcimg");
        capture(&dir, &image, &[]).code(5).says(&[says]);
        diskcast(["image", "info", text(&dir)])
            .code(5)
            .says(&["is a folder"]);
    }
}

#[test]
fn no_command_makes_a_file_among_the_devices() {
    let folder = scratch();
    let raw = blank(folder.path(), "disk.raw", 4 * MIB);
    put_at(&raw, MIB, &noise("some", 4096));
    let image = raw.with_extension("dcimg");
    capture(&raw, &image, &[]).ok();
    let typo = Path::new("/dev/sdzz9");
    let link = folder.path().join("dev");
    std::os::unix::fs::symlink("/dev", &link).expect("a link");
    for typo in [typo, &link.join("sdzz9")] {
        restore(&image, typo, &[])
            .code(5)
            .says(&["no device", "sdzz9"]);
        capture(typo, &folder.path().join("x.dcimg"), &[])
            .code(5)
            .says(&["no device"]);
        capture(&raw, typo, &[]).code(5).says(&["no device"]);
    }
    assert!(!typo.exists());
    assert!(!Path::new("/dev/sdzz9.partial").exists());
}

#[test]
fn what_is_no_file_is_no_image_and_is_not_waited_for() {
    let folder = scratch();
    let fifo = folder.path().join("fifo.dcimg");
    tool(&["mkfifo", text(&fifo)]);
    let target = folder.path().join("target");
    let device = blank(folder.path(), "disk", MIB);
    let device = Loop::disk(&device, 512);
    for (name, says) in [
        (fifo.as_path(), "FIFO"),
        (folder.path(), "folder"),
        (device.path(), "device"),
    ] {
        diskcast(["image", "info", text(name)])
            .code(5)
            .says(&[says]);
        check(name, &[]).code(5).says(&[says]);
        restore(name, &target, &[]).code(5).says(&[says]);
    }
    assert!(!target.exists());
    capture(&fifo, &folder.path().join("x.dcimg"), &[]).code(5);
    restore(&fifo, &fifo, &[]).code(5);
}

#[test]
fn sources_that_are_empty_cut_off_or_shrink_say_so() {
    let folder = scratch();
    let image = folder.path().join("x.dcimg");
    let empty = blank(folder.path(), "empty", 0);
    capture(&empty, &image, &[]).code(5).says(&["is empty"]);

    let cut = blank(folder.path(), "cut", 64 * MIB);
    bash(&format!(
        "printf 'label: dos\\nstart=2048,size=120000,type=83\\n' | sfdisk -q {}",
        text(&cut)
    ));
    fs::OpenOptions::new()
        .write(true)
        .open(&cut)
        .and_then(|file| file.set_len(40 * MIB))
        .expect("cut off");
    capture(&cut, &image, &[])
        .code(5)
        .says(&["cut off", "--raw"]);

    // In the middle of a sector.
    fs::OpenOptions::new()
        .write(true)
        .open(&cut)
        .and_then(|file| file.set_len(70 * MIB + 100))
        .expect("cut off");
    capture(&cut, &image, &["--raw"])
        .code(5)
        .says(&["no whole sectors", "truncate --size=%512"]);

    // The output is not read until the source is shorter.
    let shrinks = folder.path().join("shrinks");
    fs::write(&shrinks, noise("shrinks", 96 * MIB as usize)).expect("a disk");
    let said = bash(&format!(
        "{{ {DISKCAST} image capture {0} - 2>&1 >&3 || echo code $?; }} 3> >(sleep 1; truncate -s 8M {0}; cat > /dev/null)",
        text(&shrinks)
    ));
    assert!(
        said.contains("became shorter") && said.contains("code 5"),
        "{said}"
    );
}

#[test]
fn a_second_signal_ends_a_capture_that_nobody_takes() {
    let folder = scratch();
    let disk = folder.path().join("disk");
    fs::write(&disk, noise("blocked", 48 * MIB as usize)).expect("a disk");
    // The pipe is full and not read: the first signal has no effect.
    let said = bash(&format!(
        "mkfifo {0}.pipe; exec 3<> {0}.pipe; {DISKCAST} image capture {0} - >&3 2> /dev/null & pid=$!\n\
         sleep 1; kill -INT $pid; sleep 0.2; kill -INT $pid; code=0; wait $pid || code=$?; echo code $code",
        text(&disk)
    ));
    assert!(said.contains("code 130"), "{said}");
}

#[test]
fn partitions_beyond_128_can_be_chosen() {
    let master = Master::new(
        64 * MIB,
        512,
        "sgdisk -S 512 -n 300:2M:+20M -n 301:0:+20M $disk > /dev/null",
    );
    let image = master.image();
    let target = master.target("t.raw", 64 * MIB);
    restore(&image, &target, &["--partitions", "300"]).ok();
    restore(&image, &target, &["--partitions", "301", "--onto", "300"]).ok();
    restore(&image, &target, &["--partitions", "400"])
        .code(5)
        .says(&["no partition 400"]);
}

/// Makes a master with sectors of 512 bytes and one volume.
fn with_512(fs: Fs) -> Master {
    Master::new(80 * MIB, 512, "sgdisk -n 1:2048:+60M $disk > /dev/null").put(1, fs, 4)
}

#[test]
fn one_partition_does_not_go_onto_sectors_it_cannot_live_on() {
    let disk = with_512(Fs::Ntfs);
    let target = blank(disk.folder.path(), "4k.raw", 128 * MIB);
    let device = Loop::disk(&target, 4096);
    tool(&["sgdisk", "-n", "1:256:+80M", device.text()]);
    let before = hash_file(&target);
    for fs in [Fs::Ntfs, Fs::Fat, Fs::Exfat] {
        let master = with_512(fs);
        let onto = ["--partitions", "1", "--onto", "1"];
        restore(&master.image(), device.path(), &onto)
            .code(5)
            .says(&["sectors of 512", "4096"]);
        assert_eq!(hash_file(&target), before, "a refused disk was written to");
    }
    // A file system that counts in its own blocks works.
    let master = Master::new(80 * MIB, 512, "sgdisk -n 1:2048:+60M $disk > /dev/null");
    {
        let volume = Loop::part(&master.disk, &part(&master.disk, 512, 1), 512);
        tool(&[
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "4096",
            volume.text(),
        ]);
    }
    let onto = ["--partitions", "1", "--onto", "1"];
    restore(&master.image(), device.path(), &onto).ok();
    drop(device);
    let volume = Loop::part(&target, &part(&target, 4096, 1), 4096);
    tool(&["e2fsck", "-fn", volume.text()]);
}

#[test]
fn the_copy_of_a_disk_with_4096_byte_sectors_is_recognised() {
    for label in ["gpt", "dos"] {
        let master = Master::new(
            96 * MIB,
            4096,
            &format!("printf 'label: {label}\\nstart=256,size=16000\\n' | sfdisk -q $disk"),
        )
        .put(1, Fs::Ext4, 4);
        let image = master.file("x.dcimg");
        capture(&master.disk, &image, &[])
            .code(5)
            .says(&["4096", "--sector-size"]);
        assert!(!image.exists());
        capture(&master.disk, &image, &["--sector-size", "4096"]).ok();
        assert_eq!(partition(&info(&image), 1)["fs"]["kind"], "ext4");
        let target = master.target("t.raw", master.size());
        restore(&image, &target, &[]).ok();
        master.same_volumes(&target);

        // A partition is not put at an eighth of its offset either.
        let other = with_512(Fs::Ext4);
        let before = hash_file(&target);
        let onto = ["--partitions", "1", "--onto", "1"];
        restore(&other.image(), &target, &onto)
            .code(5)
            .says(&["4096"]);
        assert_eq!(hash_file(&target), before);
    }
}

#[test]
fn every_table_that_cannot_be_followed_names_raw_and_raw_takes_the_disk() {
    let folder = scratch();
    let disk = |name: &str| {
        let disk = blank(folder.path(), name, 16 * MIB);
        put_at(&disk, 3 * MIB, &noise(name, 5 * MIB as usize));
        disk
    };
    let (overlap, past, bsd, iso) = (disk("overlap"), disk("past"), disk("bsd"), disk("iso"));
    mbr(&overlap, &[(0x83, 2048, 8192), (0x83, 4096, 8192)]);
    mbr(&past, &[(0x83, 2048, 65536)]);
    // A BSD disk without a table of its own: the fixed entry of its boot block covers the boot
    // block's own sector.
    mbr(&bsd, &[(0, 0, 0), (0, 0, 0), (0, 0, 0), (0xa5, 0, 50_000)]);
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).expect("a folder");
    bash(&format!(
        "head -c 3000000 /dev/urandom > {1}/file; rm {0}; xorriso -as mkisofs -quiet -o {0} -partition_offset 0 {1} 2> /dev/null",
        text(&iso),
        text(&tree)
    ));
    // A table as isohybrid writes it: the partition begins at the start of the disk.
    mbr(
        &iso,
        &[(
            0x17,
            0,
            (fs::metadata(&iso).expect("an ISO").len() / 512) as u32,
        )],
    );
    let gpt = disk("gpt");
    bash(&format!(
        "printf 'label: gpt\\nstart=2048,size=8192\\n' | sfdisk -q -w never {}",
        text(&gpt)
    ));
    put_at(&gpt, 512 + 60, &[1]);
    put_at(&gpt, 16 * MIB - 512 + 60, &[1]);

    for disk in [overlap, past, bsd, iso, gpt] {
        let image = disk.with_extension("dcimg");
        capture(&disk, &image, &[]).code(5).says(&["--raw"]);
        assert!(!image.exists());
        capture(&disk, &image, &["--raw"]).ok();
        let info = info(&image);
        assert_eq!(info["meta"]["table_kind"], "none");
        assert_eq!(partition(&info, 0)["capture"], "raw");
        let size = fs::metadata(&disk).expect("a disk").len();
        let target = disk.with_extension("target");
        poisoned(&target, size, TARGET_POISON);
        restore(&image, &target, &[]).ok();
        same_bytes("the whole disk", &disk, &target, 0, size);
        let smaller = disk.with_extension("smaller");
        poisoned(&smaller, size - 4096, TARGET_POISON);
        restore(&image, &smaller, &[]).code(5);
    }
    // A valid table makes no difference either.
    let master =
        Master::new(32 * MIB, 512, "sgdisk -n 1:0:0 $disk > /dev/null").put(1, Fs::Ext4, 2);
    let image = master.file("whole.dcimg");
    capture(&master.disk, &image, &["--raw"]).ok();
    let target = master.target("whole.raw", 32 * MIB);
    restore(&image, &target, &[]).ok();
    same_bytes("the whole disk", &master.disk, &target, 0, 32 * MIB);
}

#[test]
fn what_an_earlier_table_left_behind_does_not_pin_an_image_to_its_size() {
    let folder = scratch();
    let disk = blank(folder.path(), "disk", 64 * MIB);
    bash(&format!(
        "printf 'label: gpt\\nstart=2048,size=40960\\n' | sfdisk -q {0}\n\
         dd if=/dev/zero of={0} bs=512 count=1 conv=notrunc status=none\n\
         printf 'label: dos\\nstart=2048,size=40960,type=83\\n' | sfdisk -q -w never {0}",
        text(&disk)
    ));
    {
        let device = Loop::part(&disk, &part(&disk, 512, 1), 512);
        tool(&["mke2fs", "-q", "-F", "-t", "ext4", device.text()]);
    }
    // The boot sector of a volume that once filled the disk.
    let old = 64 * MIB - 40 * 512;
    put_at(&disk, old, b"\xeb\x52\x90NTFS    ");
    let image = disk.with_extension("dcimg");
    capture(&disk, &image, &[]).ok();
    let shown = diskcast(["image", "info", text(&image)]).ok().stdout;
    let droppable = &info(&image)["meta"]["droppable"][0]["start"];
    let line = format!("from byte {droppable} on, belong to no partition");
    assert!(shown.contains(&line), "{line}: {shown}");
    let smaller = folder.path().join("smaller");
    for more in [&[][..], &["--partitions", "1"]] {
        poisoned(&smaller, 32 * MIB, TARGET_POISON);
        restore(&image, &smaller, more).ok().says(&["left out"]);
        same_bytes("the partition", &disk, &smaller, MIB, 4096);
        let device = Loop::part(&smaller, &part(&smaller, 512, 1), 512);
        tool(&["e2fsck", "-fn", device.text()]);
    }
    // On a disk with enough room they are restored, except for the headers.
    let same = folder.path().join("same");
    poisoned(&same, 64 * MIB, TARGET_POISON);
    restore(&image, &same, &[]).ok();
    assert_eq!(bytes_at(&same, old, 11), b"\xeb\x52\x90NTFS    ");
    for at in [512, 64 * MIB - 512] {
        assert_eq!(bytes_at(&disk, at, 8), b"EFI PART");
        assert_eq!(
            bytes_at(&same, at, 8),
            [0; 8],
            "a stale GPT header came back"
        );
    }
    // The database of a dynamic disk is in the same place.
    mbr(&disk, &[(0x42, 2048, 40_960)]);
    let image = folder.path().join("dynamic.dcimg");
    capture(&disk, &image, &[]).ok();
    poisoned(&smaller, 32 * MIB, TARGET_POISON);
    restore(&image, &smaller, &[]).code(5);
}
