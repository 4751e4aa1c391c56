//! Changes to values.

use crate::FileTime;
use crate::cells::{Cells, NOWHERE};
use crate::data::{self, BIG_SINCE, Entry, INLINE, Place, SEGMENT};
use crate::error::HiveError;
use crate::hive::{Hive, KeyId};
use crate::key::{Key, field};
use crate::name::VALUE_NAME_MAX;
use crate::scan::index;

/// Longest value that this crate writes, in bytes. Windows has no fixed limit; values of a
/// deployment are far shorter.
pub(crate) const DATA_MAX: usize = 16 << 20;
/// Longest value in bytes in a hive without `db`: Windows treats a longer cell as damaged.
const CELL_MAX: usize = (1 << 20) - 4;

impl Hive {
    /// Sets a value, or creates it if there is none with this name in any case; an existing name is
    /// kept. `""` is the default value. Returns true if anything was changed.
    ///
    /// # Errors
    /// [`HiveError`] if the hive is not sound, the key does not exist, or the name or the data is
    /// too long. Nothing is changed then.
    pub fn set_value(
        &mut self,
        key: KeyId,
        name: &str,
        kind: u32,
        data: &[u8],
        now: FileTime,
    ) -> Result<bool, HiveError> {
        if name.encode_utf16().count() > VALUE_NAME_MAX {
            return Err(HiveError::Name {
                why: "a value's name has at most 16383 characters",
            });
        }
        if name.contains('\0') {
            return Err(HiveError::Name {
                why: "a name has no zero: Windows' own programs could not find it",
            });
        }
        let most = if self.minor >= BIG_SINCE {
            DATA_MAX
        } else {
            CELL_MAX
        };
        if data.len() > most {
            return Err(HiveError::TooLong {
                len: data.len(),
                most,
            });
        }
        self.edit(|hive| hive.set_value_now(key, name, kind, data, now))
    }

    fn set_value_now(
        &mut self,
        key: KeyId,
        name: &str,
        kind: u32,
        data: &[u8],
        now: FileTime,
    ) -> Result<bool, HiveError> {
        let len = u32::try_from(data.len()).map_err(|_| HiveError::Full)?;
        if let Some((_, at)) = self.entry(key, name)? {
            let entry = Entry::read(&self.cells, self.minor, at)?;
            if entry.kind == kind
                && entry.place.len() == len
                && data::read(&self.cells, entry.place)? == data
            {
                return Ok(false);
            }
            let place = entry.place;
            release_data(&mut self.cells, place)?;
            let (size, word) = store_data(&mut self.cells, self.minor, data)?;
            self.cells.put_u32(at, data::field::SIZE, size)?;
            self.cells.put_u32(at, data::field::DATA, word)?;
            self.cells.put_u32(at, data::field::KIND, kind)?;
        } else {
            let (size, word) = store_data(&mut self.cells, self.minor, data)?;
            let at = self
                .cells
                .store(&data::entry_bytes(name, size, word, kind)?)?;
            self.append_entry(key, at)?;
        }
        let longest = u32::try_from(name.encode_utf16().count() * 2).unwrap_or(0);
        let fields = self.key(key)?;
        let longest = fields.longest_value.max(longest);
        let largest = fields.largest_data.max(len);
        self.cells.put_u32(key.0, field::LONGEST_VALUE, longest)?;
        self.cells.put_u32(key.0, field::LARGEST_DATA, largest)?;
        self.touch(key, now)?;
        Ok(true)
    }

