//! The content of an attribute: its places on the volume, and its bytes.
//!
//! A [`Stream`] is put together from all pieces of an attribute. Its extents follow each other
//! without a gap, each lies inside the volume, and together they are at least as long as the
//! stream. Holes, and bytes that were never written, read as zeros, and compressed units are
//! unpacked; [`Stream::read_metadata`] accepts none of these.

use std::ops::Range;

use super::record::{Attribute, Body, Clusters};
use super::runs::Runs;
use super::{Geometry, NtfsError, lznt1};
use crate::volume::{Fields, Volume};

/// Largest number of runs of one stream.
const MOST_RUNS: usize = 1 << 20;
/// Largest compression unit in bytes. Windows compresses with clusters up to 4 KiB, 16 of them a
/// unit.
const MOST_UNIT_BYTES: u64 = 1 << 20;
/// Clusters of a compression unit, as a power of two: the only value there is.
const UNIT_SHIFT: u16 = 4;
/// Bytes that are read at once.
const WINDOW: u64 = 1 << 20;

/// The content of an attribute, assembled from all its pieces.
#[derive(Clone, Debug)]
pub struct Stream {
    record: u64,
    content: Content,
    size: u64,
    initialised: u64,
    coding: Coding,
}

/// Content in a record.
#[derive(Clone, Debug)]
pub struct Resident {
    /// Number of the record.
    pub record: u64,
    /// Place of the content in the bytes of the record.
    pub range: Range<usize>,
    /// The content.
    pub value: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Content {
    Resident(Resident),
    Extents(Vec<Extent>),
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Offset of its first byte in the stream.
    at: u64,
    /// Offset of its first byte on the volume; `None` is a hole.
    place: Option<u64>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// Stored as it is, in places for all of it.
    Plain,
    /// Stored as it is, and there may be holes.
    Sparse,
    /// Units of this many bytes may be packed.
    Compressed(u64),
    /// Encrypted by EFS.
    Encrypted,
    /// In a way that no Windows uses.
    Unknown,
}

/// A part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Offset on the volume; `None` is a hole.
    pub place: Option<u64>,
    /// Length in bytes.
    pub len: u64,
}

impl Stream {
    /// A stream from the first piece, or the only one, of an attribute in record `record`.
    pub(super) fn begin(
        record: u64,
        attribute: &Attribute<'_>,
        geometry: &Geometry,
    ) -> Result<Self, NtfsError> {
        let clusters = match &attribute.body {
            Body::Resident { value, range } => {
                return Ok(Self {
                    record,
                    size: value.len() as u64,
                    initialised: value.len() as u64,
                    content: Content::Resident(Resident {
                        record,
                        range: range.clone(),
                        value: value.to_vec(),
                    }),
                    coding: match attribute.is_encrypted() {
                        true => Coding::Encrypted,
                        false => Coding::Plain,
                    },
                });
            }
            Body::Clusters(clusters) => clusters,
        };
        let mut stream = Self {
            record,
            content: Content::Extents(Vec::new()),
            size: clusters.size,
            initialised: clusters.initialised,
            coding: coding_of(attribute, clusters, geometry),
        };
        if stream.initialised > stream.size {
            return Err(stream.bad("more of it is written than it has"));
        }
        stream.map(clusters, geometry)?;
        Ok(stream)
    }

    /// Appends a further piece.
    pub(super) fn append(
        &mut self,
        attribute: &Attribute<'_>,
        geometry: &Geometry,
    ) -> Result<(), NtfsError> {
        match &attribute.body {
            Body::Clusters(clusters) => self.map(clusters, geometry),
            Body::Resident { .. } => Err(self.bad("it goes on in a record")),
        }
    }

    /// The whole stream, after its last piece.
    pub(super) fn finish(self, geometry: &Geometry) -> Result<Self, NtfsError> {
        if self.size > self.mapped() {
            return Err(self.bad("it is longer than its clusters"));
        }
        let places = self
            .ranges()
            .try_fold(0u64, |sum, range| sum.checked_add(range.end - range.start));
        if places.is_none_or(|places| places > geometry.size()) {
            return Err(self.bad("it has more clusters than the volume"));
        }
        Ok(self)
    }

