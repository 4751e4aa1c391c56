//! Windows paths on a mounted volume.
//!
//! A path stays on its volume, holds no name that Windows would interpret in another way, and has
//! the spelling of the folders that exist. A name that matches two entries of a folder is refused:
//! it cannot be known which one Windows means.

use crate::error::{Result, StepError};
use crate::guest::Guest;

/// Characters that Windows allows in no name, besides control characters.
const FORBIDDEN: [char; 8] = ['<', '>', ':', '"', '/', '|', '?', '*'];
/// Names of devices, with any extension.
const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];
/// Longest name of NTFS, in UTF-16 units.
const LONGEST_NAME: usize = 255;

/// Path of `C:\Deploy\app.msi` below the root of the volume, in the spelling of the folders that
/// exist.
pub(crate) fn guest_path(guest: &Guest, path: &str) -> Result<String> {
    let bad = |why: &str| {
        StepError::refused(
            format!("{path:?}: {why}"),
            "give another path in the template",
        )
    };
    let rest = match path.split_once(':') {
        Some((drive, rest)) if drive.eq_ignore_ascii_case("C") => rest,
        Some(_) => return Err(bad("only drive C: of the deployed system can be written")),
        None => return Err(bad(r"a path on Windows begins with C:\")),
    };
    let Some(rest) = rest.strip_prefix(['\\', '/']) else {
        return Err(bad(r"a path on Windows begins with C:\"));
    };
    let mut found = String::new();
    for name in rest.split(['\\', '/']) {
        check_name(name).map_err(bad)?;
        found = below(guest, &found, name)?;
    }
    Ok(found)
}

/// Path of a name in a folder: in the spelling of the existing entry, or unchanged if there is
/// none.
pub(crate) fn below(guest: &Guest, folder: &str, name: &str) -> Result<String> {
    let listed = if folder.is_empty() { "/" } else { folder };
    let folded = name.to_uppercase();
    let same = guest.two_like(listed, |entry| entry.to_uppercase() == folded)?;
    match same.as_slice() {
        [one, other, ..] => Err(StepError::refused(
            format!("{folder}/{one} and {folder}/{other} differ in case alone"),
            "remove one of them on the master",
        )),
        [one] => Ok(format!("{folder}/{one}")),
        [] => Ok(format!("{folder}/{name}")),
    }
}

/// Follows names below a folder one by one, each in the spelling of the existing entry.
pub(crate) fn walk(guest: &Guest, folder: &str, names: &[&str]) -> Result<String> {
    let mut found = folder.to_owned();
    for name in names {
        found = below(guest, &found, name)?;
    }
    Ok(found)
}

/// Path of the Windows folder, in its own spelling.
pub(crate) fn windows_folder(guest: &Guest) -> Result<String> {
    for name in ["Windows", "WINNT"] {
        let folder = below(guest, "", name)?;
        if guest.exists(&walk(guest, &folder, &["System32", "config", "SYSTEM"])?)? {
            return Ok(folder);
        }
    }
    Err(StepError::refused(
        "the volume holds no Windows: \\Windows\\System32\\config\\SYSTEM is not there",
        "inspect the image again and deploy with a new plan",
    ))
}

/// Checks that Windows accepts a name as an ordinary one; the error is the reason.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("a name in it is empty");
    }
    if name == "." || name == ".." {
        return Err("it must not contain . or ..");
    }
    if name.encode_utf16().count() > LONGEST_NAME {
        return Err("a name in it is longer than 255 characters");
    }
    if name.contains(FORBIDDEN) || name.contains('\\') || name.chars().any(char::is_control) {
        return Err("a name in it has a character Windows forbids");
    }
    // Windows drops trailing dots and spaces: `file.` would be written here and never be found
    // there.
    if name.ends_with(['.', ' ']) {
        return Err("a name in it ends with a dot or a space");
    }
    let stem = name
        .split('.')
        .next()
        .unwrap_or(name)
        .trim_end()
        .to_ascii_uppercase();
    let numbered = stem.strip_prefix("COM").or(stem.strip_prefix("LPT"));
    let numbered = numbered.is_some_and(|n| n.len() == 1 && n.chars().all(|c| c.is_ascii_digit()));
    if DEVICES.contains(&stem.as_str()) || numbered {
        return Err("a name in it is that of a device");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(dir: &std::path::Path) -> Guest {
        for folder in ["Windows/System32/config", "Deploy", "Twice", "TWICE"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        Guest::new(dir).unwrap()
    }

    #[test]
    fn paths_are_spelt_as_the_volume_spells_them() {
        let dir = tempfile::tempdir().unwrap();
        let guest = guest(dir.path());
        for (path, found) in [
            (r"C:\deploy\App.msi", "/Deploy/App.msi"),
            (
                r"c:/WINDOWS/system32/CONFIG/x",
                "/Windows/System32/config/x",
            ),
            (r"C:\New\Folder\file", "/New/Folder/file"),
        ] {
            assert_eq!(guest_path(&guest, path).unwrap(), found);
        }
    }

    #[test]
    fn what_leaves_the_volume_or_means_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let guest = guest(dir.path());
        for (path, why) in [
            (r"D:\x", "only drive C:"),
            (r"\x", r"begins with C:\"),
            (r"C:x", r"begins with C:\"),
            (r"C:\a\..\b", ". or .."),
            (r"C:\a\.\b", ". or .."),
            (r"C:\a\\b", "is empty"),
            (r"C:\", "is empty"),
            (r"C:\file:stream", "forbids"),
            (r"C:\a*", "forbids"),
            (r"C:\dot.", "dot or a space"),
            (r"C:\a\nul.txt", "device"),
            (r"C:\COM1", "device"),
            (r"C:\twice\x", "differ in case alone"),
        ] {
            let error = guest_path(&guest, path).unwrap_err().to_string();
            assert!(error.contains(why), "{path}: {error}");
        }
        guest_path(&guest, r"C:\COMMON\nulls.txt").unwrap();
    }
}
