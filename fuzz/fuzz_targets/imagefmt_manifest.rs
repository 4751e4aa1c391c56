//! Fuzz target: any manifest. It is refused, or encodes to exactly the input bytes.
#![no_main]

use imagefmt::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(manifest) = Manifest::decode(data) {
        assert_eq!(
            manifest
                .encode()
                .expect("a decoded manifest can be encoded"),
            data
        );
        let ids = manifest
            .entries
            .iter()
            .rev()
            .map(|entry| (entry.chunk, entry.id));
        assert_eq!(manifest.root_of(ids), manifest.root());
    }
});
