//! `cargo xtask agent`: builds the agent without libraries, for the pre-OS and for machines with an
//! older C library.
//!
//! Only the last link differs from the default agent (`-C target-feature=+crt-static`). Both are built
//! from the package `preos` alone, for which cargo chooses fewer features than for both programs
//! together: what these change is compiled again. cargo gives both agents
//! the same name: the static one is moved to a name of its own, and the default one is linked again
//! in its place, even after a failure.

use std::path::{Path, PathBuf};

use crate::shell::{Failure, has, output, watch};

/// Name of the static agent, beside the default one, where `diskcast export` looks for it.
const NAME: &str = "diskcast-agent-static";
/// Longest time of the build, in seconds, from a cold start on two cores.
const LIMIT_S: u32 = 1800;

/// Builds the static agent. `Ok(true)` when it exists and needs no libraries.
pub(crate) fn run() -> Result<bool, Failure> {
    let release = target_folder()?.join("release");
    let linked = link_static().and_then(|()| take(&release));
    // Tests and `diskcast demo` use the dynamic one; a static one in its place would be noticed
    // much later.
    watch(
        &[
            "cargo",
            "build",
            "--release",
            "--locked",
            "--package",
            "preos",
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
            "--package",
            "preos",
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

/// Copies the linked program to its own name, in one step.
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

/// Checks that the agent is static. A toolchain may ignore `crt-static` (other C libraries do),
/// which would go unnoticed until a target panics.
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

/// Folder of cargo's build; finished programs are in the folder of their profile there.
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
