//! Fuzz target: any bytes as a FAT12/16/32 partition. No panic, and every range of the result lies
//! inside the partition.

#![no_main]

use diskmap::usedmap::{MapOptions, Mapping, map_partition};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    // FAT has no magic number; the bytes that serve as one are set.
    if let Some(boot) = bytes.get_mut(..512) {
        boot[0] = 0xEB;
        boot[3..11].copy_from_slice(b"MSWIN4.1");
        boot[510..].copy_from_slice(&[0x55, 0xAA]);
    }
    let length = bytes.len() as u64;
    let mapping = map_partition(&bytes.as_slice(), length, &MapOptions::default());
    if let Ok(Mapping::Used(map)) = mapping {
        let mut end = 0;
        for run in &map.extents {
            assert!(run.start >= end && run.start < run.end && run.end <= length);
            end = run.end;
        }
    }
});
