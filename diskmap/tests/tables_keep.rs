//! Disks that keep only some of their partitions. The result is compared with that of sgdisk and
//! sfdisk, byte for byte where they change nothing else, and both tools check the deployed disk.

#![allow(clippy::cast_possible_truncation, reason = "sizes of test disks")]

mod tables_support;

use std::collections::BTreeSet;
use std::sync::OnceLock;

use diskmap::{Grow, KeepError, PartitionTable, PatchError, Region, Role};
use tables_support::{MIB, TestDisk, deploy_kept, travelled};

fn set(numbers: &[u32]) -> BTreeSet<u32> {
    numbers.iter().copied().collect()
}

fn numbers(table: &PartitionTable) -> Vec<u32> {
    table.partitions.iter().map(|p| p.number).collect()
}

/// A disk with only these sectors.
fn with_regions(size: u64, sector_size: u32, regions: &[Region]) -> TestDisk {
    let disk = TestDisk::blank(size, sector_size);
    for region in regions {
        disk.write(region.offset, &region.bytes);
    }
    disk
}

/// A copy of a disk's table, on which a tool does the same as `keep`.
fn copy(master: &TestDisk) -> TestDisk {
    with_regions(
        master.size,
        master.sector_size,
        &master.table().unwrap().regions,
    )
}

/// Checks that the table sectors of `disk` equal those of `table`.
fn holds(disk: &TestDisk, table: &PartitionTable) {
    for region in &table.regions {
        assert!(
            disk.read(region.range()) == region.bytes,
            "{:?} at {} differs",
            region.role,
            region.offset
        );
    }
}

/// A disk with partitions 1, 3, 7 and 128, in the order 1, 7, 3, 128. It is made once, because
/// sgdisk waits a second after each write.
fn gpt() -> TestDisk {
    static MADE: OnceLock<Vec<Region>> = OnceLock::new();
    let regions = MADE.get_or_init(|| {
        let disk = TestDisk::sgdisk(
            64 * MIB,
            &[
                "-n1:2048:+4M",
                "-t1:ef00",
                "-c1:EFI system",
                "-n7:0:+8M",
                "-c7:Größe 数据",
                "-A7:set:63",
                "-n3:0:+4M",
                "-A3:set:2",
                "-n128:0:+20M",
                "-t128:8200",
            ],
        );
        disk.table().unwrap().regions
    });
    with_regions(64 * MIB, 512, regions)
}

#[test]
fn gpt_as_sgdisk_leaves_it() {
    let master = gpt();
    let table = travelled(&master.table().unwrap());
    for (kept, deleted) in [
        (&[1u32, 128][..], &["-d3", "-d7"][..]),
        (&[1, 3, 7], &["-d128"]),
    ] {
        let left = table.keep(&set(kept)).unwrap();
        assert_eq!(numbers(&left), kept);
        assert_eq!(left.disk_guid, table.disk_guid);
        assert_eq!(left.warnings, Vec::<String>::new());
        let twin = copy(&master);
        twin.run_sgdisk(deleted);
        holds(&twin, &left);

        let done = deploy_kept(&master, kept, master.size, None);
        assert_eq!(done.plan.notes, Vec::<String>::new());
        assert_eq!(done.plan.partitions, left.partitions);
        assert_eq!(done.target.dump(), twin.dump());
        done.target.sgdisk_verify();
        done.target.sfdisk_verify();
    }
}

#[test]
fn all_kept_is_nothing_changed() {
    for master in [gpt(), mbr()] {
        let table = master.table().unwrap();
        let all = table.keep(&numbers(&table).into_iter().collect()).unwrap();
        assert_eq!(all.regions, table.regions);
        assert_eq!(all.partitions, table.partitions);
        assert_eq!(all.table_extents(), table.table_extents());
    }
}

