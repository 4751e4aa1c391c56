//! Fuzz target: any bytes as a driver's `.inf`, a program's headers or a list of machines. They
//! give facts or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use template::findings::{Arch, ProductType};
use template::import::parse_list;
use template::inf;

const PLATFORM: inf::Platform = inf::Platform {
    arch: Arch::X64,
    version: (10, 0, 19_041),
    product_type: ProductType::Workstation,
    suites: 0,
};

fuzz_target!(|bytes: &[u8]| {
    let _ = inf::Program::read(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_list(text);
    }
    // With the section that every driver begins with, so that the fuzzer gets past it.
    let whole = [b"[Version]\nSignature=\"$WINDOWS NT$\"\n", bytes].concat();
    for bytes in [bytes, &whole] {
        if let Ok(found) = inf::read(bytes) {
            let _ = found.models_for(&PLATFORM).count();
        }
    }
});
