//! Going through a file record by record without its index, over damage if need be.
//!
//! Owns the walk that the check without a password and the rebuilding of an index share. It looks at headers only: a
//! record counts as found when its header's CRC holds, it belongs to this image and it lies wholly inside its volume.
//! Whether its content is whole is asked later. Where no record stands, the walk searches for the next sync magic at a
//! multiple of 64 bytes and remembers the hole.
//!
//! What always holds: every call makes progress or ends, and the work is linear in the file's length.

use positioned_io::ReadAt;

use crate::Position;
use crate::error::FormatError;
use crate::prologue::{PROLOGUE_BYTES, Prologue};
use crate::record::{ALIGN, HEADER_BYTES, Header, SYNC, raw_kind};
use crate::store::Store;

/// Bytes searched at once.
const WINDOW: u64 = 64 << 10;
/// Headers that break a rule and are remembered.
const REFUSED_MAX: usize = 256;
/// How often a walk may go back into the record before a hole, in case bytes were lost from its middle and whole
/// records now lie inside its declared length. Bounded, or a file of nested headers would be hashed over and over.
const SEARCHES_BACK_MAX: u32 = 1024;

/// A part of the file that belongs to no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Where it starts.
    pub position: Position,
    /// Bytes in it.
    pub bytes: u64,
}

/// A walk over all volumes.
#[derive(Debug)]
pub(crate) struct Scan<'a, R> {
    store: &'a Store<R>,
    prologue: &'a Prologue,
    at: Position,
    /// The record before `at`, in the same volume.
    last: Option<Position>,
    searches_back: u32,
    window: Vec<u8>,
    pub(crate) gaps: Vec<Gap>,
    /// Headers that are what was written and break a rule.
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

    /// The next record, `None` after the last volume.
    pub(crate) fn next_record(&mut self) -> Option<(Position, Header)> {
        while (self.at.volume as usize) < self.store.volumes.len() {
            let len = self.store.volume_len(self.at.volume);
            let found = self.whole(self.at).or_else(|| self.search(len));
            if let Some((at, header)) = found {
                self.gap_until(at.offset);
                self.last = Some(at);
                // `whole` has shown that this does not pass the end of the volume.
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

    /// The record at this place, when it is there with all its bytes.
    fn whole(&mut self, at: Position) -> Option<(Position, Header)> {
        // An unreadable place is a place without a record: what lies behind it may still be read.
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

    /// Remembers why a header whose CRC holds is none.
    fn refuse(&mut self, at: Position, error: FormatError) {
        let mut bytes = [0; HEADER_BYTES];
        let whole = self.refused.len() < REFUSED_MAX
            && self.store.read(at, &mut bytes).is_ok()
            && raw_kind(&bytes).is_some();
        if whole {
            self.refused.push((at, error));
        }
    }

    /// The next record of this volume by its sync magic.
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
            // A window that cannot be read is passed over.
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
