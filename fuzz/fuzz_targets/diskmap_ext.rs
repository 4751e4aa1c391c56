//! Fuzz target: any bytes as an ext2/3/4 partition. No panic, and every range of the result lies
//! inside the partition.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "diskmap_support/mod.rs"]
mod support;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    // The magic number is set, so that the fuzzer gets past it.
    if let Some(magic) = bytes.get_mut(1080..1082) {
        magic.copy_from_slice(&[0x53, 0xEF]);
    }
    support::map(&bytes);
});
