//! Content of attributes that lie in clusters, and their search through attribute lists.
//!
//! Every extent of a [`Stream`] lies inside the volume, and extents follow each other without a
//! gap.

use super::NtfsError;
use super::record::{Attribute, Body, REFERENCE_NUMBER, Record, kind};
use super::volume::{Geometry, Volume, u16_at, u32_at, u64_at};
use std::collections::BTreeSet;
use std::ops::Range;

/// Most extension records of one file; the most fragmented system files have some hundred.
const MOST_EXTENSIONS: usize = 4096;
/// Most extents of a stream.
const MOST_EXTENTS: usize = 1 << 20;
/// Most bytes of an attribute list; Windows stops at 256 KiB.
const MOST_LIST_BYTES: u64 = 256 << 10;

/// Clusters of a stream, in order.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    extents: Vec<Extent>,
    /// Length in bytes.
    pub(crate) size: u64,
    /// Bytes that were ever written; the rest reads as zeros.
    initialised: u64,
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Offset of its first byte in the stream.
    at: u64,
    /// Offset of its first byte on the volume; `None` is a hole.
    place: Option<u64>,
    bytes: u64,
}

impl Stream {
    /// Builds a stream from the pieces of one attribute, lowest first.
    fn of(pieces: &[(&Record, &Attribute)], geometry: &Geometry) -> Result<Self, NtfsError> {
        let mut stream = Self {
            extents: Vec::new(),
            size: 0,
            initialised: 0,
        };
        for (record, attribute) in pieces {
            stream.append(record, attribute, geometry)?;
        }
        stream.checked()
    }

    fn mapped(&self) -> u64 {
        self.extents.last().map_or(0, |last| last.at + last.bytes)
    }

    fn checked(self) -> Result<Self, NtfsError> {
        if self.size > self.mapped() || self.initialised > self.size {
            let what = "a stream is larger than its clusters";
            return Err(NtfsError::structure("stream", self.size, what));
        }
        Ok(self)
    }

    /// Appends one piece, which must begin where the stream ends.
    fn append(
        &mut self,
        record: &Record,
        attribute: &Attribute,
        geometry: &Geometry,
    ) -> Result<(), NtfsError> {
        let bad = |what| NtfsError::structure("MFT record", record.number, what);
        let Body::NonResident {
            first,
            runs,
            size,
            initialised,
            encoded,
        } = &attribute.body
        else {
            return Err(bad("a stream in clusters goes on in a record"));
        };
        if *encoded {
            return Err(bad("a stream of the system is compressed or encrypted"));
        }
        if first.checked_mul(geometry.cluster) != Some(self.mapped()) {
            return Err(bad("a piece of a stream is missing"));
        }
        if *first == 0 {
            (self.size, self.initialised) = (*size, *initialised);
        }
        let runs = record.bytes.get(runs.clone()).unwrap_or_default();
        for (place, clusters) in runs_of(runs).ok_or(bad("mapping pairs are nonsense"))? {
            let inside = match place {
                Some(place) => place
                    .checked_add(clusters)
                    .is_some_and(|end| end <= geometry.clusters),
                None => clusters <= u64::MAX >> 24,
            };
            let bytes = clusters.checked_mul(geometry.cluster);
            let at = self.mapped();
            let end = bytes.and_then(|bytes| at.checked_add(bytes));
            match (inside, bytes, end) {
                (true, Some(bytes), Some(_)) if self.extents.len() < MOST_EXTENTS => {
                    self.extents.push(Extent {
                        at,
                        place: place.map(|place| place * geometry.cluster),
                        bytes,
                    });
                }
                _ => return Err(bad("a run leaves the volume")),
            }
        }
        Ok(())
    }

    /// Places of `length` bytes from `offset`, in order: offset on the volume (`None` for a hole)
    /// and length.
    pub(crate) fn pieces(
        &self,
        offset: u64,
        length: usize,
    ) -> Result<Vec<(Option<u64>, usize)>, NtfsError> {
        let outside = || NtfsError::structure("stream", offset, "a read leaves its stream");
        let end = offset.checked_add(length as u64).ok_or_else(outside)?;
        if end > self.mapped() {
            return Err(outside());
        }
        let mut found = Vec::new();
        let mut at = offset;
        let mut index = self
            .extents
            .partition_point(|extent| extent.at + extent.bytes <= offset);
        while at < end {
            let extent = self.extents.get(index).ok_or_else(outside)?;
            let into = at - extent.at;
            let bytes = (extent.bytes - into).min(end - at);
            let length = usize::try_from(bytes).map_err(|_| outside())?;
            found.push((extent.place.map(|place| place + into), length));
            at += bytes;
            index += 1;
        }
        Ok(found)
    }

