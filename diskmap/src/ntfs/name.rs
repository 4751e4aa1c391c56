//! Names of files, and the comparison of names without regard to case.

use std::cmp::Ordering;

use super::layout::file_name;
use super::record::{Record, Reference};
use super::{Mft, NtfsError, kind, number};
use crate::volume::{Fields, Volume};

/// Flag of a folder in a name.
const FOLDER: u32 = 0x1000_0000;
/// Kind of a short name that exists beside a long one.
const SPACE_DOS: u8 = 2;
/// Number of characters in `$UpCase`, each with two bytes.
const UPCASE_CHARACTERS: u64 = 1 << 16;

/// A name of a file in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName {
    /// The folder.
    pub folder: Reference,
    /// Characters in UTF-16.
    pub name: Vec<u16>,
    /// True if the file is a folder.
    pub is_folder: bool,
    /// True for a short name that exists beside a long one.
    pub is_short: bool,
}

impl FileName {
    /// Parses the value of a `$FILE_NAME`, or the key of a folder's index; `None` if it is cut
    /// short.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fields = Fields(bytes);
        let length = usize::from(fields.u8(file_name::AT_LENGTH).ok()?) * 2;
        let units = fields.bytes(file_name::AT_NAME, length).ok()?;
        Some(Self {
            folder: Reference::from_bits(fields.u64(file_name::AT_FOLDER).ok()?),
            name: units
                .chunks_exact(2)
                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                .collect(),
            is_folder: fields.u32(file_name::AT_FLAGS).ok()? & FOLDER != 0,
            is_short: fields.u8(file_name::AT_SPACE).ok()? == SPACE_DOS,
        })
    }

    /// The long names in one record of a file. Names that are cut short are left out.
    ///
    /// # Errors
    ///
    /// The attributes of the record make no sense.
    pub fn in_record(record: &Record) -> Result<Vec<Self>, NtfsError> {
        let attributes = record.attributes()?;
        let values = attributes
            .iter()
            .filter(|found| found.kind == kind::FILE_NAME)
            .filter_map(super::Attribute::value);
        Ok(values
            .filter_map(Self::parse)
            .filter(|name| !name.is_short)
            .collect())
    }

    /// The name as text; what is no text becomes the replacement character.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf16_lossy(&self.name)
    }
}

/// The upper case of every character, from `$UpCase`.
#[derive(Clone, Debug)]
pub struct UpCase(Vec<u16>);

impl UpCase {
    /// Reads the table of a volume.
    ///
    /// # Errors
    ///
    /// It has another size, or cannot be read.
    pub fn read(mft: &Mft, volume: &Volume<'_>) -> Result<Self, NtfsError> {
        let record = mft.record(volume, number::UPCASE)?;
        let size = UPCASE_CHARACTERS * 2;
        let table = mft
            .find(volume, &record, kind::DATA, "")?
            .filter(|table| table.size() == size)
            .ok_or(NtfsError::record(
                number::UPCASE,
                "$UpCase has another size",
            ))?;
        let table = table.read_metadata(volume, 0, size)?;
        let units = table.chunks_exact(2);
        Ok(Self(
            units
                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                .collect(),
        ))
    }

    fn upper(&self, unit: u16) -> u16 {
        self.0.get(usize::from(unit)).copied().unwrap_or(unit)
    }

    /// The order of two names in a folder, without regard to case.
    pub fn compare(
        &self,
        one: impl IntoIterator<Item = u16>,
        other: impl IntoIterator<Item = u16>,
    ) -> Ordering {
        let upper = |unit| self.upper(unit);
        one.into_iter().map(upper).cmp(other.into_iter().map(upper))
    }
}
