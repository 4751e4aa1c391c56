//! Fuzz target: any bytes as a machine's first-start report or as a console's answer. They give a
//! value or an error, and a report that was read is written and read back with the same values.

#![no_main]

use firstboot::report::{MAX_BYTES, is_whole, message, parse, parse_answer};
use libfuzzer_sys::fuzz_target;

const DIGITS: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_answer(bytes);
    let _ = is_whole(bytes);
    // With the first and the last line added, so that the fuzzer gets past them.
    let whole = [b"diskcast-first-start 1\n", bytes, b"\nhmac=", DIGITS.as_bytes(), b"\n"].concat();
    for bytes in [bytes, &whole] {
        let Ok(read) = parse(bytes) else { continue };
        assert!(bytes.len() <= MAX_BYTES && is_whole(bytes));
        let again = message(&read.report.encode(), read.digits);
        let again = parse(again.as_bytes()).expect("what is written can be read");
        assert_eq!(again.report.job, read.report.job);
        assert_eq!(again.report.addresses, read.report.addresses);
    }
});
