//! Real disks made with Debian's own tools: captured, checked, restored, and checked with those
//! tools again.
//!
//! Every free block of a master disk holds 0x5A and every target 0xA5 beforehand, so that neither a
//! missed used block nor an included free one can go unnoticed.
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

use common::disk::{
    Fs, Loop, bytes_at, part, parts, put_at, same_bytes, sfdisk_clean, sgdisk_clean,
};
use common::fill::{SOURCE_POISON, TARGET_POISON, noise, poison_range, poisoned, same_tree};
use common::images::{capture, captured_used, check_all, info, partition, restore};
use common::master::Master;
use common::process::{bash, diskcast, text, tool};
use common::{hash_file, scratch};

const MIB: u64 = 1 << 20;

/// Makes a disk with ESP, ext4, NTFS and swap, 160 MiB.
fn common_disk() -> Master {
    Master::new(
        160 * MIB,
        512,
        "sgdisk -n 1:0:+36M -t 1:ef00 -c 1:ESP -n 2:0:+60M -t 2:8300 -n 3:0:+44M -t 3:0700 -c 3:'Basic data partition' \
         -A 3:set:60 -n 4:0:0 -t 4:8200 $disk > /dev/null",
    )
    .put(1, Fs::Fat, 4)
    .put(2, Fs::Ext4, 12)
    .put(3, Fs::Ntfs, 8)
    .put(4, Fs::Swap, 0)
}

#[test]
fn gpt_with_esp_ext4_ntfs_and_swap_comes_back_equal() {
    let master = common_disk();
    let image = master.image();
    let facts = info(&image);
    assert_eq!(facts["meta"]["table_kind"], "gpt");
    captured_used(&facts, 1, 12 * MIB);
    captured_used(&facts, 2, 32 * MIB);
    captured_used(&facts, 3, 22 * MIB);
    captured_used(&facts, 4, 2 * MIB);

    let same = master.target("same.raw", master.size());
    restore(&image, &same, &[]).ok();
    same_bytes("primary GPT", &master.disk, &same, 0, 34 * 512);
    same_bytes(
        "backup GPT",
        &master.disk,
        &same,
        master.size() - 33 * 512,
        33 * 512,
    );
    sgdisk_clean(&same);
    sfdisk_clean(&same);
    master.same_volumes(&same);
    // The backup boot sector of NTFS is outside the file system's clusters.
    let ntfs = part(&same, 512, 3);
    same_bytes(
        "NTFS backup boot sector",
        &master.disk,
        &same,
        ntfs.start + ntfs.length - 512,
        512,
    );
}

#[test]
fn a_larger_disk_gets_its_backup_table_moved_and_the_last_partition_grown_on_request() {
    let master = common_disk();
    let image = master.image();

    let larger = master.target("larger.raw", master.size() + 40 * MIB);
    restore(&image, &larger, &[]).ok();
    sgdisk_clean(&larger);
    sfdisk_clean(&larger);
    assert_eq!(
        parts(&larger, 512),
        parts(&master.disk, 512),
        "partitions moved"
    );
    master.same_volumes(&larger);

    let grown = master.target("grown.raw", master.size() + 40 * MIB);
    restore(&image, &grown, &["--grow", "last"]).ok();
    sgdisk_clean(&grown);
    sfdisk_clean(&grown);
    let (before, after) = (parts(&master.disk, 512), parts(&grown, 512));
    assert_eq!(before[..3], after[..3], "only the last one grows");
    assert_eq!(before[3].start, after[3].start);
    let free = master.size() + 40 * MIB - (after[3].start + after[3].length);
    assert!(
        free < 2 * MIB,
        "{free} bytes left free behind the grown partition"
    );
    master.same_volumes(&grown);
}

#[test]
fn a_disk_too_small_is_refused_and_not_touched() {
    let master = common_disk();
    let image = master.image();
    for size in [master.size() - MIB, master.size() - 512, 8 * MIB] {
        let small = master.target("small.raw", size);
        let before = hash_file(&small);
        restore(&image, &small, &[]).code(5);
        assert_eq!(
            hash_file(&small),
            before,
            "a refused disk of {size} bytes was written to"
        );
    }
}

#[test]
fn without_yes_and_without_a_terminal_nothing_is_overwritten() {
    let master = Master::new(32 * MIB, 512, "sgdisk -n 1:0:0 $disk > /dev/null").put(1, Fs::Fat, 1);
    let image = master.image();
    let target = master.target("asked.raw", master.size());
    let before = hash_file(&target);
    diskcast(["image", "restore", text(&image), text(&target)]).code(2);
    assert_eq!(hash_file(&target), before);
}

