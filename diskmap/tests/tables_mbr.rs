//! MBR disks made by sfdisk and fdisk, deployed to disks of many sizes and checked by those tools.

mod tables_support;

use diskmap::{Grow, PartitionKind, PatchError, Role, TableError, TableKind};
use tables_support::{GIB, MIB, TestDisk, deploy, travelled};

/// Offsets of the entries in their sector, and of the fields in an entry.
const ENTRY: [u64; 4] = [446, 462, 478, 494];
const TYPE: u64 = 4;
const START: u64 = 8;
const SECTORS: u64 = 12;

/// Writes one entry of LBA 0 or of an EBR.
fn entry(disk: &TestDisk, lba: u64, slot: usize, type_id: u8, start: u32, sectors: u32) {
    let mut bytes = [0; 16];
    bytes[4] = type_id;
    bytes[8..12].copy_from_slice(&start.to_le_bytes());
    bytes[12..].copy_from_slice(&sectors.to_le_bytes());
    let sector = lba * u64::from(disk.sector_size);
    disk.write(sector + ENTRY[slot], &bytes);
    disk.write(sector + 510, &[0x55, 0xaa]);
}

/// A disk that an existing crate destroyed: the container begins beyond 4 GiB, and the second
/// logical partition lies before the first. `write_into` put its EBRs at LBA mod 2^23, into another
/// partition, and returned success.
fn beyond_4_gib() -> TestDisk {
    TestDisk::sfdisk(
        12 * GIB,
        "label: dos\nlabel-id: 0xcafef00d\n\
         1: start=2048, size=4194304, type=7, bootable\n\
         2: start=10485760, size=12000000, type=f\n\
         5: start=14682112, size=2097152, type=83\n\
         6: start=10487808, size=2097152, type=82\n\
         7: start=18874368, size=204800, type=83\n",
    )
}

#[test]
fn logical_partitions_beyond_4_gib_and_out_of_order() {
    let disk = beyond_4_gib();
    disk.fill(0..446);
    disk.write(440, &0xcafe_f00du32.to_le_bytes());
    let table = disk.table().unwrap();
    assert_eq!(table.kind, TableKind::Mbr);
    assert_eq!(table.disk_signature, Some(0xcafe_f00d));
    assert_eq!(table.warnings, Vec::<String>::new());
    let seen: Vec<_> = table
        .partitions
        .iter()
        .map(|p| (p.number, p.kind, p.start / 512, p.length / 512))
        .collect();
    use PartitionKind::{Extended, Logical, Primary};
    assert_eq!(
        seen,
        [
            (1, Primary, 2048, 4_194_304),
            (2, Extended, 10_485_760, 12_000_000),
            (5, Logical, 14_682_112, 2_097_152),
            (6, Logical, 10_487_808, 2_097_152),
            (7, Logical, 18_874_368, 204_800),
        ]
    );
    assert!(table.partitions[0].bootable);
    let ebrs = table.regions.iter().filter(|r| r.role == Role::Ebr).count();
    assert!(ebrs >= 3);
}

