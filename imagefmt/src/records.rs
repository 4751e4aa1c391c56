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

use positioned_io::ReadAt;

use crate::error::Result;
use crate::image::{Summary, summarize};
use crate::prologue::Prologue;
use crate::scan::{Gap, Scan};
use crate::store::{Store, Volume};
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
}

/// All records of an image, found by their headers.
#[derive(Debug)]
pub struct Records<R> {
    store: Store<R>,
    prologue: Prologue,
    records: Vec<Record>,
    gaps: Vec<Gap>,
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
            });
        }
        let gaps = scan.gaps;
        Ok(Self {
            store,
            prologue,
            records,
            gaps,
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
