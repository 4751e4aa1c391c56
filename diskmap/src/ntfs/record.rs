//! File records and their attributes.
//!
//! A [`Record`] has its true words in place; ranges of its attributes lie inside the part of the
//! record that is in use. Changing bytes of a record is the caller's affair: [`Record::encode`]
//! gives what belongs on the disk.

use std::ops::Range;

use super::layout::{attribute, record};
use super::runs::Runs;
use super::{Geometry, NtfsError, fixup, kind};
use crate::volume::Fields;

/// A file by its record, as folders and attribute lists name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Number of the record.
    pub number: u64,
    /// Number of times the record has been used.
    pub sequence: u16,
}

impl Reference {
    /// Splits a reference as it is stored: 48 bits of number, 16 bits of sequence.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        let [a, b, c, d, e, f, low, high] = bits.to_le_bytes();
        Self {
            number: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
            sequence: u16::from_le_bytes([low, high]),
        }
    }
}

/// A file record with its true words in place.
#[derive(Clone, Debug)]
pub struct Record {
    number: u64,
    bytes: Vec<u8>,
}

const IN_USE: u16 = 1;
const FOLDER: u16 = 2;

/// Attribute flags.
const COMPRESSED: u16 = 0x00FF;
const ENCRYPTED: u16 = 0x4000;
const SPARSE: u16 = 0x8000;

/// One attribute inside a record, or one of several pieces of it.
#[derive(Clone, Debug)]
pub struct Attribute<'a> {
    /// Type, one of [`kind`].
    pub kind: u32,
    name: &'a [u8],
    flags: u16,
    pub(super) id: u16,
    /// Content.
    pub body: Body<'a>,
}

/// Content of an attribute.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// The content is in the record itself.
    Resident {
        /// The content.
        value: &'a [u8],
        /// Its place in the bytes of the record.
        range: Range<usize>,
    },
    /// The content is in clusters.
    Clusters(Clusters<'a>),
}

/// The clusters of one piece of an attribute.
#[derive(Clone, Debug)]
pub struct Clusters<'a> {
    /// First cluster of the stream that this piece maps.
    pub lowest: u64,
    pub(super) highest: u64,
    pub(super) pairs: &'a [u8],
    pub(super) unit: u16,
    /// Length of the stream in bytes; zero in all pieces but the first.
    pub size: u64,
    /// Number of bytes of the stream that were ever written; zero in all pieces but the first.
    pub initialised: u64,
}

impl Record {
    /// Undoes the update sequence of a record.
    ///
    /// # Errors
    ///
    /// The bytes are no record, or torn.
    pub fn parse(number: u64, mut bytes: Vec<u8>) -> Result<Self, NtfsError> {
        fixup::undo(&mut bytes, b"FILE").map_err(|fault| {
            NtfsError::record(number, fault.what("it does not begin with FILE"))
        })?;
        Ok(Self { number, bytes })
    }

    /// Number of the record.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Content with the true words in place.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Content for changes in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The bytes as they belong on the disk.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        fixup::redo(&mut bytes);
        bytes
    }

    /// The bytes in use without the update sequence, which changes with each write: two copies of
    /// one record agree in these.
    #[must_use]
    pub fn comparable(&self) -> Vec<u8> {
        let used = Fields(&self.bytes).u32(record::AT_USED).unwrap_or(0);
        let mut bytes = self.bytes.clone();
        fixup::clear(&mut bytes);
        bytes.truncate(usize::try_from(used).unwrap_or(usize::MAX));
        bytes
    }

    // A record has at least 512 bytes, because its update sequence is in them.
    fn word(&self, at: usize) -> u16 {
        Fields(&self.bytes).u16(at).unwrap_or(0)
    }

    /// True if the record belongs to a file.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.word(record::AT_FLAGS) & IN_USE != 0
    }

    /// True if the file is a folder; only its base record says so.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.word(record::AT_FLAGS) & FOLDER != 0
    }

    /// Number of times the record has been used.
    #[must_use]
    pub fn sequence(&self) -> u16 {
        self.word(record::AT_SEQUENCE_NUMBER)
    }

    /// Number of names of the file.
    #[must_use]
    pub fn hard_links(&self) -> u16 {
        self.word(record::AT_LINKS)
    }

    /// The base record of the file if this is another one of its records.
    #[must_use]
    pub fn base(&self) -> Option<Reference> {
        match Fields(&self.bytes).u64(record::AT_BASE).unwrap_or(0) {
            0 => None,
            bits => Some(Reference::from_bits(bits)),
        }
    }

    /// Number of the base record of the file.
    #[must_use]
    pub fn file(&self) -> u64 {
        self.base().map_or(self.number, |base| base.number)
    }

    /// The attributes in this record.
    ///
    /// # Errors
    ///
    /// Lengths or offsets make no sense.
    pub fn attributes(&self) -> Result<Vec<Attribute<'_>>, NtfsError> {
        let bad = |what| NtfsError::record(self.number, what);
        let header = Fields(&self.bytes);
        let used = usize::try_from(header.u32(record::AT_USED)?)
            .ok()
            .and_then(|used| self.bytes.get(..used))
            .ok_or(bad("its size in use is nonsense"))?;
        let fields = Fields(used);
        let mut at = usize::from(fields.u16(record::AT_ATTRIBUTES)?);
        let mut found = Vec::new();
        loop {
            let kind = fields
                .u32(at)
                .map_err(|_| bad("its attributes have no end"))?;
            if kind == kind::END {
                return Ok(found);
            }
            let length = fields
                .u32(at + attribute::AT_LENGTH)
                .ok()
                .and_then(|length| usize::try_from(length).ok())
                .filter(|length| *length >= attribute::SHORTEST && length.is_multiple_of(8))
                .ok_or(bad("the length of an attribute is nonsense"))?;
            let bytes = fields
                .bytes(at, length)
                .map_err(|_| bad("an attribute leaves its record"))?;
            found.push(
                Attribute::parse(kind, bytes, at)
                    .ok_or(bad("the header of an attribute is nonsense"))?,
            );
            at += length;
        }
    }
}

