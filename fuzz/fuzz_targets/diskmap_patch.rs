//! Fuzz target: any TABLE record of an image, put on a target of any size. The plan stays inside
//! the target; a plan that fails its own self-check is a bug here.
//!
//! Input: mode (bit 1 the sector size, from bit 2 which partitions are kept, none for all), sizes,
//! the partition to grow, then records of (sector number: 2 bytes, length in sectors: 1 byte,
//! bytes).

#![no_main]

use diskmap::{Grow, KeepError, PatchError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((head, mut rest)) = data.split_first_chunk::<8>() else {
        return;
    };
    let sector: u32 = if head[0] & 2 == 0 { 512 } else { 4096 };
    let disk_size = u64::from(u16::from_le_bytes([head[1], head[2]])) * 4096;
    let target_size = u64::from(u32::from_le_bytes([head[3], head[4], head[5], head[6]])) * 512;
    let grow = match head[7] {
        0 => None,
        1 => Some(Grow::Last),
        number => Some(Grow::Number(u32::from(number) - 1)),
    };
    let mut regions = Vec::new();
    while let Some((record, tail)) = rest.split_first_chunk::<3>() {
        let offset = u64::from(u16::from_le_bytes([record[0], record[1]])) * u64::from(sector);
        let len = (usize::from(record[2]) * sector as usize).min(tail.len());
        let (bytes, tail) = tail.split_at(len);
        regions.push((offset, bytes));
        rest = tail;
    }
    let Ok(mut table) = diskmap::table_from_regions(regions, disk_size, sector) else {
        return;
    };
    if head[0] >> 2 != 0 {
        let chosen = (table.partitions.iter().enumerate())
            .filter(|(index, _)| head[0] >> (2 + index % 6) & 1 == 1)
            .map(|(_, partition)| partition.number)
            .collect();
        match table.keep(&chosen) {
            Err(KeepError::SelfCheck { detail }) => panic!("{detail}"),
            Err(_) => return,
            Ok(left) => table = left,
        }
    }
    match diskmap::plan_commit(&table, target_size, sector, grow) {
        Err(PatchError::SelfCheck { detail }) => panic!("{detail}"),
        Err(_) => {}
        Ok(plan) => {
            for (offset, bytes) in plan.stages.iter().flatten() {
                assert!(offset + bytes.len() as u64 <= target_size);
            }
            for range in &plan.wipe {
                assert!(range.start < range.end && range.end <= target_size);
            }
        }
    }
});
