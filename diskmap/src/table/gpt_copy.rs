//! One copy of a GPT: header and entry array (UEFI 2.10, chapter 5.3).
//!
//! ```text
//!   LBA 0 protective MBR | 1 header | 2.. array | first usable ... last usable | array | header, last LBA
//! ```
//!
//! Owns the check of one copy: in a value of [`GptCopy`] the signature, both checksums, the place
//! and the shape are right. The choice between the copies belongs to `gpt`.

use super::GptFault;
use super::bytes::{array_at, u32_at, u64_at};
use super::device::Disk;
use crate::guid::Guid;

const MAGIC: [u8; 8] = *b"EFI PART";

// Offsets of the header fields, in ascending order.
const HEADER_SIZE: usize = 12;
pub(super) const HEADER_CRC: usize = 16;
pub(super) const MY_LBA: usize = 24;
pub(super) const ALTERNATE_LBA: usize = 32;
const FIRST_USABLE: usize = 40;
pub(super) const LAST_USABLE: usize = 48;
const DISK_GUID: usize = 56;
pub(super) const ARRAY_LBA: usize = 72;
const ENTRY_COUNT: usize = 80;
const ENTRY_SIZE: usize = 84;
pub(super) const ARRAY_CRC: usize = 88;
/// Length of a header in bytes without its reserved tail.
const HEADER_MIN: u32 = 92;

/// Largest entry array in bytes: 8192 entries of 128 bytes. Tools make 56 to 256 entries; an
/// image's TABLE record holds 4 MiB for both copies and everything else.
const MAX_ARRAY_BYTES: u64 = 1 << 20;

/// LBA of the primary header.
pub(super) const PRIMARY_LBA: u64 = 1;
/// Lowest LBA of an array: behind LBA 0 and the primary header.
pub(super) const FIRST_ARRAY_LBA: u64 = 2;

/// A header with the right checksum and place.
#[derive(Clone, Debug)]
pub(super) struct GptHeader {
    /// The whole sector, including revision, reserved fields and tail.
    pub(super) sector: Vec<u8>,
    pub(super) lba: u64,
    pub(super) header_size: usize,
    pub(super) alternate: u64,
    pub(super) first_usable: u64,
    pub(super) last_usable: u64,
    pub(super) array_lba: u64,
    pub(super) entry_count: u32,
    pub(super) entry_size: usize,
    array_crc: u32,
    pub(super) disk_guid: Guid,
}

impl GptHeader {
    /// Length of the entries in bytes, without the padding to a whole sector.
    pub(super) fn array_bytes(&self) -> usize {
        // The product was compared with MAX_ARRAY_BYTES when the header was parsed.
        usize::try_from(self.entry_count)
            .unwrap_or(usize::MAX)
            .saturating_mul(self.entry_size)
    }

    /// Length of the array in sectors.
    pub(super) fn array_sectors(&self) -> u64 {
        (self.array_bytes() as u64).div_ceil((self.sector.len() as u64).max(1))
    }

    /// Reads and checks the header at `lba`.
    fn read(disk: &Disk<'_>, lba: u64) -> Result<Self, GptFault> {
        let disk_last = disk.sectors.saturating_sub(1);
        if lba > disk_last {
            return Err(GptFault::OutsideDisk { lba, disk_last });
        }
        let sector = read(disk, lba, 1)?;
        if array_at::<8>(&sector, 0) != MAGIC {
            return Err(GptFault::Signature { lba });
        }
        let size = u32_at(&sector, HEADER_SIZE);
        if !(HEADER_MIN..=disk.sector_size).contains(&size) {
            return Err(GptFault::HeaderSize {
                size,
                sector_size: disk.sector_size,
            });
        }
        let header_size = usize::try_from(size).unwrap_or(usize::MAX);
        let (stored, computed) = (
            u32_at(&sector, HEADER_CRC),
            header_crc(&sector, header_size),
        );
        if stored != computed {
            return Err(GptFault::HeaderCrc {
                lba,
                stored,
                computed,
            });
        }
        let says = u64_at(&sector, MY_LBA);
        if says != lba {
            return Err(GptFault::WrongPlace { lba, says });
        }
        let (count, size) = (u32_at(&sector, ENTRY_COUNT), u32_at(&sector, ENTRY_SIZE));
        let array_bytes = u64::from(count) * u64::from(size);
        if size < 128 || !size.is_power_of_two() || !(1..=MAX_ARRAY_BYTES).contains(&array_bytes) {
            return Err(GptFault::ArrayShape { count, size });
        }
        let header = Self {
            lba,
            header_size,
            alternate: u64_at(&sector, ALTERNATE_LBA),
            first_usable: u64_at(&sector, FIRST_USABLE),
            last_usable: u64_at(&sector, LAST_USABLE),
            array_lba: u64_at(&sector, ARRAY_LBA),
            entry_count: count,
            entry_size: usize::try_from(size).unwrap_or(usize::MAX),
            array_crc: u32_at(&sector, ARRAY_CRC),
            disk_guid: Guid(array_at(&sector, DISK_GUID)),
            sector,
        };
        if header.first_usable > header.last_usable {
            return Err(GptFault::Usable {
                first: header.first_usable,
                last: header.last_usable,
            });
        }
        let sectors = header.array_sectors();
        let array = header.array_lba..header.array_lba.saturating_add(sectors);
        if array.start < FIRST_ARRAY_LBA
            || !disk.holds(array.start, sectors)
            || array.contains(&lba)
        {
            return Err(GptFault::ArrayPlace {
                lba: array.start,
                sectors,
            });
        }
        Ok(header)
    }

