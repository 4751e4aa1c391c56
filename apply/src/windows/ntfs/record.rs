//! MFT records and their attributes; update sequence arrays.
//!
//! A record on disk ends each 512 bytes with the update sequence number; the true words are kept in
//! an array in its header, so a torn write can be detected. [`unprotect`] puts the true words back,
//! [`protect`] replaces them again by the next number.

use super::NtfsError;
use super::volume::{STRIDE, u16_at, u32_at, u64_at};
use std::ops::Range;

/// Attribute types that are used here.
pub(crate) mod kind {
    pub(crate) const ATTRIBUTE_LIST: u32 = 0x20;
    pub(crate) const FILE_NAME: u32 = 0x30;
    pub(crate) const SECURITY_DESCRIPTOR: u32 = 0x50;
    pub(crate) const VOLUME_INFORMATION: u32 = 0x70;
    pub(crate) const DATA: u32 = 0x80;
    pub(crate) const INDEX_ROOT: u32 = 0x90;
    pub(crate) const INDEX_ALLOCATION: u32 = 0xa0;
    pub(crate) const BITMAP: u32 = 0xb0;
    pub(super) const END: u32 = 0xffff_ffff;
}

/// Number part of a file reference; the upper 16 bits are its sequence number.
pub(crate) const REFERENCE_NUMBER: u64 = (1 << 48) - 1;

/// Puts the true words back at the end of each 512 bytes. False if the block is torn or malformed.
pub(crate) fn unprotect(block: &mut [u8]) -> bool {
    let Some((array, strides)) = sequence_array(block) else {
        return false;
    };
    let Some(number) = u16_at(block, array) else {
        return false;
    };
    for stride in 0..strides {
        let (word, end) = (array + 2 + stride * 2, stride * STRIDE + STRIDE - 2);
        let (Some(kept), Some(found)) = (u16_at(block, word), u16_at(block, end)) else {
            return false;
        };
        if found != number {
            return false;
        }
        block[end..end + 2].copy_from_slice(&kept.to_le_bytes());
    }
    true
}

/// Reverse of [`unprotect`], with the next update sequence number. Only for blocks that came out of
/// it.
pub(crate) fn protect(block: &mut [u8]) {
    let Some((array, strides)) = sequence_array(block) else {
        return;
    };
    // 0 and 0xffff are not used as sequence numbers.
    let next = match u16_at(block, array).unwrap_or(0).wrapping_add(1) {
        0 | 0xffff => 1,
        next => next,
    };
    block[array..array + 2].copy_from_slice(&next.to_le_bytes());
    for stride in 0..strides {
        let (word, end) = (array + 2 + stride * 2, stride * STRIDE + STRIDE - 2);
        block.copy_within(end..end + 2, word);
        block[end..end + 2].copy_from_slice(&next.to_le_bytes());
    }
}

/// Offset of the array and number of strides it protects; the array lies inside the first 510 bytes
/// and covers the whole block.
fn sequence_array(block: &[u8]) -> Option<(usize, usize)> {
    let array = usize::from(u16_at(block, 4)?);
    let count = usize::from(u16_at(block, 6)?);
    let strides = block.len() / STRIDE;
    let fits = block.len().is_multiple_of(STRIDE)
        && strides > 0
        && count == strides + 1
        && array % 2 == 0
        && array >= 8
        && array + count * 2 <= STRIDE - 2;
    fits.then_some((array, strides))
}

/// One MFT record with its true words in place.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Record number.
    pub(crate) number: u64,
    /// Content with the true words in place.
    pub(crate) bytes: Vec<u8>,
}

/// One attribute of a record, as ranges of the record's bytes.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    /// Type.
    pub(crate) kind: u32,
    /// Name in UTF-16.
    pub(crate) name: Vec<u16>,
    /// Content.
    pub(crate) body: Body,
}