#[test]
fn without_its_last_partition_a_gpt_fits_a_smaller_disk_and_grows_there() {
    let master = gpt();
    let before = master.table().unwrap();
    // 1 MiB gap, 4 + 8 + 4 MiB of partitions, array and header.
    let end = 17 * MIB + 33 * 512;
    let whole = travelled(&before);
    assert!(matches!(
        diskmap::plan_commit(&whole, end, 512, None),
        Err(PatchError::TooSmall { partition: 128, .. })
    ));
    let done = deploy_kept(&master, &[1, 3, 7], end, None);
    done.target.sgdisk_verify();
    done.target.sfdisk_verify();
    assert_eq!(numbers(&done.target.table().unwrap()), [1, 3, 7]);

    // On the same disk, the partition that is last now grows into the space of the missing one.
    let done = deploy_kept(&master, &[1, 3, 7], 64 * MIB, Some(Grow::Last));
    done.target.sgdisk_verify();
    done.target.sfdisk_verify();
    let after = done.target.table().unwrap();
    assert_eq!(after.partition(3).unwrap().end(), 63 * MIB);
    for number in [1, 7] {
        assert_eq!(after.partition(number), before.partition(number));
    }
    // A partition in the middle grows up to its neighbour.
    let done = deploy_kept(&master, &[1, 3, 128], 64 * MIB, Some(Grow::Number(1)));
    let after = done.target.table().unwrap();
    assert_eq!(after.partition(1).unwrap().end(), 13 * MIB);
    done.target.sgdisk_verify();
}

#[test]
fn sectors_of_4096_bytes() {
    let master = TestDisk::fdisk(
        256 * MIB,
        4096,
        "g\nn\n1\n256\n+20M\nn\n2\n\n+40M\nn\n5\n\n+10M\nw\n",
    );
    for (kept, size, grow) in [
        (&[1u32, 5][..], 256 * MIB, None),
        (&[1, 2], 62 * MIB, None),
        (&[2], 300 * MIB, Some(Grow::Last)),
    ] {
        let done = deploy_kept(&master, kept, size, grow);
        done.target.sfdisk_verify();
        assert_eq!(numbers(&done.target.table().unwrap()), kept);
    }
}

#[test]
fn a_damaged_copy_is_left_alone_and_rebuilt_by_the_commit() {
    for damaged in [512 + 60, 1024 + 5, 64 * MIB - 512 + 60, 64 * MIB - 33 * 512] {
        let master = gpt();
        let good = master.table().unwrap().partitions;
        master.flip(damaged);
        let table = travelled(&master.table().unwrap());
        assert_eq!(table.partitions, good);
        let left = table.keep(&set(&[1, 128])).unwrap();
        for region in &left.regions {
            if region.range().contains(&damaged) {
                assert_eq!(master.read(region.range()), region.bytes);
            }
        }
        for size in [64 * MIB, 80 * MIB] {
            let done = deploy_kept(&master, &[1, 128], size, None);
            done.target.sgdisk_verify();
            assert_eq!(done.target.table().unwrap().partitions, left.partitions);
            assert_eq!(done.target.table().unwrap().warnings, Vec::<String>::new());
        }
    }
}

