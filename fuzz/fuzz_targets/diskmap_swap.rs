//! Fuzz target: any bytes as a swap partition. No panic, and every range of the result lies inside
//! the partition.

#![no_main]

use diskmap::usedmap::{MapOptions, Mapping, map_partition};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    if let Some(mark) = bytes.get_mut(4086..4096) {
        mark.copy_from_slice(b"SWAPSPACE2");
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
