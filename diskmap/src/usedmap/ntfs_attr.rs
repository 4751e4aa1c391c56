//! NTFS file records, attributes and run lists.
//!
//! Owns the steps from a record number to the clusters of one of its attributes: fixups, attribute
//! lists, decoding of runs. Always holds: the clusters of a [`Stream`] are inside the volume, and
//! its runs follow each other without gap or overlap; anything else is an inconsistency. The
//! numbers of records and bytes read for one stream are bounded. No function panics.
//!
//! ```text
//!   record:    FILE | update sequence | attributes ... | FFFFFFFF      fixups every 512 bytes
//!   attribute: type, length, resident? | value   or   lowest VCN, run list
//!   run:       header (length bytes, offset bytes) | length | signed offset from the last one
//! ```

use std::ops::Range;

use super::volume::{Fields, Stop, Volume};

pub(super) const STANDARD_INFORMATION: u32 = 0x10;
pub(super) const ATTRIBUTE_LIST: u32 = 0x20;
pub(super) const VOLUME_NAME: u32 = 0x60;
pub(super) const VOLUME_INFORMATION: u32 = 0x70;
pub(super) const DATA: u32 = 0x80;
pub(super) const INDEX_ROOT: u32 = 0x90;
pub(super) const INDEX_ALLOCATION: u32 = 0xA0;
const END: u32 = 0xFFFF_FFFF;

/// Stride in bytes that an update sequence protects, whatever the sector size.
const STRIDE: usize = 512;
/// Largest number of runs of one stream; a bitmap or page file with more runs is an inconsistency.
const MAX_RUNS: usize = 1 << 20;
/// Largest attribute list in bytes; the limit of Windows.
const MAX_ATTRIBUTE_LIST: u64 = 256 << 10;

/// Attribute flags: compressed, encrypted, sparse.
const NOT_PLAIN: u16 = 0x0001 | 0x4000 | 0x8000;

/// Sizes and positions of clusters and records, needed for every read.
pub(super) struct Geometry {
    pub(super) cluster_bytes: u64,
    pub(super) clusters: u64,
    pub(super) record_bytes: u64,
}

/// One run of a stream: `len` clusters from `lcn` on, or a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) lcn: Option<u64>,
    pub(super) len: u64,
}

/// The content of an attribute.
pub(super) enum Content {
    Resident(Vec<u8>),
    /// The runs, from VCN 0 on.
    Runs(Vec<Run>),
}

/// An attribute assembled from all its parts.
pub(super) struct Stream {
    pub(super) content: Content,
    /// Length of the content in bytes.
    pub(super) size: u64,
    /// Number of bytes ever written; the rest reads as zeros.
    pub(super) initialised: u64,
    /// True if the attribute is not compressed, encrypted or sparse.
    pub(super) plain: bool,
}

/// A file record after its fixups were undone.
pub(super) struct Record {
    pub(super) number: u64,
    bytes: Vec<u8>,
}

/// One attribute inside a record.
struct Attribute<'a> {
    kind: u32,
    name: &'a [u8],
    flags: u16,
    id: u16,
    bytes: Fields<'a>,
    non_resident: bool,
}

/// Undoes the update sequence of a record or index block that begins with `magic`.
pub(super) fn undo_fixups(bytes: &mut [u8], magic: &[u8; 4], what: &str) -> Result<(), Stop> {
    if !bytes.starts_with(magic) {
        return Err(Stop::raw(format!(
            "{what} does not begin with {}",
            magic.escape_ascii()
        )));
    }
    let (at, count) = {
        let fields = Fields(bytes);
        (usize::from(fields.u16(4)?), usize::from(fields.u16(6)?))
    };
    let strides = bytes.len() / STRIDE;
    if count != strides + 1 || at % 2 != 0 || at + count * 2 > STRIDE.saturating_sub(2) {
        return Err(Stop::raw(format!("update sequence of {what} is malformed")));
    }
    let sequence = Fields(bytes).bytes(at, count * 2)?.to_vec();
    let (mark, originals) = sequence
        .split_at_checked(2)
        .ok_or_else(|| Stop::raw("update sequence"))?;
    for (stride, original) in bytes
        .chunks_exact_mut(STRIDE)
        .zip(originals.chunks_exact(2))
    {
        match stride.last_chunk_mut::<2>() {
            Some(tail) if tail == mark => tail.copy_from_slice(original),
            _ => return Err(Stop::raw(format!("{what} was torn while being written"))),
        }
    }
    Ok(())
}

