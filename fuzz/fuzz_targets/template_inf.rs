//! A driver's `.inf`, a program's signature and a list of machines: any bytes give facts or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use template::findings::Arch;
use template::import::parse_list;
use template::inf;

fuzz_target!(|bytes: &[u8]| {
    let _ = inf::is_signed(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_list(text);
    }
    // With what every driver begins with, so that the fuzzer gets behind it.
    let whole = [b"[Version]\nSignature=\"$WINDOWS NT$\"\n", bytes].concat();
    for bytes in [bytes, &whole] {
        if let Ok(found) = inf::read(bytes) {
            let _ = found.models_for(Arch::X64, (10, 0, 19_041)).count();
        }
    }
});
