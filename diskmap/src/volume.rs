//! A partition as readers use it: bounded reads and fields of structures.
//!
//! Owns the rule that no read leaves the partition and that no buffer is allocated for bytes that
//! do not exist. Always holds: a pointer out of the partition and a device that fails are different
//! errors. No function panics.

use std::io;

use positioned_io::ReadAt;

/// A part of a device as a device of its own, for example a partition of a disk.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    dev: &'a dyn ReadAt,
    start: u64,
    len: u64,
}

impl<'a> Window<'a> {
    /// A window on the `len` bytes of `dev` that begin at `start`.
    #[must_use]
    pub fn new(dev: &'a dyn ReadAt, start: u64, len: u64) -> Self {
        Self { dev, start, len }
    }

    /// Length of the window in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// True if the window has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl std::fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window")
            .field("start", &self.start)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl ReadAt for Window<'_> {
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(pos);
        let Some(at) = self.start.checked_add(pos) else {
            return Ok(0);
        };
        let take = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        match buf.get_mut(..take) {
            Some(part) if !part.is_empty() => self.dev.read_at(at, part),
            _ => Ok(0),
        }
    }
}

/// The reason why bytes of a partition could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The device returned an error.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A structure is said to lie where the partition has no bytes.
    #[error("a structure at byte {at} lies outside the partition of {length} bytes")]
    Outside {
        /// First byte of the structure.
        at: u64,
        /// Length of the partition in bytes.
        length: u64,
    },
    /// A structure is said to be larger than any buffer.
    #[error("a structure at byte {at} claims {len} bytes")]
    TooLarge {
        /// First byte of the structure.
        at: u64,
        /// Length in bytes that it claims.
        len: u64,
    },
    /// A structure ends before one of its fields does.
    #[error("a structure of {len} bytes has no field at {at}")]
    NoField {
        /// Offset of the field.
        at: usize,
        /// Length of the structure in bytes.
        len: usize,
    },
}

/// A partition; every read stays inside it.
#[derive(Clone, Copy)]
pub struct Volume<'a> {
    dev: &'a dyn ReadAt,
    length: u64,
}

/// Largest buffer that a reader may request, in bytes. Maps are read in windows of this size;
/// single structures are far smaller (the largest is a 2 MiB NTFS cluster).
pub(crate) const WINDOW_BYTES: usize = 4 << 20;

impl<'a> Volume<'a> {
    /// The `length` bytes of `dev` from its start.
    #[must_use]
    pub const fn new(dev: &'a dyn ReadAt, length: u64) -> Self {
        Self { dev, length }
    }

    /// Length of the partition in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buf` from byte `at`.
    ///
    /// # Errors
    ///
    /// The range leaves the partition, or the device fails.
    pub fn read_into(&self, at: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let end = at.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(ReadError::Outside {
                at,
                length: self.length,
            });
        }
        let mut done = 0usize;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.dev.read_at(at + done as u64, rest) {
                Ok(0) => {
                    return Err(ReadError::Io(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!(
                            "device ends at byte {}, the partition at {}",
                            at + done as u64,
                            self.length
                        ),
                    )));
                }
                Ok(count) => done = done.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
        Ok(())
    }

    /// Reads `len` bytes from byte `at`. `len` is checked before anything is allocated.
    pub(crate) fn read(&self, at: u64, len: u64) -> Result<Vec<u8>, ReadError> {
        match usize::try_from(len) {
            Ok(len) if len <= WINDOW_BYTES => {
                let end = at.checked_add(len as u64);
                if end.is_none_or(|end| end > self.length) {
                    return Err(ReadError::Outside {
                        at,
                        length: self.length,
                    });
                }
                let mut buf = vec![0; len];
                self.read_into(at, &mut buf)?;
                Ok(buf)
            }
            _ => Err(ReadError::TooLarge { at, len }),
        }
    }

    /// Reads up to `len` bytes from byte `at`; fewer (or none) if the partition ends earlier.
    pub(crate) fn read_available(&self, at: u64, len: u64) -> Result<Vec<u8>, ReadError> {
        self.read(at.min(self.length), len.min(self.length.saturating_sub(at)))
    }
}

/// Access to the little-endian fields of a structure. A field beyond its end is an inconsistency,
/// not a panic.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// The `len` bytes at `at`.
    pub(crate) fn bytes(self, at: usize, len: usize) -> Result<&'a [u8], ReadError> {
        at.checked_add(len)
            .and_then(|end| self.0.get(at..end))
            .ok_or(ReadError::NoField {
                at,
                len: self.0.len(),
            })
    }

    fn array<const N: usize>(self, at: usize) -> Result<[u8; N], ReadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(at, N)?);
        Ok(array)
    }

    pub(crate) fn u8(self, at: usize) -> Result<u8, ReadError> {
        Ok(u8::from_le_bytes(self.array(at)?))
    }

    pub(crate) fn u16(self, at: usize) -> Result<u16, ReadError> {
        Ok(u16::from_le_bytes(self.array(at)?))
    }

    pub(crate) fn u32(self, at: usize) -> Result<u32, ReadError> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    pub(crate) fn u64(self, at: usize) -> Result<u64, ReadError> {
        Ok(u64::from_le_bytes(self.array(at)?))
    }

    /// A 16-byte UUID in big-endian (network) order, as in Linux file systems; `None` if it is all
    /// zero.
    pub(crate) fn uuid(self, at: usize) -> Result<Option<String>, ReadError> {
        let bytes: [u8; 16] = self.array(at)?;
        if bytes == [0; 16] {
            return Ok(None);
        }
        let mut text = String::with_capacity(36);
        for (index, byte) in bytes.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        Ok(Some(text))
    }

    /// A label padded with zeros or blanks; `None` if it is empty.
    pub(crate) fn label(self, at: usize, len: usize) -> Result<Option<String>, ReadError> {
        let bytes = self.bytes(at, len)?;
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        Ok((!text.is_empty()).then_some(text))
    }
}

/// Converts a UTF-16 little-endian name to text; invalid units become the replacement character.
pub(crate) fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| match pair {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}