    /// Reads and checks the array of this header, in whole sectors.
    fn read_array(&self, disk: &Disk<'_>) -> Result<Vec<u8>, GptFault> {
        let array = read(disk, self.array_lba, self.array_sectors())?;
        let computed = self.crc_of(&array);
        if computed != self.array_crc {
            return Err(GptFault::ArrayCrc {
                lba: self.array_lba,
                stored: self.array_crc,
                computed,
            });
        }
        Ok(array)
    }

    /// Checksum of the entries in `array`.
    pub(super) fn crc_of(&self, array: &[u8]) -> u32 {
        crc32fast::hash(array.get(..self.array_bytes()).unwrap_or(array))
    }

    /// The entries of `array`, with their numbers.
    pub(super) fn entries<'a>(&self, array: &'a [u8]) -> impl Iterator<Item = (u32, &'a [u8])> {
        let entries = array.get(..self.array_bytes()).unwrap_or(array);
        (1u32..).zip(entries.chunks_exact(self.entry_size.max(1)))
    }
}

/// Checksum of a header, computed with the checksum field set to zero.
pub(super) fn header_crc(sector: &[u8], header_size: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let header = sector.get(..header_size).unwrap_or(sector);
    hasher.update(header.get(..HEADER_CRC).unwrap_or_default());
    hasher.update(&[0; 4]);
    hasher.update(header.get(HEADER_CRC + 4..).unwrap_or_default());
    hasher.finalize()
}

/// Reads sectors. A failing device is a fault of that copy, not of the disk.
fn read(disk: &Disk<'_>, lba: u64, count: u64) -> Result<Vec<u8>, GptFault> {
    disk.read(lba, count).map_err(|error| GptFault::Unreadable {
        lba,
        reason: error.to_string(),
    })
}

/// True if the sector begins like a GPT header.
pub(super) fn has_signature(disk: &Disk<'_>, lba: u64) -> bool {
    disk.read(lba, 1).is_ok_and(|sector| is_header(&sector))
}

/// True if the bytes begin like a GPT header.
pub(super) fn is_header(bytes: &[u8]) -> bool {
    array_at::<8>(bytes, 0) == MAGIC
}

/// An intact header with its intact array.
#[derive(Clone, Debug)]
pub(super) struct GptCopy {
    pub(super) header: GptHeader,
    pub(super) array: Vec<u8>,
}

impl GptCopy {
    /// Reads and checks the copy with its header at `lba`. The header is returned separately,
    /// because an intact header with a damaged array still gives the array's position.
    pub(super) fn read(disk: &Disk<'_>, lba: u64) -> (Option<GptHeader>, Result<Self, GptFault>) {
        match GptHeader::read(disk, lba) {
            Err(fault) => (None, Err(fault)),
            Ok(header) => match header.read_array(disk) {
                Err(fault) => (Some(header), Err(fault)),
                Ok(array) => (Some(header.clone()), Ok(Self { header, array })),
            },
        }
    }

    /// First LBA and number of sectors of the header and of the array.
    pub(super) fn places(&self) -> [(u64, u64); 2] {
        [
            (self.header.lba, 1),
            (self.header.array_lba, self.header.array_sectors()),
        ]
    }

    /// Name of the first field in which `other` differs.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        let (a, b) = (&self.header, &other.header);
        let bytes = |copy: &Self| {
            copy.array
                .get(..copy.header.array_bytes())
                .map(<[u8]>::to_vec)
        };
        if a.disk_guid != b.disk_guid {
            Some("disk guid")
        } else if (a.entry_count, a.entry_size) != (b.entry_count, b.entry_size) {
            Some("number or size of entries")
        } else if (a.first_usable, a.last_usable) != (b.first_usable, b.last_usable) {
            Some("usable range")
        } else if bytes(self) != bytes(other) {
            Some("entries")
        } else {
            None
        }
    }
}
