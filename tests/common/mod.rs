//! Helpers of the black-box tests: running the built programs, scratch folders, real disks, a room.
//!
//! These tests use diskcast only by its command line. They need root and Debian's disk tools;
//! `cargo xtask test` installs missing ones. Everything they attach, mount or start is a value that
//! undoes it when dropped, so that a failing assertion leaves nothing behind.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests are the edge: they open files, wait and tell what they saw"
)]

pub(crate) mod agent;
pub(crate) mod disk;
pub(crate) mod failing;
pub(crate) mod fill;
pub(crate) mod guest;
pub(crate) mod images;
pub(crate) mod intruders;
pub(crate) mod master;
pub(crate) mod process;
pub(crate) mod pxe_client;
pub(crate) mod room;
pub(crate) mod room_script;
pub(crate) mod service;
pub(crate) mod terminal;
pub(crate) mod windows;

use std::path::Path;

/// Makes a folder on a real file system (not `/tmp` in memory), removed when dropped.
pub(crate) fn scratch() -> tempfile::TempDir {
    let parent = Path::new("/var/tmp");
    tempfile::Builder::new()
        .prefix("diskcast-test-")
        .tempdir_in(parent)
        .expect("a scratch folder in /var/tmp")
}

/// BLAKE3 of a whole file, hexadecimal.
pub(crate) fn hash_file(path: &Path) -> String {
    let mut file =
        std::fs::File::open(path).unwrap_or_else(|e| panic!("opening {}: {e}", path.display()));
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut file, &mut hasher)
        .unwrap_or_else(|e| panic!("reading {}: {e}", path.display()));
    hasher.finalize().to_hex().to_string()
}

/// True when the long form is run (`cargo xtask test --full`).
pub(crate) fn full() -> bool {
    std::env::var_os("DISKCAST_TEST_FULL").is_some()
}
