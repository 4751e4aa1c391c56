//! The machine SID, everywhere: registry, folders named by SID, NTFS descriptors.
//!
//! ```text
//! hives    SAM SECURITY SYSTEM SOFTWARE .., every user's NTUSER.DAT and UsrClass.dat: values, names of keys and values,
//!          security descriptors
//! folders  $Recycle.Bin\SID, Protect\SID, Crypto\RSA\SID ..
//! NTFS     $Secure, and descriptors beside their file; the volume is unmounted for that
//! ```
//!
//! The order is theirs: a run that was cut goes on where it stopped, because each part is looked at by itself. What is kept in
//! databases that are no hives (the state repository of store apps, the search index) is left and said, and so is DPAPI: master
//! keys of local accounts are bound to the old SID, so what users had encrypted with them is lost.
//!
//! Not supported by Microsoft. Untested on real Windows: proven is that no trace of the old SID is left in what is named here,
//! that administrators stay administrators, and that passwords stay the same.

mod content;

use super::hives::Hives;
use super::ntfs;
use super::paths;
use crate::context::Context;
use crate::engine::{State, Task};
use crate::guest::{Guest, Kind};
use content::{account, rewrite, traces, unreplaced};
use hive::HiveError;
use hive::sid::{self, Machine};
use std::fs::File;
use std::path::Path;
use std::rc::Rc;

/// Hives of `System32\config` that may name accounts.
const CONFIG: [&str; 9] = [
    "SAM",
    "SECURITY",
    "SYSTEM",
    "SOFTWARE",
    "DEFAULT",
    "COMPONENTS",
    "DRIVERS",
    "BBI",
    "ELAM",
];
/// Hives of a profile, below its folder.
const PROFILE: [&[&str]; 3] = [
    &["NTUSER.DAT"],
    &["AppData", "Local", "Microsoft", "Windows", "UsrClass.dat"],
    &[
        "Local Settings",
        "Application Data",
        "Microsoft",
        "Windows",
        "UsrClass.dat",
    ],
];
/// Folders of profiles, below the root and below Windows.
const PROFILES: [&str; 2] = ["Users", "Documents and Settings"];
const SERVICE_PROFILES: [&[&str]; 1] = [&["ServiceProfiles"]];
/// Folders of a profile with a folder of each SID in them.
const PROFILE_FOLDERS: [&[&str]; 4] = [
    &["AppData", "Roaming", "Microsoft", "Protect"],
    &["AppData", "Roaming", "Microsoft", "Crypto", "RSA"],
    &["Application Data", "Microsoft", "Protect"],
    &["Application Data", "Microsoft", "Crypto", "RSA"],
];
/// The same below the root of the volume.
const ROOT_FOLDERS: [&str; 2] = ["$Recycle.Bin", "RECYCLER"];
/// Largest hive that is looked into.
const MOST_HIVE_BYTES: u64 = 256 << 20;

/// Rewrites the SID.
pub(crate) struct Rewrite {
    partition: u32,
    old: Machine,
    new: Machine,
}

impl Rewrite {
    pub(crate) fn new(partition: u32, old: &str, new: &str) -> Result<Self, String> {
        Ok(Self {
            partition,
            old: machine(old)?,
            new: machine(new)?,
        })
    }

    /// Hives edited in memory, and what else there is to do.
    fn files(&self, guest: Rc<Guest>) -> Result<Work, String> {
        let mut hives = Hives::new(guest)?;
        self.refuse_others(&mut hives)?;
        let profiles = profiles(&hives)?;
        let (mut renames, mut left) = (Vec::new(), Vec::new());
        for path in hive_paths(&hives, &profiles)? {
            left.extend(self.one_hive(&mut hives, &path)?);
        }
        let guest = hives.guest();
        let mut parents = Vec::new();
        for name in ROOT_FOLDERS {
            parents.push(paths::below(guest, "", name)?);
        }
        parents.push(paths::walk(
            guest,
            hives.windows(),
            &["System32", "GroupPolicyUsers"],
        )?);
        for profile in &profiles {
            for folder in PROFILE_FOLDERS {
                parents.push(paths::walk(guest, profile, folder)?);
            }
        }
        for parent in parents {
            for name in guest.list(&parent)? {
                if let Some(new) = sid::replace_text(&name, self.old, self.new) {
                    renames.push((format!("{parent}/{name}"), format!("{parent}/{new}")));
                }
            }
        }
        Ok(Work {
            hives,
            renames,
            left,
        })
    }

