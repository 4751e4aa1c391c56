//! Windows registry hives: parse, replay logs, edit in place, validate.
//!
//! Pure: bytes in, bytes out. No input panics, and nothing is allocated by a declared size.
