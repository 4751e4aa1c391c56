//! The machine SID in the security descriptors of an unmounted NTFS volume.
//!
//! [`diskmap::ntfs`] reads the structures; this module owns what is changed in them: finding every
//! descriptor (in `$Secure`, and those stored with their file), planning every
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
mod device;
mod index;
mod names;
mod scan;
mod secure;
#[cfg(test)]
mod tests;

pub(crate) use descriptor::MachinePart;
pub(crate) use device::Device;
pub(crate) use names::{Found, search};

use device::volume_of;
use diskmap::ReadError;
use diskmap::Volume;
use diskmap::ntfs::{self, Mft, Record, Stream};
use std::collections::BTreeMap;
use std::io;

/// The error that stopped a rewrite of descriptors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NtfsError {
    /// The volume may not be changed.
    #[error("the volume is refused: {0}")]
    Refused(&'static str),
    /// A structure of the volume makes no sense.
    #[error("{0}; have Windows check the volume (chkdsk /f) in the master")]
    Damaged(#[source] ntfs::NtfsError),
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

impl From<ntfs::NtfsError> for NtfsError {
    fn from(error: ntfs::NtfsError) -> Self {
        match error {
            ntfs::NtfsError::Read(ReadError::Io(error)) => Self::Io(error),
            other => Self::Damaged(other),
        }
    }
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
    device: &dyn Device,
    old: &MachinePart,
    new: &MachinePart,
) -> Result<Planned, NtfsError> {
    let volume = &volume_of(device)?;
    let mft = &Mft::open(volume)?;
    scan::refuse_unclean(volume, mft)?;
    let secure = secure::Secure::read(volume, mft)?;
    let mut changed = Changed {
        volume,
        mft,
        records: BTreeMap::new(),
    };
    let mut planned = Planned::default();
    let changes = secure.rewrite(&mut changed, old, new)?;
    planned.shared = changes.descriptors;
    for (place, bytes) in changes.blocks {
        planned.push(place, bytes)?;
    }
    scan::own_descriptors(&mut changed, old, new, &mut planned)?;
    changed.write(&mut planned)?;
    Ok(planned)
}

/// Carries out the planned writes, reads them back, and audits the volume: no descriptor names
/// `old` any more.
///
/// # Errors
/// The device fails or does not keep what was written. The volume is then half rewritten and must
/// not be used.
pub(crate) fn write(
    device: &dyn Device,
    planned: &Planned,
    old: &MachinePart,
    new: &MachinePart,
) -> Result<(), NtfsError> {
    for (place, bytes) in &planned.writes {
        device.write_at(*place, bytes)?;
    }
    device.flush()?;
    let volume = volume_of(device)?;
    for (place, bytes) in &planned.writes {
        let mut found = vec![0; bytes.len()];
        volume
            .read_into(*place, &mut found)
            .map_err(ntfs::NtfsError::from)?;
        if found != *bytes {
            return Err(NtfsError::ReadBack { offset: *place });
        }
    }
    audit(device, old, new)
}

/// Checks the volume's structures against each other and the absence of `old`.
///
/// # Errors
/// Structures disagree, or descriptors name `old`.
pub(crate) fn audit(
    device: &dyn Device,
    old: &MachinePart,
    new: &MachinePart,
) -> Result<(), NtfsError> {
    let volume = volume_of(device)?;
    let mft = Mft::open(&volume)?;
    let traces = secure::Secure::read(&volume, &mft)?.traces(old);
    let left = plan(device, old, new)?;
    match traces + left.shared + left.own {
        0 => Ok(()),
        count => Err(NtfsError::Remains { count }),
    }
}

/// The records of a volume that change, and what they are read from.
struct Changed<'a> {
    volume: &'a Volume<'a>,
    mft: &'a Mft,
    records: BTreeMap<u64, Record>,
}

impl Changed<'_> {
    /// The record with the changes so far, for further changes.
    fn record(&mut self, number: u64) -> Result<&mut Record, NtfsError> {
        match self.records.entry(number) {
            std::collections::btree_map::Entry::Occupied(there) => Ok(there.into_mut()),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                Ok(vacant.insert(self.mft.record(self.volume, number)?))
            }
        }
    }

    /// Plans the writes of the records, and of their copies in `$MFTMirr`.
    fn write(&self, planned: &mut Planned) -> Result<(), NtfsError> {
        if self.records.is_empty() {
            return Ok(());
        }
        let base = self.mft.record(self.volume, ntfs::number::MIRROR)?;
        let mirror = system_stream(self.mft, self.volume, &base, ntfs::kind::DATA, "")?;
        for record in self.records.values() {
            let bytes = record.encode();
            let at = record.number() * bytes.len() as u64;
            let mirrored = at + bytes.len() as u64 <= mirror.size();
            let streams = [Some(self.mft.stream()), mirrored.then_some(&mirror)];
            for stream in streams.into_iter().flatten() {
                for (place, part) in parts(stream, at, &bytes)? {
                    planned.push(place, part)?;
                }
            }
        }
        Ok(())
    }
}

/// A stream of the file system, which must exist, lie in clusters, and be stored as it is.
fn system_stream(
    mft: &Mft,
    volume: &Volume<'_>,
    base: &Record,
    kind: u32,
    name: &str,
) -> Result<Stream, NtfsError> {
    mft.find(volume, base, kind, name)?
        .filter(|stream| stream.resident().is_none() && stream.is_stored_as_is())
        .ok_or(NtfsError::structure(
            "MFT record",
            base.number(),
            "a stream is missing, or is compressed or encrypted",
        ))
}

/// Places on the volume of `bytes`, which lie at byte `at` of a stream: each with its part of them.
fn parts(stream: &Stream, at: u64, bytes: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, NtfsError> {
    let mut rest = bytes;
    let mut found = Vec::new();
    for piece in stream.pieces(at, bytes.len() as u64)? {
        let hole = NtfsError::structure("stream", at, "bytes to change lie in a hole");
        let place = piece.place.ok_or(hole)?;
        let length = usize::try_from(piece.len).unwrap_or(usize::MAX);
        let (part, behind) = rest.split_at(length.min(rest.len()));
        found.push((place, part.to_vec()));
        rest = behind;
    }
    Ok(found)
}