/// The primary copy was lost, and a partition that is left out lay where its array had been: these
/// sectors are free then.
#[test]
fn a_partition_over_a_damaged_copy_can_go() {
    let master = TestDisk::sfdisk(64 * MIB, "label: gpt\n1: size=4MiB\n2: size=4MiB\n");
    let table = master.table().unwrap();
    let place = table.partition(2).unwrap().start / 512;
    // The header in LBA 1 names an array inside partition 2, which does not match.
    let mut header = master.read(512..1024);
    header[72..80].copy_from_slice(&place.to_le_bytes());
    header[16..20].fill(0);
    let crc = crc32fast::hash(&header[..92]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    master.write(512, &header);
    let table = travelled(&master.table().unwrap());
    assert_eq!(numbers(&table), [1, 2]);
    assert!(table.warnings.iter().any(|text| text.contains("backup")));
    let left = travelled(&table.keep(&set(&[1])).unwrap());
    assert_eq!(numbers(&left), [1]);
    assert!(diskmap::plan_commit(&left, 64 * MIB, 512, None).is_ok());
}

#[test]
fn a_hybrid_mbr_mirrors_only_what_is_kept() {
    let master = gpt();
    master.run_sgdisk(&["-h", "1:7"]);
    let before = master.read(446..510);
    let slots = |disk: &TestDisk| -> Vec<Vec<u8>> {
        let entries = disk.read(446..510);
        entries.chunks(16).map(<[u8]>::to_vec).collect()
    };
    let done = deploy_kept(&master, &[1, 3], 64 * MIB, None);
    done.target.sgdisk_verify();
    let (old, new) = (slots(&master), slots(&done.target));
    let mirror = |slot: &[u8]| u32::from_le_bytes(slot[8..12].try_into().unwrap());
    let start = |number| (master.table().unwrap().partition(number).unwrap().start / 512) as u32;
    for (old, new) in old.iter().zip(&new) {
        if mirror(old) == start(7) {
            assert_eq!(*new, [0; 16]);
        } else {
            assert_eq!(new, old);
        }
    }
    assert!(new.iter().any(|slot| mirror(slot) == start(1)));
    // Partitions without a mirror change nothing there.
    let done = deploy_kept(&master, &[1, 7, 128], 64 * MIB, None);
    assert_eq!(done.target.read(446..510), before);
    // Without any mirror it is a protective MBR, which covers the disk.
    for size in [64 * MIB, 96 * MIB] {
        let done = deploy_kept(&master, &[3, 128], size, Some(Grow::Last));
        done.target.sgdisk_verify();
        done.target.sfdisk_verify();
        let used: Vec<_> = slots(&done.target)
            .into_iter()
            .filter(|slot| slot[12..] != [0; 4])
            .collect();
        assert_eq!(used.len(), 1);
        assert_eq!(used[0][4], 0xee);
        let sectors = u32::from_le_bytes(used[0][12..].try_into().unwrap());
        assert_eq!(u64::from(sectors), size / 512 - 1);
    }
}

/// A disk with primary partitions 1 and 4, and an extended partition 2 with 5, 6 and 7.
fn mbr() -> TestDisk {
    TestDisk::sfdisk(
        64 * MIB,
        "label: dos\nlabel-id: 0xcafef00d\n\
         1: start=2048, size=8192, type=7, bootable\n\
         2: start=10240, size=61440, type=f\n\
         4: start=71680, size=10240, type=83\n\
         5: start=12288, size=8192, type=83\n\
         6: start=22528, size=8192, type=82\n\
         7: start=32768, size=8192, type=83\n",
    )
}

#[test]
fn mbr_as_sfdisk_leaves_it() {
    let master = mbr();
    let table = travelled(&master.table().unwrap());
    for (kept, expected, deleted) in [
        (&[1u32][..], &[1u32][..], &["4", "2"][..]),
        (&[1, 4], &[1, 4], &["2"]),
        (&[4], &[4], &["2", "1"]),
        // Each logical partition includes the others and the container; the container includes all
        // of them.
        (&[2], &[2, 5, 6, 7], &["4", "1"]),
        (&[5, 6, 7], &[2, 5, 6, 7], &["4", "1"]),
        (&[1, 2, 6], &[1, 2, 5, 6, 7], &["4"]),
    ] {
        let left = table.keep(&set(kept)).unwrap();
        assert_eq!(numbers(&left), expected);
        assert_eq!(left.disk_signature, Some(0xcafe_f00d));
        let twin = copy(&master);
        twin.sfdisk_delete(deleted);
        holds(&twin, &left);
        let records = left.regions.iter().filter(|r| r.role == Role::Ebr).count();
        assert_eq!(records, if expected.contains(&2) { 3 } else { 0 });

        let done = deploy_kept(&master, kept, master.size, None);
        assert_eq!(done.target.dump(), twin.dump());
        done.target.sfdisk_verify();
    }
}

#[test]
fn boot_records_that_are_left_out_are_blanked_and_not_written() {
    let master = mbr();
    let table = master.table().unwrap();
    let left = table.keep(&set(&[1, 4])).unwrap();
    let plan = diskmap::plan_commit(&left, 64 * MIB, 512, None).unwrap();
    let records: Vec<_> = table
        .regions
        .iter()
        .filter(|region| region.role == Role::Ebr)
        .collect();
    assert_eq!(records.len(), 3);
    for record in records {
        let range = record.range();
        assert!(
            plan.wipe
                .iter()
                .any(|wiped| wiped.start <= range.start && range.end <= wiped.end)
        );
        let mut writes = plan.stages.iter().flatten();
        assert!(writes.all(|(offset, _)| *offset != range.start));
        assert!(!left.table_extents().intersects(range));
    }
    // A second choice still remembers them.
    let less = left.keep(&set(&[1])).unwrap();
    let again = diskmap::plan_commit(&less, 64 * MIB, 512, None).unwrap();
    assert_eq!(again.wipe, plan.wipe);
}

#[test]
fn an_mbr_without_its_last_partitions_fits_a_smaller_disk_and_grows_there() {
    let master = mbr();
    let before = master.table().unwrap();
    let done = deploy_kept(&master, &[1], 5 * MIB, None);
    done.target.sfdisk_verify();
    assert_eq!(numbers(&done.target.table().unwrap()), [1]);
    let done = deploy_kept(&master, &[1], 64 * MIB, Some(Grow::Last));
    done.target.sfdisk_verify();
    assert_eq!(
        done.target.table().unwrap().partition(1).unwrap().end(),
        64 * MIB
    );
    // Between kept partitions: growth up to the neighbour, across the missing container.
    let done = deploy_kept(&master, &[1, 4], 64 * MIB, Some(Grow::Number(1)));
    done.target.sfdisk_verify();
    let after = done.target.table().unwrap();
    assert_eq!(after.partition(1).unwrap().end(), 35 * MIB);
    assert_eq!(after.partition(4), before.partition(4));
    // The last logical partition grows, with its container, into the space of partition 4.
    let done = deploy_kept(&master, &[1, 2], 64 * MIB, Some(Grow::Last));
    done.target.sfdisk_verify();
    let after = done.target.table().unwrap();
    assert_eq!(after.partition(7).unwrap().end(), 64 * MIB);
    assert_eq!(after.partition(2).unwrap().end(), 64 * MIB);
}

#[test]
fn every_refusal_says_what_to_do() {
    let table = mbr().table().unwrap();
    let said = |table: &PartitionTable, chosen: &[u32]| {
        let error = table.keep(&set(chosen)).unwrap_err();
        (error.clone(), error.to_string())
    };
    let (error, text) = said(&table, &[1, 6]);
    assert_eq!(
        error,
        KeepError::LogicalTogether {
            chosen: vec![6],
            others: vec![5, 7]
        }
    );
    assert_eq!(
        text,
        "logical partition 6 cannot be kept without 5, 7, its number would change: choose 5, 7 too, or leave out 6"
    );
    let (error, text) = said(&table, &[]);
    assert_eq!(error, KeepError::NothingChosen);
    assert_eq!(text, "no partition was chosen");
    let (error, text) = said(&table, &[1, 3, 8]);
    assert!(matches!(error, KeepError::NoSuchPartition { .. }));
    assert_eq!(
        text,
        "there is no partition 3, 8; the table has 1, 2, 4, 5, 6, 7"
    );
    let many: Vec<u32> = (100..200).collect();
    let (_, text) = said(&table, &many);
    assert!(text.contains("115, 84 more; "), "{text}");

    let empty = TestDisk::sfdisk(64 * MIB, "label: gpt\n").table().unwrap();
    let (error, _) = said(&empty, &[1]);
    assert_eq!(error, KeepError::NoTable);

    let blank = TestDisk::blank(MIB, 512).table().unwrap();
    let (error, text) = said(&blank, &[1]);
    assert_eq!(error, KeepError::NoTable);
    assert_eq!(
        text,
        "the disk has no partition table: it is deployed whole or not at all"
    );
}

#[test]
fn dynamic_disks_stay_whole() {
    let gpt = TestDisk::sfdisk(
        64 * MIB,
        "label: gpt\n1: size=4MiB, type=5808C8AA-7E8F-42E0-85D2-E1E90434CFB3\n\
         2: size=8MiB, type=AF9B60A0-1431-4F62-BC68-3311714A69AD\n3: size=4MiB\n",
    );
    let mbr = TestDisk::sfdisk(
        64 * MIB,
        "label: dos\n1: start=2048, size=8192, type=42\n2: start=10240, size=8192, type=42\n3: start=20480, size=2048, type=7\n",
    );
    for disk in [gpt, mbr] {
        let table = disk.table().unwrap();
        let error = table.keep(&set(&[1])).unwrap_err();
        assert_eq!(
            error,
            KeepError::Dynamic {
                left_out: vec![2, 3]
            }
        );
        assert!(error.to_string().ends_with("choose 2, 3 too"), "{error}");
        assert_eq!(table.keep(&set(&[1, 2, 3])).unwrap().regions, table.regions);
    }
}

/// Linux numbers the logical partitions of all extended partitions in one sequence: without the
/// first one, those of the second would get lower numbers.
#[test]
fn logical_partitions_of_a_second_container_need_those_of_the_first() {
    let mut disk = vec![0u8; 256 << 10];
    let mut put = |lba: usize, slot: usize, type_id: u8, start: u32, count: u32| {
        let at = lba * 512 + 446 + slot * 16;
        disk[at + 4] = type_id;
        disk[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
        disk[lba * 512 + 510..lba * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    };
    put(0, 0, 0x05, 10, 50);
    put(10, 0, 0x83, 1, 4);
    put(0, 1, 0x05, 100, 50);
    put(100, 0, 0x83, 1, 4);
    put(100, 1, 0x05, 10, 10);
    put(110, 0, 0x83, 1, 4);
    let size = disk.len() as u64;
    let table = diskmap::read_table(&disk, size, 512).unwrap();
    assert_eq!(numbers(&table), [1, 2, 5, 6, 7]);
    assert_eq!(
        table.keep(&set(&[2])).unwrap_err(),
        KeepError::LogicalTogether {
            chosen: vec![6, 7],
            others: vec![5]
        }
    );
    assert_eq!(numbers(&table.keep(&set(&[1])).unwrap()), [1, 5]);
}

#[test]
fn partitions_that_firmware_starts_from() {
    assert_eq!(gpt().table().unwrap().starting_partitions(), [1, 3]);
    let grub = TestDisk::sfdisk(
        64 * MIB,
        "label: gpt\n2: size=1MiB, type=21686148-6449-6E6F-744E-656564454649\n4: size=4MiB\n",
    );
    assert_eq!(grub.table().unwrap().starting_partitions(), [2]);
    assert_eq!(mbr().table().unwrap().starting_partitions(), [1]);
    let stick = TestDisk::sfdisk(
        64 * MIB,
        "label: dos\n1: start=2048, size=8192, type=83\n2: start=10240, size=8192, type=ef\n\
         3: start=20480, size=20480, type=5\n5: start=22528, size=2048, type=83, bootable\n",
    );
    assert_eq!(stick.table().unwrap().starting_partitions(), [2]);
    let left = stick.table().unwrap().keep(&set(&[1])).unwrap();
    assert_eq!(left.starting_partitions(), Vec::<u32>::new());
}
