//! Hives that hold the machine's SID, checked for a possible rewrite.
//!
//! Owns the search for every hive that a Windows installation or one of its users needs, anywhere
//! on the volume (profiles are moved and localised, and an older Windows is kept), by the same rule
//! as the agent's edits.

use super::volume::Volume;
use super::{config, judged};
use hive::files::{LOG_SUFFIXES, MOST_HIVE_BYTES, MOST_LOG_BYTES, NEEDED, is_needed};
use hive::sid::{Machine, Marks, Sid};
use template::findings::{Obstacle, WindowsFindings};

/// Most hives that are reported; the first one already refuses the master.
const MOST_TOLD: usize = 16;

/// Adds every hive, besides the machine's own, that names its SID and cannot be changed.
pub(super) fn look(volume: &Volume<'_>, found: &mut WindowsFindings) -> Result<(), String> {
    let Some(machine) = found.machine_sid.as_deref().and_then(machine) else {
        return Ok(());
    };
    let marks = Marks::of(machine);
    let wanted = |name: &str| {
        NEEDED
            .iter()
            .any(|needed| name.eq_ignore_ascii_case(needed))
    };
    for path in volume.named(&wanted)? {
        if found.unchangeable_hives.len() == MOST_TOLD {
            break;
        }
        let Some((name, folders)) = path.split_last() else {
            continue;
        };
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        let folders = folders.iter().map(String::as_str);
        if !is_needed(folders, name) || is_own(&found.folder, &parts) {
            continue;
        }
        found
            .unchangeable_hives
            .extend(obstacle(volume, &parts, &marks));
    }
    Ok(())
}

fn machine(text: &str) -> Option<Machine> {
    text.parse::<Sid>().ok()?.machine()
}

/// True for one of the machine's own hives, which are checked separately.
fn is_own(windows: &str, path: &[&str]) -> bool {
    let own = ["SYSTEM", "SOFTWARE", "SAM", "SECURITY"];
    own.iter().any(|name| {
        let own = config(windows, name);
        own.len() == path.len()
            && own
                .iter()
                .zip(path)
                .all(|(one, other)| one.eq_ignore_ascii_case(other))
    })
}

/// Reason why a hive that has to be changed cannot be.
fn obstacle(volume: &Volume<'_>, path: &[&str], marks: &Marks) -> Option<Obstacle> {
    let name = path.join("\\");
    let unreadable = |reason: String| Some(super::unreadable(&name, &reason));
    let bytes = match volume.read(path, MOST_HIVE_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return None,
        Err(reason) => return unreadable(reason),
    };
    // A file that does not begin like a hive is no hive for the agent either.
    if !bytes.starts_with(b"regf") {
        return None;
    }
    let (last, folder) = path.split_last()?;
    let mut logs = Vec::new();
    for suffix in LOG_SUFFIXES {
        let log = format!("{last}{suffix}");
        match volume.read(&[folder, &[log.as_str()]].concat(), MOST_LOG_BYTES) {
            Ok(log) => logs.extend(log),
            Err(reason) => return unreadable(reason),
        }
    }
    if !marks.are_in(&bytes) && !logs.iter().any(|log| marks.are_in(log)) {
        return None;
    }
    judged(&name, bytes, &logs).err()
}
