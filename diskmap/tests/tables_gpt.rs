//! GPT disks made by sgdisk and sfdisk, deployed to disks of many sizes and checked by those tools.

#![allow(clippy::cast_possible_truncation, reason = "sizes of test disks")]

mod tables_support;

use diskmap::{Grow, PatchError, Role, TableError, TableKind};
use tables_support::{GIB, MIB, TestDisk, deploy, travelled};

/// A disk with partitions 1, 2, 4 and 7, as left by years of deletions and additions. A crate that
/// packed the entries turned /dev/sda7 into /dev/sda4, and the clones did not boot.
fn sparse_numbers() -> TestDisk {
    TestDisk::sgdisk(
        64 * MIB,
        &[
            "-n1:2048:+4M",
            "-t1:ef00",
            "-c1:EFI system",
            "-n2:0:+4M",
            "-A2:set:2",
            "-n4:0:+8M",
            "-c4:Größe 数据",
            "-A4:set:63",
            "-n7:0:+8M",
            "-t7:8200",
        ],
    )
}

#[test]
fn sparse_numbers_names_and_attributes_are_read() {
    let disk = sparse_numbers();
    let table = disk.table().unwrap();
    assert_eq!(table.kind, TableKind::Gpt);
    assert_eq!(table.warnings, Vec::<String>::new());
    let numbers: Vec<_> = table.partitions.iter().map(|p| p.number).collect();
    assert_eq!(numbers, [1, 2, 4, 7]);
    let first = table.partition(1).unwrap();
    assert_eq!((first.start, first.length), (MIB, 4 * MIB));
    assert_eq!(
        first.type_id.to_string(),
        "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
    );
    assert_eq!(first.name.as_deref(), Some("EFI system"));
    assert!(table.partition(2).unwrap().bootable);
    let fourth = table.partition(4).unwrap();
    assert_eq!(fourth.name.as_deref(), Some("Größe 数据"));
    assert_eq!(fourth.attributes, 1 << 63);
    let roles: Vec<_> = table
        .regions
        .iter()
        .map(|region| (region.role, region.offset, region.bytes.len()))
        .collect();
    assert_eq!(
        roles,
        [
            (Role::Lba0, 0, 512),
            (Role::GptPrimaryHeader, 512, 512),
            (Role::GptPrimaryArray, 1024, 16384),
            (Role::GptBackupArray, 64 * MIB - 33 * 512, 16384),
            (Role::GptBackupHeader, 64 * MIB - 512, 512),
        ]
    );
    assert_eq!(
        diskmap::cross_check(&table, &disk.open()),
        Vec::<String>::new()
    );
}

#[test]
fn same_size_is_the_master_byte_for_byte() {
    let master = sparse_numbers();
    master.fill(17408..MIB);
    master.fill(5 * MIB..6 * MIB);
    let whole = 0..master.size;
    let done = deploy(&master, master.size, None, std::slice::from_ref(&whole));
    assert_eq!(done.plan.notes, Vec::<String>::new());
    assert!(master.read(whole.clone()) == done.target.read(whole));
    done.target.sgdisk_verify();
    done.target.sfdisk_verify();
}

#[test]
fn other_sizes_move_only_what_depends_on_the_size() {
    let master = sparse_numbers();
    let used = 25 * MIB + 33 * 512;
    for size in [
        used,
        32 * MIB,
        64 * MIB - 512,
        64 * MIB + 512,
        100 * MIB + 512,
        3 * GIB,
    ] {
        let done = deploy(&master, size, None, &[]);
        done.target.sgdisk_verify();
        done.target.sfdisk_verify();
        assert_eq!(done.target.dump(), master.dump(), "size {size}");
        let (before, after) = (master.table().unwrap(), done.target.table().unwrap());
        assert_eq!(after.partitions, before.partitions);
        assert_eq!(after.warnings, Vec::<String>::new());
        assert_eq!(after.disk_guid, before.disk_guid);
        if size > 64 * MIB + MIB {
            let old = done.target.read(64 * MIB - 33 * 512..64 * MIB);
            assert!(old.iter().all(|byte| *byte == 0), "old backup survives");
        }
        // The array is the same byte for byte; the protective entry has the new size.
        assert_eq!(done.target.read(1024..17408), master.read(1024..17408));
        let protective = u32::from_le_bytes(done.target.read(458..462).try_into().unwrap());
        assert_eq!(u64::from(protective), size / 512 - 1);
    }
}

