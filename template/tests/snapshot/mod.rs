//! Text snapshots: the output of a test as it was last reviewed.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p template` writes them anew; the change then shows in the diff.

use std::path::Path;

/// Compares `got` with the file below `tests/`.
pub(crate) fn hold(file: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(file);
    let got = format!("{}\n", got.trim_end());
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        want == got,
        "{file} is not what is printed now (UPDATE_SNAPSHOTS=1 writes it):\n{got}"
    );
}
