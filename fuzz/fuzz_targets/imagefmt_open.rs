//! Fuzz target: any file. Opening, describing, walking and reading it never panics. The prologue's
//! hash, the headers' CRCs and the stored hashes are corrected, so that the fuzzer gets past them.
#![no_main]

use imagefmt::{Image, Records, VerifyingKey, Volume};
use libfuzzer_sys::fuzz_target;

#[path = "imagefmt_support/mod.rs"]
mod support;

fuzz_target!(|data: &[u8]| {
    let bytes = support::resealed(data);
    let volumes = || {
        vec![Volume {
            reader: bytes.as_slice(),
            len: bytes.len() as u64,
        }]
    };
    let _ = Image::summary(volumes());
    if let Ok(records) = Records::walk(volumes()) {
        let mut scratch = Vec::new();
        for record in records.records() {
            assert!(record.position.offset + record.bytes <= bytes.len() as u64);
            let _ = records.check(record.position, &mut scratch);
        }
        assert!(records.trailing() <= bytes.len() as u64);
        let _ = (records.faults(), records.refused(), records.passed_over());
        if let Ok(image) = Image::open_volumes(volumes(), None) {
            let _ = image.disagreements(&records);
        }
    }
    if let Ok(image) = Image::open_volumes(volumes(), None) {
        let _ = image.verify_signature(&VerifyingKey([1; 32]));
        support::read_all(&image);
    }
});
