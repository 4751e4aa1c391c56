//! Reading of little-endian fields from a byte slice, with checked bounds.

use crate::error::{FormatError, Result};

/// A cursor over bytes from outside. Every read is checked; errors contain the structure and the
/// offset.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    what: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, at: 0, what }
    }

    /// Number of bytes not yet read.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn damaged(&self, reason: &'static str) -> FormatError {
        FormatError::Damaged {
            what: self.what,
            offset: self.at as u64,
            reason,
        }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self
            .at
            .checked_add(len)
            .filter(|&end| end <= self.bytes.len());
        let Some(piece) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            return Err(self.damaged("it ends too early"));
        };
        self.at += len;
        Ok(piece)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Skips reserved bytes; an error if they are not zero.
    pub(crate) fn zeros(&mut self, len: usize) -> Result<()> {
        if self.take(len)?.iter().any(|&byte| byte != 0) {
            return Err(self.damaged("reserved bytes are not zero"));
        }
        Ok(())
    }

    /// Checks that no bytes are left.
    pub(crate) fn end(&self) -> Result<()> {
        if self.left() != 0 {
            return Err(self.damaged("bytes are left over"));
        }
        Ok(())
    }
}
