//! A walk through a file from record to record without its index, past damage if necessary.
//!
//! Owns the walk used by the check without a password and by the rebuild of an index. It reads only
//! headers: a record counts as found if its header's CRC is valid, it belongs to this image and it
//! is completely inside its volume. Its content is checked later. Where there is no record, the
//! walk searches for the next sync magic at a multiple of 64 bytes and records the gap.
//!
//! Always holds: every call makes progress or ends, and the work is linear in the file's length.

use positioned_io::ReadAt;

use crate::Position;
use crate::error::FormatError;
use crate::prologue::{PROLOGUE_BYTES, Prologue};
use crate::record::{ALIGN, HEADER_BYTES, Header, SYNC, raw_kind};
use crate::store::Store;

/// Number of bytes searched in one read.
const WINDOW: u64 = 64 << 10;
/// Largest number of recorded headers that break a rule.
const REFUSED_MAX: usize = 256;
/// Largest number of times a walk may go back into the record before a gap. This is needed if bytes
/// were lost from its middle, so that intact records are now inside its declared length. Without a
/// limit, a file of nested headers would be hashed again and again.
const SEARCHES_BACK_MAX: u32 = 1024;

/// A part of the file that belongs to no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Start of the gap.
    pub position: Position,
    /// Length in bytes.
    pub bytes: u64,
}

/// A walk over all volumes.
#[derive(Debug)]
pub(crate) struct Scan<'a, R> {
    store: &'a Store<R>,
    prologue: &'a Prologue,
    at: Position,
    /// The record before `at` in the same volume.
    last: Option<Position>,
    searches_back: u32,
    window: Vec<u8>,
    pub(crate) gaps: Vec<Gap>,
    /// Undamaged headers that break a rule.
    pub(crate) refused: Vec<(Position, FormatError)>,
}

impl<'a, R: ReadAt> Scan<'a, R> {
    pub(crate) fn new(store: &'a Store<R>, prologue: &'a Prologue) -> Self {
        Self {
            store,
            prologue,
            at: start_of(0),
            last: None,
            searches_back: SEARCHES_BACK_MAX,
            window: Vec::new(),
            gaps: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Returns the next record; `None` after the last volume.
    pub(crate) fn next_record(&mut self) -> Option<(Position, Header)> {
        while (self.at.volume as usize) < self.store.volumes.len() {
            let len = self.store.volume_len(self.at.volume);
            let found = self.whole(self.at).or_else(|| self.search(len));
            if let Some((at, header)) = found {
                self.gap_until(at.offset);
                self.last = Some(at);
                // `whole` has checked that this is not behind the end of the volume.
                self.at.offset = at.offset.saturating_add(header.record_len());
                return Some((at, header));
            }
            self.gap_until(len);
            self.last = None;
            self.at = start_of(self.at.volume.saturating_add(1));
        }
        None
    }

    fn gap_until(&mut self, end: u64) {
        if end > self.at.offset {
            self.gaps.push(Gap {
                position: self.at,
                bytes: end - self.at.offset,
            });
        }
    }

    /// Returns the record at this position if all its bytes are there.
    fn whole(&mut self, at: Position) -> Option<(Position, Header)> {
        // An unreadable position counts as one without a record, because later parts may still be
        // readable.
        let header = match self.store.header(self.prologue, at) {
            Ok(header) => header,
            Err(error) => {
                self.refuse(at, error);
                return None;
            }
        };
        let end = at.offset.checked_add(header.record_len())?;
        (end <= self.store.volume_len(at.volume)).then_some((at, header))
    }

    /// Records the reason why a header with a valid CRC was refused.
    fn refuse(&mut self, at: Position, error: FormatError) {
        let mut bytes = [0; HEADER_BYTES];
        let whole = self.refused.len() < REFUSED_MAX
            && self.store.read(at, &mut bytes).is_ok()
            && raw_kind(&bytes).is_some();
        if whole {
            self.refused.push((at, error));
        }
    }

    /// Searches the next record of this volume by its sync magic.
    fn search(&mut self, len: u64) -> Option<(Position, Header)> {
        if self.at.offset >= len {
            return None;
        }
        let mut at = self.at;
        if let Some(last) = self.last
            && self.searches_back > 0
        {
            self.searches_back -= 1;
            at = last;
        }
        at.offset = at.offset.saturating_add(ALIGN);
        let mut window = std::mem::take(&mut self.window);
        let mut found = None;
        while found.is_none() && at.offset < len {
            let size = WINDOW.min(len - at.offset);
            // A window that cannot be read is skipped.
            if self.store.read_vec(at, size, &mut window).is_ok() {
                let step = usize::try_from(ALIGN).unwrap_or(64);
                let pieces = window.chunks(step).zip((at.offset..).step_by(step));
                let mut places = pieces.filter(|(piece, _)| piece.starts_with(&SYNC));
                found = places.find_map(|(_, offset)| self.whole(Position { offset, ..at }));
            }
            at.offset = at.offset.saturating_add(WINDOW);
        }
        self.window = window;
        found
    }
}

fn start_of(volume: u32) -> Position {
    Position {
        volume,
        offset: PROLOGUE_BYTES as u64,
    }
}
