//! Validation of a hive: every used cell is used once, and all counts, orders and lengths are
//! right.
//!
//! The rules are those that hives written by Windows itself keep (see `tests/real.rs`). Some of
//! these hives have harmless oddities, which are notes and not faults: allocated cells without a
//! user, a longest name that is too short, descriptors that count too many uses. The fields for
//! volatile keys, which Windows left over from memory, are not checked.
//!
//! Each cell is visited at most once in one pass; any bytes are accepted.

use std::collections::BTreeMap;

use crate::base::{BLOCK, Base};
use crate::cells::{BIN_HEADER, Bits, Cells, NOWHERE, bin_at};
use crate::data::{self, Entry, Place, SEGMENT};
use crate::edit::DEPTH_MAX;
use crate::error::{Fault, HiveError};
use crate::hive::Hive;
use crate::key::{Key, flag};
use crate::list::{self, Leaf};
use crate::list_edit::beside;
use crate::name::{KEY_NAME_MAX, Name};
use crate::scan::index;
use crate::security::{self, Security};

/// Largest number of faults, and of notes, that are kept; further ones are only counted.
const KEPT: usize = 64;

/// The contents of a sound hive, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// Number of keys, including the root.
    pub keys: u32,
    /// Number of values.
    pub values: u32,
    /// Number of values stored in segments.
    pub big_values: u32,
    /// Number of class names.
    pub classes: u32,
    /// Number of security descriptors.
    pub securities: u32,
    /// Number of allocated cells without a reference. Windows leaves some.
    pub lost_cells: u32,
    /// Number of bytes in free cells.
    pub free_bytes: u64,
    /// The first harmless oddities.
    pub notes: Vec<Fault>,
    /// Number of all harmless oddities.
    pub note_count: usize,
}

impl Hive {
    /// Checks every structure. Callers do this before and after a series of edits; edits refuse a
    /// hive that does not pass.
    ///
    /// # Errors
    /// The faults, at most 64 of them.
    pub fn validate(&self) -> Result<Census, Vec<Fault>> {
        let mut check = Check::new(self);
        check.run();
        if check.faults.is_empty() {
            // A second thread would set the same value.
            let _ = self.sound.set(());
            Ok(check.census)
        } else {
            Err(check.faults)
        }
    }

    /// Validates once; edits keep a sound hive sound.
    pub(crate) fn require_sound(&self) -> Result<(), HiveError> {
        if self.sound.get().is_some() {
            return Ok(());
        }
        let faults = match self.validate() {
            Ok(_) => return Ok(()),
            Err(faults) => faults,
        };
        let unknown = Fault {
            what: "hive",
            offset: 0,
            why: "it is not sound",
        };
        let first = faults.first().copied().unwrap_or(unknown);
        Err(HiveError::Faulty {
            count: faults.len(),
            first,
        })
    }
}

struct Check<'a> {
    hive: &'a Hive,
    cells: &'a Cells,
    used: Bits,
    /// Number of keys that use each descriptor.
    uses: BTreeMap<u32, u32>,
    faults: Vec<Fault>,
    census: Census,
}

