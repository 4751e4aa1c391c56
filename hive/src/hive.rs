//! An open hive, and all methods that read it.

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

/// The id of a key in one hive: the offset of its cell. It is valid until the key is deleted or
/// renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) u32);

/// A registry hive, completely in memory.
#[derive(Clone)]
pub struct Hive {
    pub(crate) cells: Cells,
    pub(crate) root: u32,
    pub(crate) minor: u32,
    /// True if the hive was completed from its logs.
    replayed: bool,
    /// True if an edit changed something.
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
    /// Opens a primary file with its logs in order (`.LOG1`, `.LOG2`; before Windows 8 `.LOG`). An
    /// empty log counts as none. The logs of a completely written hive are ignored.
    ///
    /// # Errors
    /// [`HiveError`] if the file is not a hive, its cells are inconsistent, or it was not written
    /// completely and no log completes it.
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

    /// The root key.
    #[must_use]
    pub fn root(&self) -> KeyId {
        KeyId(self.root)
    }

    /// True if the bytes differ from the file: the hive was edited or completed from the logs.
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

    /// Finds the key at a path of names separated by `\`, in any case, starting at the root. Empty
    /// parts are skipped: `""` is the root. `None` if the key does not exist.
    ///
    /// # Errors
    /// [`HiveError`] if a structure on the way is damaged.
    pub fn find(&self, path: &str) -> Result<Option<KeyId>, HiveError> {
        self.find_below(self.root(), path)
    }

    /// Does the same, starting at `key`.
    ///
    /// # Errors
    /// The errors of [`Hive::find`].
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

    /// Finds the subkey with this name, in any case.
    pub(crate) fn subkey(&self, key: KeyId, name: &str) -> Result<Option<KeyId>, HiveError> {
        let wanted = upper_units(name);
        for child in self.subkeys(key)? {
            if self.key(child)?.name.is(&wanted) {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }

    /// The name of a key.
    ///
    /// # Errors
    /// [`HiveError`] if the key does not exist.
    pub fn name(&self, key: KeyId) -> Result<String, HiveError> {
        Ok(self.key(key)?.name.text())
    }

    /// The subkeys of a key in the order of the hive: by name in upper case.
    ///
    /// # Errors
    /// [`HiveError`] if the key does not exist or its list is damaged.
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
    /// The errors of [`Hive::subkeys`].
    pub fn subkey_names(&self, key: KeyId) -> Result<Vec<String>, HiveError> {
        self.subkeys(key)?
            .into_iter()
            .map(|child| self.name(child))
            .collect()
    }

    /// The values of a key with their data, in the order of their creation.
    ///
    /// # Errors
    /// [`HiveError`] if the key does not exist, or its list or a value is damaged.
    pub fn values(&self, key: KeyId) -> Result<Vec<Value>, HiveError> {
        let mut budget = index(self.cells.bins_len);
        let mut values = Vec::new();
        for entry in self.entries(key)? {
            let entry = Entry::read(&self.cells, self.minor, entry)?;
            // No two values share a cell, so all of them together are not longer than the hive.
            let len = index(entry.place.len()) + entry.name.bytes.len();
            let many = damaged("key", key.0, "its values are longer than the hive");
            budget = budget.checked_sub(len).ok_or(many)?;
            values.push(self.entry_value(&entry)?);
        }
        Ok(values)
    }

    /// Finds a value by its name, in any case; `""` is the default value. `None` if the value does
    /// not exist.
    ///
    /// # Errors
    /// The errors of [`Hive::values`].
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

    /// The offsets of a key's `vk` cells.
    pub(crate) fn entries(&self, key: KeyId) -> Result<Vec<u32>, HiveError> {
        let key = self.key(key)?;
        data::values(&self.cells, key.value_list, key.values)
    }

    /// Finds the `vk` with this name; returns its index in the list and its offset.
    pub(crate) fn entry(&self, key: KeyId, name: &str) -> Result<Option<(usize, u32)>, HiveError> {
        let wanted = upper_units(name);
        for (place, at) in self.entries(key)?.into_iter().enumerate() {
            if Entry::read(&self.cells, self.minor, at)?.name.is(&wanted) {
                return Ok(Some((place, at)));
            }
        }
        Ok(None)
    }

    /// The class name of a key; a few keys store secrets in it.
    ///
    /// # Errors
    /// [`HiveError`] if the key does not exist or the class name is damaged.
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

    /// The security descriptor of a key, self-relative.
    ///
    /// # Errors
    /// [`HiveError`] if the key does not exist or its descriptor is damaged.
    pub fn security(&self, key: KeyId) -> Result<Vec<u8>, HiveError> {
        let key = self.key(key)?;
        Ok(Security::read(&self.cells, key.security)?
            .descriptor
            .to_vec())
    }
}
