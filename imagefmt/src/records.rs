//! The records of an image in the order of the file, with the checks that need no password.
//!
//! Owns the list of records and gaps found by a walk over the headers, and the check of one record
//! against its stored hash. Never decrypts, never decompresses. Every method takes `&self`, so
//! threads can share it.
//!
//! ```text
//! Records::walk(volumes)  ->  records(), gaps()  ->  check(position, scratch) from as many threads as wanted
//! ```
//!
//! An image is intact, as far as can be known without a password, if there are no gaps, every
//! record passes and [`Records::summary`] finds the trailer. These three checks cover every byte of
//! the file.

use std::collections::BTreeMap;

use positioned_io::ReadAt;

use crate::error::{FormatError, Result};
use crate::image::{Summary, summarize};
use crate::names::{Class, Name};
use crate::prologue::Prologue;
use crate::scan::{Gap, Scan};
use crate::store::{Store, Volume};
use crate::trailer::TRAILER_BYTES;
use crate::{ChunkId, Geometry, Position, RecordKind};

/// A record as described by its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Type of the record.
    pub kind: RecordKind,
    /// Number of its chunk; 0 if the record is not a chunk.
    pub chunk: ChunkId,
    /// Start of the record.
    pub position: Position,
    /// Length of header, stored body and padding in bytes.
    pub bytes: u64,
    /// Number of used bytes of a chunk.
    pub(crate) used_bytes: u64,
    /// Id in the header.
    pub(crate) id: [u8; 32],
}

/// All records of an image, found by their headers.
#[derive(Debug)]
pub struct Records<R> {
    store: Store<R>,
    prologue: Prologue,
    records: Vec<Record>,
    gaps: Vec<Gap>,
    refused: Vec<(Position, FormatError)>,
    trailing: u64,
    /// Position of a record of this image directly behind its end.
    addition: Option<Position>,
}

impl<R: ReadAt> Records<R> {
    /// Walks through the volumes from header to header (128 bytes read for each record), and
    /// searches for the sync magic where there is no record.
    ///
    /// Needs neither password, nor index, nor trailer.
    ///
    /// # Errors
    /// The errors of the prologues: [`crate::FormatError::NotAnImage`],
    /// [`crate::FormatError::UnsupportedVersion`], [`crate::FormatError::UnknownFeature`],
    /// [`crate::FormatError::Damaged`], [`crate::FormatError::VolumeMismatch`],
    /// [`crate::FormatError::Io`].
    pub fn walk(volumes: Vec<Volume<R>>) -> Result<Self> {
        let store = Store { volumes };
        let prologue = store.prologue()?;
        let mut scan = Scan::new(&store, &prologue);
        let mut records = Vec::new();
        while let Some((position, header)) = scan.next_record() {
            records.push(Record {
                kind: header.kind,
                chunk: header.chunk,
                position,
                bytes: header.record_len(),
                used_bytes: match header.kind {
                    RecordKind::Chunk => header.used_bytes(&prologue.geometry),
                    _ => 0,
                },
                id: header.id,
            });
        }
        let (mut gaps, mut refused) = (scan.gaps, scan.refused);
        let trailing = behind_the_end(&store, &prologue, &mut gaps);
        let mut addition = None;
        if let Ok((_, at)) = store.trailer(&prologue) {
            let end = Position {
                offset: at.offset.saturating_add(TRAILER_BYTES as u64),
                ..at
            };
            let behind = records.iter().map(|record| record.position);
            addition = behind.into_iter().find(|position| *position == end);
            // Records behind the end belong to no image.
            records.retain(|record| record.position < end);
            refused.retain(|(position, _)| *position < end);
        }
        Ok(Self {
            store,
            prologue,
            records,
            gaps,
            refused,
            trailing,
            addition,
        })
    }

