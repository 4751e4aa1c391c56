//! Allocation, release and writing of cells, with an undo log.
//!
//! Every write goes through this module, which keeps the previous bytes until the end of the edit.
//! An edit that fails halfway is undone byte for byte.
//!
//! A cell is allocated from the smallest free one that fits, and the rest of that stays free. If
//! none fits, a bin is added at the end. A released cell is joined with the free cells beside it,
//! never across bins.

use std::collections::BTreeSet;

use crate::base::{self, BLOCK};
use crate::cells::{BIN_HEADER, Cells, VOLATILE};
use crate::error::{HiveError, damaged};
use crate::scan::index;

/// One change that can be undone.
#[derive(Clone, Debug)]
enum Undo {
    Bytes { at: usize, old: Vec<u8> },
    Start { at: u32, was: bool },
    Len { file: usize, bins: u32 },
}

/// The free cells and the undo log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    /// Pairs of length and offset; created on first use.
    free: Option<BTreeSet<(u32, u32)>>,
    undo: Vec<Undo>,
}

/// The length of a cell with room for `len` bytes.
fn cell_len(len: usize) -> Result<u32, HiveError> {
    let len = u32::try_from(len).ok().and_then(|len| len.checked_add(4));
    len.and_then(|len| len.checked_next_multiple_of(8))
        .ok_or(HiveError::Full)
}

impl Cells {
    /// Ends a successful edit; true if it changed anything.
    pub(crate) fn commit(&mut self) -> bool {
        let changed = !self.space.undo.is_empty();
        self.space.undo.clear();
        changed
    }

    /// Ends a failed edit and undoes its changes.
    pub(crate) fn roll_back(&mut self) {
        for undo in std::mem::take(&mut self.space.undo).into_iter().rev() {
            match undo {
                Undo::Bytes { at, old } => {
                    if let Some(place) = self.bytes.get_mut(at..at + old.len()) {
                        place.copy_from_slice(&old);
                    }
                }
                Undo::Start { at, was: true } => {
                    self.starts.add(at);
                }
                Undo::Start { at, was: false } => self.starts.remove(at),
                Undo::Len { file, bins } => {
                    self.bytes.truncate(file);
                    self.bins_len = bins;
                    self.starts.resize(bins);
                }
            }
        }
        self.space.free = None;
    }

    /// Writes anywhere in the file. Equal bytes are not written again.
    fn write(&mut self, at: usize, data: &[u8]) -> Result<(), HiveError> {
        let outside = damaged(
            "file",
            u32::try_from(at).unwrap_or(u32::MAX),
            "a write is outside it",
        );
        let place = self.bytes.get_mut(at..at + data.len()).ok_or(outside)?;
        if place != data {
            self.space.undo.push(Undo::Bytes {
                at,
                old: place.to_vec(),
            });
            place.copy_from_slice(data);
        }
        Ok(())
    }

    fn start(&mut self, at: u32, is: bool) {
        let was = self.starts.has(at);
        if was != is {
            self.space.undo.push(Undo::Start { at, was });
            if is {
                self.starts.add(at);
            } else {
                self.starts.remove(at);
            }
        }
    }

    /// Writes into an allocated cell.
    pub(crate) fn put(&mut self, cell: u32, at: usize, data: &[u8]) -> Result<(), HiveError> {
        let room = self.get(cell, "cell")?.len();
        if at + data.len() > room {
            return Err(damaged("cell", cell, "it is too short for what is written"));
        }
        self.write(BLOCK + index(cell) + 4 + at, data)
    }

    /// Writes a 32-bit field of an allocated cell.
    pub(crate) fn put_u32(&mut self, cell: u32, at: usize, field: u32) -> Result<(), HiveError> {
        self.put(cell, at, &field.to_le_bytes())
    }

    /// Writes a 16-bit field of an allocated cell.
    pub(crate) fn put_u16(&mut self, cell: u32, at: usize, field: u16) -> Result<(), HiveError> {
        self.put(cell, at, &field.to_le_bytes())
    }

