//! Fuzz target: any bytes as a swap partition. No panic, and every range of the result lies inside
//! the partition.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "diskmap_support/mod.rs"]
mod support;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    if let Some(mark) = bytes.get_mut(4086..4096) {
        mark.copy_from_slice(b"SWAPSPACE2");
    }
    support::map(&bytes);
});
