//! Hives of a mounted Windows, edited in memory and written back in place.
//!
//! Owns opening with logs, validation before and after, the backup copy, and the write. Nothing is
//! written unless the hive is complete and sound both before and after the edit. The file is
//! overwritten in place, so that NTFS keeps its security descriptor. A copy from before the first
//! run lies beside it as `NAME.predeploy`.
//!
//! Every foreseeable failure (a fault in a hive, too little space) is found before the first byte
//! is written. If the device fails in the middle of the write, the hive is broken: the target then
//! stays blank, is never committed, and is written anew.

use super::acl;
use super::paths;
use crate::engine::State;
use crate::error::{At, Result, Room, StepError};
use crate::guest::{Guest, Owner};
use hive::files::{LOG_SUFFIXES, MOST_HIVE_BYTES, MOST_LOG_BYTES};
use hive::{FileTime, Hive, KeyId, kind};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

/// Bytes that stay free beside the written files.
const SPARE: u64 = 1 << 20;

/// The hives of one Windows installation.
pub(crate) struct Hives {
    guest: Rc<Guest>,
    windows: String,
    open: BTreeMap<String, Opened>,
    now: FileTime,
}

struct Opened {
    hive: Hive,
    /// Length of the file in bytes.
    length: u64,
    /// Descriptions of the changes, for the log.
    changes: Vec<String>,
}

impl Hives {
    /// Finds the Windows installation on a volume.
    pub(crate) fn new(guest: Rc<Guest>) -> Result<Self> {
        let windows = paths::windows_folder(&guest)?;
        Ok(Self {
            guest,
            windows,
            open: BTreeMap::new(),
            now: now(),
        })
    }

    /// Files of the volume.
    pub(crate) fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Time stamp of the edits.
    pub(crate) fn now(&self) -> FileTime {
        self.now
    }

    /// Path of a hive in `System32\config`.
    pub(crate) fn config(&self, name: &str) -> Result<String> {
        paths::walk(&self.guest, &self.windows, &["System32", "config", name])
    }

    /// Opens a hive of `System32\config`; an error if it does not exist.
    pub(crate) fn get(&mut self, name: &str) -> Result<&mut Hive> {
        let path = self.config(name)?;
        self.at(&path)
    }

    /// Opens a hive by its path below the root; an error if it does not exist.
    pub(crate) fn at(&mut self, path: &str) -> Result<&mut Hive> {
        if !self.open.contains_key(path) {
            let opened = open(&self.guest, path)?;
            self.open.insert(path.to_owned(), opened);
        }
        match self.open.get_mut(path) {
            Some(opened) => Ok(&mut opened.hive),
            None => Err(StepError::unexpected(path, "it is not open")),
        }
    }

    /// Closes a hive that was not edited.
    pub(crate) fn close(&mut self, path: &str) {
        self.open
            .retain(|open, opened| open != path || !opened.changes.is_empty());
    }

    /// Records an edit of a hive.
    pub(crate) fn changed(&mut self, path: &str, what: String) {
        if let Some(opened) = self.open.get_mut(path) {
            opened.changes.push(what);
        }
    }

    /// Control sets from which Windows may start, as keys of SYSTEM: the current one, and the last
    /// known good one if it differs.
    pub(crate) fn control_sets(&mut self) -> Result<Vec<String>> {
        let system = self.get("SYSTEM")?;
        let bad = |fault: &str| StepError::unexpected("SYSTEM", fault);
        let select = system.find("Select").at("SYSTEM")?;
        let select = select.ok_or_else(|| bad("it has no key Select: it starts no control set"))?;
        let mut sets = Vec::new();
        for name in ["Current", "LastKnownGood"] {
            let value = system.value(select, name).at("SYSTEM")?;
            let Some(number) = value.and_then(|value| value.as_u32()) else {
                continue;
            };
            let set = format!("ControlSet{number:03}");
            if !sets.contains(&set) && system.find(&set).at("SYSTEM")?.is_some() {
                sets.push(set);
            }
        }
        match sets.is_empty() {
            true => Err(bad("it has no control set that Select names")),
            false => Ok(sets),
        }
    }

    /// True if the key exists.
    pub(crate) fn has(&mut self, name: &str, key: &str) -> Result<bool> {
        let found = self.get(name)?.find(key);
        Ok(found.at(format_args!("{name}\\{key}"))?.is_some())
    }