impl Record {
    /// Parses a record. A record that is not in use is an inconsistency, because none is ever
    /// requested.
    fn parse(number: u64, mut bytes: Vec<u8>) -> Result<Self, Stop> {
        undo_fixups(&mut bytes, b"FILE", &format!("NTFS record {number}"))?;
        let record = Self { number, bytes };
        if record.fields().u16(0x16)? & 1 == 0 {
            return Err(Stop::raw(format!("NTFS record {number} is not in use")));
        }
        Ok(record)
    }

    fn fields(&self) -> Fields<'_> {
        Fields(&self.bytes)
    }

    pub(super) fn sequence(&self) -> Result<u16, Stop> {
        self.fields().u16(0x10)
    }

    pub(super) fn hard_links(&self) -> Result<u16, Stop> {
        self.fields().u16(0x12)
    }

    /// The reference to the base record that this record extends; zero in a base record.
    pub(super) fn base(&self) -> Result<u64, Stop> {
        self.fields().u64(0x20)
    }

    fn attributes(&self) -> Result<Vec<Attribute<'_>>, Stop> {
        let bad =
            |at: usize| Stop::raw(format!("NTFS record {} is malformed at {at}", self.number));
        let mut at = usize::from(self.fields().u16(0x14)?);
        let mut found = Vec::new();
        loop {
            let kind = self.fields().u32(at)?;
            if kind == END {
                return Ok(found);
            }
            let len = usize::try_from(self.fields().u32(at + 4)?).map_err(|_| bad(at))?;
            if len < 24 || len % 8 != 0 {
                return Err(bad(at));
            }
            let bytes = Fields(self.fields().bytes(at, len)?);
            let name_len = usize::from(bytes.u8(9)?) * 2;
            found.push(Attribute {
                kind,
                name: if name_len == 0 {
                    &[]
                } else {
                    bytes.bytes(usize::from(bytes.u16(10)?), name_len)?
                },
                flags: bytes.u16(12)?,
                id: bytes.u16(14)?,
                non_resident: bytes.u8(8)? != 0,
                bytes,
            });
            at += len;
        }
    }

    /// The value of a resident attribute in this record itself.
    pub(super) fn resident(&self, kind: u32) -> Result<Option<Vec<u8>>, Stop> {
        for attribute in self.attributes()? {
            if attribute.kind == kind && attribute.name.is_empty() && !attribute.non_resident {
                return attribute.value().map(Some);
            }
        }
        Ok(None)
    }
}

impl Attribute<'_> {
    fn value(&self) -> Result<Vec<u8>, Stop> {
        let len = usize::try_from(self.bytes.u32(16)?).map_err(|_| Stop::raw("NTFS value"))?;
        Ok(self
            .bytes
            .bytes(usize::from(self.bytes.u16(20)?), len)?
            .to_vec())
    }

    /// The first VCN of this part.
    fn lowest_vcn(&self) -> Result<u64, Stop> {
        self.bytes.u64(16)
    }

    /// Appends the runs of this part to `runs`, and checks that they cover exactly its VCNs.
    fn decode_runs(&self, geometry: &Geometry, runs: &mut Vec<Run>) -> Result<(), Stop> {
        let lowest = self.lowest_vcn()?;
        let covered: u64 = runs.iter().map(|run| run.len).sum();
        if lowest != covered {
            return Err(Stop::raw(format!(
                "NTFS runs of a stream continue at VCN {lowest}, expected {covered}"
            )));
        }
        let at = usize::from(self.bytes.u16(32)?);
        let list = self
            .bytes
            .0
            .get(at..)
            .ok_or_else(|| Stop::raw("NTFS run list"))?;
        let decoded = decode_runs(list, geometry.clusters, runs)?;
        // An empty stream has the highest VCN -1.
        let expected = self.bytes.u64(24)?.wrapping_add(1).checked_sub(lowest);
        if expected != Some(decoded) {
            return Err(Stop::raw(format!(
                "NTFS runs hold {decoded} clusters from VCN {lowest}, the attribute says otherwise"
            )));
        }
        Ok(())
    }
}

