//! `cargo xtask firstboot`: builds `diskcast-firstboot.exe`, the program that finishes the setup of
//! a Windows target.
//!
//! Debian's rustc has a standard library for Windows, rustup's toolchain here does not. Debian's
//! packages are fetched with `apt-get download` and unpacked into the target folder, not installed:
//! a second `rustc` on the path would hide the one that other builds use. Two calls of rustc are
//! then enough, because the library has no dependencies.
//!
//! The same sources and packages give the same bytes: they contain no time stamp and no path of
//! this machine.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::shell::{Failure, has, output, watch};

/// Name of the program, beside the others of a profile.
pub(crate) const NAME: &str = "diskcast-firstboot.exe";
/// Debian 12 packages of the compiler, its libraries, and the standard library for Windows.
const PACKAGES: [&str; 4] = [
    "rustc",
    "libstd-rust-1.63",
    "libstd-rust-dev-windows",
    "libllvm14",
];
const LINKER: &str = "x86_64-w64-mingw32-gcc";
const FETCH_LIMIT_S: u32 = 300;
const COMPILE_LIMIT_S: u32 = 300;

/// Builds the release program, unless nothing has changed. `Ok(true)` when it exists.
pub(crate) fn run() -> Result<bool, Failure> {
    println!("{}", build("release")?.display());
    Ok(true)
}

/// Builds the program beside those of a cargo profile, unless nothing has changed; returns its
/// path.
pub(crate) fn build(profile: &str) -> Result<PathBuf, Failure> {
    let target = crate::agent::target_folder()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = root.join("firstboot");
    let exe = target.join(profile).join(NAME);
    let folders = ["src", "windows", "windows/sys"].map(|name| sources.join(name));
    if is_newer(&exe, &folders) {
        return Ok(exe);
    }
    if !has(LINKER) {
        return Err(Failure::new(format!(
            "{LINKER} is missing: apt-get install gcc-mingw-w64-x86-64-win32"
        )));
    }
    let toolchain = toolchain(&target)?;
    let work = target.join(profile).join("firstboot-windows");
    make_folder(&work)?;
    let library = work.join("libfirstboot.rlib");
    let partial = work.join(NAME);
    compile(
        &toolchain,
        &root,
        &[
            "--crate-name=firstboot",
            "--crate-type=rlib",
            "-o",
            &text(&library),
            &text(&sources.join("src/lib.rs")),
        ],
    )?;
    compile(
        &toolchain,
        &root,
        &[
            "--crate-name=diskcast_firstboot",
            "--crate-type=bin",
            "-Clto=fat",
            "-Cstrip=symbols",
            &format!("-Clinker={LINKER}"),
            "-Clink-arg=-Wl,--no-insert-timestamp",
            &format!("--extern=firstboot={}", text(&library)),
            "-o",
            &text(&partial),
            &text(&sources.join("windows/main.rs")),
        ],
    )?;
    std::fs::rename(&partial, &exe)
        .map_err(|error| Failure::new(format!("{}: {error}", exe.display())))?;
    Ok(exe)
}

fn compile(toolchain: &Path, root: &Path, words: &[&str]) -> Result<(), Failure> {
    let rustc = text(&toolchain.join("bin/rustc"));
    let sysroot = format!("--sysroot={}", text(toolchain));
    let remap = format!("--remap-path-prefix={}=.", text(root));
    let mut all = vec![
        rustc.as_str(),
        "--edition=2021",
        "--target=x86_64-pc-windows-gnu",
        "-Dwarnings",
        "-Copt-level=s",
        "-Cpanic=abort",
        "-Coverflow-checks=on",
        "-Ccodegen-units=1",
        &sysroot,
        &remap,
    ];
    all.extend(words);
    let libraries = text(&toolchain.join("lib/x86_64-linux-gnu"));
    let environment = [
        ("LD_LIBRARY_PATH", libraries.as_str()),
        ("DISKCAST_VERSION", env!("CARGO_PKG_VERSION")),
    ];
    watch(&all, &environment, COMPILE_LIMIT_S, |_| {})
}

/// Debian's compiler, unpacked once; returns its `usr` folder.
fn toolchain(target: &Path) -> Result<PathBuf, Failure> {
    let folder = target.join("windows-toolchain");
    let usr = folder.join("usr");
    let complete = folder.join("complete");
    if complete.is_file() {
        return Ok(usr);
    }
    eprintln!(
        "firstboot: fetching Debian's compiler for Windows: {}",
        PACKAGES.join(" ")
    );
    let _ = std::fs::remove_dir_all(&folder);
    make_folder(&folder)?;
    if let Err(failure) = fetch(&folder) {
        eprintln!("firstboot: {failure}; once more with fresh lists");
        watch(&["apt-get", "-q", "update"], &[], FETCH_LIMIT_S, |_| {})?;
        fetch(&folder)?;
    }
    for package in files(&folder, "deb") {
        output("dpkg", &["-x", &text(&package), &text(&folder)])?;
        let _ = std::fs::remove_file(package);
    }
    std::fs::write(&complete, PACKAGES.join("\n"))
        .map_err(|error| Failure::new(format!("{}: {error}", complete.display())))?;
    Ok(usr)
}

/// Downloads the packages: `apt-get download` leaves its files in the folder it is run in.
fn fetch(folder: &Path) -> Result<(), Failure> {
    let script = "cd \"$1\" && shift && apt-get -q download \"$@\"";
    let folder = text(folder);
    let mut words = vec!["bash", "-c", script, "bash", folder.as_str()];
    words.extend(PACKAGES);
    watch(&words, &[], FETCH_LIMIT_S, |_| {})
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == extension));
    paths.sort();
    paths
}

/// True when a file is newer than every source in these folders.
fn is_newer(made: &Path, folders: &[PathBuf]) -> bool {
    let changed = |path: &Path| -> Option<SystemTime> { path.metadata().ok()?.modified().ok() };
    let Some(made) = changed(made) else {
        return false;
    };
    let mut sources = folders.iter().flat_map(|folder| files(folder, "rs"));
    sources.all(|source| changed(&source).is_some_and(|it| it < made))
}

fn make_folder(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