/// Content of an attribute.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// The content is in the record itself.
    Resident(Range<usize>),
    /// The content is in clusters.
    NonResident {
        /// First cluster of the stream that this piece maps.
        first: u64,
        /// Mapping pairs.
        runs: Range<usize>,
        /// Length of the stream in bytes; only the first piece has it.
        size: u64,
        /// Bytes of the stream that were ever written.
        initialised: u64,
        /// Compressed or encrypted.
        encoded: bool,
    },
}

impl Record {
    /// Reads a record. `None` if the bytes are no record or torn.
    pub(crate) fn decode(number: u64, mut bytes: Vec<u8>) -> Option<Self> {
        if bytes.get(..4) != Some(b"FILE") || !unprotect(&mut bytes) {
            return None;
        }
        Some(Self { number, bytes })
    }

    /// The bytes to write to the disk.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        protect(&mut bytes);
        bytes
    }

    /// True if the record belongs to a file.
    pub(crate) fn in_use(&self) -> bool {
        u16_at(&self.bytes, 0x16).is_some_and(|flags| flags & 1 != 0)
    }

    /// True for the first record of a file.
    pub(crate) fn is_base(&self) -> bool {
        u64_at(&self.bytes, 0x20) == Some(0)
    }

    /// Attributes of the record; every range lies inside the record.
    pub(crate) fn attributes(&self) -> Result<Vec<Attribute>, NtfsError> {
        let bad = |what| NtfsError::structure("MFT record", self.number, what);
        let used = u32_at(&self.bytes, 0x18)
            .and_then(|used| usize::try_from(used).ok())
            .and_then(|used| self.bytes.get(..used))
            .ok_or(bad("the size in use is nonsense"))?;
        let mut at = usize::from(u16_at(used, 0x14).ok_or(bad("too short"))?);
        let mut found = Vec::new();
        loop {
            let kind = u32_at(used, at).ok_or(bad("attributes have no end"))?;
            if kind == kind::END {
                return Ok(found);
            }
            let length = u32_at(used, at + 4)
                .and_then(|length| usize::try_from(length).ok())
                .filter(|length| *length >= 24 && length.is_multiple_of(8))
                .ok_or(bad("an attribute's length is nonsense"))?;
            let end = at
                .checked_add(length)
                .filter(|end| *end <= used.len())
                .ok_or(bad("an attribute leaves its record"))?;
            found.push(attribute(used, at, end).ok_or(bad("an attribute's header is nonsense"))?);
            at = end;
        }
    }
}

fn attribute(used: &[u8], at: usize, end: usize) -> Option<Attribute> {
    let header = used.get(at..end)?;
    let inside = |start: usize, length: usize| {
        let stop = start.checked_add(length)?;
        (stop <= header.len()).then_some(at + start..at + stop)
    };
    let name_bytes = usize::from(*header.get(9)?) * 2;
    let name = used.get(inside(usize::from(u16_at(header, 0x0a)?), name_bytes)?)?;
    let body = match header.get(8)? {
        0 => {
            let length = usize::try_from(u32_at(header, 0x10)?).ok()?;
            Body::Resident(inside(usize::from(u16_at(header, 0x14)?), length)?)
        }
        1 => {
            let first = u64_at(header, 0x10)?;
            let start = usize::from(u16_at(header, 0x20)?);
            let (size, initialised) = match first {
                0 => (u64_at(header, 0x30)?, u64_at(header, 0x38)?),
                _ => (0, 0),
            };
            Body::NonResident {
                first,
                runs: inside(start, header.len().checked_sub(start)?)?,
                size,
                initialised,
                // Sparse (0x8000) is allowed: a hole reads as zeros.
                encoded: u16_at(header, 0x0c)? & 0x40ff != 0,
            }
        }
        _ => return None,
    };
    Some(Attribute {
        kind: u32_at(header, 0)?,
        name: name
            .chunks_exact(2)
            .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
            .collect(),
        body,
    })
}
