//! Fuzz target: any bytes as an exFAT partition. No panic, and every range of the result lies
//! inside the partition.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "diskmap_support/mod.rs"]
mod support;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    if let Some(name) = bytes.get_mut(3..11) {
        name.copy_from_slice(b"EXFAT   ");
    }
    // The checksum of the boot region is corrected, because no fuzzer finds it by chance.
    let shift = bytes.get(108).copied().unwrap_or(0);
    if (9..=12).contains(&shift) && bytes.len() >= 12 << shift {
        let (region, rest) = bytes.split_at_mut(11 << shift);
        let mut sum = 0u32;
        for (at, byte) in region.iter().enumerate() {
            if !matches!(at, 106 | 107 | 112) {
                sum = sum.rotate_right(1).wrapping_add(u32::from(*byte));
            }
        }
        for place in rest[..1 << shift].chunks_exact_mut(4) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
    }
    support::map(&bytes);
});