    /// Fills `buffer` from byte `offset` of the stream.
    pub(crate) fn read(
        &self,
        volume: &dyn Volume,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), NtfsError> {
        let mut done = 0;
        for (place, length) in self.pieces(offset, buffer.len())? {
            let part = &mut buffer[done..done + length];
            match place {
                Some(place) => volume.read_at(place, part)?,
                None => part.fill(0),
            }
            done += length;
        }
        if let Some(written) = self.initialised.checked_sub(offset) {
            let written = usize::try_from(written).unwrap_or(usize::MAX);
            if let Some(rest) = buffer.get_mut(written..) {
                rest.fill(0);
            }
        } else {
            buffer.fill(0);
        }
        Ok(())
    }

    /// Reads the whole stream; an error if it has more than `most` bytes.
    pub(crate) fn read_all(&self, volume: &dyn Volume, most: u64) -> Result<Vec<u8>, NtfsError> {
        let length = usize::try_from(self.size)
            .ok()
            .filter(|_| self.size <= most)
            .ok_or_else(|| NtfsError::structure("stream", self.size, "it is too large"))?;
        let mut bytes = vec![0; length];
        self.read(volume, 0, &mut bytes)?;
        Ok(bytes)
    }
}

/// Offset on the volume of a stream's first byte, from its mapping pairs; `None` if it begins with
/// a hole.
pub(super) fn first_place(
    record: &Record,
    runs: Range<usize>,
    geometry: &Geometry,
) -> Result<Option<u64>, NtfsError> {
    let bad = |what| NtfsError::structure("MFT record", record.number, what);
    let runs = record.bytes.get(runs).unwrap_or_default();
    let runs = runs_of(runs).ok_or(bad("mapping pairs are nonsense"))?;
    match runs.first() {
        Some((Some(place), _)) if *place < geometry.clusters => Ok(Some(place * geometry.cluster)),
        Some((Some(_), _)) => Err(bad("a run leaves the volume")),
        _ => Ok(None),
    }
}

/// Runs of mapping pairs: place (`None` for a hole) and length, in clusters.
fn runs_of(mut pairs: &[u8]) -> Option<Vec<(Option<u64>, u64)>> {
    let mut runs = Vec::new();
    let mut place = 0i64;
    loop {
        let (&header, rest) = pairs.split_first()?;
        if header == 0 {
            return Some(runs);
        }
        let (length_bytes, place_bytes) = (usize::from(header & 15), usize::from(header >> 4));
        let (length, rest) = rest.split_at_checked(length_bytes)?;
        let (delta, rest) = rest.split_at_checked(place_bytes)?;
        let length = u64::try_from(signed(length)?).ok().filter(|l| *l > 0)?;
        if place_bytes == 0 {
            runs.push((None, length));
        } else {
            place = place.checked_add(signed(delta)?)?;
            runs.push((Some(u64::try_from(place).ok()?), length));
        }
        if runs.len() > MOST_EXTENTS {
            return None;
        }
        pairs = rest;
    }
}

/// Little-endian two's complement number of 1 to 8 bytes.
fn signed(bytes: &[u8]) -> Option<i64> {
    let sign = if bytes.last()? & 0x80 != 0 { 0xff } else { 0 };
    let mut wide = [sign; 8];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(wide))
}

/// Place of an attribute that was searched.
#[derive(Debug)]
pub(crate) enum Found {
    /// Number of its record, and the range of that record's bytes.
    Resident(u64, Range<usize>),
    /// In clusters.
    Stream(Stream),
}

/// The MFT, through which records are found.
#[derive(Debug)]
pub(crate) struct Mft {
    /// Sizes of the volume.
    pub(crate) geometry: Geometry,
    /// Clusters of the MFT.
    pub(crate) stream: Stream,
}

impl Mft {
    /// Finds the whole MFT from its first record.
    pub(crate) fn open(volume: &dyn Volume) -> Result<Self, NtfsError> {
        let geometry = Geometry::read(volume)?;
        let mut bytes = vec![0; geometry.record];
        volume.read_at(geometry.mft * geometry.cluster, &mut bytes)?;
        let base = Record::decode(0, bytes)
            .ok_or_else(|| NtfsError::structure("MFT record", 0, "it is torn"))?;
        let attributes = base.attributes()?;
        let own: Vec<_> = attributes
            .iter()
            .filter(|a| a.kind == kind::DATA && a.name.is_empty())
            .map(|attribute| (&base, attribute))
            .collect();
        let mut mft = Self {
            geometry,
            stream: Stream {
                extents: Vec::new(),
                size: 0,
                initialised: 0,
            },
        };
        for (record, attribute) in own {
            mft.stream.append(record, attribute, &geometry)?;
        }
        // A fragmented MFT describes itself in records that lie in its earlier pieces, because list
        // entries are in order.
        for number in extensions(volume, &mft, &base, kind::DATA)? {
            let record = mft.record(volume, number)?;
            for attribute in record.attributes()? {
                if attribute.kind == kind::DATA && attribute.name.is_empty() {
                    mft.stream.append(&record, &attribute, &geometry)?;
                }
            }
        }
        mft.stream = mft.stream.checked()?;
        Ok(mft)
    }