/// Offsets of every EBR, found by walking the chain like the kernel.
fn ebrs(disk: &Path) -> Vec<u64> {
    let entry = |sector: &[u8], i: usize| {
        let e = &sector[446 + 16 * i..462 + 16 * i];
        (
            e[4],
            u64::from(u32::from_le_bytes([e[8], e[9], e[10], e[11]])) * 512,
        )
    };
    let mbr = bytes_at(disk, 0, 512);
    let Some(first) = (0..4)
        .map(|i| entry(&mbr, i))
        .find(|(kind, _)| [0x05, 0x0f, 0x85].contains(kind))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut at = first.1;
    loop {
        found.push(at);
        let next = entry(&bytes_at(disk, at, 512), 1);
        if next.0 == 0 {
            return found;
        }
        assert!(found.len() < 60, "an EBR chain without end");
        at = first.1 + next.1;
    }
}

#[test]
fn mbr_with_logical_partitions_beyond_4_gib_created_out_of_order() {
    // mbrman writes EBRs beyond 4 GiB to the wrong place and reports success: the tables here are
    // patched from the preserved bytes instead, and this disk shows the difference.
    let folder = scratch();
    let disk = folder.path().join("master.raw");
    let size = 7 * 1024 * MIB;
    fs::File::create(&disk)
        .and_then(|f| f.set_len(size))
        .expect("a sparse disk");
    let gib = |n: u64| n * 1024 * 2048;
    let script = format!(
        "sfdisk -q --no-reread $disk <<'TABLE'
label: dos
label-id: 0xd15cca57
start=2048, size=65536, type=c, bootable
start={extended}, size={length}, type=f
start={late}, size=98304, type=83
start={early}, size=81920, type=83
start={middle}, size=90112, type=7
TABLE",
        extended = gib(1),
        length = gib(6) - 2048,
        late = gib(6) + 4096,
        early = gib(1) + 4096,
        middle = gib(5) + 8192,
    );
    let master = Master::partitioned(folder, disk, 512, &script);
    let listed = parts(&master.disk, 512);
    assert_eq!(listed.len(), 5, "{listed:?}");
    for p in &listed {
        if !["5", "f"].contains(&p.kind.as_str()) {
            poison_range(&master.disk, p.start, p.length, SOURCE_POISON);
        }
    }
    let mut master = master.put(1, Fs::Fat, 2);
    for p in listed.iter().filter(|p| p.number >= 5) {
        let kind = if p.kind == "7" { Fs::Ntfs } else { Fs::Ext4 };
        master = master.put(p.number, kind, 4);
    }
    // A stand-in for GRUB: boot code in LBA 0 and a core image in the gap before the first
    // partition.
    put_at(&master.disk, 0, &noise("boot code", 440));
    put_at(&master.disk, 512, &noise("core", 60 * 512));
    let chain = ebrs(&master.disk);
    assert!(
        chain.len() >= 3 && chain.iter().any(|at| *at > 4 << 30),
        "not the disk this test is about: {chain:?}"
    );

    let image = master.image();
    let facts = info(&image);
    assert_eq!(facts["meta"]["table_kind"], "mbr");
    for (number, _, _) in &master.volumes {
        captured_used(&facts, *number, 24 * MIB);
        assert_eq!(partition(&facts, *number)["logical"], *number >= 5);
    }

    let target = master.file("same.raw");
    fs::File::create(&target)
        .and_then(|f| f.set_len(size))
        .expect("a sparse target");
    for p in &listed {
        if p.number != 2 {
            poison_range(&target, p.start, p.length, TARGET_POISON);
        }
    }
    poison_range(&target, 0, MIB, TARGET_POISON);
    restore(&image, &target, &[]).ok();
    same_bytes("LBA 0 and the gap", &master.disk, &target, 0, 61 * 512);
    assert_eq!(ebrs(&target), chain);
    for at in &chain {
        same_bytes("EBR", &master.disk, &target, *at, 512);
    }
    assert_eq!(parts(&target, 512), listed);
    sfdisk_clean(&target);
    master.same_volumes(&target);

    // Every used byte is below the target's end only on a disk that holds the extended partition.
    let small = master.file("small.raw");
    fs::File::create(&small)
        .and_then(|f| f.set_len(5 * 1024 * MIB))
        .expect("a sparse target");
    restore(&image, &small, &[]).code(5);
    assert!(
        bytes_at(&small, 0, MIB).iter().all(|byte| *byte == 0),
        "a refused disk was written to"
    );
}

