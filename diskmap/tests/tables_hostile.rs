//! Arbitrary bytes in place of a table cause no panic, no endless loop and no allocation by a
//! declared size; and every table that parses keeps the promises of the model and of a plan.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    reason = "a test binary; sizes of test disks"
)]

use std::collections::BTreeSet;

use diskmap::{ExtentSet, Grow, KeepError, PartitionTable, PatchError, TableKind};
use proptest::prelude::*;

/// Size of the disks, 256 KiB: so small that random LBAs often collide.
const SIZE: usize = 256 << 10;

/// A disk with a GPT of a few partitions in both copies, with right checksums.
fn gpt_disk(sector: usize) -> Vec<u8> {
    let mut disk = vec![0u8; SIZE];
    let sectors = (SIZE / sector) as u64;
    disk[446 + 4] = 0xee;
    disk[446 + 8] = 1;
    disk[446 + 12..446 + 16].copy_from_slice(&(sectors as u32 - 1).to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let array_sectors = (4096usize.div_ceil(sector)) as u64;
    for (lba, other, array) in [
        (1, sectors - 1, 2),
        (sectors - 1, 1, sectors - 1 - array_sectors),
    ] {
        let (at, list) = (lba as usize * sector, array as usize * sector);
        for (index, first, last) in [(0usize, 12u64, 15u64), (2, 16, 20), (5, 24, 30)] {
            let entry = &mut disk[list + index * 128..][..128];
            entry[0] = 1 + index as u8;
            entry[16] = 1;
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
            entry[56] = b'a';
        }
        let header = &mut disk[at..at + 92];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&[0, 0, 1, 0]);
        header[12..16].copy_from_slice(&92u32.to_le_bytes());
        for (field, value) in [
            (24, lba),
            (32, other),
            (40, 2 + array_sectors),
            (48, sectors - 2 - array_sectors),
            (72, array),
        ] {
            header[field..field + 8].copy_from_slice(&value.to_le_bytes());
        }
        header[80..84].copy_from_slice(&32u32.to_le_bytes());
        header[84..88].copy_from_slice(&128u32.to_le_bytes());
    }
    seal(&mut disk, sector);
    disk
}