    /// The records, in the order of the file.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The parts of the file without a record; none in an intact image.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The positions in gaps with an undamaged header that breaks a rule of the format, and the
    /// rule.
    #[must_use]
    pub fn refused(&self) -> &[(Position, FormatError)] {
        &self.refused
    }

    /// Number of bytes behind the end of the image or of its volumes that belong to nothing, as in
    /// a copy made in whole blocks.
    #[must_use]
    pub fn trailing(&self) -> u64 {
        self.trailing
    }

    /// Position of labels or a signature directly behind the end, without a trailer behind them, so
    /// that they do not count.
    pub(crate) fn lost_addition(&self) -> Option<Position> {
        self.addition
    }

    /// Volumes with a damaged prologue, for which a copy was used; 0 is the first.
    #[must_use]
    pub fn damaged_prologues(&self) -> Vec<u32> {
        self.store.damaged_prologues()
    }

    /// The records with an unknown type that may be ignored: type, name if the image contains one,
    /// and number of records.
    #[must_use]
    pub fn passed_over(&self) -> Vec<(u8, Name, usize)> {
        let mut counts = BTreeMap::new();
        for record in &self.records {
            if let RecordKind::Other(number) = record.kind
                && record.kind.is_optional()
            {
                *counts.entry(number).or_default() += 1;
            }
        }
        let names = &self.prologue.names;
        let named = |(number, count)| (number, names.name(Class::Record, u64::from(number)), count);
        counts.into_iter().map(named).collect()
    }

    pub(crate) fn prologue(&self) -> &Prologue {
        &self.prologue
    }

    /// Sizes of disk, sectors and chunks.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.prologue.geometry
    }

    /// True if reading content needs a password.
    #[must_use]
    pub fn encrypted(&self) -> bool {
        self.prologue.encrypted()
    }

    /// Reads the properties given in prologue and trailer.
    ///
    /// # Errors
    /// [`crate::FormatError::Truncated`] or [`crate::FormatError::VolumeMissing`] without a
    /// trailer, [`crate::FormatError::Damaged`] if the trailer is not valid.
    pub fn summary(&self) -> Result<Summary> {
        summarize(&self.store, &self.prologue)
    }

    /// Checks the stored bytes of the record at this position. `scratch` is only working space.
    ///
    /// # Errors
    /// [`crate::FormatError::ChunkDamaged`], [`crate::FormatError::Damaged`] for other records,
    /// [`crate::FormatError::Io`].
    pub fn check(&self, position: Position, scratch: &mut Vec<u8>) -> Result<()> {
        let header = self.store.header(&self.prologue, position)?;
        self.store.stored(&header, position, scratch)?;
        header.check_stored(scratch, position.offset)
    }
}

/// Removes the gaps behind the end of the image, and those at the ends of earlier volumes if they
/// are exactly the growth of these volumes. Returns the number of their bytes.
fn behind_the_end<R: ReadAt>(store: &Store<R>, prologue: &Prologue, gaps: &mut Vec<Gap>) -> u64 {
    let Ok((trailer, at)) = store.trailer(prologue) else {
        return 0;
    };
    let end = at.offset.saturating_add(TRAILER_BYTES as u64);
    let last = store.volume_len(at.volume).saturating_sub(end);
    let grown = store
        .total_len()
        .saturating_sub(last)
        .saturating_sub(trailer.total_len);
    let ends_volume = |gap: &Gap| {
        let end = gap.position.offset.saturating_add(gap.bytes);
        gap.position.volume < at.volume && end == store.volume_len(gap.position.volume)
    };
    let earlier: u64 = gaps
        .iter()
        .filter(|gap| ends_volume(gap))
        .map(|gap| gap.bytes)
        .sum();
    let explained = earlier == grown;
    gaps.retain(|gap| {
        let behind = gap.position.volume == at.volume && gap.position.offset >= end;
        !(behind || explained && ends_volume(gap))
    });
    last.saturating_add(if explained { grown } else { 0 })
}
