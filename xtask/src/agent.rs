//! `cargo xtask agent`: the agent without libraries, for the pre-OS and for machines with an older C library.
//!
//! Only the last link differs from the usual agent (`-C target-feature=+crt-static`), so it takes seconds after a build;
//! a second target folder would compile everything again. cargo gives both the same name: the static one is
//! moved to a name of its own, and the usual one is linked again in its place, whatever happened.

use std::path::{Path, PathBuf};

use crate::shell::{Failure, has, output, watch};

/// The static agent's name beside the usual one; `diskcast export` looks for it there.
const NAME: &str = "diskcast-agent-static";
/// Seconds, from a cold start on two cores.
const LIMIT_S: u32 = 1800;

/// Builds it. `Ok(true)` when it is there and needs no libraries.
pub(crate) fn run() -> Result<bool, Failure> {
    let release = target_folder()?.join("release");
    let linked = link_static().and_then(|()| take(&release));
    // Tests and `diskcast demo` use the dynamic one; leaving it static would be found out much later.
    watch(
        &[
            "cargo",
            "build",
            "--release",
            "--locked",
            "--bin",
            "diskcast-agent",
        ],
        &[],
        LIMIT_S,
        |_| {},
    )?;
    let agent = linked?;
    println!("{}", agent.display());
    Ok(true)
}

fn link_static() -> Result<(), Failure> {
    watch(
        &[
            "cargo",
            "rustc",
            "--release",
            "--locked",
            "--bin",
            "diskcast-agent",
            "--",
            "-C",
            "target-feature=+crt-static",
        ],
        &[],
        LIMIT_S,
        |_| {},
    )
}

/// Copies what cargo linked to its own name, appearing at once.
fn take(release: &Path) -> Result<PathBuf, Failure> {
    let linked = release.join("diskcast-agent");
    let agent = release.join(NAME);
    let partial = release.join(format!("{NAME}.partial"));
    std::fs::copy(&linked, &partial)
        .map_err(|error| Failure::new(format!("copying {}: {error}", linked.display())))?;
    needs_no_libraries(&partial)?;
    std::fs::rename(&partial, &agent)
        .map_err(|error| Failure::new(format!("{}: {error}", agent.display())))?;
    Ok(agent)
}

/// A toolchain that ignores `crt-static` (other C libraries do) would go unnoticed until a target panics.
fn needs_no_libraries(agent: &Path) -> Result<(), Failure> {
    let path = agent.to_string_lossy();
    if has("readelf") {
        let headers = output("readelf", &["-lW", &path])?;
        if headers.contains("INTERP") {
            return Err(Failure::new(format!(
                "{path} still asks for a loader: this toolchain does not link statically"
            )));
        }
    }
    output(&path, &["--version"]).map(|_| ())
}

/// Where cargo builds; finished programs lie in the folder of their profile there.
pub(crate) fn target_folder() -> Result<PathBuf, Failure> {
    let text = output("cargo", &["metadata", "--format-version=1", "--no-deps"])?;
    let metadata: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
    let folder = metadata
        .get("target_directory")
        .and_then(|value| value.as_str());
    let folder = folder.ok_or_else(|| Failure::new("cargo metadata names no target folder"))?;
    Ok(PathBuf::from(folder))
}