/// Appends the runs of a run list to `runs`, for a volume of `clusters` clusters. Returns the
/// number of clusters in the list.
fn decode_runs(list: &[u8], clusters: u64, runs: &mut Vec<Run>) -> Result<u64, Stop> {
    let mut rest = list;
    let mut lcn = 0i64;
    let mut total = 0u64;
    loop {
        let (header, after) = rest
            .split_first()
            .ok_or_else(|| Stop::raw("NTFS run list has no end"))?;
        if *header == 0 {
            return Ok(total);
        }
        let (len_bytes, offset_bytes) = (usize::from(header & 15), usize::from(header >> 4));
        let bad = || Stop::raw(format!("NTFS run header {header:#04x}"));
        if len_bytes == 0 || len_bytes > 8 || offset_bytes > 8 {
            return Err(bad());
        }
        let (len, after) = after.split_at_checked(len_bytes).ok_or_else(bad)?;
        let (offset, after) = after.split_at_checked(offset_bytes).ok_or_else(bad)?;
        rest = after;
        let len = u64::try_from(signed(len)).ok().filter(|len| *len > 0);
        let len = len.ok_or_else(|| Stop::raw("NTFS run of no or negative length"))?;
        let outside = || {
            Stop::raw(format!(
                "NTFS run of {len} clusters lies outside the volume"
            ))
        };
        let start = if offset_bytes == 0 {
            None
        } else {
            lcn = lcn.checked_add(signed(offset)).ok_or_else(outside)?;
            let start = u64::try_from(lcn).map_err(|_| outside())?;
            let end = start.checked_add(len).ok_or_else(outside)?;
            if end > clusters {
                return Err(outside());
            }
            Some(start)
        };
        total = total.checked_add(len).ok_or_else(outside)?;
        if runs.len() >= MAX_RUNS {
            return Err(Stop::raw(format!(
                "NTFS stream of more than {MAX_RUNS} runs"
            )));
        }
        runs.push(Run { lcn: start, len });
    }
}

/// Reads a little-endian signed number of up to eight bytes.
fn signed(bytes: &[u8]) -> i64 {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = if negative { [0xFF; 8] } else { [0; 8] };
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = *from;
    }
    i64::from_le_bytes(wide)
}

impl Stream {
    /// The byte ranges of the stream's clusters on the volume, in the order of the stream and
    /// without holes.
    pub(super) fn ranges<'a>(
        &'a self,
        geometry: &'a Geometry,
    ) -> impl Iterator<Item = Range<u64>> + 'a {
        let runs = match &self.content {
            Content::Runs(runs) => runs.as_slice(),
            Content::Resident(_) => &[],
        };
        // Runs are inside the volume, so the products do not overflow.
        runs.iter().filter_map(|run| {
            let start = run.lcn? * geometry.cluster_bytes;
            Some(start..start + run.len * geometry.cluster_bytes)
        })
    }

    /// Reads `len` bytes at `at` of the stream; a hole or the end of the stream is an
    /// inconsistency.
    pub(super) fn read(
        &self,
        volume: &Volume<'_>,
        geometry: &Geometry,
        at: u64,
        len: u64,
    ) -> Result<Vec<u8>, Stop> {
        let end = at.checked_add(len).filter(|end| *end <= self.initialised);
        let Some(end) = end else {
            return Err(Stop::raw(format!(
                "NTFS stream of {} bytes ends before byte {at} + {len}",
                self.initialised
            )));
        };
        let runs = match &self.content {
            Content::Resident(value) => {
                let from = usize::try_from(at).map_err(|_| Stop::raw("NTFS offset"))?;
                let len = usize::try_from(len).map_err(|_| Stop::raw("NTFS length"))?;
                return Ok(Fields(value).bytes(from, len)?.to_vec());
            }
            Content::Runs(runs) => runs,
        };
        let mut out = Vec::new();
        let mut start = 0u64; // of the run, in the stream
        for run in runs {
            let stop = start.saturating_add(run.len.saturating_mul(geometry.cluster_bytes));
            let (from, to) = (at.max(start), end.min(stop));
            if from < to {
                let lcn = run
                    .lcn
                    .ok_or_else(|| Stop::raw("NTFS metadata with a hole"))?;
                let place = lcn * geometry.cluster_bytes + (from - start);
                out.extend(volume.read(place, to - from)?);
            }
            start = stop;
            if start >= end {
                break;
            }
        }
        if out.len() as u64 != len {
            return Err(Stop::raw("NTFS stream has fewer clusters than bytes"));
        }
        Ok(out)
    }
}

/// The master file table, which gives the record for a record number.
pub(super) struct Mft {
    pub(super) stream: Stream,
}