#[test]
fn gpt_with_4096_byte_sectors_through_loop_devices() {
    let master = Master::new(
        176 * MIB,
        4096,
        "sgdisk -n 1:0:+48M -t 1:8300 -n 2:0:+48M -t 2:0700 -n 3:0:+60M -t 3:ef00 $disk > /dev/null",
    )
    .put(1, Fs::Ext4, 8)
    .put(2, Fs::Ntfs, 8)
    .put(3, Fs::Fat, 4);

    // A device reports its sector size; for a file it is an option.
    let image = master.file("device.dcimg");
    {
        let device = Loop::disk(&master.disk, 4096);
        capture(device.path(), &image, &[]).ok();
    }
    check_all(&image);
    let facts = info(&image);
    assert_eq!(facts["sector_size"], 4096);
    captured_used(&facts, 1, 24 * MIB);
    captured_used(&facts, 2, 20 * MIB);
    captured_used(&facts, 3, 12 * MIB);
    let told = master.image();
    assert_eq!(
        info(&told)["chunks"],
        facts["chunks"],
        "a file with --sector-size is the same disk"
    );

    for larger in [0, 24 * MIB] {
        let target = master.target("target.raw", master.size() + larger);
        let device = Loop::disk(&target, 4096);
        restore(&image, device.path(), &[]).ok();
        sgdisk_clean(device.path());
        sfdisk_clean(device.path());
        drop(device);
        assert_eq!(parts(&target, 4096), parts(&master.disk, 4096));
        if larger == 0 {
            same_bytes("primary GPT", &master.disk, &target, 0, 6 * 4096);
            same_bytes(
                "backup GPT",
                &master.disk,
                &target,
                master.size() - 5 * 4096,
                5 * 4096,
            );
        }
        master.same_volumes(&target);
    }

    // The table of 4096-byte sectors means nothing on a disk of 512-byte ones.
    let other = master.target("other.raw", master.size());
    let before = hash_file(&other);
    let device = Loop::disk(&other, 512);
    restore(&image, device.path(), &[])
        .code(5)
        .says(&["4096", "512"]);
    drop(device);
    assert_eq!(hash_file(&other), before, "a refused disk was written to");
}

