//! Fuzz target: any bytes as an NTFS partition. No panic, and every range of the result lies inside
//! the partition.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "diskmap_support/mod.rs"]
mod support;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    if let Some(name) = bytes.get_mut(3..11) {
        name.copy_from_slice(b"NTFS    ");
    }
    support::map(&bytes);
});
