//! Fuzz target: any bytes as an ext2/3/4 partition. No panic, and every range of the result lies
//! inside the partition.

#![no_main]

use diskmap::usedmap::{MapOptions, Mapping, map_partition};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    // The magic number is set, so that the fuzzer gets past it.
    if let Some(magic) = bytes.get_mut(1080..1082) {
        magic.copy_from_slice(&[0x53, 0xEF]);
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
