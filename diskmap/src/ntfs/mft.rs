//! The master file table: from the number of a record to the attributes of its file.
//!
//! The attributes of a file lie in its base record, or in several records that an attribute list in
//! the base record names. Every record that is reached through a list is checked: it must say that
//! it belongs to the file.

use super::layout::{list, volume as information};
use super::record::{Attribute, Body, Record, Reference, same_name};
use super::stream::Stream;
use super::{FileName, Geometry, NtfsError, kind, number};
use crate::volume::{Fields, Volume};

/// Largest attribute list in bytes; the limit of Windows.
const MOST_LIST_BYTES: u64 = 256 << 10;
/// Most bytes of records that are read for one stream: a list of the largest size that names
/// records of 4 KiB needs 40 MiB.
const MOST_RECORD_BYTES: u64 = 64 << 20;

/// The master file table of a volume.
#[derive(Clone, Debug)]
pub struct Mft {
    geometry: Geometry,
    stream: Stream,
}

/// Version and flags of a volume, from `$Volume`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeInformation {
    /// Version of NTFS: major and minor.
    pub version: (u8, u8),
    /// Flags; see the constants of this type.
    pub flags: u16,
}

impl VolumeInformation {
    /// Windows has to check the volume.
    pub const DIRTY: u16 = 0x0001;
    /// The journal is to be resized.
    pub const RESIZE_LOG: u16 = 0x0002;
    /// A check has not ended.
    pub const CHECKING: u16 = 0x4000;
}

impl Mft {
    /// Reads the boot sector, and finds the whole table from its first record.
    ///
    /// # Errors
    ///
    /// Boot sector or table make no sense.
    pub fn open(volume: &Volume<'_>) -> Result<Self, NtfsError> {
        let geometry = Geometry::read(volume)?;
        let (at, len) = (geometry.mft_at(), geometry.record_bytes());
        let base = Record::parse(number::MFT, volume.read(at, len)?)?;
        let bad = |what| NtfsError::record(number::MFT, what);
        if !base.in_use() {
            return Err(bad("it is not in use"));
        }
        let attributes = base.attributes()?;
        let mut own = attributes.iter().filter(|found| found.is(kind::DATA, ""));
        let (Some(first), None) = (own.next(), own.next()) else {
            return Err(bad("$MFT has no data, or has it twice"));
        };
        let mut mft = Self {
            stream: Stream::begin(number::MFT, first, &geometry)?,
            geometry,
        };
        // The table's own list names records that lie in the pieces before.
        let mut holders = Holders::new(&base);
        for entry in mft.list(volume, &attributes, &base)?.unwrap_or_default() {
            if !entry.is(kind::DATA, "") || entry.reference.number == number::MFT {
                continue;
            }
            let holder = holders.get(&mft, volume, entry.reference)?;
            mft.stream.append(&entry.find(holder)?, &geometry)?;
        }
        mft.stream = mft.stream.finish(&geometry)?;
        let begins = mft.stream.ranges().next().map(|range| range.start);
        if begins != Some(at) || !mft.stream.is_plain() || mft.stream.has_holes() {
            return Err(bad("$MFT does not describe itself"));
        }
        Ok(mft)
    }