#[test]
fn one_sector_too_small_is_refused_with_the_numbers() {
    let master = sparse_numbers();
    let table = travelled(&master.table().unwrap());
    let needed_bytes = 25 * MIB + 33 * 512;
    match diskmap::plan_commit(&table, needed_bytes - 512, 512, None) {
        Err(PatchError::TooSmall {
            partition,
            end,
            needed,
            target,
        }) => {
            assert_eq!((partition, end), (7, 25 * MIB));
            assert_eq!((needed, target), (needed_bytes, needed_bytes - 512));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        diskmap::plan_commit(&table, 64 * MIB, 4096, None),
        Err(PatchError::SectorSize {
            image: 512,
            target: 4096
        })
    ));
}

#[test]
fn a_table_without_entries_is_no_table_and_comes_back_as_it_was() {
    for empty in [
        TestDisk::sgdisk(64 * MIB, &["-o"]),
        TestDisk::sfdisk(64 * MIB, "label: dos\n"),
    ] {
        let table = empty.table().unwrap();
        assert_eq!(table.kind, TableKind::None);
        assert!(table.warnings[0].contains("empty"), "{:?}", table.warnings);
        let table = travelled(&table);
        assert!(matches!(
            diskmap::plan_commit(&table, 20 * MIB, 512, None),
            Err(PatchError::DiskTooSmall { .. })
        ));
        let rest = 34 * 512..64 * MIB - 33 * 512;
        let done = deploy(&empty, 64 * MIB, None, std::slice::from_ref(&rest));
        assert_eq!(done.target.read(0..17408), empty.read(0..17408));
    }
}

#[test]
fn a_protective_entry_counts_whatever_its_size() {
    let disk = sparse_numbers();
    let whole = disk.table().unwrap();
    disk.write(458, &[0; 4]);
    let table = disk.table().unwrap();
    assert_eq!(table.kind, TableKind::Gpt);
    assert_eq!(table.partitions, whole.partitions);
    travelled(&table);
    // Firmware and kernel ignore the boot flags of the other entries too.
    disk.write(446 + 16, &[0x17]);
    assert_eq!(disk.table().unwrap().kind, TableKind::Gpt);
}

#[test]
fn sectors_of_4096_bytes() {
    let master = TestDisk::fdisk(256 * MIB, 4096, "g\nn\n1\n256\n+20M\nn\n2\n\n+40M\nw\n");
    let table = master.table().unwrap();
    assert_eq!(table.partitions[0].start, MIB);
    assert_eq!(table.partitions[1].length, 40 * MIB);
    assert_eq!(
        diskmap::cross_check(&table, &master.open()),
        Vec::<String>::new()
    );
    for (size, grow) in [
        (256 * MIB, None),
        (300 * MIB, None),
        (62 * MIB, None),
        (300 * MIB, Some(Grow::Last)),
    ] {
        let done = deploy(&master, size, grow, &[]);
        done.target.sfdisk_verify();
        if grow.is_none() {
            assert_eq!(done.target.dump(), master.dump());
        } else {
            assert_eq!(done.target.table().unwrap().partitions[1].end(), 299 * MIB);
        }
    }
}

#[test]
fn tables_of_56_and_256_entries() {
    for (length, used) in [("56", 50u32), ("256", 200)] {
        let master = TestDisk::sfdisk(
            64 * MIB,
            &format!(
                "label: gpt\ntable-length: {length}\n1: start=2MiB, size=3MiB\n{used}: start=8MiB, size=2MiB\n"
            ),
        );
        let table = master.table().unwrap();
        let numbers: Vec<_> = table.partitions.iter().map(|p| p.number).collect();
        assert_eq!(numbers, [1, used]);
        assert_eq!(
            diskmap::cross_check(&table, &master.open()),
            Vec::<String>::new()
        );
        for size in [64 * MIB, 80 * MIB, 12 * MIB] {
            let done = deploy(&master, size, None, &[]);
            done.target.sgdisk_verify();
            done.target.sfdisk_verify();
            assert_eq!(done.target.dump(), master.dump());
        }
        let done = deploy(&master, 80 * MIB, Some(Grow::Number(used)), &[]);
        done.target.sgdisk_verify();
        assert_eq!(
            done.target.table().unwrap().partition(used).unwrap().end(),
            79 * MIB
        );
    }
    // sgdisk creates the larger table itself; more than 128 entries are in use.
    let master = TestDisk::sgdisk(64 * MIB, &["-S", "256", "-n1:0:+1M", "-n129:0:+1M"]);
    assert_eq!(master.table().unwrap().partitions[1].number, 129);
    deploy(&master, 70 * MIB, None, &[]).target.sgdisk_verify();
}

