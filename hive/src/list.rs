//! Lists of subkeys: leaves `lf`, `lh` and `li`, and `ri` above them, regf "Index leaf" to "Index
//! root".
//!
//! ```text
//! li: key ..          lf: (key, first letters of its name) ..
//! lh: (key, hash) ..  ri: leaf ..
//! ```
//!
//! Entries are in the order of names across all leaves. Hints and hashes are never trusted here;
//! names are compared instead.

use crate::cells::Cells;
use crate::error::{HiveError, damaged};
use crate::key::Key;
use crate::scan::Scan;

/// The kind of a leaf, which determines the hint beside each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// `li`: no hint.
    Plain,
    /// `lf`: the first four letters of the name.
    Letters,
    /// `lh`: the hash of the name.
    Hash,
}

impl Leaf {
    pub(crate) fn of(signature: &[u8]) -> Option<Leaf> {
        match signature {
            b"li" => Some(Leaf::Plain),
            b"lf" => Some(Leaf::Letters),
            b"lh" => Some(Leaf::Hash),
            _ => None,
        }
    }

    pub(crate) const fn signature(self) -> [u8; 2] {
        match self {
            Leaf::Plain => *b"li",
            Leaf::Letters => *b"lf",
            Leaf::Hash => *b"lh",
        }
    }

    /// Length of an entry in bytes.
    pub(crate) const fn entry_len(self) -> usize {
        match self {
            Leaf::Plain => 4,
            Leaf::Letters | Leaf::Hash => 8,
        }
    }
}

/// The leaves below `list`: `list` itself, or those listed in its `ri`.
pub(crate) fn leaves(cells: &Cells, list: u32) -> Result<Vec<u32>, HiveError> {
    let mut scan = Scan(cells.get(list, "subkey list")?);
    if scan.signature(*b"ri").is_none() {
        return Ok(vec![list]);
    }
    let count = usize::from(scan.u16().unwrap_or(0));
    let entries = scan.take(count * 4);
    let entries = entries.ok_or(damaged("subkey list", list, "it is longer than its cell"))?;
    Ok(entries
        .chunks_exact(4)
        .filter_map(|entry| Scan(entry).u32())
        .collect())
}

/// The content of one leaf: its kind, and each key with its hint.
pub(crate) fn entries(cells: &Cells, leaf: u32) -> Result<(Leaf, Vec<(u32, u32)>), HiveError> {
    let bad = |why| damaged("subkey leaf", leaf, why);
    let mut scan = Scan(cells.get(leaf, "subkey leaf")?);
    let kind = scan
        .take(2)
        .and_then(Leaf::of)
        .ok_or(bad("it is no list of keys"))?;
    let count = usize::from(scan.u16().unwrap_or(0));
    let entries = scan
        .take(count * kind.entry_len())
        .ok_or(bad("it is longer than its cell"))?;
    let entries = entries.chunks_exact(kind.entry_len()).map(|entry| {
        let mut scan = Scan(entry);
        (scan.u32().unwrap_or(0), scan.u32().unwrap_or(0))
    });
    Ok((kind, entries.collect()))
}

/// The subkeys of the key at `at`, each once, and each with `at` as its parent. Therefore a walk
/// down from the root ends, whatever the references between cells.
pub(crate) fn subkeys(cells: &Cells, at: u32, key: &Key<'_>) -> Result<Vec<u32>, HiveError> {
    let bad = |why| damaged("subkey list", key.subkey_list, why);
    if key.subkeys == 0 {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut declared = usize::try_from(key.subkeys).unwrap_or(usize::MAX);
    for leaf in leaves(cells, key.subkey_list)? {
        let (_, entries) = entries(cells, leaf)?;
        // An ri may list one leaf many times; this check stops before the total grows.
        declared = declared
            .checked_sub(entries.len())
            .ok_or(bad("more keys than declared"))?;
        found.extend(entries.into_iter().map(|(key, _)| key));
    }
    if declared != 0 {
        return Err(bad("fewer keys than declared"));
    }
    let mut sorted = found.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != found.len() {
        return Err(bad("a key is in it twice"));
    }
    for &child in &found {
        if Key::read(cells, child, "subkey")?.parent != at {
            return Err(damaged("subkey", child, "it names another parent"));
        }
    }
    Ok(found)
}