    /// The plan names the SID the master has; a machine that has neither is another one. A domain controller is none of these.
    fn refuse_others(&self, hives: &mut Hives) -> Result<(), String> {
        let sets = hives.control_sets()?;
        let told = |error: HiveError| format!("SYSTEM: {error}");
        for set in &sets {
            let system = hives.get("SYSTEM")?;
            let options = system
                .find(&format!(r"{set}\Control\ProductOptions"))
                .map_err(told)?;
            let kind = match options {
                Some(key) => system.value(key, "ProductType").map_err(told)?,
                None => None,
            };
            let kind = kind.and_then(|value| value.as_string()).unwrap_or_default();
            if kind.eq_ignore_ascii_case("LanmanNT") {
                return Err(
                    "the master is a domain controller: its SID is that of its domain".into(),
                );
            }
        }
        match account(hives.get("SAM")?).map_err(|error| format!("SAM: {error}"))? {
            Some((_, _, found)) if found == self.old || found == self.new => Ok(()),
            Some((_, _, found)) => Err(format!(
                "the master has the SID {found}, and the plan expects {}; inspect the image again",
                self.old
            )),
            None => Err("SAM has no machine SID".into()),
        }
    }

    /// Edits a hive; gives the values that have to be left.
    fn one_hive(&self, hives: &mut Hives, path: &str) -> Result<Vec<String>, String> {
        if !mentions(hives.guest(), path, self.old)? {
            return Ok(Vec::new());
        }
        let now = hives.now();
        let told = |error: HiveError| format!("{path}: {error}");
        let hive = hives.at(path)?;
        let count = rewrite(hive, self.old, self.new, now).map_err(told)?;
        if count > 0 {
            hives.changed(path, format!("{count} places with the old SID"));
        }
        let hive = hives.at(path)?;
        match traces(hive, self.old).map_err(told)?.as_slice() {
            [] => {}
            [first, ..] => {
                return Err(format!(
                    "{path}: the old SID would be left in {first}, and perhaps elsewhere"
                ));
            }
        }
        let left = unreplaced(hive, self.old).map_err(told)?;
        Ok(left
            .into_iter()
            .map(|value| format!("{path}: {value}"))
            .collect())
    }

    fn volume(
        &self,
        context: &mut Context<'_>,
        writable: bool,
    ) -> Result<(File, ntfs::Planned), String> {
        let device = context.device(self.partition)?;
        let volume = open(&device, writable)?;
        let told = |error: ntfs::NtfsError| format!("the NTFS volume: {error}");
        let planned =
            ntfs::plan(&volume, &self.old.to_bytes(), &self.new.to_bytes()).map_err(told)?;
        Ok((volume, planned))
    }
}

/// What a rewrite comes to, besides NTFS.
struct Work {
    /// Edited in memory.
    hives: Hives,
    /// Folders: from, to.
    renames: Vec<(String, String)>,
    /// Values that spell the old SID and cannot be changed.
    left: Vec<String>,
}

impl Task for Rewrite {
    fn check(&mut self, context: &mut Context<'_>) -> Result<State, String> {
        let Work { hives, renames, .. } = self.files(context.root(self.partition)?)?;
        if let State::Needed(what) = hives.state() {
            return Ok(State::Needed(what));
        }
        drop(hives);
        if let Some((from, _)) = renames.first() {
            return Ok(State::Needed(format!("{from} is named by the old SID")));
        }
        let (_, planned) = self.volume(context, false)?;
        Ok(match planned.is_empty() {
            true => State::Done,
            false => State::Needed(format!(
                "{} security descriptors of files name the old SID",
                planned.shared + planned.own
            )),
        })
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        // The volume first, without a change: what it refuses should be refused before the registry says otherwise.
        self.volume(context, false)?;
        let Work {
            hives,
            renames,
            left,
        } = self.files(context.root(self.partition)?)?;
        let guest = context.root(self.partition)?;
        hives.save()?;
        for (from, to) in renames {
            if guest.exists(&to)? {
                return Err(format!("{from} has to become {to}, which is there already"));
            }
            guest.rename(&from, &to)?;
        }
        drop(guest);
        let (volume, planned) = self.volume(context, true)?;
        ntfs::write(
            &volume,
            &planned,
            &self.old.to_bytes(),
            &self.new.to_bytes(),
        )
        .map_err(|error| format!("the NTFS volume: {error}"))?;
        context.log(&format!(
            "{} shared and {} own security descriptors have the new SID",
            planned.shared, planned.own
        ));
        if let [first, ..] = left.as_slice() {
            context.note(format!(
                "{} binary values spell the old SID in a form of another length, and were left, the first is {first}",
                left.len()
            ));
        }
        context.note(
            "the new SID cuts local accounts off from what they had encrypted with DPAPI (saved passwords, EFS, certificates), and \
             store apps may have to be registered anew; a SID rewrite is not supported by Microsoft"
                .into(),
        );
        Ok(())
    }
}