    /// Sets a value of a key; a missing key is created.
    pub(crate) fn set(
        &mut self,
        name: &str,
        key: &str,
        value: &str,
        (kind, data): (u32, Vec<u8>),
    ) -> Result<()> {
        let now = self.now;
        let place = format!("{name}\\{key}");
        let hive = self.get(name)?;
        let found = hive.find(key).at(&place)?;
        let made = found.is_none();
        let id = match found {
            Some(id) => id,
            None => hive.create_path(hive.root(), key, now).at(&place)?,
        };
        if hive.set_value(id, value, kind, &data, now).at(&place)? || made {
            let path = self.config(name)?;
            self.changed(&path, format!("{key} @{value}"));
        }
        Ok(())
    }

    /// Removes values of a key; no error if the key or a value is missing.
    pub(crate) fn remove_values(
        &mut self,
        name: &str,
        key: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let now = self.now;
        let place = format!("{name}\\{key}");
        let hive = self.get(name)?;
        let Some(id) = hive.find(key).at(&place)? else {
            return Ok(());
        };
        let values = hive.values(id).at(&place)?;
        let mut removed = Vec::new();
        for value in values.into_iter().filter(|value| wanted(&value.name)) {
            if hive.delete_value(id, &value.name, now).at(&place)? {
                removed.push(value.name);
            }
        }
        let path = self.config(name)?;
        for value in removed {
            self.changed(&path, format!("{key} without @{value}"));
        }
        Ok(())
    }

    /// Removes a key with everything below it; no error if it is missing.
    pub(crate) fn remove_key(&mut self, name: &str, key: &str) -> Result<()> {
        let place = format!("{name}\\{key}");
        let hive = self.get(name)?;
        if let Some(id) = hive.find(key).at(&place)? {
            hive.delete_key(id).at(&place)?;
            let path = self.config(name)?;
            self.changed(&path, format!("no {key}"));
        }
        Ok(())
    }

    /// `Needed` if the edits so far changed anything, else `Done`.
    pub(crate) fn state(&self) -> State {
        let mut changes = Vec::new();
        for (path, opened) in &self.open {
            let name = path.rsplit('/').next().unwrap_or(path);
            changes.extend(
                opened
                    .changes
                    .iter()
                    .map(|change| format!("{name}: {change}")),
            );
        }
        match changes.as_slice() {
            [] => State::Done,
            [one] => State::Needed(one.clone()),
            [first, .., last] => {
                State::Needed(format!("{} changes, from {first} to {last}", changes.len()))
            }
        }
    }

    /// Writes every edited hive back. Nothing is written if one of them has a fault or there is too
    /// little space.
    pub(crate) fn save(self) -> Result<()> {
        let mut ready = Vec::new();
        let mut room = SPARE;
        for (path, opened) in self.open {
            if opened.changes.is_empty() {
                continue;
            }
            let bytes =
                finished(opened.hive, self.now).at(format_args!("{path}: after the edit"))?;
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let copy = !self.guest.exists(&predeploy(&path))?;
            room = room
                .saturating_add(length.saturating_sub(opened.length))
                .saturating_add(if copy { opened.length } else { 0 });
            ready.push((path, bytes, copy));
        }
        let free = self.guest.free_bytes(&self.windows)?;
        if !ready.is_empty() && free < room {
            return Err(StepError::NoRoom {
                place: "changing the registry of Windows".into(),
                room: Some(Room { needed: room, free }),
            });
        }
        for (path, bytes, copy) in &ready {
            if *copy {
                keep(&self.guest, path)?;
            }
            self.guest.overwrite(path, bytes)?;
            silence_logs(&self.guest, path)?;
        }
        Ok(())
    }
}

/// Opens a hive with its logs; an error if it is incomplete or has a fault.
fn open(guest: &Guest, path: &str) -> Result<Opened> {
    let bytes = guest
        .read(path, MOST_HIVE_BYTES)?
        .ok_or_else(|| StepError::unexpected(path, "it is not there"))?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let mut logs = Vec::new();
    for log in logs_of(guest, path)? {
        logs.extend(guest.read(&log, MOST_LOG_BYTES)?);
    }
    let logs: Vec<&[u8]> = logs.iter().map(Vec::as_slice).collect();
    let hive = Hive::open_sound(bytes, &logs).at(path)?;
    Ok(Opened {
        hive,
        length,
        changes: Vec::new(),
    })
}

