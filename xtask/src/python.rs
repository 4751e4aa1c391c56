//! Python readers that tests compare results with, in an environment of their own: regipy and
//! impacket for Windows hives, and the modules of the second reader of master images.

use crate::shell::{Failure, output, watch};
use std::path::{Path, PathBuf};

const MODULES: &str = "import regipy, impacket, blake3, zstandard, nacl, argon2";
const PACKAGES: [&str; 6] = [
    "regipy",
    "impacket",
    "blake3",
    "zstandard",
    "pynacl",
    "argon2-cffi",
];

/// Returns the interpreter of the environment, which is made if missing. Without it the tests
/// report which comparisons they left out.
pub(crate) fn ensure() -> Result<PathBuf, Failure> {
    let folder = Path::new("target/oracles");
    let python = folder.join("bin/python3");
    let there = |python: &Path| {
        let name = python.to_string_lossy();
        output(&name, &["-c", MODULES]).is_ok()
    };
    if !there(&python) {
        let name = folder.to_string_lossy();
        watch(&["python3", "-m", "venv", &name], &[], 120, |_| {})?;
        let pip = python.to_string_lossy();
        let mut words = vec![&*pip, "-m", "pip", "install", "--quiet"];
        words.extend(PACKAGES);
        watch(&words, &[], 300, |_| {})?;
        if !there(&python) {
            return Err(Failure::new(
                "the packages are installed and cannot be used",
            ));
        }
    }
    std::path::absolute(&python).map_err(|error| Failure::new(error.to_string()))
}
