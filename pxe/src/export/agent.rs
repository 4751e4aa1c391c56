//! Exports the agent alone, for a machine that already runs Linux: the program, and a script that
//! starts it for this console.

use super::place::Beside;
use super::words::Words;
use crate::bundle::{BundleError, at, needs_no_libraries};
use serde::Serialize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Line that marks a script as ours.
const MARK: &str = "# Written by `diskcast export agent`.";

/// Text that every agent program contains.
const NAME: &[u8] = b"diskcast";

/// An exported agent on disk.
#[derive(Clone, Debug, Serialize)]
pub struct ExportedAgent {
    /// The program.
    pub file: PathBuf,
    /// The script that starts it for the console.
    pub script: PathBuf,
    /// Length of the program, in bytes.
    pub bytes: u64,
    /// True when it runs on any Linux for x86-64; otherwise it needs a C library as new as this
    /// machine's.
    pub static_agent: bool,
}

/// Copies the agent to `target` and writes `TARGET.sh` beside it. Older ones are replaced.
///
/// # Errors
/// [`BundleError::Refused`] for a place that holds something else; [`BundleError::WouldNotRun`] for
/// a file that is no program.
pub fn agent(target: &Path, agent: &Path, words: &Words) -> Result<ExportedAgent, BundleError> {
    let script = PathBuf::from(format!("{}.sh", target.display()));
    // Any program is an ELF file; ours also contains the name.
    refuse_foreign(target, |bytes| {
        let mut words = bytes.windows(NAME.len());
        bytes.starts_with(b"\x7fELF") && words.any(|word| word == NAME)
    })?;
    refuse_foreign(&script, |bytes| {
        String::from_utf8_lossy(bytes)
            .lines()
            .any(|line| line == MARK)
    })?;
    let bytes = std::fs::read(agent).map_err(at("reading", agent))?;
    let static_agent = needs_no_libraries(agent, &bytes)?;
    put(target, &bytes)?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    put(&script, script_text(&name, words).as_bytes())?;
    Ok(ExportedAgent {
        file: target.to_owned(),
        script,
        bytes: bytes.len() as u64,
        static_agent,
    })
}

fn script_text(name: &str, words: &Words) -> String {
    let console = words
        .console
        .map_or_else(String::new, |console| format!(" --console {console}"));
    let name = name.replace('\'', "'\\''");
    format!(
        "#!/bin/sh\n\
         {MARK}\n\
         # Offers this machine's disks to the console, and to no other. As root. What is given here is passed on:\n\
         #   --once       end after one job          --no-power   do not restart afterwards\n\
         #   --disk PATH  offer this disk only\n\
         exec \"$(dirname \"$0\")\"/'{name}' run{console} --pin {} \"$@\"\n",
        words.pin
    )
}

/// Writes a program: readable and executable by all.
fn put(target: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    let place = Beside::new(target)?;
    let path = place.path();
    std::fs::write(path, bytes).map_err(at("writing", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(at("writing", path))?;
    place.place()
}

fn refuse_foreign(path: &Path, ours: impl Fn(&[u8]) -> bool) -> Result<(), BundleError> {
    let there = match std::fs::read(path) {
        Ok(bytes) => ours(&bytes),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if there {
        return Ok(());
    }
    Err(BundleError::Refused {
        message: format!("{} is there and is not of diskcast", path.display()),
        hint: "give a name that does not exist yet".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_names_console_and_pin() {
        let words = Words {
            pin: "aa".repeat(32),
            console: "10.0.0.1:6001".parse().ok(),
            ..Default::default()
        };
        let text = script_text("it's", &words);
        assert!(
            text.contains("/'it'\\''s' run --console 10.0.0.1:6001 --pin aaaa"),
            "{text}"
        );
        assert!(text.lines().any(|line| line == MARK));
    }

    #[test]
    fn what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("agent");
        std::fs::write(&target, "my notes").unwrap();
        let error = agent(&target, Path::new("/proc/self/exe"), &Words::default()).unwrap_err();
        assert!(matches!(error, BundleError::Refused { .. }), "{error}");
        assert_eq!(std::fs::read(&target).unwrap(), b"my notes");
        std::fs::write(&target, b"\x7fELF another program").unwrap();
        assert!(agent(&target, Path::new("/proc/self/exe"), &Words::default()).is_err());
        std::fs::remove_file(&target).unwrap();
        for _ in 0..2 {
            let done = agent(&target, Path::new("/proc/self/exe"), &Words::default()).unwrap();
            assert!(!done.static_agent);
            assert!(done.script.is_file());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