/// Rewrites both copies with entries of 256 bytes, of which tools know only the first half, and
/// with header bytes behind those that UEFI defines.
fn widen(disk: &TestDisk) {
    let (last, sector) = (disk.size / 512 - 1, 512usize);
    let old = disk.read(1024..17408);
    let mut wide = vec![0u8; 32768];
    for (entry, place) in old.chunks(128).zip(wide.chunks_mut(256)) {
        place[..128].copy_from_slice(entry);
        if entry.iter().any(|byte| *byte != 0) {
            place[128..].fill(0xa5);
        }
    }
    let crc = crc32fast::hash(&wide);
    for (lba, alternate, array) in [(1, last, 2), (last, 1, last - 64)] {
        disk.write(array * 512, &wide);
        let mut header = disk.read(lba * 512..lba * 512 + 512);
        header[12..16].copy_from_slice(&120u32.to_le_bytes());
        header[24..32].copy_from_slice(&lba.to_le_bytes());
        header[32..40].copy_from_slice(&alternate.to_le_bytes());
        header[40..48].copy_from_slice(&66u64.to_le_bytes());
        header[48..56].copy_from_slice(&(last - 65).to_le_bytes());
        header[72..80].copy_from_slice(&array.to_le_bytes());
        header[84..88].copy_from_slice(&256u32.to_le_bytes());
        header[88..92].copy_from_slice(&crc.to_le_bytes());
        header[92..sector].fill(0x5a);
        header[16..20].fill(0);
        let crc = crc32fast::hash(&header[..120]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        disk.write(lba * 512, &header);
    }
}

#[test]
fn entries_of_256_bytes_and_reserved_bytes_survive() {
    let master = sparse_numbers();
    widen(&master);
    let table = master.table().unwrap();
    assert_eq!(table.warnings, Vec::<String>::new());
    assert_eq!(table.partitions, sparse_numbers_with_guids_of(&master));
    for size in [64 * MIB, 90 * MIB, 30 * MIB] {
        let done = deploy(&master, size, None, &[]);
        assert_eq!(done.target.read(1024..33792), master.read(1024..33792));
        assert!(
            done.target
                .read(512 + 92..1024)
                .iter()
                .all(|byte| *byte == 0x5a)
        );
        assert!(
            done.target
                .read(size - 420..size)
                .iter()
                .all(|byte| *byte == 0x5a)
        );
    }
    let done = deploy(&master, 90 * MIB, Some(Grow::Last), &[]);
    let (entry, padding) = (1024 + 6 * 256, 1024 + 6 * 256 + 128);
    assert_eq!(done.target.read(padding..padding + 128), [0xa5; 128]);
    assert_ne!(
        done.target.read(entry..padding),
        master.read(entry..padding)
    );
}

/// The partitions of `disk` with the positions from `sparse_numbers`.
fn sparse_numbers_with_guids_of(disk: &TestDisk) -> Vec<diskmap::Partition> {
    let found = disk.table().unwrap().partitions;
    let expected = sparse_numbers().table().unwrap().partitions;
    expected
        .into_iter()
        .zip(found)
        .map(|(partition, found)| diskmap::Partition {
            unique: found.unique,
            ..partition
        })
        .collect()
}

#[test]
fn a_damaged_primary_gives_way_to_the_backup_and_is_rebuilt() {
    for (what, at) in [
        ("header", 512 + 60),
        ("array", 1024 + 40),
        ("signature", 512),
    ] {
        let whole = sparse_numbers();
        let expected = whole.table().unwrap().partitions;
        whole.flip(at);
        let table = whole.table().unwrap();
        assert_eq!(table.partitions, expected, "{what}");
        assert!(
            table.warnings[0].contains("primary GPT is damaged"),
            "{:?}",
            table.warnings
        );
        // The sectors of both copies are kept.
        assert_eq!(table.regions.len(), 5);
        assert_eq!(table.regions[1].bytes, whole.read(512..1024));
        for size in [64 * MIB, 80 * MIB, 32 * MIB] {
            let done = deploy(&whole, size, None, &[]);
            assert!(done.plan.notes[0].contains("primary GPT was damaged"));
            done.target.sgdisk_verify();
            done.target.sfdisk_verify();
        }
    }
}

#[test]
fn a_damaged_or_missing_backup_is_rebuilt() {
    for at in [64 * MIB - 512 + 60, 64 * MIB - 33 * 512 + 40] {
        let disk = sparse_numbers();
        let dump = disk.dump();
        disk.flip(at);
        let table = disk.table().unwrap();
        assert!(
            table.warnings[0].contains("backup GPT is damaged"),
            "{:?}",
            table.warnings
        );
        for size in [64 * MIB, 80 * MIB, 32 * MIB] {
            let done = deploy(&disk, size, None, &[]);
            done.target.sgdisk_verify();
            assert_eq!(done.target.dump(), dump);
        }
    }
    // The image of a larger disk on a smaller one has no backup at all.
    let mut cut = sparse_numbers();
    cut.resize(40 * MIB);
    let table = cut.table().unwrap();
    assert!(
        table
            .warnings
            .iter()
            .any(|warning| warning.contains("larger disk"))
    );
    for size in [40 * MIB, 64 * MIB] {
        deploy(&cut, size, None, &[]).target.sgdisk_verify();
    }
}

#[test]
fn a_stale_backup_is_not_trusted() {
    let disk = sparse_numbers();
    let old = disk.read(64 * MIB - 33 * 512..64 * MIB);
    disk.run_sgdisk(&["-d7"]);
    disk.write(64 * MIB - 33 * 512, &old);
    let table = disk.table().unwrap();
    assert_eq!(table.partitions.len(), 3);
    assert!(
        table.warnings[0].contains("differs"),
        "{:?}",
        table.warnings
    );
    deploy(&disk, 64 * MIB, None, &[]).target.sgdisk_verify();
}

#[test]
fn both_copies_damaged_is_an_error_only_behind_a_protective_mbr() {
    let disk = sparse_numbers();
    disk.flip(512 + 60);
    disk.flip(64 * MIB - 512 + 60);
    let error = disk.table().unwrap_err();
    assert!(matches!(error, TableError::GptDamaged { .. }), "{error}");
    assert!(
        error.to_string().contains("header checksum at LBA 1 is"),
        "{error}"
    );
    disk.write(0, &[0; 512]);
    let table = disk.table().unwrap();
    assert_eq!(table.kind, TableKind::None);
    assert!(
        table.warnings[0].contains("no protective MBR"),
        "{:?}",
        table.warnings
    );
}

#[test]
fn an_image_of_a_smaller_disk_on_a_larger_one() {
    let mut disk = sparse_numbers();
    disk.resize(96 * MIB);
    let table = disk.table().unwrap();
    assert!(
        table.warnings[0].contains("smaller disk"),
        "{:?}",
        table.warnings
    );
    // On the same size nothing changes. On a larger disk the backup moves to the end and its old
    // place is blank.
    let done = deploy(&disk, 96 * MIB, None, &[]);
    assert_eq!(done.target.read(0..17408), disk.read(0..17408));
    let done = deploy(&disk, 128 * MIB, None, &[]);
    done.target.sgdisk_verify();
    assert!(
        done.target
            .read(64 * MIB - 33 * 512..64 * MIB)
            .iter()
            .all(|byte| *byte == 0)
    );

    // An old header at the end of the larger disk stays invisible until the commit.
    let stale = TestDisk::sgdisk(96 * MIB, &["-n1:0:+1M"]);
    disk.write(96 * MIB - 512, &stale.read(96 * MIB - 512..96 * MIB));
    let table = disk.table().unwrap();
    assert_eq!(table.regions.last().unwrap().role, Role::Other);
    let done = deploy(&disk, 96 * MIB, None, &[]);
    assert_eq!(
        done.target.read(96 * MIB - 512..96 * MIB),
        disk.read(96 * MIB - 512..96 * MIB)
    );
    let done = deploy(&disk, 128 * MIB, None, &[]);
    assert!(
        done.target
            .read(96 * MIB - 512..96 * MIB)
            .iter()
            .all(|byte| *byte == 0)
    );
    done.target.sgdisk_verify();
}

#[test]
fn growing_takes_free_space_only_and_ends_on_a_mebibyte() {
    let master = TestDisk::sgdisk(
        64 * MIB,
        &[
            "-n3:2048:+4M",
            "-n1:20480:+3000K",
            "-n2:40960:+4M",
            "-c2:data",
        ],
    );
    let cases = [
        (Grow::Last, 100 * MIB + 5120, 2, 99 * MIB),
        (Grow::Number(3), 64 * MIB, 3, 10 * MIB),
        (Grow::Number(1), 64 * MIB, 1, 20 * MIB),
        (Grow::Number(2), 64 * MIB, 2, 63 * MIB),
        (Grow::Last, 30 * MIB, 2, 29 * MIB),
    ];
    for (grow, size, number, end) in cases {
        let done = deploy(&master, size, Some(grow), &[]);
        done.target.sgdisk_verify();
        done.target.sfdisk_verify();
        let (before, after) = (master.table().unwrap(), done.target.table().unwrap());
        for (old, new) in before.partitions.iter().zip(&after.partitions) {
            let mut expected = old.clone();
            if old.number == number {
                expected.length = end - old.start;
            }
            assert_eq!(*new, expected, "{grow:?} {size}");
        }
        assert!(
            done.plan
                .notes
                .iter()
                .any(|note| note.contains("grows from"))
        );
    }
    // Missing room is no error, and the bytes stay the master's.
    let full = TestDisk::sgdisk(64 * MIB, &["-n1:2048:129023"]);
    let done = deploy(&full, 64 * MIB, Some(Grow::Last), &[]);
    assert!(done.plan.notes[0].contains("no free space"));
    assert_eq!(done.target.read(0..17408), full.read(0..17408));
    let table = master.table().unwrap();
    assert!(matches!(
        diskmap::plan_commit(&table, 64 * MIB, 512, Some(Grow::Number(9))),
        Err(PatchError::NoSuchPartition { number: 9 })
    ));
}

#[test]
fn a_hybrid_mbr_is_kept_and_does_not_grow() {
    let master = sparse_numbers();
    master.run_sgdisk(&["-h", "1:2"]);
    let table = master.table().unwrap();
    assert!(
        table
            .warnings
            .iter()
            .any(|warning| warning.contains("hybrid"))
    );
    for size in [64 * MIB, 96 * MIB, 32 * MIB] {
        let done = deploy(&master, size, None, &[]);
        done.target.sgdisk_verify();
        assert_eq!(
            done.target.read(0..512),
            master.read(0..512),
            "entries that do not reach the end"
        );
    }
    assert!(matches!(
        diskmap::plan_commit(&table, 96 * MIB, 512, Some(Grow::Last)),
        Err(PatchError::CannotGrow { number: 7, .. })
    ));
}

#[test]
fn the_protective_entry_is_capped_beyond_two_tebibytes() {
    let master = sparse_numbers();
    let done = deploy(&master, 3 << 40, None, &[]);
    assert_eq!(done.target.read(458..462), [0xff; 4]);
    done.target.sgdisk_verify();
    // An entry of 0xFFFFFFFF keeps it, because Windows writes it on every disk.
    master.write(458, &[0xff; 4]);
    let done = deploy(&master, 96 * MIB, None, &[]);
    assert_eq!(done.target.read(458..462), [0xff; 4]);
    done.target.sgdisk_verify();
}

#[test]
fn impossible_partitions_are_errors_and_never_clamped() {
    let edit = |number: u64, field: u64, lba: u64| {
        let disk = sparse_numbers();
        let mut array = disk.read(1024..17408);
        let at = ((number - 1) * 128 + field) as usize;
        array[at..at + 8].copy_from_slice(&lba.to_le_bytes());
        let mut header = disk.read(512..1024);
        header[88..92].copy_from_slice(&crc32fast::hash(&array).to_le_bytes());
        header[16..20].fill(0);
        let crc = crc32fast::hash(&header[..92]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        disk.write(512, &header);
        disk.write(1024, &array);
        disk.table().unwrap_err()
    };
    assert!(matches!(
        edit(7, 40, 131_072),
        TableError::PastEnd {
            number: 7,
            last: 131_072,
            disk_last: 131_071
        }
    ));
    assert!(matches!(
        edit(7, 40, u64::MAX),
        TableError::PastEnd { number: 7, .. }
    ));
    assert!(matches!(
        edit(1, 40, 2047),
        TableError::Backwards { number: 1, .. }
    ));
    assert!(matches!(
        edit(1, 40, 10240),
        TableError::Overlap {
            first: 1,
            second: 2,
            lba: 10240
        }
    ));
    assert!(matches!(
        edit(1, 32, 33),
        TableError::CoversTable { number: 1, lba: 33 }
    ));
}
