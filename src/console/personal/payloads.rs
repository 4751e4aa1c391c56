//! Files a template names, found on the console's machine.
//!
//! Owns: walking folders, hashing, and reading what planning has to know of driver packages. What always holds: what is found is bounded in number;
//! links are followed only as the technician's own folders have them.

use super::files::{Hashes, MAX_FILES};
use crate::console::api::{ApiError, ErrorCode, PlannedFile};
use crate::console::context::Console;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use template::inf;
use template::machine::{CopiedFile, DriverPackage, Files, PackageFile};
use template::schema::Template;
use template::step::Payload;

/// Folders inside each other.
const MAX_DEPTH: usize = 32;
/// Largest `.inf`, and the part of a program that is looked at for a signature.
const MAX_LOOK: u64 = 16 << 20;

/// Every file below a folder, with its name below it, in order.
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

/// The file, unless it is larger than anything that is looked at.
fn look(path: &Path) -> io::Result<Option<Vec<u8>>> {
    if std::fs::metadata(path)?.len() > MAX_LOOK {
        return Ok(None);
    }
    std::fs::read(path).map(Some)
}

impl Console {
    /// Files of copies and drivers, hashed; and where each lies.
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
    for folder in drivers {
        let mut package = DriverPackage::default();
        for (name, path) in walk(&folder).map_err(|error| refused(&folder, &error))? {
            driver_file(hashes, &mut planned, &mut package, name, path)?;
        }
        files.drivers.push(package);
    }
    Ok((files, planned.files))
}

fn driver_file(
    hashes: &Hashes,
    planned: &mut Planned,
    package: &mut DriverPackage,
    name: String,
    path: PathBuf,
) -> Result<(), ApiError> {
    let kind = name.rsplit('.').next().unwrap_or_default().to_lowercase();
    let program = matches!(kind.as_str(), "sys" | "dll" | "exe");
    let content = if program || kind == "inf" {
        look(&path).map_err(|error| refused(&path, &error))?
    } else {
        None
    };
    if kind == "inf" {
        let bytes = content.as_deref().unwrap_or_default();
        let read = inf::read(bytes).map_err(|error| refused(&path, &error))?;
        package.infs.push((name.clone(), read));
    }
    let signed = content
        .filter(|_| program)
        .and_then(|bytes| inf::is_signed(&bytes));
    let payload = planned.add(hashes.payload(&path)?, path)?;
    package.files.push(PackageFile {
        name,
        payload,
        signed,
    });
    Ok(())
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
