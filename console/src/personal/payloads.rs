//! Files that a template names on the console's machine.
//!
//! Owns walking folders, hashing, and reading the parts of driver packages that planning needs.
//! Invariants: the number of files is bounded; a link is followed only where a folder of the
//! technician has one.

use super::files::{Hashes, MAX_FILES};
use crate::context::Console;
use api::{ApiError, ErrorCode, PlannedFile};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use template::inf;
use template::machine::{CopiedFile, DriverPackage, Files};
use template::schema::Template;
use template::step::Payload;

/// Maximum number of levels of nested folders.
const MAX_DEPTH: usize = 32;
/// Largest `.inf` or program that is read, in bytes.
const MAX_LOOK: u64 = 16 << 20;

/// Returns every file below a folder with its relative name, in order.
fn walk(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), folder.to_owned(), 0)];
    while let Some((prefix, folder, depth)) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| {
                io::Error::other(format!("the name {} is not UTF-8", name.display()))
            })?;
            let below = format!("{prefix}{name}");
            let path = entry.path();
            if path.is_dir() {
                if depth >= MAX_DEPTH {
                    return Err(io::Error::other(format!(
                        "more than {MAX_DEPTH} folders deep"
                    )));
                }
                open.push((format!("{below}/"), path, depth + 1));
            } else {
                found.push((below, path));
            }
            if found.len() > MAX_FILES {
                return Err(io::Error::other(format!("more than {MAX_FILES} files")));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn refused(path: &Path, error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Refused, format!("{}: {error}", path.display()))
        .hint("the template names it; paths are those of the console's machine")
}

/// Returns the content of a file; `None` if it is larger than [`MAX_LOOK`].
fn look(path: &Path) -> io::Result<Option<Vec<u8>>> {
    if std::fs::metadata(path)?.len() > MAX_LOOK {
        return Ok(None);
    }
    std::fs::read(path).map(Some)
}

impl Console {
    /// Returns the hashed files of copies and drivers, and the path of each.
    pub(super) async fn files_of(
        &self,
        template: &Template,
        folder: &Path,
    ) -> Result<(Files, Vec<PlannedFile>), ApiError> {
        let copies: Vec<PathBuf> = template
            .copies
            .iter()
            .map(|c| folder.join(&c.from))
            .collect();
        let drivers: Vec<PathBuf> = template
            .drivers
            .iter()
            .map(|d| folder.join(&d.path))
            .collect();
        let hashes = Arc::clone(&self.personal.hashes);
        tokio::task::spawn_blocking(move || collect(&hashes, copies, drivers))
            .await
            .map_err(|error| ApiError::new(ErrorCode::Unexpected, error.to_string()))?
    }
}

/// Returns the faults of copies and drivers whose files are missing or unusable, each with its key
/// in the template. Opens every file, and hashes none.
pub fn missing_files(template: &Template, folder: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    for (number, copy) in (1..).zip(&template.copies) {
        let path = folder.join(&copy.from);
        let files = match path.is_dir() {
            true => walk(&path).map_err(|error| refused(&path, &error)),
            false => Ok(vec![(String::new(), path)]),
        };
        missing.extend(faults(files).map(|fault| format!("copy.{number}.from: {fault}")));
    }
    for (number, driver) in (1..).zip(&template.drivers) {
        let files = package_files(&folder.join(&driver.path));
        let none = files.as_ref().is_ok_and(|files| {
            let is_driver = |(name, path): &(String, PathBuf)| {
                let content = look(path).ok().flatten();
                name.to_lowercase().ends_with(".inf")
                    && content.is_some_and(|content| inf::read(&content).is_ok())
            };
            !files.iter().any(is_driver)
        });
        let path = folder.join(&driver.path);
        let none = none.then(|| format!("{}: has no .inf of a driver", path.display()));
        let faults = faults(files).chain(none);
        missing.extend(faults.map(|fault| format!("driver.{number}.path: {fault}")));
    }
    missing
}

/// Returns the faults of files that were found but cannot be read.
fn faults(files: Result<Vec<(String, PathBuf)>, ApiError>) -> impl Iterator<Item = String> {
    let (files, fault) = match files {
        Ok(files) => (files, None),
        Err(error) => (Vec::new(), Some(error.message)),
    };
    let faults = files.into_iter().filter_map(|(_, path)| {
        let opened = can_be_read(&path);
        opened
            .err()
            .map(|error| format!("{}: {error}", path.display()))
    });
    fault.into_iter().chain(faults)
}

/// Checks that a path is a regular file and can be opened.
#[expect(
    clippy::disallowed_methods,
    reason = "the console looks at files that people named"
)]
fn can_be_read(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path)?.is_file() {
        true => std::fs::File::open(path).map(drop),
        false => Err(io::Error::other("not a regular file")),
    }
}

fn collect(
    hashes: &Hashes,
    copies: Vec<PathBuf>,
    drivers: Vec<PathBuf>,
) -> Result<(Files, Vec<PlannedFile>), ApiError> {
    let mut planned = Planned::default();
    let mut files = Files::default();
    for path in copies {
        let below = if path.is_dir() {
            walk(&path).map_err(|error| refused(&path, &error))?
        } else {
            vec![(String::new(), path)]
        };
        let mut copied = Vec::new();
        for (relative, path) in below {
            let payload = planned.add(hashes.payload(&path)?, path)?;
            copied.push(CopiedFile { relative, payload });
        }
        files.copies.push(copied);
    }
    for path in drivers {
        let mut package = DriverPackage::default();
        for (name, path) in package_files(&path)? {
            driver_file(hashes, &mut planned, &mut package, &name, path)?;
        }
        files.drivers.push(package);
    }
    Ok((files, planned.files))
}