impl Mft {
    /// Assembles the table from its first record. Its own run list may continue in further records,
    /// each of which can be read with the runs known so far.
    pub(super) fn open(volume: &Volume<'_>, geometry: &Geometry, at: u64) -> Result<Self, Stop> {
        let first = Record::parse(0, volume.read(at, geometry.record_bytes)?)?;
        let mut mft = Self {
            stream: Stream {
                content: Content::Runs(Vec::new()),
                size: 0,
                initialised: 0,
                plain: true,
            },
        };
        for attribute in first.attributes()? {
            if attribute.kind == DATA && attribute.name.is_empty() {
                mft.stream = assemble_first(&attribute, geometry)?;
            }
        }
        if first
            .attributes()?
            .iter()
            .any(|attribute| attribute.kind == ATTRIBUTE_LIST)
        {
            // This read uses only the runs in record 0: the parts that continue the table are in
            // its front.
            mft.stream = mft
                .assemble(volume, geometry, &first, DATA, &[])?
                .ok_or_else(|| Stop::raw("NTFS $MFT has no data"))?;
        }
        let begins = mft.stream.ranges(geometry).next().map(|range| range.start);
        if begins != Some(at) || !mft.stream.plain {
            return Err(Stop::raw("NTFS $MFT does not describe itself"));
        }
        Ok(mft)
    }

    /// Reads record `number`.
    pub(super) fn record(
        &self,
        volume: &Volume<'_>,
        geometry: &Geometry,
        number: u64,
    ) -> Result<Record, Stop> {
        let at = number
            .checked_mul(geometry.record_bytes)
            .ok_or_else(|| Stop::raw(format!("NTFS record {number}")))?;
        let bytes = self
            .stream
            .read(volume, geometry, at, geometry.record_bytes)?;
        Record::parse(number, bytes)
    }

    /// The attribute `kind` with the name `name` of a base record, assembled from all its parts.
    pub(super) fn stream(
        &self,
        volume: &Volume<'_>,
        geometry: &Geometry,
        record: &Record,
        kind: u32,
        name: &[u8],
    ) -> Result<Option<Stream>, Stop> {
        self.assemble(volume, geometry, record, kind, name)
    }

    fn assemble(
        &self,
        volume: &Volume<'_>,
        geometry: &Geometry,
        record: &Record,
        kind: u32,
        name: &[u8],
    ) -> Result<Option<Stream>, Stop> {
        let attributes = record.attributes()?;
        let list = attributes
            .iter()
            .find(|attribute| attribute.kind == ATTRIBUTE_LIST);
        let Some(list) = list else {
            let mut same = attributes
                .iter()
                .filter(|attribute| attribute.kind == kind && attribute.name == name);
            let found = same.next();
            if same.next().is_some() {
                return Err(Stop::raw(format!(
                    "NTFS record {} has attribute {kind:#x} twice",
                    record.number
                )));
            }
            return found
                .map(|found| assemble_first(found, geometry))
                .transpose();
        };
        let list = if list.non_resident {
            let stream = assemble_first(list, geometry)?;
            if stream.size > MAX_ATTRIBUTE_LIST || !stream.plain {
                return Err(Stop::raw(format!(
                    "NTFS attribute list of {} bytes",
                    stream.size
                )));
            }
            stream.read(volume, geometry, 0, stream.size)?
        } else {
            list.value()?
        };
        let base_reference = record.number;
        let mut whole: Option<Stream> = None;
        for piece in list_entries(&list)? {
            if piece.kind != kind || piece.name != name {
                continue;
            }
            let holder;
            let holder_attributes = if piece.record == base_reference {
                record.attributes()?
            } else {
                // While the table's own list is read, `whole` has more of its runs than `self`.
                let table = match &whole {
                    Some(known) if record.number == 0 && kind == DATA => known,
                    _ => &self.stream,
                };
                let at = piece.record.checked_mul(geometry.record_bytes);
                let at = at.ok_or_else(|| Stop::raw(format!("NTFS record {}", piece.record)))?;
                let bytes = table.read(volume, geometry, at, geometry.record_bytes)?;
                holder = Record::parse(piece.record, bytes)?;
                if holder.base()? & RECORD_NUMBER != base_reference
                    || holder.sequence()? != piece.sequence
                {
                    return Err(Stop::raw(format!(
                        "NTFS record {} does not extend record {base_reference}",
                        piece.record
                    )));
                }
                holder.attributes()?
            };
            let found = holder_attributes
                .iter()
                .find(|found| found.kind == kind && found.name == name && found.id == piece.id);
            let Some(found) = found else {
                return Err(Stop::raw(format!(
                    "NTFS record {} lacks attribute {kind:#x} of the list",
                    piece.record
                )));
            };
            match &mut whole {
                None => whole = Some(assemble_first(found, geometry)?),
                Some(Stream {
                    content: Content::Runs(runs),
                    ..
                }) if found.non_resident => found.decode_runs(geometry, runs)?,
                Some(_) => return Err(Stop::raw("NTFS resident attribute in pieces")),
            }
        }
        Ok(whole)
    }
}

