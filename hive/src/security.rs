//! Security descriptors (`sk` cells), regf "Key security".
//!
//! ```text
//! 0 "sk"  4 next  8 previous  12 keys that use it  16 descriptor bytes  20 descriptor
//! ```
//!
//! They form one ring; each is used by as many keys as it counts.

use crate::cells::Cells;
use crate::error::{HiveError, damaged};
use crate::scan::{Scan, index};

/// Bytes before the descriptor itself.
pub(crate) const HEADER: usize = 20;

/// A descriptor and its place in the ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Security<'a> {
    pub(crate) next: u32,
    pub(crate) previous: u32,
    pub(crate) uses: u32,
    pub(crate) descriptor: &'a [u8],
}

impl<'a> Security<'a> {
    pub(crate) fn read(cells: &'a Cells, at: u32) -> Result<Security<'a>, HiveError> {
        let parse = |cell| {
            let mut scan = Scan(cell);
            scan.signature(*b"sk")?;
            scan.take(2)?;
            let (next, previous, uses) = (scan.u32()?, scan.u32()?, scan.u32()?);
            let len = scan.u32()?;
            Some(Security {
                next,
                previous,
                uses,
                descriptor: scan.take(index(len))?,
            })
        };
        let cell = cells.get(at, "security descriptor")?;
        parse(cell).ok_or(damaged("security descriptor", at, "it is none"))
    }
}