fn machine(text: &str) -> Result<Machine, String> {
    let sid: Option<sid::Sid> = text.parse().ok();
    let whole = sid.filter(|sid| sid.to_string() == text);
    let machine = whole
        .and_then(|sid| sid.machine())
        .filter(|machine| machine.to_string() == text);
    machine.ok_or_else(|| format!("{text} is no machine SID: S-1-5-21-a-b-c"))
}

/// Folders of users, of services and of the system itself. Symbolic links (junctions) are left: what they lead to is a profile too.
fn profiles(hives: &Hives) -> Result<Vec<String>, String> {
    let guest = hives.guest();
    let mut parents = Vec::new();
    for name in PROFILES {
        parents.push(paths::below(guest, "", name)?);
    }
    for names in SERVICE_PROFILES {
        parents.push(paths::walk(guest, hives.windows(), names)?);
    }
    let mut found = vec![paths::walk(
        guest,
        hives.windows(),
        &["System32", "config", "systemprofile"],
    )?];
    for parent in parents {
        if !is_folder(guest, &parent)? {
            continue;
        }
        for name in guest.list(&parent)? {
            let profile = format!("{parent}/{name}");
            if is_folder(guest, &profile)? {
                found.push(profile);
            }
        }
    }
    Ok(found)
}

fn is_folder(guest: &Guest, path: &str) -> Result<bool, String> {
    Ok(guest
        .metadata(path)?
        .is_some_and(|found| found.kind == Kind::Directory))
}

/// Every hive that is there.
fn hive_paths(hives: &Hives, profiles: &[String]) -> Result<Vec<String>, String> {
    let guest = hives.guest();
    let mut found = Vec::new();
    for name in CONFIG {
        found.push(hives.config(name)?);
    }
    for profile in profiles {
        for names in PROFILE {
            found.push(paths::walk(guest, profile, names)?);
        }
        // Store apps have a small hive each.
        let packages = paths::walk(guest, profile, &["AppData", "Local", "Packages"])?;
        for name in guest.list(&packages)? {
            let package = format!("{packages}/{name}");
            found.push(paths::walk(guest, &package, &["Settings", "settings.dat"])?);
        }
    }
    let mut there = Vec::new();
    for path in found {
        let metadata = guest.metadata(&path)?;
        // An empty settings.dat is what an app leaves that never ran.
        if metadata.is_some_and(|found| found.kind == Kind::File && found.length > 0) {
            there.push(path);
        }
    }
    Ok(there)
}

/// The file or one of its logs has the SID's bytes or text anywhere; spares opening the many that do not.
fn mentions(guest: &Guest, path: &str, old: Machine) -> Result<bool, String> {
    let text = old.to_string();
    // Without the first letter, which may be of either case.
    let narrow = text.get(1..).unwrap_or_default().as_bytes().to_vec();
    let wide: Vec<u8> = narrow.iter().flat_map(|byte| [*byte, 0]).collect();
    let needles = [old.to_bytes().to_vec(), narrow, wide];
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    for suffix in ["", ".LOG", ".LOG1", ".LOG2"] {
        let file = paths::below(guest, folder, &format!("{name}{suffix}"))?;
        let Some(bytes) = guest.read(&file, MOST_HIVE_BYTES)? else {
            continue;
        };
        if needles.iter().any(|needle| contains(&bytes, needle)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else {
        return false;
    };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        let Some(found) = rest.get(at..) else {
            return false;
        };
        if found.starts_with(needle) {
            return true;
        }
        rest = found.get(1..).unwrap_or_default();
    }
    false
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge: the volume itself, unmounted"
)]
fn open(device: &Path, writable: bool) -> Result<File, String> {
    let opened = match writable {
        true => File::options().read(true).write(true).open(device),
        false => File::open(device),
    };
    opened.map_err(|error| format!("{}: {error}", device.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_machine_sid_is_taken() {
        assert_eq!(machine("S-1-5-21-11-22-33").unwrap(), Machine([11, 22, 33]));
        for text in [
            "S-1-5-21-11-22",
            "S-1-5-21-11-22-33-500",
            "S-1-5-32-544",
            "s-1-5-21-11-22-33",
            "",
            "x",
        ] {
            assert!(machine(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_found() {
        assert!(contains(b"aab", b"ab") && contains(b"ab", b"ab") && !contains(b"aa", b"ab"));
        assert!(!contains(b"", b"a") && !contains(b"a", b""));
    }
}