/// Returns the files of a driver package: every file below a folder, or an `.inf` with the files it
/// lists.
fn package_files(path: &Path) -> Result<Vec<(String, PathBuf)>, ApiError> {
    if path.is_dir() || !path.exists() {
        return walk(path).map_err(|error| refused(path, &error));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !name.to_lowercase().ends_with(".inf") {
        let text = format!(
            "{}: a driver package is a folder with its .inf, or the .inf itself, and this is another file",
            path.display()
        );
        return Err(ApiError::new(ErrorCode::Refused, text)
            .hint("unpack archives and installers to a folder, and name that in the template"));
    }
    let content = look(path).map_err(|error| refused(path, &error))?;
    let read = inf::read(content.as_deref().unwrap_or_default());
    let inf = read.map_err(|error| refused(path, &error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let catalogs = inf.catalogs.iter().map(|(_, file)| file);
    // Driver binaries that the file list omits are beside the .inf.
    let services = inf
        .all_models()
        .filter_map(|(_, model)| model.service.as_ref());
    let binaries = services.map(|service| &service.place);
    let mut places: Vec<&String> = inf.files.iter().chain(catalogs).chain(binaries).collect();
    places.sort();
    places.dedup();
    let mut found = vec![(name.into_owned(), path.to_owned())];
    for place in places {
        let file = in_any_case(folder, place).map_err(|error| refused(folder, &error))?;
        if let Some(file) = file
            && !found.iter().any(|(_, known)| *known == file)
        {
            found.push((place.clone(), file));
        }
    }
    Ok(found)
}

/// Finds a file below a folder by its path with `/`, ignoring case as Windows does. `None` if there
/// is none.
fn in_any_case(folder: &Path, place: &str) -> io::Result<Option<PathBuf>> {
    let mut at = folder.to_owned();
    for part in place.split('/') {
        let exact = at.join(part);
        if exact.exists() {
            at = exact;
            continue;
        }
        if !at.is_dir() {
            return Ok(None);
        }
        let mut found = None;
        for entry in std::fs::read_dir(&at)? {
            let name = entry?.file_name();
            if name.to_string_lossy().to_lowercase() == part.to_lowercase() {
                found = Some(at.join(name));
            }
        }
        match found {
            Some(next) => at = next,
            None => return Ok(None),
        }
    }
    Ok(at.is_file().then_some(at))
}

fn driver_file(
    hashes: &Hashes,
    planned: &mut Planned,
    package: &mut DriverPackage,
    name: &str,
    path: PathBuf,
) -> Result<(), ApiError> {
    let content = match DriverPackage::looks_into(name) {
        true => look(&path).map_err(|error| refused(&path, &error))?,
        false => None,
    };
    let payload = planned.add(hashes.payload(&path)?, path.clone())?;
    package
        .add(name, payload, content.as_deref())
        .map_err(|error| refused(&path, &error))
}

#[derive(Default)]
struct Planned {
    files: Vec<PlannedFile>,
}

impl Planned {
    /// Lists a file once, however often it is named.
    fn add(&mut self, payload: Payload, path: PathBuf) -> Result<Payload, ApiError> {
        let known = self
            .files
            .iter()
            .any(|file| file.payload.blake3 == payload.blake3);
        if !known {
            if self.files.len() >= MAX_FILES {
                return Err(ApiError::new(
                    ErrorCode::Refused,
                    format!("the template has more than {MAX_FILES} files"),
                ));
            }
            self.files.push(PlannedFile {
                path,
                payload: payload.clone(),
            });
        }
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const INF: &str = "[Version]\r\nSignature=\"$Windows NT$\"\r\nClass=Net\r\nCatalogFile=CARD.cat\r\n[Manufacturer]\r\n\
                       a=Acme,NTamd64\r\n[Acme.NTamd64]\r\nd=Inst,PCI\\VEN_1234\r\n[SourceDisksNames]\r\n1=d,,,\\amd64\r\n\
                       [SourceDisksFiles]\r\nCard.sys=1\r\nmissing.dll=1\r\n";

    fn names(path: &Path) -> Result<Vec<String>, ApiError> {
        let (files, _) = collect(&Hashes::default(), Vec::new(), vec![path.to_owned()])?;
        let files = files.drivers.into_iter().flat_map(|package| package.files);
        Ok(files.map(|file| file.name).collect())
    }

    #[test]
    fn a_driver_is_a_folder_or_an_inf_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("AMD64")).unwrap();
        for (name, content) in [
            ("card.inf", INF.as_bytes()),
            ("card.cat", b"c"),
            ("AMD64/card.sys", b"s"),
            ("AUTORUN.INF", b"[autorun]\r\nopen=setup.exe\r\n"),
            ("readme.txt", b"r"),
            ("card.zip", b"PK"),
        ] {
            fs::write(at(name), content).unwrap();
        }
        // The .inf with the files it lists, found in any case; other files of the folder do not
        // belong to it.
        let own = names(&at("card.inf")).unwrap();
        assert_eq!(own, ["card.inf", "CARD.cat", "amd64/Card.sys"]);
        // The .inf of an installer does not limit the folder.
        assert_eq!(names(folder.path()).unwrap().len(), 6);
        let zip = names(&at("card.zip")).unwrap_err();
        assert_eq!(zip.code, ErrorCode::Refused);
        assert!(zip.message.contains("this is another file"), "{zip:?}");
        assert!(zip.hint.unwrap().contains("unpack archives"));
        let none = names(&at("AUTORUN.INF")).unwrap_err();
        assert!(none.message.contains("[Version]"), "{none:?}");
        assert!(names(&at("nothing")).is_err());
    }
}