    /// Sizes of the volume.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The clusters of the table.
    #[must_use]
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Number of records that the table has room for.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.stream.size() / self.geometry.record_bytes()
    }

    /// Reads record `number`.
    ///
    /// # Errors
    ///
    /// It is torn or not in use.
    pub fn record(&self, volume: &Volume<'_>, number: u64) -> Result<Record, NtfsError> {
        let bytes = self.geometry.record_bytes();
        let at = number
            .checked_mul(bytes)
            .ok_or(NtfsError::record(number, "there is no such record"))?;
        let record = Record::parse(number, self.stream.read_metadata(volume, at, bytes)?)?;
        match record.in_use() {
            true => Ok(record),
            false => Err(NtfsError::record(number, "it is not in use")),
        }
    }

    /// The base record of a file that a folder names.
    ///
    /// # Errors
    ///
    /// The record belongs to another file by now.
    pub fn file(&self, volume: &Volume<'_>, reference: Reference) -> Result<Record, NtfsError> {
        let record = self.record(volume, reference.number)?;
        if record.sequence() != reference.sequence || record.base().is_some() {
            let what = "a folder names it, and it is another file";
            return Err(NtfsError::record(reference.number, what));
        }
        Ok(record)
    }

    /// The attribute of type `kind` and name `name` of a file, from all its records. `base` is the
    /// base record of the file.
    ///
    /// # Errors
    ///
    /// Its pieces contradict each other.
    pub fn find(
        &self,
        volume: &Volume<'_>,
        base: &Record,
        kind: u32,
        name: &str,
    ) -> Result<Option<Stream>, NtfsError> {
        let attributes = base.attributes()?;
        let Some(entries) = self.list(volume, &attributes, base)? else {
            let mut same = attributes.iter().filter(|found| found.is(kind, name));
            let found = same.next();
            if same.next().is_some() {
                let what = "it has an attribute twice";
                return Err(NtfsError::record(base.number(), what));
            }
            return found
                .map(|found| {
                    Stream::begin(base.number(), found, &self.geometry)?.finish(&self.geometry)
                })
                .transpose();
        };
        let mut holders = Holders::new(base);
        let mut whole: Option<Stream> = None;
        for entry in entries.iter().filter(|entry| entry.is(kind, name)) {
            let holder = holders.get(self, volume, entry.reference)?;
            let found = entry.find(holder)?;
            match &mut whole {
                Some(stream) => stream.append(&found, &self.geometry)?,
                None => {
                    whole = Some(Stream::begin(holder.number(), &found, &self.geometry)?);
                }
            }
        }
        whole.map(|whole| whole.finish(&self.geometry)).transpose()
    }

    /// The long names of a file, from all its records. `base` is the base record of the file.
    ///
    /// # Errors
    ///
    /// Its records contradict each other.
    pub fn names(&self, volume: &Volume<'_>, base: &Record) -> Result<Vec<FileName>, NtfsError> {
        let attributes = base.attributes()?;
        let mut found = FileName::in_record(base)?;
        let mut holders = Holders::new(base);
        let mut last = base.number();
        for entry in self.list(volume, &attributes, base)?.unwrap_or_default() {
            // The entries of one record follow each other.
            if entry.kind == kind::FILE_NAME && entry.reference.number != last {
                last = entry.reference.number;
                if last != base.number() {
                    let holder = holders.get(self, volume, entry.reference)?;
                    found.extend(FileName::in_record(holder)?);
                }
            }
        }
        Ok(found)
    }

    /// Version and flags of the volume.
    ///
    /// # Errors
    ///
    /// `$Volume` cannot be read, or has none.
    pub fn information(&self, volume: &Volume<'_>) -> Result<VolumeInformation, NtfsError> {
        let record = self.record(volume, number::VOLUME)?;
        let found = self.find(volume, &record, kind::VOLUME_INFORMATION, "")?;
        let value = found.as_ref().and_then(Stream::resident);
        let value = value.ok_or(NtfsError::record(
            number::VOLUME,
            "$Volume has no information",
        ))?;
        let fields = Fields(&value.value);
        Ok(VolumeInformation {
            version: (
                fields.u8(information::AT_MAJOR)?,
                fields.u8(information::AT_MINOR)?,
            ),
            flags: fields.u16(information::AT_FLAGS)?,
        })
    }

    /// The entries of the attribute list of a file; `None` if all its attributes lie in `base`.
    fn list(
        &self,
        volume: &Volume<'_>,
        attributes: &[Attribute<'_>],
        base: &Record,
    ) -> Result<Option<Vec<ListEntry>>, NtfsError> {
        let list = attributes
            .iter()
            .find(|found| found.kind == kind::ATTRIBUTE_LIST);
        let Some(list) = list else {
            return Ok(None);
        };
        let list = match &list.body {
            Body::Resident { value, .. } => value.to_vec(),
            Body::Clusters(_) => {
                let stream =
                    Stream::begin(base.number(), list, &self.geometry)?.finish(&self.geometry)?;
                if stream.size() > MOST_LIST_BYTES || !stream.is_plain() {
                    return Err(bad_list(base.number(), "it is too long, or not plain"));
                }
                stream.read_metadata(volume, 0, stream.size())?
            }
        };
        list_entries(&list, base.number()).map(Some)
    }
}

/// The records of one file, of which the last one is kept: the entries of a list that lie in one
/// record follow each other.
struct Holders<'a> {
    base: &'a Record,
    last: Option<Record>,
    bytes: u64,
}

impl<'a> Holders<'a> {
    const fn new(base: &'a Record) -> Self {
        Self {
            base,
            last: None,
            bytes: 0,
        }
    }

    fn get(
        &mut self,
        mft: &Mft,
        volume: &Volume<'_>,
        reference: Reference,
    ) -> Result<&Record, NtfsError> {
        let number = reference.number;
        if number == self.base.number() {
            return Ok(self.base);
        }
        let record = match self.last.take() {
            Some(last) if last.number() == number => last,
            _ => {
                self.bytes += mft.geometry.record_bytes();
                if self.bytes > MOST_RECORD_BYTES {
                    return Err(bad_list(self.base.number(), "it names too many records"));
                }
                mft.record(volume, number)?
            }
        };
        let base = record.base().map(|base| base.number);
        if base != Some(self.base.number()) || record.sequence() != reference.sequence {
            return Err(NtfsError::record(
                number,
                "a list names it, and it belongs to another file",
            ));
        }
        Ok(self.last.insert(record))
    }
}

#[derive(Clone, Debug)]
struct ListEntry {
    kind: u32,
    name: Vec<u8>,
    reference: Reference,
    id: u16,
}

impl ListEntry {
    fn is(&self, kind: u32, name: &str) -> bool {
        self.kind == kind && same_name(&self.name, name)
    }

    /// The attribute that the entry names.
    fn find<'a>(&self, holder: &'a Record) -> Result<Attribute<'a>, NtfsError> {
        holder
            .attributes()?
            .into_iter()
            .find(|found| found.kind == self.kind && found.id == self.id && found.named(&self.name))
            .ok_or(NtfsError::record(
                holder.number(),
                "it lacks an attribute of the list",
            ))
    }
}

fn bad_list(base: u64, what: &'static str) -> NtfsError {
    NtfsError::structure("attribute list of record", base, what)
}

fn list_entries(bytes: &[u8], base: u64) -> Result<Vec<ListEntry>, NtfsError> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while rest.len() >= list::SHORTEST {
        let fields = Fields(rest);
        let length = usize::from(fields.u16(list::AT_LENGTH)?);
        let name_bytes = usize::from(fields.u8(list::AT_NAME_LENGTH)?) * 2;
        let name_at = usize::from(fields.u8(list::AT_NAME)?);
        found.push(ListEntry {
            kind: fields.u32(list::AT_KIND)?,
            name: match name_bytes {
                0 => Vec::new(),
                _ => fields.bytes(name_at, name_bytes)?.to_vec(),
            },
            reference: Reference::from_bits(fields.u64(list::AT_RECORD)?),
            id: fields.u16(list::AT_ID)?,
        });
        rest = match rest.get(length..) {
            Some(after) if length >= list::SHORTEST => after,
            _ => return Err(bad_list(base, "an entry is malformed")),
        };
    }
    Ok(found)
}
