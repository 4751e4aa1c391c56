//! Changes to keys, and the common frame of all edits: an edit is applied completely or not at all.

use crate::FileTime;
use crate::base::{self, Base};
use crate::cells::NOWHERE;
use crate::error::HiveError;
use crate::hive::{Hive, KeyId};
use crate::key::{Key, field, flag};
use crate::name::{self, KEY_NAME_MAX};
use crate::scan::Scan;
use crate::{base::BLOCK, list_edit, security, value_edit};

/// Largest number of key levels below the root in Windows.
pub(crate) const DEPTH_MAX: usize = 512;

pub(crate) fn check_name(name: &str) -> Result<(), HiveError> {
    let why = if name.is_empty() {
        "a key's name is never empty"
    } else if name.encode_utf16().count() > KEY_NAME_MAX {
        "a key's name has at most 255 characters"
    } else if name.contains('\\') {
        "a key's name has no backslash"
    } else if name.contains('\0') {
        "a name has no zero: Windows' own programs could not find it"
    } else {
        return Ok(());
    };
    Err(HiveError::Name { why })
}

impl Hive {
    /// Applies one edit to a sound hive, or leaves every byte unchanged.
    pub(crate) fn edit<T>(
        &mut self,
        edit: impl FnOnce(&mut Hive) -> Result<T, HiveError>,
    ) -> Result<T, HiveError> {
        self.require_sound()?;
        let result = edit(self);
        if result.is_ok() {
            self.edited |= self.cells.commit();
        } else {
            self.cells.roll_back();
        }
        result
    }

    pub(crate) fn touch(&mut self, key: KeyId, now: FileTime) -> Result<(), HiveError> {
        self.cells.put(key.0, field::TIME, &now.0.to_le_bytes())
    }

    /// Number of keys above this one.
    fn depth(&self, key: KeyId) -> Result<usize, HiveError> {
        let mut at = key.0;
        let mut depth = 0;
        while at != self.root {
            at = Key::read(&self.cells, at, "parent")?.parent;
            depth += 1;
            if depth > DEPTH_MAX {
                return Err(HiveError::TooDeep);
            }
        }
        Ok(depth)
    }

    /// Creates a subkey with the security of its parent, or returns the existing one with this name
    /// in any case.
    ///
    /// # Errors
    /// [`HiveError`] if the hive is not sound, the parent does not exist, or the name is not valid.
    /// Nothing is changed then.
    pub fn create_key(
        &mut self,
        parent: KeyId,
        name: &str,
        now: FileTime,
    ) -> Result<KeyId, HiveError> {
        check_name(name)?;
        self.edit(|hive| hive.create_key_now(parent, name, now))
    }

    /// Creates all missing keys of a path of names separated by `\`. Empty parts are skipped.
    ///
    /// # Errors
    /// The errors of [`Hive::create_key`].
    pub fn create_path(
        &mut self,
        key: KeyId,
        path: &str,
        now: FileTime,
    ) -> Result<KeyId, HiveError> {
        let names = || path.split('\\').filter(|name| !name.is_empty());
        names().try_for_each(check_name)?;
        self.edit(|hive| {
            hive.key(key)?;
            names().try_fold(key, |at, name| hive.create_key_now(at, name, now))
        })
    }

    fn create_key_now(
        &mut self,
        parent: KeyId,
        name: &str,
        now: FileTime,
    ) -> Result<KeyId, HiveError> {
        if let Some(there) = self.subkey(parent, name)? {
            return Ok(there);
        }
        if self.depth(parent)? >= DEPTH_MAX {
            return Err(HiveError::TooDeep);
        }
        let security = self.key(parent)?.security;
        let at = self
            .cells
            .store(&key_bytes(parent.0, security, name, now)?)?;
        security::share(&mut self.cells, security)?;
        list_edit::insert(&mut self.cells, self.minor, parent.0, at)?;
        self.touch(parent, now)?;
        Ok(KeyId(at))
    }

    /// Renames a key and moves it to the right position among its siblings. Its id may change: the
    /// new one is returned, the old one becomes invalid. Ids of the keys below it stay valid.
    ///
    /// # Errors
    /// [`HiveError`] if the hive is not sound, the key does not exist or is the root, or the name
    /// is not valid or in use beside it. Nothing is changed then.
    pub fn rename_key(
        &mut self,
        key: KeyId,
        name: &str,
        now: FileTime,
    ) -> Result<KeyId, HiveError> {
        check_name(name)?;
        self.edit(|hive| {
            if key.0 == hive.root {
                return Err(HiveError::Root);
            }
            let old = hive.key(key)?;
            if old.name.units().eq(name.encode_utf16()) {
                return Ok(key);
            }
            let parent = KeyId(old.parent);
            match hive.subkey(parent, name)? {
                Some(other) if other != key => {
                    return Err(HiveError::Exists {
                        name: name.to_owned(),
                    });
                }
                _ => {}
            }
            list_edit::remove(&mut hive.cells, parent.0, key.0)?;
            let at = hive.renamed(key, name)?;
            list_edit::insert(&mut hive.cells, hive.minor, parent.0, at.0)?;
            hive.touch(at, now)?;
            hive.touch(parent, now)?;
            Ok(at)
        })
    }

