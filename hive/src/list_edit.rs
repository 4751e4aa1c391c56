//! Changes to lists of subkeys and to their counts.
//!
//! A full leaf is split into two below an `ri`. An empty leaf is removed, and so is an `ri` without
//! leaves.

use crate::cells::{Cells, NOWHERE};
use crate::error::{HiveError, damaged};
use crate::key::{Key, field};
use crate::list::{self, Leaf};
use crate::name;

/// Largest number of keys in a leaf before it is split: the number used by Windows 7, so that an
/// `lh` fits a page. Longer leaves made by Windows stay until a key is added to them.
const LEAF_MAX: usize = 507;
/// First minor version with `lh` leaves; earlier ones have `lf`.
const HASH_SINCE: u32 = 5;

fn leaf_bytes(kind: Leaf, entries: &[(u32, u32)]) -> Result<Vec<u8>, HiveError> {
    let count = u16::try_from(entries.len()).map_err(|_| HiveError::Full)?;
    let mut bytes = kind.signature().to_vec();
    bytes.extend_from_slice(&count.to_le_bytes());
    for (key, beside) in entries {
        bytes.extend_from_slice(&key.to_le_bytes());
        if kind != Leaf::Plain {
            bytes.extend_from_slice(&beside.to_le_bytes());
        }
    }
    Ok(bytes)
}

fn root_bytes(leaves: &[u32]) -> Result<Vec<u8>, HiveError> {
    let count = u16::try_from(leaves.len()).map_err(|_| HiveError::Full)?;
    let mut bytes = b"ri".to_vec();
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend(leaves.iter().flat_map(|leaf| leaf.to_le_bytes()));
    Ok(bytes)
}

/// The hint for a key in a leaf of this kind.
pub(crate) fn beside(kind: Leaf, key: &Key<'_>) -> u32 {
    match kind {
        Leaf::Plain => 0,
        Leaf::Letters => name::letters(key.name),
        Leaf::Hash => name::hash(key.name.upper()),
    }
}

/// The list of a key: its cell, a flag for an `ri`, and the leaves.
struct List {
    at: u32,
    has_root: bool,
    leaves: Vec<u32>,
}

impl List {
    fn read(cells: &Cells, parent: u32) -> Result<List, HiveError> {
        let at = Key::read(cells, parent, "key")?.subkey_list;
        let leaves = list::leaves(cells, at)?;
        Ok(List {
            at,
            has_root: leaves != [at],
            leaves,
        })
    }

    /// Writes `leaves` as the key's list.
    fn write(self, cells: &mut Cells, parent: u32, leaves: &[u32]) -> Result<(), HiveError> {
        let at = match leaves {
            [] => {
                if self.has_root {
                    cells.release(self.at)?;
                }
                NOWHERE
            }
            [leaf] if !self.has_root => *leaf,
            _ if self.has_root => cells.store_again(self.at, &root_bytes(leaves)?)?,
            _ => cells.store(&root_bytes(leaves)?)?,
        };
        cells.put_u32(parent, field::SUBKEY_LIST, at)
    }
}

/// Inserts `child`, which has `parent` as its parent, at its position in the list of `parent`.
pub(crate) fn insert(
    cells: &mut Cells,
    minor: u32,
    parent: u32,
    child: u32,
) -> Result<(), HiveError> {
    let key = Key::read(cells, parent, "key")?;
    let (count, longest) = (key.subkeys, key.longest_subkey);
    let new = Key::read(cells, child, "key")?;
    let name: Vec<u16> = new.name.upper().collect();
    let new_len = u16::try_from(new.name.utf16_len()).unwrap_or(u16::MAX);
    if count == 0 {
        let kind = if minor >= HASH_SINCE {
            Leaf::Hash
        } else {
            Leaf::Letters
        };
        let leaf = cells.store(&leaf_bytes(kind, &[(child, beside(kind, &new))])?)?;
        cells.put_u32(parent, field::SUBKEY_LIST, leaf)?;
    } else {
        let list = List::read(cells, parent)?;
        let (place, kind, mut entries, position) = find_place(cells, &list, &name)?;
        entries.insert(position, (child, beside(kind, &new)));
        let mut leaves = list.leaves.clone();
        let leaf = leaves.get(place).copied().unwrap_or(NOWHERE);
        let halves = if entries.len() > LEAF_MAX {
            let (low, high) = entries.split_at(entries.len() / 2);
            cells.release(leaf)?;
            let low = cells.store(&leaf_bytes(kind, low)?)?;
            vec![low, cells.store(&leaf_bytes(kind, high)?)?]
        } else {
            vec![cells.store_again(leaf, &leaf_bytes(kind, &entries)?)?]
        };
        leaves.splice(place..=place, halves);
        list.write(cells, parent, &leaves)?;
    }
    cells.put_u32(
        parent,
        field::SUBKEYS,
        count.checked_add(1).ok_or(HiveError::Full)?,
    )?;
    cells.put_u16(parent, field::LONGEST_SUBKEY, longest.max(new_len))
}

/// The position of a name: index of the leaf, its kind, its entries, and the index in them.
type Found = (usize, Leaf, Vec<(u32, u32)>, usize);

fn find_place(cells: &Cells, list: &List, name: &[u16]) -> Result<Found, HiveError> {
    for (place, &leaf) in list.leaves.iter().enumerate() {
        let (kind, entries) = list::entries(cells, leaf)?;
        for (position, (key, _)) in entries.iter().enumerate() {
            let other = Key::read(cells, *key, "subkey")?.name.upper();
            if other.gt(name.iter().copied()) {
                return Ok((place, kind, entries, position));
            }
        }
        if place + 1 == list.leaves.len() {
            let end = entries.len();
            return Ok((place, kind, entries, end));
        }
    }
    Err(damaged("subkey list", list.at, "it has no leaf"))
}

/// Removes `child` from the list of `parent`. The key itself stays.
pub(crate) fn remove(cells: &mut Cells, parent: u32, child: u32) -> Result<(), HiveError> {
    let count = Key::read(cells, parent, "key")?.subkeys;
    let list = List::read(cells, parent)?;
    for (place, &leaf) in list.leaves.iter().enumerate() {
        let (kind, mut entries) = list::entries(cells, leaf)?;
        let Some(position) = entries.iter().position(|(key, _)| *key == child) else {
            continue;
        };
        entries.remove(position);
        if entries.is_empty() {
            cells.release(leaf)?;
            let mut leaves = list.leaves.clone();
            leaves.remove(place);
            list.write(cells, parent, &leaves)?;
        } else {
            cells.put(leaf, 0, &leaf_bytes(kind, &entries)?)?;
        }
        let count = count.saturating_sub(1);
        if count == 0 {
            cells.put_u16(parent, field::LONGEST_SUBKEY, 0)?;
            cells.put_u32(parent, field::LONGEST_CLASS, 0)?;
        }
        return cells.put_u32(parent, field::SUBKEYS, count);
    }
    Err(damaged("subkey list", list.at, "a subkey is missing in it"))
}

/// Frees the cells of a key's list.
pub(crate) fn release(cells: &mut Cells, parent: u32) -> Result<(), HiveError> {
    if Key::read(cells, parent, "key")?.subkeys == 0 {
        return Ok(());
    }
    let list = List::read(cells, parent)?;
    for leaf in list.leaves {
        cells.release(leaf)?;
    }
    if list.has_root {
        cells.release(list.at)
    } else {
        Ok(())
    }
}
