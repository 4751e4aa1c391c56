//! Fuzz target: any bytes in the place of a journal on a target's disk. They give a bitmap of the
//! right length or nothing, never a panic.
#![no_main]

use disk::journal::parse;
use imagefmt::Root;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The expected values are taken from the journal's own header, so that the input gets past the
    // comparisons.
    let number = |at: usize| {
        data.get(at..at + 8)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    };
    let mut root = [0; 32];
    if let Some(bytes) = data.get(16..48) {
        root.copy_from_slice(bytes);
    }
    let entries = usize::try_from(number(56) % 4_000_000).unwrap_or(0);
    if let Some((_, bitmap)) = parse(data, Root(root), number(48), entries) {
        assert!(bitmap.count() <= entries);
        assert!(!bitmap.contains(entries));
    }
});