    fn map(&mut self, clusters: &Clusters<'_>, geometry: &Geometry) -> Result<(), NtfsError> {
        let unit = geometry.cluster_bytes();
        let (record, before) = (self.record, self.mapped());
        let bad = move |what| NtfsError::structure("stream of record", record, what);
        if clusters.lowest.checked_mul(unit) != Some(before) {
            return Err(bad("a piece of it is missing"));
        }
        let Content::Extents(extents) = &mut self.content else {
            return Err(bad("it goes on in clusters"));
        };
        let (mut at, mut mapped) = (before, 0u64);
        for run in Runs::new(clusters.pairs, geometry.clusters()) {
            let run = run.map_err(bad)?;
            let too_long = bad("it is longer than any volume");
            let Some((bytes, end)) = run
                .len
                .checked_mul(unit)
                .and_then(|bytes| Some((bytes, at.checked_add(bytes)?)))
            else {
                return Err(too_long);
            };
            if extents.len() >= MOST_RUNS {
                return Err(bad("it has too many runs"));
            }
            // A place is inside the volume, so the product does not overflow.
            extents.push(Extent {
                at,
                place: run.lcn.map(|lcn| lcn * unit),
                bytes,
            });
            mapped += run.len;
            at = end;
        }
        // An empty stream has the highest VCN -1.
        let expected = clusters
            .highest
            .wrapping_add(1)
            .checked_sub(clusters.lowest);
        if expected != Some(mapped) {
            return Err(bad("its runs have another number of clusters than it says"));
        }
        Ok(())
    }

    fn bad(&self, what: &'static str) -> NtfsError {
        NtfsError::structure("stream of record", self.record, what)
    }

    /// Number of bytes that have a place or a hole.
    fn mapped(&self) -> u64 {
        match &self.content {
            Content::Resident(resident) => resident.value.len() as u64,
            Content::Extents(extents) => extents.last().map_or(0, |last| last.at + last.bytes),
        }
    }

    /// Length of the content in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The content if it lies in a record.
    #[must_use]
    pub const fn resident(&self) -> Option<&Resident> {
        match &self.content {
            Content::Resident(resident) => Some(resident),
            Content::Extents(_) => None,
        }
    }

