//! The machine SID in the security descriptors of an unmounted NTFS volume.
//!
//! Owns finding every descriptor (in `$Secure`, and those stored with their file), planning every
//! write, and only then writing. Never changes the length of anything. Nothing is written before
//! all writes have been computed from structures that agree with each other, and a rewrite is read
//! back and audited.
//!
//! A cut in the middle of the writes leaves a volume with descriptors of both SIDs; its disk is
//! blank then, and is written anew.
//!
//! Left unchanged, because Windows does not judge access by them: the owners in `$Extend\$Quota`,
//! and the SIDs in the metadata of encrypted files (EFS).

mod descriptor;
mod index;
mod names;
mod record;
mod scan;
mod secure;
mod stream;
#[cfg(test)]
mod tests;
mod volume;

pub(crate) use descriptor::MachinePart;
pub(crate) use names::{Found, search};
pub(crate) use volume::Volume;

use record::Record;
use std::collections::BTreeMap;
use std::io;
use stream::Mft;

/// The error that stopped a rewrite of descriptors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NtfsError {
    /// The volume may not be changed.
    #[error("the volume is refused: {0}")]
    Refused(&'static str),
    /// Structures of the volume contradict each other.
    #[error("{part} ({at}): {what}; have Windows check the volume (chkdsk /f) in the master")]
    Structure {
        /// Name of the structure.
        part: &'static str,
        /// Record, identifier or offset in it.
        at: u64,
        /// Description of the fault.
        what: &'static str,
    },
    /// The writes need more memory than allowed.
    #[error("more than {limit} bytes of security descriptors would change")]
    TooMuch {
        /// The limit in bytes.
        limit: usize,
    },
    /// A name that cannot be written here.
    #[error("{path}: a name in it is no Unicode text; rename it on the master")]
    Name {
        /// Path below the root, as far as it can be shown.
        path: String,
    },
    /// Written bytes read back differently.
    #[error("what was written at byte {offset} of the volume reads back differently")]
    ReadBack {
        /// Byte offset on the volume.
        offset: u64,
    },
    /// The old SID is still on the volume.
    #[error("{count} places still name the old SID after the rewrite")]
    Remains {
        /// Number of places.
        count: usize,
    },
    /// The device fails.
    #[error("reading or writing the volume: {0}")]
    Io(#[from] io::Error),
}

impl NtfsError {
    fn structure(part: &'static str, at: u64, what: &'static str) -> Self {
        Self::Structure { part, at, what }
    }
}

/// Most bytes of planned writes kept in memory: far more than the descriptors of a client, and
/// within the memory an agent has left.
const MOST_PLANNED_BYTES: usize = 64 << 20;

/// Writes that are computed and not yet done.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    /// Offset on the volume, and the bytes for it.
    writes: Vec<(u64, Vec<u8>)>,
    /// Memory they take in bytes, with the overhead of each write.
    bytes: usize,
    /// Number of descriptors in `$Secure` that change.
    pub(crate) shared: usize,
    /// Number of descriptors stored with their file that change.
    pub(crate) own: usize,
}

impl Planned {
    /// True if nothing names the old SID.
    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    fn push(&mut self, place: u64, bytes: Vec<u8>) -> Result<(), NtfsError> {
        self.bytes = self.bytes.saturating_add(bytes.len() + 32);
        self.writes.push((place, bytes));
        if self.bytes > MOST_PLANNED_BYTES {
            return Err(NtfsError::TooMuch {
                limit: MOST_PLANNED_BYTES,
            });
        }
        Ok(())
    }
}

/// Computes every write that replaces the machine part `old` by `new`.
///
/// # Errors
/// The volume is dirty, hibernated or encrypted, or its structures contradict each other.
pub(crate) fn plan(
    volume: &dyn Volume,
    old: &MachinePart,
    new: &MachinePart,
) -> Result<Planned, NtfsError> {
    let mft = Mft::open(volume)?;
    scan::refuse_unclean(volume, &mft)?;
    let secure = secure::Secure::read(volume, &mft)?;
    let mut records = BTreeMap::new();
    let mut planned = Planned::default();
    let changes = secure.rewrite(volume, &mft, old, new, &mut records)?;
    planned.shared = changes.descriptors;
    for (place, bytes) in changes.blocks {
        planned.push(place, bytes)?;
    }
    scan::own_descriptors(volume, &mft, old, new, &mut records, &mut planned)?;
    scan::write_records(volume, &mft, &records, &mut planned)?;
    Ok(planned)
}

/// Carries out the planned writes, reads them back, and audits the volume: no descriptor names
/// `old` any more.
///
/// # Errors
/// The device fails or does not keep what was written. The volume is then half rewritten and must
/// not be used.
pub(crate) fn write(
    volume: &dyn Volume,
    planned: &Planned,
    old: &MachinePart,
    new: &MachinePart,
) -> Result<(), NtfsError> {
    for (place, bytes) in &planned.writes {
        volume.write_at(*place, bytes)?;
    }
    volume.flush()?;
    for (place, bytes) in &planned.writes {
        let mut found = vec![0; bytes.len()];
        volume.read_at(*place, &mut found)?;
        if found != *bytes {
            return Err(NtfsError::ReadBack { offset: *place });
        }
    }
    audit(volume, old, new)
}

/// Checks the volume's structures against each other and the absence of `old`.
///
/// # Errors
/// Structures disagree, or descriptors name `old`.
pub(crate) fn audit(
    volume: &dyn Volume,
    old: &MachinePart,
    new: &MachinePart,
) -> Result<(), NtfsError> {
    let mft = Mft::open(volume)?;
    let traces = secure::Secure::read(volume, &mft)?.traces(old);
    let left = plan(volume, old, new)?;
    match traces + left.shared + left.own {
        0 => Ok(()),
        count => Err(NtfsError::Remains { count }),
    }
}

/// The record with the changes so far, for further changes.
fn changed_record<'a>(
    volume: &dyn Volume,
    mft: &Mft,
    records: &'a mut BTreeMap<u64, Record>,
    number: u64,
) -> Result<&'a mut Record, NtfsError> {
    match records.entry(number) {
        std::collections::btree_map::Entry::Occupied(there) => Ok(there.into_mut()),
        std::collections::btree_map::Entry::Vacant(vacant) => {
            Ok(vacant.insert(mft.record(volume, number)?))
        }
    }
}
