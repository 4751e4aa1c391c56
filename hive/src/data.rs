//! Values (`vk` cells) and their data, regf "Key value" and "Big data".
//!
//! ```text
//! vk: 0 "vk"  2 name bytes  4 data bytes (top bit: the data is at 8)  8 data  12 type  16 flags  20 name
//! db: 0 "db"  2 segments    4 list of segments
//! ```
//!
//! Up to 4 bytes are stored in the `vk` itself. Since version 1.4, data of more than 16,344 bytes
//! is a `db`, whose segments hold 16,344 bytes each and the last one the rest.

use crate::cells::Cells;
use crate::error::{HiveError, damaged};
use crate::name::{self, Name};
use crate::scan::{Scan, index};

/// Data bytes in a segment; longer data needs a `db` (Windows: `CM_KEY_VALUE_BIG`).
pub(crate) const SEGMENT: u32 = 16_344;
/// First minor version of hives with `db`.
pub(crate) const BIG_SINCE: u32 = 4;
/// Flag in the size: the data is in the `vk` itself.
pub(crate) const INLINE: u32 = 1 << 31;

pub(crate) mod flag {
    /// The name is stored with one byte for each unit.
    pub(crate) const COMPRESSED: u16 = 0x0001;
}

/// Offsets of the fields, for code that writes them.
pub(crate) mod field {
    pub(crate) const SIZE: usize = 4;
    pub(crate) const DATA: usize = 8;
    pub(crate) const KIND: usize = 12;
}

/// The fields and the name of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) kind: u32,
    pub(crate) name: Name<'a>,
    pub(crate) place: Place,
}

/// The place of a value's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Inline { bytes: [u8; 4], len: usize },
    Cell { at: u32, len: u32 },
    Big { at: u32, len: u32 },
}

impl Place {
    /// True if a single cell holds data that should be in segments.
    pub(crate) fn is_long_cell(self, minor: u32) -> bool {
        matches!(self, Place::Cell { len, .. } if minor >= BIG_SINCE && len > SEGMENT)
    }

    pub(crate) fn len(self) -> u32 {
        match self {
            Place::Inline { len, .. } => u32::try_from(len).unwrap_or(0),
            Place::Cell { len, .. } | Place::Big { len, .. } => len,
        }
    }
}

/// The cells of a `db`: its list and its segments.
pub(crate) struct Segments {
    pub(crate) list: u32,
    pub(crate) segments: Vec<u32>,
}

impl<'a> Entry<'a> {
    /// Reads the value at `at` in a hive of this minor version.
    pub(crate) fn read(cells: &'a Cells, minor: u32, at: u32) -> Result<Entry<'a>, HiveError> {
        let bad = |why| damaged("value", at, why);
        let cell = cells.get(at, "value")?;
        let (kind, name, size, word) = Entry::fields(cell).ok_or(bad("it is no value"))?;
        let place = if size & INLINE != 0 {
            let len = index(size & !INLINE);
            if len > 4 {
                return Err(bad("more than 4 bytes are said to be in it"));
            }
            Place::Inline {
                bytes: word.to_le_bytes(),
                len,
            }
        } else if size == 0 {
            Place::Inline {
                bytes: [0; 4],
                len: 0,
            }
        } else if minor >= BIG_SINCE && size > SEGMENT {
            // Some editors put such data into one long cell, which Windows cannot read but this
            // crate can. A db is 8 bytes long, so the two cannot be confused.
            let cell = cells.get(word, "data")?;
            if cell.len() >= index(size) {
                Place::Cell {
                    at: word,
                    len: size,
                }
            } else {
                Place::Big {
                    at: word,
                    len: size,
                }
            }
        } else {
            Place::Cell {
                at: word,
                len: size,
            }
        };
        Ok(Entry { kind, name, place })
    }

    fn fields(cell: &'a [u8]) -> Option<(u32, Name<'a>, u32, u32)> {
        let mut scan = Scan(cell);
        scan.signature(*b"vk")?;
        let name_len = scan.u16()?;
        let size = scan.u32()?;
        let word = scan.u32()?;
        let kind = scan.u32()?;
        let compressed = scan.u16()? & flag::COMPRESSED != 0;
        scan.take(2)?;
        let bytes = scan.take(usize::from(name_len))?;
        (compressed || bytes.len().is_multiple_of(2)).then_some((
            kind,
            Name { bytes, compressed },
            size,
            word,
        ))
    }
}

/// The `vk` cells in a list of values.
pub(crate) fn values(cells: &Cells, list: u32, count: u32) -> Result<Vec<u32>, HiveError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let cell = cells.get(list, "value list")?;
    let len = index(count).checked_mul(4).and_then(|len| cell.get(..len));
    let entries = len.ok_or(damaged("value list", list, "it is longer than its cell"))?;
    Ok(entries
        .chunks_exact(4)
        .filter_map(|entry| Scan(entry).u32())
        .collect())
}

/// The cells of the `db` at `at`, which holds `len` bytes.
pub(crate) fn segments(cells: &Cells, at: u32, len: u32) -> Result<Segments, HiveError> {
    let bad = |why| damaged("big data", at, why);
    let mut scan = Scan(cells.get(at, "big data")?);
    scan.signature(*b"db").ok_or(bad("no signature"))?;
    let count = u32::from(scan.u16().unwrap_or(0));
    if count != len.div_ceil(SEGMENT) {
        return Err(bad("its segments do not make up its length"));
    }
    let list = scan.u32().ok_or(bad("it is too short"))?;
    let cell = cells.get(list, "list of segments")?;
    let entries = cell.get(..index(count) * 4);
    let entries = entries.ok_or(damaged(
        "list of segments",
        list,
        "it is longer than its cell",
    ))?;
    let segments = entries
        .chunks_exact(4)
        .filter_map(|entry| Scan(entry).u32())
        .collect();
    Ok(Segments { list, segments })
}

/// Reads the data.
pub(crate) fn read(cells: &Cells, place: Place) -> Result<Vec<u8>, HiveError> {
    match place {
        Place::Inline { bytes, len } => Ok(bytes.get(..len).unwrap_or_default().to_vec()),
        Place::Cell { at, len } => {
            let data = cells.get(at, "data")?.get(..index(len));
            data.map(<[u8]>::to_vec)
                .ok_or(damaged("data", at, "it is longer than its cell"))
        }
        Place::Big { at, len } => {
            let parts = segments(cells, at, len)?;
            if len > cells.bins_len {
                return Err(damaged("big data", at, "it is longer than the hive"));
            }
            let mut data = Vec::with_capacity(index(len));
            let mut left = len;
            for segment in parts.segments {
                let here = left.min(SEGMENT);
                let part = cells.get(segment, "data segment")?.get(..index(here));
                let short = damaged("data segment", segment, "its cell is too short");
                data.extend_from_slice(part.ok_or(short)?);
                left -= here;
            }
            Ok(data)
        }
    }
}

/// Makes the bytes of a new `vk`.
pub(crate) fn entry_bytes(
    name: &str,
    size: u32,
    word: u32,
    kind: u32,
) -> Result<Vec<u8>, HiveError> {
    let (stored, compressed) = name::stored(name);
    // Windows does not set the flag for an empty name.
    let compressed = compressed && !stored.is_empty();
    let name_len = u16::try_from(stored.len());
    let name_len = name_len.map_err(|_| HiveError::Name {
        why: "it is too long",
    })?;
    let mut bytes = b"vk".to_vec();
    bytes.extend_from_slice(&name_len.to_le_bytes());
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&word.to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&u16::from(compressed).to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&stored);
    Ok(bytes)
}