    /// True if the content is stored as it is, in places for all of it.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.coding == Coding::Plain
    }

    /// True if the content is stored as it is, perhaps with holes.
    #[must_use]
    pub const fn is_stored_as_is(&self) -> bool {
        matches!(self.coding, Coding::Plain | Coding::Sparse)
    }

    /// True if the content is encrypted by EFS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.coding == Coding::Encrypted
    }

    /// True if some of the content has no place on the volume.
    #[must_use]
    pub fn has_holes(&self) -> bool {
        match &self.content {
            Content::Resident(_) => false,
            Content::Extents(extents) => extents.iter().any(|extent| extent.place.is_none()),
        }
    }

    /// The byte ranges of the stream's clusters on the volume, in the order of the stream and
    /// without holes.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let extents = match &self.content {
            Content::Resident(_) => &[],
            Content::Extents(extents) => extents.as_slice(),
        };
        extents.iter().filter_map(|extent| {
            let place = extent.place?;
            Some(place..place + extent.bytes)
        })
    }

    /// Places of `len` bytes from byte `at`, as they are stored: in order, with holes.
    ///
    /// # Errors
    ///
    /// The stream has no clusters there.
    pub fn pieces(&self, at: u64, len: u64) -> Result<Vec<Piece>, NtfsError> {
        let outside = || self.bad("it has no clusters there");
        let end = at.checked_add(len).filter(|end| *end <= self.mapped());
        let end = end.ok_or_else(outside)?;
        let Content::Extents(extents) = &self.content else {
            return Err(outside());
        };
        let first = extents.partition_point(|extent| extent.at + extent.bytes <= at);
        let mut found = Vec::new();
        let mut done = at;
        for extent in extents.get(first..).unwrap_or_default() {
            if done >= end {
                break;
            }
            let into = done - extent.at;
            let len = (extent.bytes - into).min(end - done);
            found.push(Piece {
                place: extent.place.map(|place| place + into),
                len,
            });
            done += len;
        }
        Ok(found)
    }

    /// Reads `len` bytes from byte `at`, as a program would.
    ///
    /// # Errors
    ///
    /// The range leaves the stream, or the content is encrypted or compressed in an unknown way.
    pub fn read(&self, volume: &Volume<'_>, at: u64, len: u64) -> Result<Vec<u8>, NtfsError> {
        let end = at.checked_add(len).filter(|end| *end <= self.size);
        let end = end.ok_or_else(|| self.bad("it ends earlier"))?;
        let length = |len: u64| usize::try_from(len).map_err(|_| self.bad("it is too long"));
        let mut out = Vec::new();
        match (&self.content, self.coding) {
            (_, Coding::Encrypted) => return Err(self.bad("it is encrypted by EFS")),
            (_, Coding::Unknown) => return Err(self.bad("it is compressed in an unknown way")),
            (Content::Resident(resident), _) => {
                let value = Fields(&resident.value);
                return Ok(value.bytes(length(at)?, length(len)?)?.to_vec());
            }
            (_, Coding::Plain | Coding::Sparse) => {
                for piece in self.pieces(at, len)? {
                    append(volume, piece, &mut out)?;
                }
            }
            (_, Coding::Compressed(unit)) => {
                let mut done = at / unit * unit;
                let skip = length(at - done)?;
                while done < end {
                    self.unpack(volume, done, unit, &mut out)?;
                    done = done.saturating_add(unit);
                }
                out.drain(..skip.min(out.len()));
                out.truncate(length(len)?);
            }
        }
        let written = length(self.initialised.saturating_sub(at).min(len))?;
        if let Some(rest) = out.get_mut(written..) {
            rest.fill(0);
        }
        Ok(out)
    }

    /// Appends the content of one compression unit: as many bytes as a unit has.
    fn unpack(
        &self,
        volume: &Volume<'_>,
        at: u64,
        unit: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), NtfsError> {
        let pieces = self.pieces(at, unit.min(self.mapped() - at))?;
        let stored = pieces.iter().take_while(|piece| piece.place.is_some());
        let mut bytes = Vec::new();
        for piece in stored {
            append(volume, *piece, &mut bytes)?;
        }
        // A unit with places for all its clusters is stored as it is, one with places for some is
        // packed, and one without is all zeros.
        let whole = usize::try_from(unit).map_err(|_| self.bad("it is too long"))?;
        if bytes.len() == whole {
            out.append(&mut bytes);
        } else {
            lznt1::unpack(&bytes, whole, out);
        }
        Ok(())
    }

    /// Reads the whole stream.
    ///
    /// # Errors
    ///
    /// It has more than `most` bytes, or cannot be read.
    pub fn read_all(&self, volume: &Volume<'_>, most: u64) -> Result<Vec<u8>, NtfsError> {
        if self.size > most {
            return Err(self.bad("it is too long"));
        }
        self.read(volume, 0, self.size)
    }

    /// Reads `len` bytes from byte `at` of a stream of the file system: a hole, bytes that were
    /// never written, or the end of the stream are faults.
    ///
    /// # Errors
    ///
    /// The range is not stored as it is.
    pub fn read_metadata(
        &self,
        volume: &Volume<'_>,
        at: u64,
        len: u64,
    ) -> Result<Vec<u8>, NtfsError> {
        let end = at.checked_add(len);
        if end.is_none_or(|end| end > self.initialised) {
            return Err(self.bad("it ends earlier"));
        }
        if self.resident().is_none()
            && self
                .pieces(at, len)?
                .iter()
                .any(|piece| piece.place.is_none())
        {
            return Err(self.bad("metadata has a hole"));
        }
        self.read(volume, at, len)
    }
}

/// Appends the bytes of one piece; a hole is zeros.
fn append(volume: &Volume<'_>, piece: Piece, out: &mut Vec<u8>) -> Result<(), NtfsError> {
    let Some(place) = piece.place else {
        // A caller asked for this many bytes.
        let zeros = usize::try_from(piece.len).unwrap_or(usize::MAX);
        out.resize(out.len().saturating_add(zeros), 0);
        return Ok(());
    };
    let mut done = 0;
    while done < piece.len {
        let len = WINDOW.min(piece.len - done);
        out.append(&mut volume.read(place + done, len)?);
        done += len;
    }
    Ok(())
}

fn coding_of(attribute: &Attribute<'_>, clusters: &Clusters<'_>, geometry: &Geometry) -> Coding {
    let unit = geometry.cluster_bytes() << UNIT_SHIFT;
    if attribute.is_encrypted() {
        Coding::Encrypted
    } else if attribute.is_compressed() {
        match clusters.unit == UNIT_SHIFT && unit <= MOST_UNIT_BYTES {
            true => Coding::Compressed(unit),
            false => Coding::Unknown,
        }
    } else if attribute.is_plain() && clusters.unit == 0 {
        Coding::Plain
    } else {
        // A unit without the flag: the stream may be compressed later.
        Coding::Sparse
    }
}
