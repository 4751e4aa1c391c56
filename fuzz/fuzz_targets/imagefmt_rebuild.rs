//! Fuzz target: any file. Rebuilding its index never panics, and every chunk in the rebuilt index
//! can be read.
#![no_main]

use imagefmt::Image;
use libfuzzer_sys::fuzz_target;

#[path = "imagefmt_support/mod.rs"]
mod support;

fuzz_target!(|data: &[u8]| {
    let bytes = support::resealed(data);
    if let Ok(rebuilt) = Image::rebuild(bytes.as_slice(), bytes.len() as u64, None) {
        assert_eq!(
            support::read_all(&rebuilt.image),
            rebuilt.image.manifest().entries.len()
        );
    }
});
