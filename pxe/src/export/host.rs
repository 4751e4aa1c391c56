//! Programs of this machine that an export needs. When one is missing, the error names its package.

use crate::bundle::BundleError;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// A program, and the Debian package that contains it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pub(super) program: &'static str,
    pub(super) package: &'static str,
}

/// Writes ISO 9660 with the boot records that all kinds of firmware need.
pub(super) const XORRISO: Host = Host {
    program: "xorriso",
    package: "xorriso",
};
/// Joins GRUB's modules to an image for BIOS.
pub(super) const GRUB_MKIMAGE: Host = Host {
    program: "grub-mkimage",
    package: "grub-common",
};

/// Checks that all programs are installed; the error names all missing ones at once.
pub(super) fn ensure(hosts: &[Host]) -> Result<(), BundleError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |host: &&Host| {
        std::env::split_paths(&path).any(|folder| folder.join(host.program).is_file())
    };
    let missing: Vec<&Host> = hosts.iter().filter(|host| !there(host)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let join = |of: fn(&Host) -> &'static str, sign: &str| {
        let words: Vec<&str> = missing.iter().map(|host| of(host)).collect();
        words.join(sign)
    };
    Err(BundleError::NoProgram {
        program: join(|host| host.program, " and "),
        hint: format!(
            "install it: apt-get install {}",
            join(|host| host.package, " ")
        ),
    })
}

/// Runs a program until it ends.
pub(super) fn run(
    host: Host,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    folder: &Path,
    environment: &[(&str, &str)],
) -> Result<(), BundleError> {
    let failed = |said: String| BundleError::Program {
        program: host.program.to_owned(),
        said,
        hint: format!(
            "is {} of this machine's release installed whole?",
            host.package
        ),
    };
    let done = Command::new(host.program)
        .args(arguments)
        .current_dir(folder)
        .env("LC_ALL", "C.UTF-8")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if done.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&done.stderr);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    Err(failed(last.unwrap_or("no reason given").to_owned()))
}