/// Sets the checksums of the headers at both ends, so that hostile fields are not refused because
/// of them.
fn seal(disk: &mut [u8], sector: usize) {
    for at in [sector, disk.len() - sector] {
        let u32_at =
            |disk: &[u8], at: usize| u32::from_le_bytes(disk[at..at + 4].try_into().unwrap());
        let array = u64::from_le_bytes(disk[at + 72..at + 80].try_into().unwrap());
        let len = u64::from(u32_at(disk, at + 80)) * u64::from(u32_at(disk, at + 84));
        let range = array
            .checked_mul(sector as u64)
            .and_then(|start| Some(start..start.checked_add(len)?))
            .filter(|range| range.end <= disk.len() as u64);
        if let Some(range) = range {
            let crc = crc32fast::hash(&disk[range.start as usize..range.end as usize]);
            disk[at + 88..at + 92].copy_from_slice(&crc.to_le_bytes());
        }
        let size = (u32_at(disk, at + 12) as usize).clamp(92, sector);
        disk[at + 16..at + 20].fill(0);
        let crc = crc32fast::hash(&disk[at..at + size]);
        disk[at + 16..at + 20].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A disk with an MBR and a chain of three logical partitions.
fn mbr_disk(sector: usize) -> Vec<u8> {
    let mut disk = vec![0u8; SIZE];
    let mut put = |lba: usize, slot: usize, type_id: u8, start: u32, count: u32| {
        let at = lba * sector + 446 + slot * 16;
        disk[at + 4] = type_id;
        disk[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
        disk[lba * sector + 510..lba * sector + 512].copy_from_slice(&[0x55, 0xaa]);
    };
    put(0, 0, 7, 4, 4);
    put(0, 2, 5, 10, 50);
    put(10, 0, 0x83, 1, 4);
    put(10, 1, 5, 10, 10);
    put(20, 0, 0x83, 1, 4);
    put(20, 1, 5, 6, 4);
    put(16, 0, 0x83, 1, 3);
    disk
}

/// Checks the promises of any table that parses, and of every plan made from it.
fn promises(table: &PartitionTable, disk: &[u8]) {
    let own = table.table_extents();
    let held: u64 = table
        .regions
        .iter()
        .map(|region| region.bytes.len() as u64)
        .sum();
    assert_eq!(own.total(), held, "regions are disjoint");
    assert_eq!(table.regions[0].offset, 0);
    let mut data = ExtentSet::new();
    for partition in &table.partitions {
        assert!(partition.length > 0 && partition.end() <= SIZE as u64);
        if !partition.is_extended() {
            assert!(!own.intersects(partition.range()));
            assert!(!data.intersects(partition.range()));
            data.insert(partition.range());
        }
    }
    for region in &table.regions {
        let range = region.offset as usize..region.offset as usize + region.bytes.len();
        assert_eq!(disk[range], region.bytes);
    }
    let pieces = table
        .regions
        .iter()
        .map(|region| (region.offset, &region.bytes[..]));
    let agent = diskmap::table_from_regions(pieces, table.disk_size, table.sector_size).unwrap();
    assert_eq!(agent.partitions, table.partitions);
    assert_eq!(agent.regions, table.regions);
    let _ = diskmap::cross_check(table, &disk);
    let numbers = table
        .partitions
        .iter()
        .map(|p| Some(Grow::Number(p.number)));
    for size in [
        0,
        4096,
        SIZE as u64 / 2,
        SIZE as u64,
        SIZE as u64 + 4096,
        1 << 30,
        1 << 44,
        u64::MAX,
    ] {
        for grow in numbers.clone().chain([None, Some(Grow::Last)]) {
            // A refusal is a valid answer. A plan that does not read back would be an internal
            // error, unless LBA 0 is also a boot sector whose entries mean nothing on another size.
            match diskmap::plan_commit(&agent, size, table.sector_size, grow) {
                Err(diskmap::PatchError::SelfCheck { detail }) => {
                    panic!("{size} {grow:?}: {detail}")
                }
                Err(_) => {}
                Ok(plan) => {
                    for (offset, bytes) in plan.stages.iter().flatten() {
                        assert!(offset + bytes.len() as u64 <= size);
                    }
                    assert!(plan.wipe.iter().all(|range| range.end <= size));
                    if size == SIZE as u64 && plan.notes.is_empty() && grow.is_none() {
                        let mut made = disk.to_vec();
                        for (offset, bytes) in plan.stages.iter().flatten() {
                            made[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
                        }
                        assert!(made == disk, "the same size is the same bytes");
                    }
                }
            }
        }
    }
}

/// Checks the promises for every choice of partitions: a reason, or a table with exactly those that
/// a plan can put on any disk they fit.
fn keep_promises(table: &PartitionTable) {
    let numbers: Vec<u32> = table.partitions.iter().map(|p| p.number).collect();
    let masks = 0u32..1 << numbers.len().min(5);
    for mask in masks {
        let chosen: BTreeSet<u32> = numbers
            .iter()
            .zip(0..)
            .filter(|(_, bit)| mask >> bit & 1 == 1)
            .map(|(number, _)| *number)
            .collect();
        let left = match table.keep(&chosen) {
            Ok(left) => left,
            Err(KeepError::SelfCheck { detail }) => panic!("{chosen:?}: {detail}"),
            Err(KeepError::NothingChosen) => {
                assert!(chosen.is_empty());
                continue;
            }
            Err(KeepError::LogicalTogether {
                chosen: some,
                others,
            }) => {
                assert!(!some.is_empty() && !others.is_empty());
                let all = chosen.iter().copied().chain(others).collect();
                assert!(table.keep(&all).is_ok(), "{chosen:?}: what it says helps");
                continue;
            }
            Err(KeepError::NoTable) => {
                assert_eq!(table.kind, TableKind::None);
                continue;
            }
            Err(KeepError::Dynamic { left_out }) => {
                assert!(!left_out.is_empty());
                continue;
            }
            Err(other) => panic!("{chosen:?}: {other}"),
        };
        for number in &chosen {
            assert_eq!(left.partition(*number), table.partition(*number));
        }
        if left.partitions.len() == numbers.len() {
            assert_eq!(left.regions, table.regions, "all kept is nothing changed");
        }
        let again = left.keep(&chosen).unwrap();
        assert_eq!(again.regions, left.regions, "a second time changes nothing");
        let pieces = left
            .regions
            .iter()
            .map(|region| (region.offset, &region.bytes[..]));
        let agent = diskmap::table_from_regions(pieces, left.disk_size, left.sector_size).unwrap();
        assert_eq!(agent.partitions, left.partitions);
        assert_eq!(agent.regions, left.regions);
        for size in [SIZE as u64 / 2, SIZE as u64, 1 << 30] {
            for grow in [None, Some(Grow::Last)] {
                match diskmap::plan_commit(&left, size, left.sector_size, grow) {
                    Err(PatchError::SelfCheck { detail }) => {
                        panic!("{chosen:?} {size} {grow:?}: {detail}")
                    }
                    Err(_) => {}
                    Ok(plan) => {
                        let wiped: ExtentSet = plan.wipe.into();
                        let old = table.table_extents().within(0..size);
                        assert!(old.iter().all(|range| wiped.contains(range)));
                    }
                }
            }
        }
    }
    assert!(matches!(
        table.keep(&BTreeSet::from([0, u32::MAX])),
        Err(KeepError::NoSuchPartition { .. } | KeepError::NoTable)
    ));
}

/// Small numbers, the edges of the disk, and arbitrary numbers.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..80,
        (SIZE as u64 / 512 - 40)..(SIZE as u64 / 512 + 2),
        Just(u64::from(u32::MAX)),
        Just(u64::MAX),
        any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..4096), sector in prop_oneof![Just(512u32), Just(4096), any::<u32>()], size in any::<u64>()) {
        // A disk shorter than claimed gives a read error, never an allocation of the claimed size.
        if let Ok(table) = diskmap::read_table(&bytes, size, sector) {
            let _ = diskmap::plan_commit(&table, size / 2, sector, Some(Grow::Last));
        }
        let regions = bytes.chunks(512).zip([0u64, 512, 1024, 2048, size]);
        let _ = diskmap::table_from_regions(regions.map(|(bytes, at)| (at, bytes)), size, sector);
    }

    #[test]
    fn hostile_gpt_fields(wide in any::<bool>(), sealed in any::<bool>(), edits in proptest::collection::vec((any::<bool>(), 0usize..700, value(), 1usize..9), 0..6)) {
        let sector = if wide { 4096 } else { 512 };
        let mut disk = gpt_disk(sector);
        for (backup, at, value, len) in edits {
            // The header comes first, then the entries, of either copy.
            let header = if backup { disk.len() - sector } else { sector };
            let array = if backup { disk.len() - sector - 4096usize.div_ceil(sector) * sector } else { 2 * sector };
            let place = if at < 92 { header + at } else { array + (at - 92) };
            let len = len.min(disk.len() - place);
            disk[place..place + len].copy_from_slice(&value.to_le_bytes()[..len]);
        }
        if sealed {
            seal(&mut disk, sector);
        }
        if let Ok(table) = diskmap::read_table(&disk, SIZE as u64, sector as u32) {
            // A header without used entries means no table.
            let kind = if table.partitions.is_empty() { TableKind::None } else { TableKind::Gpt };
            prop_assert_eq!(table.kind, kind);
            promises(&table, &disk);
            keep_promises(&table);
        }
    }

    #[test]
    fn hostile_gpt_headers(edits in proptest::collection::vec((any::<bool>(), 0usize..8, value()), 1..5)) {
        let mut disk = gpt_disk(512);
        for (backup, field, value) in edits {
            let header = if backup { disk.len() - 512 } else { 512 };
            let (at, len) = [(12, 4), (24, 8), (32, 8), (40, 8), (48, 8), (72, 8), (80, 4), (84, 4)][field];
            disk[header + at..header + at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        }
        seal(&mut disk, 512);
        if let Ok(table) = diskmap::read_table(&disk, SIZE as u64, 512) {
            promises(&table, &disk);
            keep_promises(&table);
        }
    }

    #[test]
    fn spare_sectors_of_an_image(mbr in any::<bool>(), edits in proptest::collection::vec((any::<bool>(), 0usize..700, value(), 1usize..9), 0..3), spares in proptest::collection::vec((0u64..512, 1u64..40), 0..6)) {
        // Sectors that the table does not need: before, between and inside partitions and damaged
        // copies.
        let mut disk = if mbr { mbr_disk(512) } else { gpt_disk(512) };
        for (backup, at, value, len) in edits {
            let place = if mbr { at.min(500) } else if backup { SIZE - 512 * 9 + at } else { 512 + at };
            let len = len.min(disk.len() - place);
            disk[place..place + len].copy_from_slice(&value.to_le_bytes()[..len]);
        }
        if let Ok(table) = diskmap::read_table(&disk, SIZE as u64, 512) {
            let mut given = table.table_extents();
            for (lba, count) in spares {
                given.insert(lba * 512..((lba + count) * 512).min(SIZE as u64));
            }
            let pieces = given.iter().map(|range| (range.start, &disk[range.start as usize..range.end as usize]));
            if let Ok(table) = diskmap::table_from_regions(pieces, SIZE as u64, 512) {
                keep_promises(&table);
            }
        }
    }

    #[test]
    fn hostile_mbr_fields(wide in any::<bool>(), edits in proptest::collection::vec((0usize..4, 0usize..4, 0usize..16, value(), 1usize..9), 0..6)) {
        let sector = if wide { 4096 } else { 512 };
        let mut disk = mbr_disk(sector);
        for (which, slot, field, value, len) in edits {
            let at = [0, 10, 20, 16][which] * sector + 446 + slot * 16 + field;
            let len = len.min(16 - field);
            disk[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        }
        if let Ok(table) = diskmap::read_table(&disk, SIZE as u64, sector as u32) {
            promises(&table, &disk);
            keep_promises(&table);
        }
    }
}

#[test]
fn the_disks_the_properties_start_from_are_good() {
    for sector in [512, 4096] {
        let disk = gpt_disk(sector);
        let table = diskmap::read_table(&disk, SIZE as u64, sector as u32).unwrap();
        assert_eq!(table.warnings, Vec::<String>::new());
        assert_eq!(table.partitions.len(), 3);
        promises(&table, &disk);
        keep_promises(&table);
        let disk = mbr_disk(sector);
        let table = diskmap::read_table(&disk, SIZE as u64, sector as u32).unwrap();
        assert_eq!(table.partitions.len(), 5);
        promises(&table, &disk);
        keep_promises(&table);
    }
}