#[test]
fn gpt_with_gaps_in_its_numbers_keeps_them() {
    // The gpt crate renumbers sparse entries: boot entries and fstab lines that name partition 5
    // would then be wrong.
    let master = Master::new(
        112 * MIB,
        512,
        "sgdisk -n 5:0:+32M -t 5:8300 -n 2:0:+20M -t 2:0700 -n 128:0:+20M -t 128:0700 -n 9:0:+4M -t 9:ef02 $disk > /dev/null",
    )
    .put(5, Fs::Ext4, 4)
    .put(2, Fs::Exfat, 4)
    .put(128, Fs::Fat, 2);
    // A BIOS boot partition: no file system, so every byte has to be captured.
    let bios = part(&master.disk, 512, 9);
    put_at(&master.disk, bios.start, &noise("grub core", 300_000));

    let image = master.image();
    let facts = info(&image);
    captured_used(&facts, 2, 12 * MIB);
    captured_used(&facts, 5, 20 * MIB);
    captured_used(&facts, 128, 10 * MIB);
    assert_eq!(partition(&facts, 9)["capture"], "raw");

    let target = master.target("same.raw", master.size());
    restore(&image, &target, &[]).ok();
    same_bytes("primary GPT", &master.disk, &target, 0, 34 * 512);
    same_bytes(
        "backup GPT",
        &master.disk,
        &target,
        master.size() - 33 * 512,
        33 * 512,
    );
    same_bytes(
        "BIOS boot partition",
        &master.disk,
        &target,
        bios.start,
        bios.length,
    );
    sgdisk_clean(&target);
    master.same_volumes(&target);
    let numbers: Vec<u32> = parts(&target, 512).iter().map(|p| p.number).collect();
    assert_eq!(
        numbers,
        parts(&master.disk, 512)
            .iter()
            .map(|p| p.number)
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_disk_without_a_table_comes_back_equal() {
    let folder = scratch();
    let disk = folder.path().join("super.raw");
    poisoned(&disk, 64 * MIB, SOURCE_POISON);
    let tree = Fs::Ext4.make(&Loop::disk(&disk, 512), 512, "whole", 8);
    let image = folder.path().join("super.dcimg");
    capture(&disk, &image, &[]).ok();
    check_all(&image);
    assert_eq!(info(&image)["meta"]["table_kind"], "none");
    let target = folder.path().join("target.raw");
    poisoned(&target, 64 * MIB, TARGET_POISON);
    restore(&image, &target, &[]).ok();
    let device = Loop::disk(&target, 512);
    Fs::Ext4.check(&device);
    same_tree("whole disk", &tree, &Fs::Ext4.tree(&device));
}

#[test]
fn what_no_reader_knows_is_captured_whole() {
    let master = Master::new(
        64 * MIB,
        512,
        "sgdisk -n 1:0:+20M -n 2:0:+20M $disk > /dev/null",
    );
    let (first, second) = (part(&master.disk, 512, 1), part(&master.disk, 512, 2));
    put_at(&master.disk, first.start, &noise("unknown", 5_000_000));
    // LUKS: the magic, and nothing that a reader could interpret.
    put_at(&master.disk, second.start, b"LUKS\xba\xbe\x00\x02");
    let image = master.image();
    let facts = info(&image);
    for number in [1, 2] {
        let p = partition(&facts, number);
        assert_eq!(p["capture"], "raw");
        assert!(
            p["reason"]
                .as_str()
                .is_some_and(|reason| !reason.is_empty()),
            "no reason: {p:#}"
        );
    }
    let target = master.target("same.raw", master.size());
    restore(&image, &target, &[]).ok();
    same_bytes(
        "unknown partition",
        &master.disk,
        &target,
        first.start,
        first.length,
    );
    same_bytes(
        "LUKS partition",
        &master.disk,
        &target,
        second.start,
        second.length,
    );
}

#[test]
fn a_missing_primary_gpt_is_read_from_the_backup() {
    let master =
        Master::new(48 * MIB, 512, "sgdisk -n 1:0:+32M $disk > /dev/null").put(1, Fs::Ext4, 2);
    put_at(&master.disk, 512, &[0; 512]);
    let image = master.file("hurt.dcimg");
    let said = capture(&master.disk, &image, &[]).ok();
    assert!(
        said.stderr.to_lowercase().contains("backup"),
        "the technician is not told\n{}",
        said.story()
    );
    let target = master.target("same.raw", master.size());
    restore(&image, &target, &[]).ok();
    let device = Loop::part(&target, &part(&target, 512, 1), 512);
    Fs::Ext4.check(&device);
    same_tree("partition 1", &master.volumes[0].2, &Fs::Ext4.tree(&device));
}

#[test]
fn an_image_written_to_a_pipe_is_an_image() {
    let master =
        Master::new(48 * MIB, 512, "sgdisk -n 1:0:+32M $disk > /dev/null").put(1, Fs::Ext4, 4);
    let image = master.file("piped.dcimg");
    bash(&format!(
        "{} image capture {} - 2> /dev/null | cat > {}",
        common::process::DISKCAST,
        text(&master.disk),
        text(&image)
    ));
    check_all(&image);
    let target = master.target("same.raw", master.size());
    restore(&image, &target, &[]).ok();
    master.same_volumes(&target);
}

#[test]
fn a_restored_disk_can_be_captured_again_and_gives_the_same_chunks() {
    let master = common_disk();
    let image = master.image();
    let target = master.target("same.raw", master.size());
    restore(&image, &target, &[]).ok();
    let again = master.file("again.dcimg");
    capture(&target, &again, &[]).ok();
    let (one, two) = (info(&image), info(&again));
    assert_eq!(one["used_bytes"], two["used_bytes"]);
    assert_eq!(one["chunks"], two["chunks"]);
    tool(&["sync"]);
}

#[test]
fn loaders_far_into_the_front_come_along_and_what_does_not_is_named() {
    // A board's U-Boot at 8 MiB used to be left out without a message, and the copy did not start.
    let folder = scratch();
    let file = |name: &str| folder.path().join(name);
    let (disk, image) = (file("master.raw"), file("master.dcimg"));
    let size = 512 * MIB;
    fs::File::create(&disk)
        .and_then(|f| f.set_len(size))
        .expect("a sparse disk");
    tool(&["sgdisk", "-n", "1:96M:+4M", "-n", "2:300M:+4M", text(&disk)]);
    let loader = noise("u-boot", 1_000_000);
    put_at(&disk, 8 * MIB, &loader);
    put_at(&disk, 80 * MIB, &noise("beyond 64 MiB", 8192));
    put_at(&disk, 200 * MIB, &noise("between", 4096));
    let named = [
        "8.19 kB before partition 1",
        "from byte 83886080 on",
        "4.10 kB between partitions 1 and 2",
        "--all-gaps",
    ];
    capture(&disk, &image, &[]).ok().says(&named);
    let shown = diskcast(["image", "info", text(&image)]).ok();
    for word in named {
        assert!(shown.stdout.contains(word), "{}", shown.story());
    }
    let copy = file("copy.raw");
    restore(&image, &copy, &[]).ok().says(&named);
    same_bytes("the loader", &disk, &copy, 8 * MIB, loader.len() as u64);
    let left_out = &info(&image)["meta"]["left_out"];
    assert_eq!(left_out[1]["bytes"], 4096, "{left_out:#}");

    let whole = file("whole.dcimg");
    let said = capture(&disk, &whole, &["--all-gaps"]).ok();
    assert!(!said.stderr.contains("left out"), "{}", said.story());
    let copy = file("whole.raw");
    restore(&whole, &copy, &[]).ok();
    same_bytes("the disk", &disk, &copy, 0, size);
}