/// The bytes to write, opened once more and validated.
fn finished(hive: Hive, now: FileTime) -> Result<Vec<u8>, hive::files::Unsound> {
    let bytes = hive.into_bytes(now);
    Ok(Hive::open_sound(bytes, &[])?.into_bytes(now))
}

/// Existing logs of a hive.
pub(crate) fn logs_of(guest: &Guest, path: &str) -> Result<Vec<String>> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut found = Vec::new();
    for suffix in LOG_SUFFIXES {
        let log = paths::below(guest, folder, &format!("{name}{suffix}"))?;
        if guest.exists(&log)? {
            found.push(log);
        }
    }
    Ok(found)
}

fn predeploy(path: &str) -> String {
    format!("{path}.predeploy")
}

/// Copies a hive, and the logs that complete it, beside themselves, once, each with its own
/// descriptor.
fn keep(guest: &Guest, path: &str) -> Result<()> {
    let mut logs = logs_of(guest, path)?;
    // The hive last: the existence of its copy shows that the copies of the logs exist.
    logs.push(path.to_owned());
    for file in logs {
        let copy = predeploy(&file);
        let Some(mut from) = guest.open(&file)? else {
            continue;
        };
        let mut to = guest.create(&copy, Owner::root(0o600))?;
        if let Some(descriptor) = guest.attribute(&file, acl::ATTRIBUTE)? {
            rustix::fs::fsetxattr(
                &to.file,
                acl::ATTRIBUTE,
                &descriptor,
                rustix::fs::XattrFlags::empty(),
            )
            .at(format_args!("{copy}: its access rights"))?;
        }
        io::copy(&mut from, &mut to.file).at(&copy)?;
        to.finish()?;
    }
    Ok(())
}

/// Empties the logs of a complete hive. Windows ignores logs while the hive is complete; when it is
/// not, old entries with higher numbers could be taken for newer ones.
fn silence_logs(guest: &Guest, path: &str) -> Result<()> {
    for log in logs_of(guest, path)? {
        let length = guest.metadata(&log)?.map_or(0, |found| found.length);
        if length > MOST_LOG_BYTES {
            let fault = format!("it is larger than {MOST_LOG_BYTES} bytes");
            return Err(StepError::unexpected(log, fault));
        }
        let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
        guest.overwrite(&log, &zeros)?;
    }
    Ok(())
}

/// Time stamp of the edits.
fn now() -> FileTime {
    #[expect(clippy::disallowed_methods, reason = "the edge: edits are dated")]
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // From 1601 to 1970 there are 11,644,473,600 seconds.
    let seconds = since
        .map_or(0, |since| since.as_secs())
        .saturating_add(11_644_473_600);
    FileTime(seconds.saturating_mul(10_000_000))
}

/// String value for [`Hives::set`].
pub(crate) fn sz(text: &str) -> (u32, Vec<u8>) {
    (kind::SZ, hive::sz(text))
}

/// String value with variables for [`Hives::set`].
pub(crate) fn expand_sz(text: &str) -> (u32, Vec<u8>) {
    (kind::EXPAND_SZ, hive::sz(text))
}

/// Value of several strings for [`Hives::set`].
pub(crate) fn multi_sz<S: AsRef<str>>(texts: &[S]) -> (u32, Vec<u8>) {
    (kind::MULTI_SZ, hive::multi_sz(texts))
}

/// 32-bit value for [`Hives::set`].
pub(crate) fn dword(number: u32) -> (u32, Vec<u8>) {
    (kind::DWORD, hive::dword(number))
}

/// Binary value for [`Hives::set`].
pub(crate) fn binary(bytes: &[u8]) -> (u32, Vec<u8>) {
    (kind::BINARY, bytes.to_vec())
}

/// Every key of a hive, parents before their children.
pub(crate) fn all_keys(hive: &Hive) -> Result<Vec<KeyId>, hive::HiveError> {
    let mut keys = vec![hive.root()];
    let mut next = 0;
    while let Some(key) = keys.get(next) {
        keys.extend(hive.subkeys(*key)?);
        next += 1;
    }
    Ok(keys)
}
