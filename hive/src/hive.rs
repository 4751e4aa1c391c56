//! A hive that is open, and everything that reads it.

use std::fmt;
use std::sync::OnceLock;

use crate::base::{BLOCK, Base};
use crate::cells::{Cells, NOWHERE};
use crate::data::{self, Entry};
use crate::error::{HiveError, damaged};
use crate::key::Key;
use crate::list;
use crate::log::{self, Recovery};
use crate::name::upper_units;
use crate::scan::index;
use crate::security::Security;
use crate::value::Value;

/// A key of one hive: where its cell is. It stays good until that key is deleted or renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) u32);

/// A registry hive, in memory as a whole.
#[derive(Clone)]
pub struct Hive {
    pub(crate) cells: Cells,
    pub(crate) root: u32,
    pub(crate) minor: u32,
    /// Completed from the logs.
    replayed: bool,
    /// Some edit changed something.
    pub(crate) edited: bool,
    /// Set once a validation found no fault.
    pub(crate) sound: OnceLock<()>,
}

impl fmt::Debug for Hive {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut to = to.debug_struct("Hive");
        to.field("bins_len", &self.cells.bins_len)
            .field("edited", &self.edited)
            .finish_non_exhaustive()
    }
}

impl Hive {
    /// Opens a primary file with its logs, the first one first (`.LOG1`, `.LOG2`; before Windows 8 `.LOG`);
    /// an empty log is as good as none. Logs of a hive that was written out completely are ignored.
    ///
    /// # Errors
    /// When it is no hive, its cells do not hold together, or it was not written out completely and no log
    /// completes it.
    pub fn open(primary: Vec<u8>, logs: &[&[u8]]) -> Result<(Hive, Recovery), HiveError> {
        let mut bytes = primary;
        if bytes.len() < BLOCK {
            return Err(HiveError::NotAHive {
                why: "it is shorter than a base block",
            });
        }
        let base = Base::parse(&bytes).ok_or(HiveError::NotAHive {
            why: "no signature",
        })?;
        let recovery = if base.is_dirty() {
            log::replay(&mut bytes, base, logs)?
        } else {
            Recovery::default()
        };
        let base = Base::parse(&bytes).ok_or(HiveError::NotAHive {
            why: "no signature",
        })?;
        base.check_primary()?;
        let cells = Cells::map(bytes, base.bins_len)?;
        let hive = Hive {
            cells,
            root: base.root,
            minor: base.minor,
            replayed: recovery.entries > 0,
            edited: false,
            sound: OnceLock::new(),
        };
        hive.key(hive.root())?;
        Ok((hive, recovery))
    }

    /// The key all others are below.
    #[must_use]
    pub fn root(&self) -> KeyId {
        KeyId(self.root)
    }

