//! Fuzz target: any bytes as a FAT12/16/32 partition. No panic, and every range of the result lies
//! inside the partition.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "diskmap_support/mod.rs"]
mod support;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    // FAT has no magic number; the bytes that serve as one are set.
    if let Some(boot) = bytes.get_mut(..512) {
        boot[0] = 0xEB;
        boot[3..11].copy_from_slice(b"MSWIN4.1");
        boot[510..].copy_from_slice(&[0x55, 0xAA]);
    }
    support::map(&bytes);
});
