//! Places on a volume that may name a SID: hives, and names of files and folders.
//!
//! There is no list of paths. Administrators move profiles (`ProfileImagePath`, localised and moved
//! folders), store apps have hives of many names, and Windows keeps copies (`RegBack`): every file
//! that begins like a hive is one.

use crate::error::{At, Result};
use crate::guest::Guest;
use crate::windows::hives::logs_of;
use crate::windows::ntfs::{self, Device, NtfsError};
use hive::sid::{self, Machine, Marks};
use std::cmp::Reverse;
use std::io::{self, Read};

/// Suffix of the copy of a hive from before diskcast changed it; such a copy stays unchanged.
const PREDEPLOY: &str = ".predeploy";
/// Bytes that are searched at once.
const WINDOW: usize = 1 << 20;
/// Length of the first bytes that are checked, and the offset of the field that tells a hive from
/// its log.
const BASE: usize = 32;
const KIND: usize = 28;

/// Result of a search.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Files that begin like a hive.
    pub(super) hives: Vec<String>,
    /// Files and folders whose name holds the old SID, with their new names; inner ones first.
    pub(super) renames: Vec<(String, String)>,
}

/// Searches an unmounted volume.
pub(super) fn places(volume: &dyn Device, old: Machine, new: Machine) -> Result<Places, NtfsError> {
    let kept = |name: &str| {
        let start = name.len().saturating_sub(PREDEPLOY.len());
        let end = name.get(start..).unwrap_or_default();
        end.eq_ignore_ascii_case(PREDEPLOY)
    };
    let wanted = |name: &str| !kept(name) && sid::replace_text(name, old, new).is_some();
    let ntfs::Found { mut hives, named } = ntfs::search(volume, &wanted)?;
    hives.retain(|path| !kept(path));
    let mut renames = Vec::new();
    for path in named {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if let Some(name) = sid::replace_text(name, old, new) {
            let to = format!("{folder}/{name}");
            renames.push((path, to));
        }
    }
    renames.sort_by_key(|(from, _)| Reverse(from.matches('/').count()));
    Ok(Places { hives, renames })
}

/// True if the file begins like a hive, and not like the log of one.
pub(super) fn is_hive(guest: &Guest, path: &str) -> Result<bool> {
    let Some(file) = guest.open(path)? else {
        return Ok(false);
    };
    let mut start = Vec::new();
    file.take(BASE as u64).read_to_end(&mut start).at(path)?;
    Ok(start.starts_with(b"regf") && start.get(KIND..BASE) == Some(&[0; 4]))
}

/// True if the hive or one of its logs holds the SID's bytes or text; saves opening the many hives
/// that do not.
pub(super) fn mentions(guest: &Guest, path: &str, old: Machine) -> Result<bool> {
    let marks = Marks::of(old);
    let mut files = logs_of(guest, path)?;
    files.push(path.to_owned());
    for file in files {
        let Some(mut content) = guest.open(&file)? else {
            continue;
        };
        if has_any(&mut content, &marks).at(&file)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True if the content, of any length, holds one of the marks.
fn has_any(content: &mut impl Read, marks: &Marks) -> io::Result<bool> {
    let mut window = Vec::with_capacity(WINDOW);
    loop {
        // The end of the window stays for the next part, because a mark may begin in it.
        let kept = window
            .len()
            .saturating_sub(marks.longest().saturating_sub(1));
        window.drain(..kept);
        let room = WINDOW.saturating_sub(window.len()) as u64;
        if content.by_ref().take(room).read_to_end(&mut window)? == 0 {
            return Ok(false);
        }
        if marks.are_in(&window) {
            return Ok(true);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test is an edge")]
mod tests {
    use super::*;
    use crate::windows::testing::{Mounted, new_volume};
    use std::fs::File;

    const OLD: Machine = Machine([1, 2, 3]);
    const NEW: Machine = Machine([7, 8, 9]);

    /// A file that begins like a hive and is as long as the smallest one.
    fn hive(kind: u8) -> Vec<u8> {
        let mut bytes = vec![7; 8192];
        bytes[..BASE].fill(0);
        bytes[..4].copy_from_slice(b"regf");
        bytes[KIND] = kind;
        bytes
    }

    #[test]
    fn hives_and_names_are_found_wherever_they_lie() {
        let dir = tempfile::tempdir().unwrap();
        let image = new_volume(dir.path(), 32 << 20);
        let sid = "S-1-5-21-1-2-3-1001";
        let mounted = Mounted::new(&image);
        for path in [
            "Profile/münch/ntuser.DAT".to_owned(),
            "Profile/münch/Any Name.hve".to_owned(),
            format!("Profile/münch/Protect/{sid}/{sid}"),
            "Profile/münch/SYSTEM.predeploy".to_owned(),
        ] {
            mounted.put(&path, &hive(0));
        }
        mounted.put("Windows/ntuser.dat.LOG1", &hive(1));
        mounted.put("Windows/long", &[hive(0), vec![0; 5]].concat());
        mounted.put("Windows/settings.dat", &[b'x'; 8192]);
        mounted.put(&format!("Windows/{sid}.log.predeploy"), b"");
        mounted.put("S-1-5-21-1-2-33-1001/x", b"");
        std::os::unix::fs::symlink("/Profile", mounted.path().join("All Users")).unwrap();
        // A folder that is too large to list in memory, and a hive after it.
        std::fs::create_dir(mounted.path().join("Many")).unwrap();
        for index in 0..1500 {
            File::create(mounted.path().join(format!("Many/{index}"))).unwrap();
        }
        mounted.put("Many/folder/USRCLASS.dat", &hive(0));
        drop(mounted);
        let volume = File::open(&image).unwrap();
        let Places { mut hives, renames } = places(&volume, OLD, NEW).unwrap();
        drop(volume);
        let mounted = Mounted::new(&image);
        let guest = Guest::new(mounted.path()).unwrap();
        hives.retain(|path| is_hive(&guest, path).unwrap());
        assert_eq!(
            hives,
            [
                "/Many/folder/USRCLASS.dat",
                "/Profile/münch/Any Name.hve",
                &format!("/Profile/münch/Protect/{sid}/{sid}"),
                "/Profile/münch/ntuser.DAT",
            ]
        );
        let (protect, to) = ("/Profile/münch/Protect", "S-1-5-21-7-8-9-1001");
        assert_eq!(
            renames,
            [
                (
                    format!("{protect}/{sid}/{sid}"),
                    format!("{protect}/{sid}/{to}")
                ),
                (format!("{protect}/{sid}"), format!("{protect}/{to}")),
            ]
        );
    }

    #[test]
    fn what_lies_across_two_parts_is_found() {
        let marks = Marks::of(OLD);
        let sid = OLD.to_bytes();
        for at in [0, WINDOW - 12, WINDOW - 3, WINDOW - 1, WINDOW, 2 * WINDOW] {
            let mut content = vec![b'a'; at];
            content.extend(sid);
            assert!(has_any(&mut &content[..], &marks).unwrap());
            content.pop();
            assert!(!has_any(&mut &content[..], &marks).unwrap());
        }
    }
}