/// Mask of the record number in a file reference; the other bits are its sequence number.
pub(super) const RECORD_NUMBER: u64 = (1 << 48) - 1;

/// Makes a stream from its first (or only) part.
fn assemble_first(attribute: &Attribute<'_>, geometry: &Geometry) -> Result<Stream, Stop> {
    let plain = attribute.flags & NOT_PLAIN == 0;
    if !attribute.non_resident {
        let value = attribute.value()?;
        let size = value.len() as u64;
        return Ok(Stream {
            content: Content::Resident(value),
            size,
            initialised: size,
            plain,
        });
    }
    let mut runs = Vec::new();
    attribute.decode_runs(geometry, &mut runs)?;
    let (size, initialised) = (attribute.bytes.u64(48)?, attribute.bytes.u64(56)?);
    if initialised > size {
        return Err(Stop::raw(format!(
            "NTFS stream of {size} bytes has {initialised} initialised"
        )));
    }
    Ok(Stream {
        content: Content::Runs(runs),
        size,
        initialised,
        // A compression unit marks a stream as compressible, even if nothing is compressed yet.
        plain: plain && attribute.bytes.u16(34)? == 0,
    })
}

struct ListEntry<'a> {
    kind: u32,
    name: &'a [u8],
    record: u64,
    sequence: u16,
    id: u16,
}

fn list_entries(list: &[u8]) -> Result<Vec<ListEntry<'_>>, Stop> {
    let mut found = Vec::new();
    let mut rest = list;
    while rest.len() >= 26 {
        let fields = Fields(rest);
        let len = usize::from(fields.u16(4)?);
        let name_len = usize::from(fields.u8(6)?) * 2;
        let reference = fields.u64(16)?;
        found.push(ListEntry {
            kind: fields.u32(0)?,
            name: fields.bytes(usize::from(fields.u8(7)?), name_len)?,
            record: reference & RECORD_NUMBER,
            sequence: fields.u16(22)?,
            id: fields.u16(24)?,
        });
        rest = match rest.get(len..) {
            Some(after) if len >= 26 => after,
            _ => return Err(Stop::raw("NTFS attribute list is malformed")),
        };
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(list: &[u8], clusters: u64) -> Option<Vec<Run>> {
        let mut runs = Vec::new();
        decode_runs(list, clusters, &mut runs).ok().map(|_| runs)
    }

    #[test]
    fn run_lists() {
        // 0x18 clusters at 0x5634, then 8 clusters 0x20 before that, then a hole of 4.
        let list = [0x21, 0x18, 0x34, 0x56, 0x11, 0x08, 0xE0, 0x01, 0x04, 0x00];
        assert_eq!(
            decode(&list, 1 << 20).unwrap(),
            [
                Run {
                    lcn: Some(0x5634),
                    len: 0x18
                },
                Run {
                    lcn: Some(0x5614),
                    len: 8
                },
                Run { lcn: None, len: 4 },
            ]
        );
        assert!(decode(&list, 0x5634).is_none(), "past the end");
        assert!(
            decode(&[0x11, 1, 0xFF, 0], 100).is_none(),
            "before the start"
        );
        assert!(
            decode(&[0x11, 0xFF, 1, 0], 100).is_none(),
            "negative length"
        );
        assert!(decode(&[0x10, 0], 100).is_none(), "no length");
        assert!(decode(&[0x11, 1], 100).is_none(), "cut short");
        assert!(decode(&[0x11, 1, 1], 100).is_none(), "no end mark");
        let wrap = [0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 1, 0];
        assert!(decode(&wrap, 100).is_none(), "wraps");
    }

    proptest! {
        #[test]
        fn any_run_list_stays_inside_the_volume(list in proptest::collection::vec(any::<u8>(), 0..64), clusters in 0u64..1 << 40) {
            for run in decode(&list, clusters).unwrap_or_default() {
                prop_assert!(run.lcn.is_none_or(|lcn| lcn + run.len <= clusters));
            }
        }
    }
}