    /// Number of records the MFT has room for.
    pub(crate) fn count(&self) -> u64 {
        self.stream.size / self.geometry.record as u64
    }

    /// One record as it is on the disk.
    pub(crate) fn raw(&self, volume: &dyn Volume, number: u64) -> Result<Vec<u8>, NtfsError> {
        let offset = number
            .checked_mul(self.geometry.record as u64)
            .ok_or_else(|| NtfsError::structure("MFT record", number, "no such record"))?;
        let mut bytes = vec![0; self.geometry.record];
        self.stream.read(volume, offset, &mut bytes)?;
        Ok(bytes)
    }

    /// One record; an error if it is not sound and in use.
    pub(crate) fn record(&self, volume: &dyn Volume, number: u64) -> Result<Record, NtfsError> {
        Record::decode(number, self.raw(volume, number)?)
            .filter(Record::in_use)
            .ok_or_else(|| NtfsError::structure("MFT record", number, "it is torn or not in use"))
    }

    /// Finds the attribute of a file with this type and name, in any of its records.
    pub(crate) fn find(
        &self,
        volume: &dyn Volume,
        base: &Record,
        kind: u32,
        name: &str,
    ) -> Result<Option<Found>, NtfsError> {
        let name: Vec<u16> = name.encode_utf16().collect();
        let mut records = vec![base.clone()];
        for number in extensions(volume, self, base, kind)? {
            records.push(self.record(volume, number)?);
        }
        let mut pieces = Vec::new();
        let mut owned = Vec::new();
        for record in &records {
            owned.push((record, record.attributes()?));
        }
        for (record, attributes) in &owned {
            for attribute in attributes {
                if attribute.kind == kind && attribute.name == name {
                    pieces.push((*record, attribute));
                }
            }
        }
        if let [(record, attribute)] = pieces.as_slice()
            && let Body::Resident(range) = &attribute.body
        {
            return Ok(Some(Found::Resident(record.number, range.clone())));
        }
        pieces.sort_by_key(|(_, attribute)| match attribute.body {
            Body::NonResident { first, .. } => first,
            Body::Resident(_) => 0,
        });
        if pieces.is_empty() {
            return Ok(None);
        }
        Stream::of(&pieces, &self.geometry).map(|stream| Some(Found::Stream(stream)))
    }

    /// Like [`Self::find`], for a stream that must exist and lie in clusters.
    pub(crate) fn stream(
        &self,
        volume: &dyn Volume,
        base: &Record,
        kind: u32,
        name: &str,
    ) -> Result<Stream, NtfsError> {
        match self.find(volume, base, kind, name)? {
            Some(Found::Stream(stream)) => Ok(stream),
            _ => Err(NtfsError::structure(
                "MFT record",
                base.number,
                "a stream is missing",
            )),
        }
    }
}

/// Records, besides the base, that hold attributes of this type, in the order of the attribute
/// list.
pub(super) fn extensions(
    volume: &dyn Volume,
    mft: &Mft,
    base: &Record,
    kind: u32,
) -> Result<Vec<u64>, NtfsError> {
    let bad = |what| NtfsError::structure("attribute list of MFT record", base.number, what);
    let attributes = base.attributes()?;
    let Some(list) = attributes.iter().find(|a| a.kind == kind::ATTRIBUTE_LIST) else {
        return Ok(Vec::new());
    };
    let list = match &list.body {
        Body::Resident(range) => base.bytes.get(range.clone()).unwrap_or_default().to_vec(),
        Body::NonResident { .. } => {
            Stream::of(&[(base, list)], &mft.geometry)?.read_all(volume, MOST_LIST_BYTES)?
        }
    };
    let (mut seen, mut order) = (BTreeSet::from([base.number]), Vec::new());
    let mut at = 0;
    while at < list.len() {
        let length = usize::from(u16_at(&list, at + 4).unwrap_or(0));
        if length < 26 {
            return Err(bad("an entry's length is nonsense"));
        }
        let entry = at
            .checked_add(length)
            .and_then(|end| list.get(at..end))
            .ok_or(bad("an entry leaves the list"))?;
        if u32_at(entry, 0) == Some(kind) {
            let number = u64_at(entry, 0x10).unwrap_or(0) & REFERENCE_NUMBER;
            if seen.insert(number) {
                order.push(number);
            }
        }
        if order.len() > MOST_EXTENSIONS {
            return Err(bad("it is too long"));
        }
        at += length;
    }
    Ok(order)
}
