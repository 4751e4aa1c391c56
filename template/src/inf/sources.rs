//! Places of a package's files: `SourceDisksFiles`, `SourceDisksNames`, and names given by
//! `CopyFiles`.
//!
//! Invariants: a place lies below the folder of the `.inf`, and is no longer than a path of
//! Windows.

use super::sections::{Section, Sections};
use crate::findings::Arch;

/// Length limit of a path that Windows Setup copies from, in bytes.
const MAX_PATH: usize = 260;
/// Architectures with sections of their own.
const DECORATIONS: [&str; 4] = ["", ".x86", ".amd64", ".arm64"];

/// Decoration of an architecture's file sections.
fn decoration(arch: Arch) -> &'static str {
    match arch {
        Arch::X86 => ".x86",
        Arch::X64 => ".amd64",
        Arch::Arm64 => ".arm64",
        Arch::Other => "",
    }
}

/// Place of a file: a path below the folder of the `.inf`, with `/` between folders; `None` when no
/// section lists it.
pub(super) fn place(sections: &Sections, file: &str, arch: Arch) -> Option<String> {
    place_by(sections, file, decoration(arch))
}

fn place_by(sections: &Sections, file: &str, decoration: &str) -> Option<String> {
    let entry = [decoration, ""].iter().find_map(|decoration| {
        let files = sections.get(&format!("sourcedisksfiles{decoration}"));
        files.entry(&file.to_lowercase())
    })?;
    let disk = entry.values.first()?;
    let folder = entry.values.get(1).map_or("", String::as_str);
    let disk = [decoration, ""].iter().find_map(|decoration| {
        let disks = sections.get(&format!("sourcedisksnames{decoration}"));
        disks.entry(&disk.to_lowercase())
    });
    // The values are description, tag file, an unused field, path.
    let root = disk.and_then(|disk| disk.values.get(3));
    joined(&[root.map_or("", String::as_str), folder, file])
}

/// Every place the `.inf` lists, of any architecture.
pub(super) fn places(sections: &Sections) -> Vec<String> {
    let mut places = Vec::new();
    for decoration in DECORATIONS {
        let files = sections.get(&format!("sourcedisksfiles{decoration}"));
        for entry in &files.entries {
            places.extend(place_by(sections, &entry.raw_key, decoration));
        }
    }
    places.sort();
    places.dedup();
    places
}

/// Name in the package of the file that `install` copies to the name `file`.
pub(super) fn name_before_copy(sections: &Sections, install: &Section, file: &str) -> String {
    let lists = install
        .entries
        .iter()
        .filter(|entry| entry.key == "copyfiles")
        .flat_map(|entry| &entry.values)
        .filter(|list| !list.starts_with('@'));
    for list in lists {
        for entry in &sections.get(list).entries {
            // The entry is `to, from, , flags`, without a key.
            let mut fields = entry.raw_key.split(',').map(|f| f.trim().trim_matches('"'));
            let to = fields.next().unwrap_or_default();
            if to.to_lowercase() == file.to_lowercase()
                && let Some(from) = fields.next().filter(|from| !from.is_empty())
            {
                return from.to_owned();
            }
        }
    }
    file.to_owned()
}

/// Joins folders and file to one path; `None` when the path leaves the package or is too long.
fn joined(parts: &[&str]) -> Option<String> {
    if parts.iter().map(|part| part.len()).sum::<usize>() > MAX_PATH {
        return None;
    }
    let mut names = Vec::new();
    for name in parts.iter().flat_map(|part| part.split(['\\', '/'])) {
        match name.trim() {
            "" | "." => {}
            ".." => return None,
            name => names.push(name),
        }
    }
    Some(names.join("/"))
}