    /// Whether the bytes are not those of the file any more: edited, or completed from the logs.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.replayed || self.edited
    }

    pub(crate) fn key(&self, key: KeyId) -> Result<Key<'_>, HiveError> {
        Key::read(&self.cells, key.0, "key").map_err(|why| match why {
            HiveError::Damaged { .. } if key.0 != self.root => {
                HiveError::NoSuchKey { offset: key.0 }
            }
            why => why,
        })
    }

    /// The key at a path of names with `\` between them, any case, counted from the root. Empty parts are
    /// skipped: `""` is the root.
    ///
    /// # Errors
    /// When a structure on the way is damaged. A key that does not exist is `None`.
    pub fn find(&self, path: &str) -> Result<Option<KeyId>, HiveError> {
        self.find_below(self.root(), path)
    }

    /// The same, counted from `key`.
    ///
    /// # Errors
    /// As [`Hive::find`].
    pub fn find_below(&self, key: KeyId, path: &str) -> Result<Option<KeyId>, HiveError> {
        let mut at = key;
        self.key(at)?;
        for name in path.split('\\').filter(|name| !name.is_empty()) {
            match self.subkey(at, name)? {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The subkey of that very name.
    pub(crate) fn subkey(&self, key: KeyId, name: &str) -> Result<Option<KeyId>, HiveError> {
        let wanted = upper_units(name);
        for child in self.subkeys(key)? {
            if self.key(child)?.name.is(&wanted) {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }

    /// A key's own name.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn name(&self, key: KeyId) -> Result<String, HiveError> {
        Ok(self.key(key)?.name.text())
    }

    /// A key's subkeys, in the order of the hive: by name in upper case.
    ///
    /// # Errors
    /// When there is no such key or its list is damaged.
    pub fn subkeys(&self, key: KeyId) -> Result<Vec<KeyId>, HiveError> {
        let found = list::subkeys(&self.cells, key.0, &self.key(key)?)?;
        if found.contains(&self.root) {
            return Err(damaged("key", key.0, "the root is below it"));
        }
        Ok(found.into_iter().map(KeyId).collect())
    }

    /// The names of a key's subkeys.
    ///
    /// # Errors
    /// As [`Hive::subkeys`].
    pub fn subkey_names(&self, key: KeyId) -> Result<Vec<String>, HiveError> {
        self.subkeys(key)?
            .into_iter()
            .map(|child| self.name(child))
            .collect()
    }

    /// A key's values with their data, in the order they were made.
    ///
    /// # Errors
    /// When there is no such key, or its list or a value is damaged.
    pub fn values(&self, key: KeyId) -> Result<Vec<Value>, HiveError> {
        let mut budget = index(self.cells.bins_len);
        let mut values = Vec::new();
        for entry in self.entries(key)? {
            let entry = Entry::read(&self.cells, self.minor, entry)?;
            // Each value has its cells to itself, so all together are no longer than the hive.
            let len = index(entry.place.len()) + entry.name.bytes.len();
            let many = damaged("key", key.0, "its values are longer than the hive");
            budget = budget.checked_sub(len).ok_or(many)?;
            values.push(self.entry_value(&entry)?);
        }
        Ok(values)
    }

    /// One value by its name, any case; `""` is the default value.
    ///
    /// # Errors
    /// As [`Hive::values`]. A value that does not exist is `None`.
    pub fn value(&self, key: KeyId, name: &str) -> Result<Option<Value>, HiveError> {
        match self.entry(key, name)? {
            Some((_, at)) => {
                let entry = Entry::read(&self.cells, self.minor, at)?;
                Ok(Some(self.entry_value(&entry)?))
            }
            None => Ok(None),
        }
    }

    fn entry_value(&self, entry: &Entry<'_>) -> Result<Value, HiveError> {
        let data = data::read(&self.cells, entry.place)?;
        Ok(Value {
            name: entry.name.text(),
            kind: entry.kind,
            data,
        })
    }

    /// Where a key's `vk` cells are.
    pub(crate) fn entries(&self, key: KeyId) -> Result<Vec<u32>, HiveError> {
        let key = self.key(key)?;
        data::values(&self.cells, key.value_list, key.values)
    }

    /// The `vk` of that name and its place in the list.
    pub(crate) fn entry(&self, key: KeyId, name: &str) -> Result<Option<(usize, u32)>, HiveError> {
        let wanted = upper_units(name);
        for (place, at) in self.entries(key)?.into_iter().enumerate() {
            if Entry::read(&self.cells, self.minor, at)?.name.is(&wanted) {
                return Ok(Some((place, at)));
            }
        }
        Ok(None)
    }

    /// A key's class name, which a few keys keep secrets in.
    ///
    /// # Errors
    /// When there is no such key or the class name is damaged.
    pub fn class_name(&self, key: KeyId) -> Result<Option<String>, HiveError> {
        let key = self.key(key)?;
        if key.class == NOWHERE || key.class_len == 0 {
            return Ok(None);
        }
        let cell = self.cells.get(key.class, "class name")?;
        let text = cell.get(..usize::from(key.class_len));
        let text = text.ok_or(damaged(
            "class name",
            key.class,
            "it is longer than its cell",
        ))?;
        let units: Vec<u16> = text
            .chunks_exact(2)
            .filter_map(|unit| Some(u16::from_le_bytes(unit.try_into().ok()?)))
            .collect();
        Ok(Some(String::from_utf16_lossy(&units)))
    }

    /// A key's security descriptor, self-relative.
    ///
    /// # Errors
    /// When there is no such key or its descriptor is damaged.
    pub fn security(&self, key: KeyId) -> Result<Vec<u8>, HiveError> {
        let key = self.key(key)?;
        Ok(Security::read(&self.cells, key.security)?
            .descriptor
            .to_vec())
    }
}