impl<'a> Attribute<'a> {
    /// Parses the attribute in `bytes`, which begin at `start` of their record.
    fn parse(kind: u32, bytes: &'a [u8], start: usize) -> Option<Self> {
        let fields = Fields(bytes);
        let name_bytes = usize::from(fields.u8(attribute::AT_NAME_LENGTH).ok()?) * 2;
        let name_at = match name_bytes {
            0 => 0,
            _ => usize::from(fields.u16(attribute::AT_NAME).ok()?),
        };
        let body = match fields.u8(attribute::AT_NON_RESIDENT).ok()? {
            0 => {
                let length = fields.u32(attribute::AT_VALUE_LENGTH).ok()?;
                let length = usize::try_from(length).ok()?;
                let at = usize::from(fields.u16(attribute::AT_VALUE).ok()?);
                Body::Resident {
                    value: fields.bytes(at, length).ok()?,
                    range: start + at..start + at + length,
                }
            }
            1 => {
                let lowest = fields.u64(attribute::AT_LOWEST).ok()?;
                let at = usize::from(fields.u16(attribute::AT_PAIRS).ok()?);
                let (size, initialised) = match lowest {
                    0 => (
                        fields.u64(attribute::AT_SIZE).ok()?,
                        fields.u64(attribute::AT_INITIALISED).ok()?,
                    ),
                    _ => (0, 0),
                };
                Body::Clusters(Clusters {
                    lowest,
                    highest: fields.u64(attribute::AT_HIGHEST).ok()?,
                    pairs: bytes.get(at..)?,
                    unit: fields.u16(attribute::AT_UNIT).ok()?,
                    size,
                    initialised,
                })
            }
            _ => return None,
        };
        Some(Self {
            kind,
            name: fields.bytes(name_at, name_bytes).ok()?,
            flags: fields.u16(attribute::AT_FLAGS).ok()?,
            id: fields.u16(attribute::AT_ID).ok()?,
            body,
        })
    }

    /// True if the attribute has this type and this name; the name of most is empty.
    #[must_use]
    pub fn is(&self, kind: u32, name: &str) -> bool {
        self.kind == kind && same_name(self.name, name)
    }

    /// True if the attribute has this name, in UTF-16.
    pub(super) fn named(&self, name: &[u8]) -> bool {
        self.name == name
    }

    /// True if the content is compressed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.flags & COMPRESSED != 0
    }

    /// True if the content is encrypted.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.flags & ENCRYPTED != 0
    }

    /// True if the content is stored as it is, in places for all of it.
    pub(super) const fn is_plain(&self) -> bool {
        self.flags & (COMPRESSED | ENCRYPTED | SPARSE) == 0
    }

    /// The content, if it is in the record itself.
    #[must_use]
    pub const fn value(&self) -> Option<&'a [u8]> {
        match &self.body {
            Body::Resident { value, .. } => Some(value),
            Body::Clusters(_) => None,
        }
    }
}

impl Clusters<'_> {
    /// Place on the volume of the piece's first byte; `None` if it begins with a hole.
    ///
    /// # Errors
    ///
    /// The first run makes no sense or leaves the volume.
    pub fn first_place(&self, geometry: &Geometry) -> Result<Option<u64>, NtfsError> {
        let first = Runs::new(self.pairs, geometry.clusters())
            .next()
            .transpose();
        let first = first.map_err(|what| NtfsError::structure("run of VCN", self.lowest, what))?;
        Ok(first
            .and_then(|run| run.lcn)
            .map(|lcn| lcn * geometry.cluster_bytes()))
    }
}

/// True if the UTF-16 name in `bytes` is `name`.
pub(super) fn same_name(bytes: &[u8], name: &str) -> bool {
    name.encode_utf16()
        .flat_map(u16::to_le_bytes)
        .eq(bytes.iter().copied())
}
