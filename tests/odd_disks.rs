//! Disks that are not what they seem: a boot sector that is no table, a table without entries, a
//! disk claimed as a whole by something else. None of their data may be left out, and data that
//! cannot be read as a disk is refused by name.
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
use std::path::{Path, PathBuf};

use common::disk::{Loop, MIB, blank, bytes_at, put_at, same_bytes};
use common::fill::{TARGET_POISON, noise, poisoned};
use common::images::{capture, info, partition, restore};
use common::process::{bash, text, tool};
use common::scratch;

/// Captures and restores onto a used disk, and asserts that every byte is equal.
#[track_caller]
fn comes_back_equal(disk: &Path) -> serde_json::Value {
    let image = disk.with_extension("dcimg");
    capture(disk, &image, &[]).ok();
    let size = fs::metadata(disk).expect("a disk").len();
    let target = disk.with_extension("target");
    poisoned(&target, size, TARGET_POISON);
    restore(&image, &target, &[]).ok();
    same_bytes("the whole disk", disk, &target, 0, size);
    info(&image)
}

#[test]
fn file_systems_on_a_whole_disk_are_known_behind_any_boot_sector() {
    let folder = scratch();
    let folder = folder.path();
    let data = noise("whole", 6 * MIB as usize);
    fs::write(folder.join("data"), &data).expect("data");

    let ext = blank(folder, "ext", 64 * MIB);
    bash(&format!(
        "mkfs.ext4 -q -F -d {1} {0}",
        text(&ext),
        text(&{
            let tree = folder.join("tree");
            fs::create_dir(&tree).expect("a folder");
            fs::copy(folder.join("data"), tree.join("data")).expect("a copy");
            tree
        })
    ));
    // The boot code of extlinux or GRUB ends like this.
    put_at(&ext, 510, &[0x55, 0xaa]);

    let mut fats = Vec::new();
    for (name, text_of_type) in [
        ("blank", "        "),
        ("odd", "fat32   "),
        ("other", "MSDOS5.0"),
    ] {
        let fat = blank(folder, name, 64 * MIB);
        bash(&format!(
            "mkfs.vfat -F 32 {0} > /dev/null; mcopy -i {0} {1} ::/",
            text(&fat),
            text(&folder.join("data"))
        ));
        put_at(&fat, 82, text_of_type.as_bytes());
        fats.push(fat);
    }
    for (disk, kind) in std::iter::once((&ext, "ext4")).chain(fats.iter().map(|f| (f, "fat32"))) {
        let image = disk.with_extension("dcimg");
        capture(disk, &image, &[]).ok();
        let info = info(&image);
        assert_eq!(info["meta"]["table_kind"], "none", "{info:#}");
        let whole = partition(&info, 0);
        assert_eq!(
            (&whole["fs"]["kind"], &whole["capture"]),
            (&kind.into(), &"used".into())
        );
        let target = disk.with_extension("target");
        poisoned(&target, 64 * MIB, TARGET_POISON);
        restore(&image, &target, &[]).ok();
        if kind == "ext4" {
            tool(&["e2fsck", "-fn", text(&target)]);
            let cat = format!(
                "debugfs -R 'cat data' {} 2> /dev/null | cmp - {}",
                text(&target),
                text(&folder.join("data"))
            );
            bash(&cat);
        } else {
            tool(&["fsck.fat", "-n", text(&target)]);
            bash(&format!(
                "mtype -i {} ::/data | cmp - {}",
                text(&target),
                text(&folder.join("data"))
            ));
        }
    }
}

#[test]
fn what_lies_under_an_empty_table_is_taken_whole() {
    let folder = scratch();
    for (name, table) in [("mbr", "label: dos"), ("gpt", "label: gpt")] {
        let disk = blank(folder.path(), name, 24 * MIB);
        put_at(&disk, 3 * MIB, &noise(name, 9 * MIB as usize));
        bash(&format!(
            "echo '{table}' | sfdisk -q -w never {}",
            text(&disk)
        ));
        let info = comes_back_equal(&disk);
        assert_eq!(partition(&info, 0)["capture"], "raw", "{info:#}");
        assert!(
            info["meta"]["warnings"][0]
                .as_str()
                .is_some_and(|w| w.contains("empty"))
        );
    }
}