#[test]
fn every_size_keeps_the_table_and_the_gap() {
    let master = beyond_4_gib();
    let whole = master.table().unwrap();
    // Boot code and a GRUB core image in the gap: LBA 1 to 2047.
    let signature = master.read(440..510);
    master.fill(0..440);
    master.write(440, &signature);
    master.fill(512..MIB);
    let end = (10_485_760 + 12_000_000) * 512;
    for size in [12 * GIB, 20 * GIB, end, end + 512] {
        let done = deploy(&master, size, None, std::slice::from_ref(&(0..2 * MIB)));
        assert!(done.target.read(0..2 * MIB) == master.read(0..2 * MIB));
        for region in &whole.regions[1..] {
            assert_eq!(done.target.read(region.range()), region.bytes);
        }
        assert_eq!(done.target.dump(), master.dump());
        done.target.sfdisk_verify();
        assert_eq!(done.target.table().unwrap().partitions, whole.partitions);
    }
    match diskmap::plan_commit(&travelled(&whole), end - 512, 512, None) {
        Err(PatchError::TooSmall {
            partition: 2,
            needed,
            target,
            ..
        }) => {
            assert_eq!((needed, target), (end, end - 512));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_primary_partition_grows_up_to_its_neighbour() {
    let master = TestDisk::sfdisk(
        64 * MIB,
        "label: dos\n1: start=2048, size=10000, type=7\n2: start=40960, size=8192, type=83\n",
    );
    for (grow, size, number, end) in [
        (Grow::Number(1), 64 * MIB, 1, 20 * MIB),
        (Grow::Last, 64 * MIB, 2, 64 * MIB),
        (Grow::Last, 100 * MIB + 512, 2, 100 * MIB),
        (Grow::Last, 24 * MIB, 2, 24 * MIB),
        // LBAs of 32 bits end at 2 TiB.
        (Grow::Last, 3 << 40, 2, 2 << 40),
    ] {
        let done = deploy(&master, size, Some(grow), &[]);
        done.target.sfdisk_verify();
        let table = done.target.table().unwrap();
        assert_eq!(
            table.partition(number).unwrap().end(),
            end,
            "{grow:?} {size}"
        );
        let other = 3 - number;
        assert_eq!(
            table.partition(other),
            master.table().unwrap().partition(other)
        );
    }
}

#[test]
fn a_logical_partition_grows_with_its_link_and_its_container() {
    let master = beyond_4_gib();
    // Partition 7 ends last: there is room behind it in the container, and behind the container on
    // the disk.
    let done = deploy(&master, 20 * GIB, Some(Grow::Last), &[]);
    let table = done.target.table().unwrap();
    assert_eq!(table.warnings, Vec::<String>::new());
    assert_eq!(table.partition(7).unwrap().end(), 20 * GIB);
    assert_eq!(table.partition(2).unwrap().end(), 20 * GIB);
    done.target.sfdisk_verify();
    let fixed: Vec<_> = table
        .partitions
        .iter()
        .filter(|p| ![2, 7].contains(&p.number))
        .collect();
    let before = master.table().unwrap();
    assert!(
        fixed
            .into_iter()
            .all(|p| before.partition(p.number) == Some(p))
    );

    // Partition 6 lies before 5, whose boot record is the first of the container, so 5 itself is
    // the limit.
    let done = deploy(&master, 12 * GIB, Some(Grow::Number(6)), &[]);
    let table = done.target.table().unwrap();
    done.target.sfdisk_verify();
    assert_eq!(
        table.partition(6).unwrap().end(),
        before.partition(5).unwrap().start
    );
    assert_eq!(table.partition(2), before.partition(2));
    // Partition 5 is followed by the boot record of 7.
    let done = deploy(&master, 12 * GIB, Some(Grow::Number(5)), &[]);
    let end = done.target.table().unwrap().partition(5).unwrap().end();
    let behind = before.partition(5).unwrap().end()..before.partition(7).unwrap().start;
    let record = before
        .regions
        .iter()
        .find(|region| behind.contains(&region.offset))
        .unwrap();
    assert_eq!(end, record.offset / MIB * MIB);
    done.target.sfdisk_verify();

    assert!(matches!(
        diskmap::plan_commit(&before, 20 * GIB, 512, Some(Grow::Number(2))),
        Err(PatchError::CannotGrow { number: 2, .. })
    ));
}

#[test]
fn sectors_of_4096_bytes() {
    let master = TestDisk::fdisk(
        256 * MIB,
        4096,
        "o\nn\np\n1\n256\n+20M\nn\ne\n2\n\n+100M\nn\nl\n\n+30M\nn\nl\n\n+10M\nw\n",
    );
    let table = master.table().unwrap();
    let numbers: Vec<_> = table.partitions.iter().map(|p| p.number).collect();
    assert_eq!(numbers, [1, 2, 5, 6]);
    assert_eq!(table.partitions[0].start, MIB);
    assert_eq!(table.partitions[2].length, 30 * MIB);
    assert_eq!(
        diskmap::cross_check(&table, &master.open()),
        Vec::<String>::new()
    );
    for size in [256 * MIB, 300 * MIB, 121 * MIB] {
        let done = deploy(&master, size, None, &[]);
        assert_eq!(done.target.dump(), master.dump());
        done.target.sfdisk_verify();
    }
    let done = deploy(&master, 300 * MIB, Some(Grow::Last), &[]);
    done.target.sfdisk_verify();
    assert_eq!(
        done.target.table().unwrap().partition(6).unwrap().end(),
        300 * MIB
    );
}

#[test]
fn the_other_crate_agrees_on_a_rising_chain() {
    let disk = TestDisk::sfdisk(
        512 * MIB,
        "label: dos\n1: start=2048, size=20480\n3: start=40960, size=800000, type=5\n\
         5: start=43008, size=20480\n6: start=65536, size=20480\n7: start=131072, size=20480\n",
    );
    let table = disk.table().unwrap();
    let numbers: Vec<_> = table.partitions.iter().map(|p| p.number).collect();
    assert_eq!(numbers, [1, 3, 5, 6, 7]);
    assert_eq!(
        diskmap::cross_check(&table, &disk.open()),
        Vec::<String>::new()
    );
}

/// A container of type 85 with one EBR that uses all four entries, as in OS/2, and an empty second
/// EBR: the numbers are those of the kernel.
#[test]
fn odd_chains_are_read_as_the_kernel_reads_them() {
    let disk = TestDisk::blank(64 * MIB, 512);
    entry(&disk, 0, 3, 0x85, 2048, 100_000);
    entry(&disk, 2048, 0, 0x05, 4096, 4096);
    entry(&disk, 2048, 1, 0x83, 64, 100);
    entry(&disk, 2048, 2, 0x83, 200, 100);
    entry(&disk, 2048, 3, 0x83, 90_000, 90_000); // garbage: leaves the container
    entry(&disk, 6144, 1, 0x05, 8192, 4096);
    entry(&disk, 10240, 0, 0x83, 64, 100);
    let table = disk.table().unwrap();
    let seen: Vec<_> = table
        .partitions
        .iter()
        .map(|p| (p.number, p.start / 512))
        .collect();
    assert_eq!(seen, [(4, 2048), (5, 2112), (6, 2248), (7, 10304)]);
    assert_eq!(table.regions.len(), 4);
    let done = deploy(&disk, 64 * MIB, None, &[]);
    assert_eq!(done.target.table().unwrap().partitions, table.partitions);
}

#[test]
fn an_empty_container_and_a_chain_without_an_end_mark() {
    let disk = TestDisk::blank(64 * MIB, 512);
    entry(&disk, 0, 0, 0x05, 2048, 100_000);
    let table = disk.table().unwrap();
    assert_eq!(table.partitions.len(), 1);
    assert!(
        table.warnings[0].contains("is empty"),
        "{:?}",
        table.warnings
    );
    entry(&disk, 2048, 0, 0x83, 64, 100);
    entry(&disk, 2048, 1, 0x05, 4096, 4096);
    let table = disk.table().unwrap();
    assert_eq!(table.partitions.len(), 2);
    assert!(
        table.warnings[0].contains("no 55AA"),
        "{:?}",
        table.warnings
    );
}

#[test]
fn hostile_chains_end_in_an_error() {
    let container = |sectors: u32| {
        let disk = TestDisk::blank(GIB, 512);
        entry(&disk, 0, 0, 0x05, 2048, sectors);
        disk
    };
    // A chain back to the start, and a longer cycle.
    let disk = container(1_000_000);
    entry(&disk, 2048, 1, 0x05, 0, 4096);
    assert!(matches!(
        disk.table(),
        Err(TableError::EbrCycle {
            lba: 2048,
            links: 1
        })
    ));
    entry(&disk, 2048, 1, 0x05, 100, 4096);
    entry(&disk, 2148, 1, 0x05, 200, 4096);
    entry(&disk, 2248, 1, 0x05, 100, 4096);
    assert!(matches!(
        disk.table(),
        Err(TableError::EbrCycle {
            lba: 2148,
            links: 3
        })
    ));
    // A link out of the container, far enough to overflow 32 bits.
    entry(&disk, 2248, 1, 0x05, 1_000_000, 4096);
    assert!(matches!(
        disk.table(),
        Err(TableError::EbrOutside { lba: 1_002_048, .. })
    ));
    entry(&disk, 2248, 1, 0x05, u32::MAX, u32::MAX);
    assert!(matches!(
        disk.table(),
        Err(TableError::EbrOutside {
            lba: 4_294_969_343,
            ..
        })
    ));
    // A chain longer than any system reads.
    let disk = container(1_000_000);
    for link in 0..300u32 {
        entry(&disk, u64::from(2048 + link), 1, 0x05, link + 1, 1);
    }
    assert!(matches!(
        disk.table(),
        Err(TableError::EbrTooMany { limit: 256 })
    ));
    // A partition over a boot record, over another partition, over LBA 0, beyond the disk.
    let disk = container(1_000_000);
    entry(&disk, 2048, 0, 0x83, 0, 100);
    assert!(matches!(
        disk.table(),
        Err(TableError::CoversTable {
            number: 5,
            lba: 2048
        })
    ));
    entry(&disk, 2048, 0, 0x83, 100, 100);
    entry(&disk, 0, 1, 0x83, 2000, 100);
    assert!(matches!(
        disk.table(),
        Err(TableError::Overlap {
            first: 2,
            second: 1,
            lba: 2048
        })
    ));
    entry(&disk, 0, 1, 0x83, 0, 100);
    assert!(matches!(
        disk.table(),
        Err(TableError::CoversTable { number: 2, lba: 0 })
    ));
    entry(&disk, 0, 1, 0x83, 2_000_000, 97_153);
    assert!(matches!(
        disk.table(),
        Err(TableError::PastEnd { number: 2, .. })
    ));
}

#[test]
fn file_systems_on_the_whole_disk_are_no_table() {
    for arguments in [
        &["-F", "12"][..],
        &["-F", "16"],
        &["-F", "32"],
        &["-F", "32", "--mbr=y"],
    ] {
        let disk = TestDisk::blank(64 * MIB, 512);
        disk.mkfs_fat(arguments);
        let table = disk.table().unwrap();
        assert_eq!(table.kind, TableKind::None, "{arguments:?}");
        assert_eq!(table.regions.len(), 1);
        assert!(table.warnings[0].contains("fat"), "{:?}", table.warnings);
        // LBA 0 still identifies the content of the disk and is still written last.
        let plan = diskmap::plan_commit(&travelled(&table), 80 * MIB, 512, None).unwrap();
        assert_eq!(plan.stages, [vec![], vec![], vec![(0, disk.read(0..512))]]);
        assert!(matches!(
            diskmap::plan_commit(&table, 64 * MIB - 512, 512, None),
            Err(PatchError::DiskTooSmall { .. })
        ));
        assert!(matches!(
            diskmap::plan_commit(&table, 80 * MIB, 512, Some(Grow::Last)),
            Err(PatchError::NothingToGrow)
        ));
    }
    // The parameters determine the kind, whatever the text beside them.
    for text in [&b"        "[..], b"fat32   ", b"MSWIN4.1", &[0; 8]] {
        let disk = TestDisk::blank(64 * MIB, 512);
        disk.mkfs_fat(&["-F", "32"]);
        disk.write(82, text);
        let table = disk.table().unwrap();
        assert_eq!(table.kind, TableKind::None);
        assert!(table.warnings[0].contains("fat32"), "{:?}", table.warnings);
    }
    // Windows has text at the place of the entries.
    let disk = TestDisk::blank(64 * MIB, 512);
    disk.write(3, b"NTFS    ");
    disk.write(446, b"A disk read error occurred");
    disk.write(510, &[0x55, 0xaa]);
    assert_eq!(disk.table().unwrap().kind, TableKind::None);
    // GRUB keeps the fields of the old boot sector, so the entries decide.
    disk.write(446, &[0; 64]);
    entry(&disk, 0, 0, 0x83, 2048, 2048);
    assert_eq!(disk.table().unwrap().kind, TableKind::Mbr);
    // A blank disk has no table either.
    let table = TestDisk::blank(64 * MIB, 512).table().unwrap();
    assert_eq!((table.kind, table.warnings.len()), (TableKind::None, 0));
}

#[test]
fn an_image_without_one_of_its_table_sectors_is_refused() {
    let table = beyond_4_gib().table().unwrap();
    let pieces = |skip: usize| {
        let kept = table
            .regions
            .iter()
            .enumerate()
            .filter(move |(at, _)| *at != skip);
        kept.map(|(_, region)| (region.offset, region.bytes.as_slice()))
    };
    let without = diskmap::table_from_regions(pieces(0), table.disk_size, 512);
    assert!(
        matches!(without, Err(TableError::MissingRegion { offset: 0, .. })),
        "{without:?}"
    );
    let outside = [(table.disk_size - 511, &[0u8; 512][..])];
    assert!(matches!(
        diskmap::table_from_regions(outside, table.disk_size, 512),
        Err(TableError::BadRegion { .. })
    ));
    let twice = [(0, &[0u8; 512][..]), (511, &[0u8; 512][..])];
    assert!(matches!(
        diskmap::table_from_regions(twice, table.disk_size, 512),
        Err(TableError::BadRegion { .. })
    ));
}

#[test]
fn a_windows_dynamic_disk_keeps_its_size() {
    let disk = TestDisk::sfdisk(64 * MIB, "label: dos\n1: start=63, size=100000, type=42\n");
    let table = disk.table().unwrap();
    assert!(matches!(
        diskmap::plan_commit(&table, 63 * MIB, 512, None),
        Err(PatchError::DiskTooSmall { .. })
    ));
    assert!(matches!(
        diskmap::plan_commit(&table, 80 * MIB, 512, Some(Grow::Last)),
        Err(PatchError::CannotGrow { number: 1, .. })
    ));
    let plan = diskmap::plan_commit(&table, 80 * MIB, 512, None).unwrap();
    assert!(plan.notes[0].contains("dynamic disk"));
}

#[test]
fn entry_fields_are_where_the_tests_think_they_are() {
    let disk = TestDisk::sfdisk(64 * MIB, "label: dos\n2: start=4096, size=8192, type=c\n");
    let at = ENTRY[1];
    assert_eq!(disk.read(at + TYPE..at + TYPE + 1), [0x0c]);
    assert_eq!(disk.read(at + START..at + START + 4), 4096u32.to_le_bytes());
    assert_eq!(
        disk.read(at + SECTORS..at + SECTORS + 4),
        8192u32.to_le_bytes()
    );
}