    fn free(&mut self) -> &mut BTreeSet<(u32, u32)> {
        if self.space.free.is_none() {
            let sizes = self.starts.iter().map(|at| (at, self.size(at)));
            let free = sizes.filter_map(|(at, size)| match size {
                Some((size, false)) => Some((size, at)),
                _ => None,
            });
            self.space.free = Some(free.collect());
        }
        self.space.free.get_or_insert_default()
    }

    fn set_free(&mut self, at: u32, size: u32) -> Result<(), HiveError> {
        self.start(at, true);
        self.write(BLOCK + index(at), &size.to_le_bytes())?;
        self.free().insert((size, at));
        Ok(())
    }

    /// Allocates a cell for `data` and writes it.
    pub(crate) fn store(&mut self, data: &[u8]) -> Result<u32, HiveError> {
        let need = cell_len(data.len())?;
        let fits = self.free().range((need, 0)..).next().copied();
        let (size, at) = match fits {
            Some(fits) => fits,
            None => self.grow(need)?,
        };
        self.free().remove(&(size, at));
        if size > need {
            self.set_free(at + need, size - need)?;
        }
        self.start(at, true);
        let mut cell = need.wrapping_neg().to_le_bytes().to_vec();
        cell.extend_from_slice(data);
        cell.resize(index(need), 0);
        self.write(BLOCK + index(at), &cell)?;
        Ok(at)
    }

    /// Writes `data` into the cell if it has the room, otherwise into a new cell that replaces it.
    pub(crate) fn store_again(&mut self, cell: u32, data: &[u8]) -> Result<u32, HiveError> {
        if self.get(cell, "cell")?.len() >= data.len() {
            self.put(cell, 0, data)?;
            return Ok(cell);
        }
        self.release(cell)?;
        self.store(data)
    }

    /// Releases a cell.
    pub(crate) fn release(&mut self, cell: u32) -> Result<(), HiveError> {
        let Some((mut size, true)) = self.size(cell) else {
            return Err(damaged("cell", cell, "it is not allocated"));
        };
        let mut at = cell;
        // Bins begin with a header and not with a cell, so neighbours are always in the same bin.
        if let Some((next, false)) = self.size(cell + size) {
            self.free().remove(&(next, cell + size));
            self.start(cell + size, false);
            size += next;
        }
        let before = self
            .starts
            .last_before(cell)
            .and_then(|at| Some((at, self.size(at)?)));
        if let Some((before, (len, false))) = before
            && before + len == cell
        {
            self.free().remove(&(len, before));
            self.start(cell, false);
            at = before;
            size += len;
        }
        self.set_free(at, size)
    }

    /// Adds a bin with a free cell of at least `need` bytes.
    fn grow(&mut self, need: u32) -> Result<(u32, u32), HiveError> {
        let block = 4096;
        let len = need
            .checked_add(BIN_HEADER)
            .and_then(|len| len.checked_next_multiple_of(block));
        let len = len.ok_or(HiveError::Full)?;
        let offset = self.bins_len;
        let end = offset
            .checked_add(len)
            .filter(|end| *end < VOLATILE)
            .ok_or(HiveError::Full)?;
        self.space.undo.push(Undo::Len {
            file: self.bytes.len(),
            bins: offset,
        });
        // Windows reserves space behind the last bin; it is used first.
        if self.bytes.len() < BLOCK + index(end) {
            self.bytes.resize(BLOCK + index(end), 0);
        }
        self.bins_len = end;
        self.starts.resize(end);
        let mut bin = b"hbin".to_vec();
        bin.extend_from_slice(&offset.to_le_bytes());
        bin.extend_from_slice(&len.to_le_bytes());
        bin.resize(index(len), 0);
        self.write(BLOCK + index(offset), &bin)?;
        let mut head = self.bytes.get(..BLOCK).unwrap_or_default().to_vec();
        base::set_bins_len(&mut head, end);
        self.write(0, &head)?;
        self.set_free(offset + BIN_HEADER, len - BIN_HEADER)?;
        Ok((len - BIN_HEADER, offset + BIN_HEADER))
    }
}
