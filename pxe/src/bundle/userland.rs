//! Programs for the pre-OS with the libraries that the loader will look for.
//!
//! The search is that of Debian's loader without a cache file: the multiarch folder, then
//! `/usr/lib`. `RPATH` and `RUNPATH` are not followed: no program used here has them, and for one
//! that had, its library would be reported as missing.

use super::elf::Needs;
use super::error::BundleError;
use super::files::{Files, Found};
use super::path;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Folders searched for libraries, in the form of `path::clean`.
const LIBRARY_FOLDERS: [&str; 3] = ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"];

/// Hint for an agent that does not fit the packages.
const STATIC_AGENT_HINT: &str =
    "build an agent that needs no libraries with `cargo xtask agent`, and name it with --agent";

/// Programs and libraries to place.
#[derive(Debug, Default)]
pub(crate) struct Closure {
    /// Files by their own names.
    pub(crate) files: BTreeMap<String, Found>,
    /// Further names: name to file.
    pub(crate) links: BTreeMap<String, String>,
}

impl Closure {
    /// Adds a program of `files` by its name without folder, and all it needs. Returns its path.
    pub(crate) fn program(&mut self, files: &Files, name: &str) -> Result<String, BundleError> {
        let found = ["usr/bin", "usr/sbin"]
            .into_iter()
            .find_map(|folder| {
                let path = format!("{folder}/{name}");
                files.find(&path).map(|found| (path, found))
            })
            .ok_or_else(|| {
                would_not_run(name, "no package has it", "use the packages of one release")
            })?;
        let (path, found) = found;
        let bytes = found.bytes.clone();
        self.place(&path, found);
        self.needs_of(files, name, &bytes, "use the packages of one release")?;
        Ok(path)
    }

    /// Adds the libraries of a program that is not from the packages: the agent.
    pub(crate) fn foreign(
        &mut self,
        files: &Files,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), BundleError> {
        self.needs_of(files, name, bytes, STATIC_AGENT_HINT)
    }

    fn place(&mut self, name: &str, found: Found) {
        if name != found.path {
            self.links.insert(name.to_owned(), found.path.clone());
        }
        self.files.insert(found.path.clone(), found);
    }

    fn needs_of(
        &mut self,
        files: &Files,
        program: &str,
        bytes: &[u8],
        hint: &str,
    ) -> Result<(), BundleError> {
        let mut todo = vec![(program.to_owned(), needs(program, bytes, hint)?)];
        let mut seen = BTreeSet::new();
        while let Some((who, need)) = todo.pop() {
            if let Some(interpreter) = &need.interpreter {
                let found = path::clean(interpreter.as_bytes())
                    .and_then(|path| files.find(&path).map(|found| (path, found)));
                let Some((path, found)) = found else {
                    return Err(would_not_run(
                        program,
                        &format!("no package has its loader {interpreter}"),
                        hint,
                    ));
                };
                self.place(&path, found);
            }
            for library in &need.libraries {
                let Some((path, found)) = library_file(files, library) else {
                    let what = format!("{who} needs {library}, which no package has");
                    return Err(would_not_run(program, &what, hint));
                };
                let offered = needs(library, &found.bytes, hint)?;
                for version in need.versions.get(library).into_iter().flatten() {
                    if !offered.offers.contains(version) {
                        let what = format!(
                            "{who} needs {version} of {library}; that of the packages has {} at most",
                            newest_like(&offered.offers, version)
                        );
                        return Err(would_not_run(program, &what, hint));
                    }
                }
                self.place(&path, found);
                if seen.insert(path) {
                    todo.push((library.clone(), offered));
                }
            }
        }
        Ok(())
    }
}

/// True when the agent starts without libraries.
///
/// # Errors
/// [`BundleError::WouldNotRun`] when the file is no program.
pub(crate) fn needs_no_libraries(agent: &Path, bytes: &[u8]) -> Result<bool, BundleError> {
    let needs = needs(&agent.display().to_string(), bytes, STATIC_AGENT_HINT)?;
    Ok(needs.is_static())
}

fn library_file(files: &Files, library: &str) -> Option<(String, Found)> {
    if library.contains('/') {
        let path = path::clean(library.as_bytes())?;
        return files.find(&path).map(|found| (path, found));
    }
    LIBRARY_FOLDERS.into_iter().find_map(|folder| {
        let path = format!("{folder}/{library}");
        files.find(&path).map(|found| (path, found))
    })
}

/// The newest version in the family of `wanted`: `GLIBC_2.36` for `GLIBC_2.39`.
fn newest_like(offers: &[String], wanted: &str) -> String {
    let family = |version: &str| {
        version
            .rsplit_once('_')
            .map(|(family, _)| family.to_owned())
    };
    offers
        .iter()
        .filter(|offer| family(offer) == family(wanted))
        .max_by(|a, b| super::control::compare_versions(a, b))
        .cloned()
        .unwrap_or_else(|| "none of its kind".to_owned())
}

fn needs(who: &str, bytes: &[u8], hint: &str) -> Result<Needs, BundleError> {
    Needs::of(bytes).map_err(|error| would_not_run(who, &error.to_string(), hint))
}

fn would_not_run(program: &str, what: &str, hint: &str) -> BundleError {
    BundleError::WouldNotRun {
        program: program.to_owned(),
        what: what.to_owned(),
        hint: hint.to_owned(),
    }
}
