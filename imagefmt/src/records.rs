//! The records of an image as they lie in the file: what can be checked without a password.
//!
//! Owns the list of records and holes that a walk over the headers gives, and the check of one record against its
//! stored hash. Never decrypts, never decompresses. Share it between threads: every method takes `&self`.
//!
//! ```text
//! Records::walk(volumes)  ->  records(), gaps()  ->  check(position, scratch) from as many threads as wanted
//! ```
//!
//! An image is whole, as far as that can be told without a password, when there are no gaps, every record passes and
//! [`Records::summary`] finds the trailer. Every single byte of the file is covered by one of the three.

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

/// A record as its header describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub kind: RecordKind,
    /// Its chunk's number; 0 unless it is a chunk.
    pub chunk: ChunkId,
    /// Where it starts.
    pub position: Position,
    /// Bytes of header, stored body and padding.
    pub bytes: u64,
    /// Used bytes of a chunk.
    pub(crate) used_bytes: u64,
    /// Id in its header.
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
    /// Place of a record of this image right behind its end.
    addition: Option<Position>,
}

impl<R: ReadAt> Records<R> {
    /// Goes through the volumes header by header (128 bytes read a record), and by sync magic where no record stands.
    /// Needs neither password, nor index, nor trailer.
    ///
    /// # Errors
    /// What the prologues can say: [`crate::FormatError::NotAnImage`], [`crate::FormatError::UnsupportedVersion`],
    /// [`crate::FormatError::UnknownFeature`], [`crate::FormatError::Damaged`],
    /// [`crate::FormatError::VolumeMismatch`], [`crate::FormatError::Io`].
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
            // What lies there belongs to no image.
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

    /// Parts of the file where no record stands: none in a whole image.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Places in gaps at which a header stands that is what was written and breaks a rule of the format, with the rule.
    #[must_use]
    pub fn refused(&self) -> &[(Position, FormatError)] {
        &self.refused
    }

    /// Bytes behind the end of the image or of its volumes that belong to nothing: a copy in whole blocks has them.
    #[must_use]
    pub fn trailing(&self) -> u64 {
        self.trailing
    }

    /// Place of labels or a signature right behind the end that no trailer follows, so that they count for nothing.
    pub(crate) fn lost_addition(&self) -> Option<Position> {
        self.addition
    }

    /// Volumes whose own prologue is damaged, so that a copy was used; 0 is the first.
    #[must_use]
    pub fn damaged_prologues(&self) -> Vec<u32> {
        self.store.damaged_prologues()
    }

    /// Records of a type this program does not know and may pass over: type, name where the image gives one, and number of
    /// them.
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

    /// Disk, sectors, chunks.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.prologue.geometry
    }

    /// Whether content needs a password.
    #[must_use]
    pub fn encrypted(&self) -> bool {
        self.prologue.encrypted()
    }

    /// What prologue and trailer say.
    ///
    /// # Errors
    /// [`crate::FormatError::Truncated`] or [`crate::FormatError::VolumeMissing`] without a trailer,
    /// [`crate::FormatError::Damaged`] when it does not hold.
    pub fn summary(&self) -> Result<Summary> {
        summarize(&self.store, &self.prologue)
    }

    /// Checks the stored bytes of the record at this place. `scratch` is only room.
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

/// Takes out of the gaps those that lie behind the end of the image, and those at the ends of earlier volumes when they are
/// exactly what these have grown by. Answers their bytes.
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