impl<'a> Check<'a> {
    fn new(hive: &'a Hive) -> Check<'a> {
        Check {
            hive,
            cells: &hive.cells,
            used: Bits::new(hive.cells.bins_len),
            uses: BTreeMap::new(),
            faults: Vec::new(),
            census: Census::default(),
        }
    }

    fn fault(&mut self, what: &'static str, offset: u32, why: &'static str) {
        if self.faults.len() < KEPT {
            self.faults.push(Fault { what, offset, why });
        }
    }

    fn failed(&mut self, why: HiveError) {
        match why {
            HiveError::Damaged { what, offset, why } => self.fault(what, offset, why),
            _ => self.fault("hive", 0, "it cannot be read"),
        }
    }

    fn note(&mut self, what: &'static str, offset: u32, why: &'static str) {
        self.census.note_count += 1;
        if self.census.notes.len() < KEPT {
            self.census.notes.push(Fault { what, offset, why });
        }
    }

    /// Marks an allocated cell as used and returns its content; `None` and a fault if that is not
    /// possible.
    fn claim(&mut self, at: u32, what: &'static str) -> Option<&'a [u8]> {
        match self.cells.get(at, what) {
            Ok(_) if !self.used.add(at) => {
                self.fault(what, at, "its cell is used twice");
                None
            }
            Ok(cell) => Some(cell),
            Err(why) => {
                self.failed(why);
                None
            }
        }
    }

    /// Returns the result of a read; `None` and a fault if it failed.
    fn held<T>(&mut self, read: Result<T, HiveError>) -> Option<T> {
        read.map_err(|why| self.failed(why)).ok()
    }

    fn run(&mut self) {
        self.bins();
        if self.claim(self.hive.root, "root key").is_none() {
            return;
        }
        let mut waiting = vec![(self.hive.root, 0)];
        while let Some((at, depth)) = waiting.pop() {
            if self.faults.len() >= KEPT {
                return;
            }
            for child in self.key(at).unwrap_or_default() {
                if depth >= DEPTH_MAX {
                    self.fault("key", child, "it is more than 512 levels below the root");
                } else if self.claim(child, "subkey").is_some() {
                    waiting.push((child, depth + 1));
                }
            }
        }
        self.securities();
        self.lost();
    }

    /// Checks the base block and the bins. Cells were checked when the hive was opened, and change
    /// only together with the map used here.
    fn bins(&mut self) {
        let len = Base::parse(&self.cells.bytes).map(|base| base.bins_len);
        if len != Some(self.cells.bins_len) || self.cells.bytes.len() < BLOCK {
            self.fault(
                "base block",
                0,
                "the length of its bins is not what they have",
            );
        }
        let mut offset = 0;
        while offset < self.cells.bins_len {
            let Some(bin) = self.held(bin_at(self.cells.bins(), offset)) else {
                return;
            };
            let mut at = offset + BIN_HEADER;
            while at < bin.offset + bin.len {
                let Some((size, allocated)) = self.cells.size(at) else {
                    return self.fault("cell", at, "the map does not know it");
                };
                self.census.free_bytes += if allocated { 0 } else { u64::from(size) };
                at += size.max(8);
            }
            offset += bin.len;
            if at != offset {
                self.fault("bin", bin.offset, "its cells do not fill it");
            }
        }
    }

    /// Checks one key and everything that belongs to it alone; returns its subkeys.
    fn key(&mut self, at: u32) -> Option<Vec<u32>> {
        let key = self.held(Key::read(self.cells, at, "key"))?;
        self.census.keys += 1;
        let units = key.name.units().count();
        if at != self.hive.root && (units == 0 || units > KEY_NAME_MAX) {
            self.fault("key", at, "its name is empty or longer than 255 characters");
        }
        if at == self.hive.root && key.flags & flag::ROOT == 0 {
            self.note("key", at, "it is the root and does not say so");
        }
        *self.uses.entry(key.security).or_default() += 1;
        self.class(at, &key);
        self.values(at, &key);
        if key.subkeys == 0 {
            if key.subkey_list != NOWHERE {
                self.note("key", at, "it has a list of no subkeys");
            }
            return None;
        }
        self.subkeys(at, &key)
    }

    fn class(&mut self, at: u32, key: &Key<'_>) {
        if key.class == NOWHERE {
            if key.class_len != 0 {
                self.note("key", at, "its class name has a length and no place");
            }
            return;
        }
        self.census.classes += 1;
        let cell = self.claim(key.class, "class name");
        if cell.is_some_and(|cell| cell.len() < usize::from(key.class_len)) {
            self.fault("class name", key.class, "it is longer than its cell");
        }
    }

    fn subkeys(&mut self, at: u32, key: &Key<'_>) -> Option<Vec<u32>> {
        let leaves = self.held(list::leaves(self.cells, key.subkey_list))?;
        if leaves != [key.subkey_list] {
            self.claim(key.subkey_list, "subkey list")?;
        }
        let mut children = Vec::new();
        let mut last: Option<Name<'a>> = None;
        let mut longest = 0;
        let mut longest_class = 0;
        for leaf in leaves {
            self.claim(leaf, "subkey leaf")?;
            let (kind, entries) = self.held(list::entries(self.cells, leaf))?;
            if entries.is_empty() {
                self.fault("subkey leaf", leaf, "it is empty");
            }
            for (child, beside_it) in entries {
                let child_key = self.held(Key::read(self.cells, child, "subkey"))?;
                if child_key.parent != at {
                    self.fault("subkey", child, "it names another parent");
                }
                if let Some(last) = last {
                    self.order(child, last, child_key.name);
                }
                last = Some(child_key.name);
                self.beside(child, kind, beside_it, &child_key);
                longest = longest.max(child_key.name.utf16_len());
                if child_key.class != NOWHERE {
                    longest_class = longest_class.max(child_key.class_len);
                }
                children.push(child);
            }
        }
        if u32::try_from(children.len()) != Ok(key.subkeys) {
            self.fault(
                "subkey list",
                key.subkey_list,
                "it has not as many keys as its key counts",
            );
        }
        if usize::from(key.longest_subkey) < longest {
            self.note("key", at, "it has a longer subkey name than it knows of");
        }
        if key.longest_class < u32::from(longest_class) {
            self.note(
                "key",
                at,
                "it has a longer class name below than it knows of",
            );
        }
        Some(children)
    }

    fn order(&mut self, at: u32, last: Name<'_>, name: Name<'_>) {
        match last.upper().cmp(name.upper()) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => self.fault("subkey", at, "another has its name"),
            std::cmp::Ordering::Greater if last.is_ascii() && name.is_ascii() => {
                self.fault("subkey", at, "it is not in the order of names");
            }
            std::cmp::Ordering::Greater => {
                self.note(
                    "subkey",
                    at,
                    "its letters are ordered differently elsewhere",
                );
            }
        }
    }

    /// Checks a key's hint. A wrong hash hides a key from Windows. Letters are compared without
    /// case.
    fn beside(&mut self, at: u32, kind: Leaf, found: u32, key: &Key<'_>) {
        let right = match kind {
            Leaf::Plain => return,
            Leaf::Hash => found == beside(kind, key),
            Leaf::Letters => {
                let right = beside(kind, key).to_le_bytes();
                found.to_le_bytes().eq_ignore_ascii_case(&right)
            }
        };
        if right {
        } else if key.name.is_ascii() {
            self.fault(
                "subkey",
                at,
                "the hash or letters beside it are not of its name",
            );
        } else {
            self.note(
                "subkey",
                at,
                "the hash or letters beside it are not of its name",
            );
        }
    }

    fn values(&mut self, at: u32, key: &Key<'_>) -> Option<()> {
        if key.values == 0 {
            if key.value_list != NOWHERE {
                self.note("key", at, "it has a list of no values");
            }
            return None;
        }
        self.claim(key.value_list, "value list")?;
        let entries = self.held(data::values(self.cells, key.value_list, key.values))?;
        let mut longest = 0;
        let mut largest = 0;
        for entry in entries {
            self.claim(entry, "value")?;
            self.census.values += 1;
            let value = self.held(Entry::read(self.cells, self.hive.minor, entry))?;
            longest = longest.max(value.name.utf16_len());
            largest = largest.max(value.place.len());
            self.data(value.place)?;
        }
        if index(key.longest_value) < longest || key.largest_data < largest {
            self.note("key", at, "it has a longer value than it knows of");
        }
        Some(())
    }

    fn data(&mut self, place: Place) -> Option<()> {
        match place {
            Place::Inline { .. } => {}
            Place::Cell { at, len } => {
                if self.claim(at, "data")?.len() < index(len) {
                    self.fault("data", at, "it is longer than its cell");
                }
                if place.is_long_cell(self.hive.minor) {
                    self.note(
                        "data",
                        at,
                        "it is in one cell, where Windows wants segments",
                    );
                }
            }
            Place::Big { at, len } => {
                self.claim(at, "big data")?;
                self.census.big_values += 1;
                let parts = self.held(data::segments(self.cells, at, len))?;
                self.claim(parts.list, "list of segments")?;
                let mut left = len;
                for segment in parts.segments {
                    let here = left.min(SEGMENT);
                    if self.claim(segment, "data segment")?.len() < index(here) {
                        self.fault("data segment", segment, "its cell is too short");
                    }
                    left -= here;
                }
            }
        }
        Some(())
    }

    fn securities(&mut self) {
        let uses = std::mem::take(&mut self.uses);
        let root = Key::read(self.cells, self.hive.root, "root key").map(|key| key.security);
        let ring = root.and_then(|root| security::ring(self.cells, root));
        let Some(ring) = self.held(ring) else { return };
        let mut found = 0;
        for at in ring {
            self.claim(at, "security descriptor");
            self.census.securities += 1;
            let Some(entry) = self.held(Security::read(self.cells, at)) else {
                continue;
            };
            let next = Security::read(self.cells, entry.next).map(|next| next.previous);
            if self.held(next) != Some(at) {
                self.fault("security descriptor", at, "the next one does not lead back");
            }
            if !security::is_descriptor(entry.descriptor) {
                self.fault("security descriptor", at, "it is none");
            }
            let used = uses.get(&at).copied().unwrap_or(0);
            found += usize::from(used > 0);
            if entry.uses < used {
                self.fault("security descriptor", at, "more keys use it than it counts");
            } else if entry.uses > used {
                self.note(
                    "security descriptor",
                    at,
                    "fewer keys use it than it counts",
                );
            }
        }
        if found != uses.len() {
            let at = uses.keys().copied().find(|at| !self.used.has(*at));
            self.fault(
                "security descriptor",
                at.unwrap_or(0),
                "it is not in the ring",
            );
        }
    }

    fn lost(&mut self) {
        let (cells, used) = (self.cells, std::mem::take(&mut self.used));
        for at in cells.starts.iter().filter(|at| !used.has(*at)) {
            if cells.size(at).is_some_and(|(_, allocated)| allocated) {
                self.census.lost_cells += 1;
                self.note("cell", at, "nothing leads to it");
            }
        }
    }
}