#[test]
fn a_protective_entry_without_a_size_announces_a_gpt() {
    let folder = scratch();
    let disk = blank(folder.path(), "disk", 32 * MIB);
    bash(&format!(
        "printf 'label: gpt\\nstart=2048,size=40960,type=L\\n' | sfdisk -q {}",
        text(&disk)
    ));
    put_at(&disk, 458, &[0; 4]);
    put_at(&disk, MIB, &noise("under", 20 * MIB as usize));
    let image = disk.with_extension("dcimg");
    capture(&disk, &image, &[]).ok();
    let target = disk.with_extension("target");
    poisoned(&target, 32 * MIB, TARGET_POISON);
    restore(&image, &target, &[]).ok();
    same_bytes("table and partition", &disk, &target, 0, 21 * MIB);
    let info = info(&image);
    assert_eq!(info["meta"]["table_kind"], "gpt");
    assert_eq!(partition(&info, 1)["length"], 20 * MIB);
}

/// Makes a disk with one partition at 1 MiB, over a disk that is claimed as a whole.
fn claimed(folder: &Path, name: &str, claim: &str) -> PathBuf {
    // btrfs has this minimum size, LUKS keeps 16 MiB to itself.
    let size = if name == "btrfs" { 112 } else { 48 };
    let disk = blank(folder, name, size * MIB);
    put_at(&disk, 40 * MIB, &noise(name, MIB as usize));
    {
        let device = Loop::disk(&disk, 512);
        bash(&format!("disk={}; {claim}", device.text()));
    }
    // The partition ends before the data at 40 MiB.
    bash(&format!(
        "printf 'label: dos\\nstart=2048,size=40960,type=83\\n' | sfdisk -q -w never {0} 2> /dev/null; sync {0}",
        text(&disk)
    ));
    disk
}

#[test]
fn a_disk_that_something_claims_beside_its_table_comes_along_whole() {
    let folder = scratch();
    for (name, claim, says) in [
        (
            "lvm",
            "pvcreate -q -q -y $disk > /dev/null",
            "LVM physical volume",
        ),
        ("btrfs", "mkfs.btrfs -q -f $disk", "btrfs"),
        (
            "luks",
            "head -c 32 /dev/zero > $disk.k 2> /dev/null || true; echo x | cryptsetup -q luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $disk -",
            "LUKS",
        ),
    ] {
        let disk = claimed(folder.path(), name, claim);
        let info = comes_back_equal(&disk);
        assert_eq!(info["meta"]["table_kind"], "mbr");
        assert_eq!(partition(&info, 1)["capture"], "raw");
        let warnings = info["meta"]["warnings"].to_string();
        assert!(
            warnings.contains(says) && warnings.contains("wipefs"),
            "{warnings}"
        );
    }
}

#[test]
fn the_superblock_of_a_mirror_stays_with_the_disk_that_lies_in_it() {
    let folder = scratch();
    let disk = blank(folder.path(), "mirror", 64 * MIB);
    bash(&format!(
        "printf 'label: dos\\nstart=2048,size=40960,type=83\\n' | sfdisk -q {}",
        text(&disk)
    ));
    // An md superblock of version 1.0 in mdadm's form: magic, version, level 1 (mdadm needs a
    // kernel with md).
    let at = 64 * MIB - 8192;
    let mut block = vec![0u8; 256];
    block[..8].copy_from_slice(&[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]);
    block[72] = 1;
    put_at(&disk, at, &block);
    let image = disk.with_extension("dcimg");
    capture(&disk, &image, &[]).ok();
    let info = info(&image);
    assert!(
        info["used_bytes"]
            .as_u64()
            .is_some_and(|used| used < 32 * MIB),
        "{info:#}"
    );
    assert!(
        info["meta"]["warnings"]
            .to_string()
            .contains("member of a mirror"),
        "{info:#}"
    );
    let target = disk.with_extension("target");
    poisoned(&target, 64 * MIB, TARGET_POISON);
    restore(&image, &target, &[]).ok();
    assert_eq!(bytes_at(&target, at, 256), block);
    // It belongs to the end of the disk: a smaller one cannot have it.
    let smaller = disk.with_extension("smaller");
    poisoned(&smaller, 48 * MIB, TARGET_POISON);
    restore(&image, &smaller, &[]).code(5);
}