    fn append_entry(&mut self, key: KeyId, at: u32) -> Result<(), HiveError> {
        let fields = self.key(key)?;
        let (list, count) = (fields.value_list, fields.values);
        let mut entries = self.entries(key)?;
        entries.push(at);
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|entry| entry.to_le_bytes())
            .collect();
        let list = if count == 0 {
            self.cells.store(&bytes)?
        } else {
            self.cells.store_again(list, &bytes)?
        };
        self.cells.put_u32(key.0, field::VALUE_LIST, list)?;
        self.cells.put_u32(
            key.0,
            field::VALUES,
            count.checked_add(1).ok_or(HiveError::Full)?,
        )
    }

    /// Deletes a value; false if there was none.
    ///
    /// # Errors
    /// [`HiveError`] if the hive is not sound or the key does not exist. Nothing is changed then.
    pub fn delete_value(
        &mut self,
        key: KeyId,
        name: &str,
        now: FileTime,
    ) -> Result<bool, HiveError> {
        self.edit(|hive| {
            let Some((place, at)) = hive.entry(key, name)? else {
                return Ok(false);
            };
            let list = hive.key(key)?.value_list;
            let mut entries = hive.entries(key)?;
            entries.remove(place);
            release_value(&mut hive.cells, hive.minor, at)?;
            if entries.is_empty() {
                hive.cells.release(list)?;
                hive.cells.put_u32(key.0, field::VALUE_LIST, NOWHERE)?;
                hive.cells.put_u32(key.0, field::LONGEST_VALUE, 0)?;
                hive.cells.put_u32(key.0, field::LARGEST_DATA, 0)?;
            } else {
                let bytes: Vec<u8> = entries.iter().flat_map(|at| at.to_le_bytes()).collect();
                hive.cells.put(list, 0, &bytes)?;
            }
            let count = u32::try_from(entries.len()).map_err(|_| HiveError::Full)?;
            hive.cells.put_u32(key.0, field::VALUES, count)?;
            hive.touch(key, now)?;
            Ok(true)
        })
    }
}

/// Stores data in the form for its length; returns the length and place fields of the `vk`.
fn store_data(cells: &mut Cells, minor: u32, data: &[u8]) -> Result<(u32, u32), HiveError> {
    let len = u32::try_from(data.len()).map_err(|_| HiveError::Full)?;
    if data.len() <= 4 {
        let mut word = [0; 4];
        word.iter_mut()
            .zip(data)
            .for_each(|(place, byte)| *place = *byte);
        return Ok((len | INLINE, u32::from_le_bytes(word)));
    }
    if len <= SEGMENT || minor < BIG_SINCE {
        return Ok((len, cells.store(data)?));
    }
    let mut list = Vec::new();
    let mut count = 0_u16;
    for part in data.chunks(index(SEGMENT)) {
        // Windows makes the last segment as long as the others, too.
        let mut part = part.to_vec();
        part.resize(index(SEGMENT), 0);
        list.extend_from_slice(&cells.store(&part)?.to_le_bytes());
        count += 1;
    }
    let mut big = b"db".to_vec();
    big.extend_from_slice(&count.to_le_bytes());
    big.extend_from_slice(&cells.store(&list)?.to_le_bytes());
    Ok((len, cells.store(&big)?))
}

fn release_data(cells: &mut Cells, place: Place) -> Result<(), HiveError> {
    match place {
        Place::Inline { .. } => Ok(()),
        Place::Cell { at, .. } => cells.release(at),
        Place::Big { at, len } => {
            let parts = data::segments(cells, at, len)?;
            for segment in parts.segments {
                cells.release(segment)?;
            }
            cells.release(parts.list)?;
            cells.release(at)
        }
    }
}

fn release_value(cells: &mut Cells, minor: u32, at: u32) -> Result<(), HiveError> {
    let place = Entry::read(cells, minor, at)?.place;
    release_data(cells, place)?;
    cells.release(at)
}

/// Releases all values of a key.
pub(crate) fn release_all(cells: &mut Cells, minor: u32, key: u32) -> Result<(), HiveError> {
    let fields = Key::read(cells, key, "key")?;
    let (list, count) = (fields.value_list, fields.values);
    for entry in data::values(cells, list, count)? {
        release_value(cells, minor, entry)?;
    }
    if count == 0 {
        Ok(())
    } else {
        cells.release(list)
    }
}