    /// Stores the key with another name, in another cell if its own is too short.
    fn renamed(&mut self, key: KeyId, name: &str) -> Result<KeyId, HiveError> {
        let (stored, compressed) = name::stored(name);
        let children = self.subkeys(key)?;
        let flags = self.key(key)?.flags & !flag::COMPRESSED;
        let flags = if compressed {
            flags | flag::COMPRESSED
        } else {
            flags
        };
        let len = u16::try_from(stored.len()).map_err(|_| HiveError::Full)?;
        let cell = self.cells.get(key.0, "key")?;
        let mut bytes = cell.get(..field::NAME).unwrap_or_default().to_vec();
        bytes.extend_from_slice(&stored);
        let at = self.cells.store_again(key.0, &bytes)?;
        self.cells.put_u16(at, field::FLAGS, flags)?;
        self.cells.put_u16(at, field::NAME_LEN, len)?;
        if at != key.0 {
            for child in children {
                self.cells.put_u32(child.0, field::PARENT, at)?;
            }
        }
        Ok(KeyId(at))
    }

    /// Deletes a key with its values and everything below it. The last write time of its parent
    /// does not change.
    ///
    /// # Errors
    /// [`HiveError`] if the hive is not sound, or the key does not exist or is the root. Nothing is
    /// changed then.
    pub fn delete_key(&mut self, key: KeyId) -> Result<(), HiveError> {
        self.edit(|hive| {
            if key.0 == hive.root {
                return Err(HiveError::Root);
            }
            let parent = hive.key(key)?.parent;
            list_edit::remove(&mut hive.cells, parent, key.0)?;
            let mut waiting = vec![key];
            while let Some(key) = waiting.pop() {
                waiting.extend(hive.subkeys(key)?);
                let Key {
                    security, class, ..
                } = hive.key(key)?;
                value_edit::release_all(&mut hive.cells, hive.minor, key.0)?;
                list_edit::release(&mut hive.cells, key.0)?;
                if class != NOWHERE {
                    hive.cells.release(class)?;
                }
                security::drop_use(&mut hive.cells, security)?;
                hive.cells.release(key.0)?;
            }
            Ok(())
        })
    }

    /// Returns the file to write.
    ///
    /// After an edit it has the next sequence number and `now` as the time of its last write. A
    /// hive completed from its logs is returned as Windows would have written it. Otherwise the
    /// file is unchanged.
    #[must_use]
    pub fn into_bytes(self, now: FileTime) -> Vec<u8> {
        let mut bytes = self.cells.bytes;
        let base = Base::parse(&bytes);
        let Some(base) = base.filter(|_| self.edited) else {
            return bytes;
        };
        // The first bin has a copy of the time, for the case that the base block is torn.
        let copy = BLOCK + 20..BLOCK + 28;
        if let Some(copy) = bytes.get_mut(copy)
            && Scan(copy).u64() == Some(base.time)
        {
            copy.copy_from_slice(&now.0.to_le_bytes());
        }
        base::set_time(&mut bytes, now);
        base::seal(&mut bytes, base.sequence_1.wrapping_add(1));
        bytes
    }
}

/// Makes the bytes of a new `nk`.
pub(crate) fn key_bytes(
    parent: u32,
    security: u32,
    name: &str,
    now: FileTime,
) -> Result<Vec<u8>, HiveError> {
    let (stored, compressed) = name::stored(name);
    let len = u16::try_from(stored.len()).map_err(|_| HiveError::Full)?;
    let mut bytes = vec![0; field::NAME];
    let mut put = |at: usize, field: &[u8]| {
        bytes
            .iter_mut()
            .skip(at)
            .zip(field)
            .for_each(|(place, byte)| *place = *byte);
    };
    put(0, b"nk");
    put(
        field::FLAGS,
        &(if compressed { flag::COMPRESSED } else { 0 }).to_le_bytes(),
    );
    put(field::TIME, &now.0.to_le_bytes());
    put(field::PARENT, &parent.to_le_bytes());
    for list in [
        field::SUBKEY_LIST,
        field::VOLATILE_LIST,
        field::VALUE_LIST,
        field::CLASS,
    ] {
        put(list, &NOWHERE.to_le_bytes());
    }
    put(field::SECURITY, &security.to_le_bytes());
    put(field::NAME_LEN, &len.to_le_bytes());
    bytes.extend_from_slice(&stored);
    Ok(bytes)
}
