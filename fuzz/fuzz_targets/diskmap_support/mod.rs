//! Properties of everything that `diskmap` reads, whatever the bytes are.
#![allow(dead_code, reason = "each target uses a part")]

use diskmap::usedmap::{MapOptions, Mapping, map_partition};

/// Maps bytes as a partition: no panic, and the ranges of the result are in order, are not empty,
/// and lie inside the partition.
pub fn map(bytes: &[u8]) {
    let length = bytes.len() as u64;
    if let Ok(Mapping::Used(map)) = map_partition(&bytes, length, &MapOptions::default()) {
        let mut end = 0;
        for run in &map.extents {
            assert!(run.start >= end && run.start < run.end && run.end <= length);
            end = run.end;
        }
    }
}

/// Reads bytes as a disk: a table is cross-checked, and read again from its own sectors.
pub fn table(disk: &[u8], sector: u32) {
    let length = disk.len() as u64;
    if let Ok(table) = diskmap::read_table(&disk, length, sector) {
        let _ = diskmap::cross_check(&table, &disk);
        let _ = diskmap::signature::beside_table(&disk, &table);
        let _ = diskmap::other_sector_size(&disk, length, sector);
        let pieces = table
            .regions
            .iter()
            .map(|region| (region.offset, region.bytes.as_slice()));
        let again = diskmap::table_from_regions(pieces, length, sector)
            .expect("a table reads back from its own sectors");
        assert_eq!(again.partitions, table.partitions);
        assert_eq!(again.regions, table.regions);
    }
}
