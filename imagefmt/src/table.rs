//! TABLE: partition table sectors as raw bytes. They are separate from the chunks because they are
//! written last.
//!
//! Regions are whole sectors, sorted, do not overlap, lie inside the disk and have at most 4 MiB
//! together; the first one begins with sector 0. `diskmap` interprets them.
//!
//! ```text
//! count u32 | { offset u64, length u32, bytes } * count          little-endian
//! ```

use crate::Geometry;
use crate::bytes::Fields;
use crate::error::{FormatError, Result, at_most, multiple, narrow};
use crate::meta::inside;

/// Largest total size of the table sectors of one image: 4 MiB.
pub const TABLE_MAX: u64 = 4 << 20;
/// Length in bytes of the fixed part of a region in the stored form.
const REGION_HEADER: usize = 12;

/// Raw sectors of a partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// First device byte.
    pub offset: u64,
    /// Bytes at that offset.
    pub bytes: Vec<u8>,
}

/// Encodes the stored form after a check that it can be read again.
pub(crate) fn encode(table: &[Region], geometry: &Geometry) -> Result<Vec<u8>> {
    validate(table, geometry)?;
    let mut out = Vec::with_capacity(
        4 + table
            .iter()
            .map(|r| REGION_HEADER + r.bytes.len())
            .sum::<usize>(),
    );
    out.extend_from_slice(&narrow(table.len(), "number of table regions")?.to_le_bytes());
    for region in table {
        out.extend_from_slice(&region.offset.to_le_bytes());
        out.extend_from_slice(&narrow(region.bytes.len(), "table region size")?.to_le_bytes());
        out.extend_from_slice(&region.bytes);
    }
    Ok(out)
}

/// Largest stored form in bytes: 4 MiB of content, and a header for each region if all regions have
/// one sector.
pub(crate) const ENCODED_MAX: u64 = TABLE_MAX + 4 + (TABLE_MAX / 512) * REGION_HEADER as u64;

pub(crate) fn decode(bytes: &[u8], geometry: &Geometry) -> Result<Vec<Region>> {
    at_most(
        "partition table (TABLE) size",
        bytes.len() as u64,
        ENCODED_MAX,
    )?;
    let mut fields = Fields::new(bytes, "partition table (TABLE)");
    let count = fields.u32()? as usize;
    if count > fields.left() / REGION_HEADER {
        return Err(fields.damaged("it declares more regions than it holds"));
    }
    let mut table = Vec::with_capacity(count);
    for _ in 0..count {
        let offset = fields.u64()?;
        let len = fields.u32()? as usize;
        table.push(Region {
            offset,
            bytes: fields.take(len)?.to_vec(),
        });
    }
    fields.end()?;
    validate(&table, geometry)?;
    Ok(table)
}

fn validate(table: &[Region], geometry: &Geometry) -> Result<()> {
    let total: u64 = table.iter().map(|region| region.bytes.len() as u64).sum();
    at_most("partition table (TABLE) size", total, TABLE_MAX)?;
    at_most(
        "number of table regions",
        table.len() as u64,
        TABLE_MAX / 512,
    )?;
    let damaged = |offset, reason| FormatError::Damaged {
        what: "partition table (TABLE)",
        offset,
        reason,
    };
    if table.first().is_none_or(|first| first.offset != 0) {
        return Err(damaged(0, "it does not hold sector 0"));
    }
    let sector = u64::from(geometry.sector_size);
    let mut end = 0;
    for region in table {
        let len = region.bytes.len() as u64;
        inside("end of a table region", region.offset, len, geometry)?;
        if len == 0 || region.offset < end {
            return Err(damaged(
                region.offset,
                "regions are empty, overlap or are out of order",
            ));
        }
        multiple("offset of a table region", region.offset, sector)?;
        multiple("length of a table region", len, sector)?;
        // `inside` has checked that this does not overflow.
        end = region.offset + len;
    }
    Ok(())
}
