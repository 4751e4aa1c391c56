//! A partition as readers use it: bounded reads, and the three reasons why a reader stops early.
//!
//! Owns the rule that no read leaves the partition and that no buffer is allocated for bytes that
//! do not exist. Always holds: a pointer out of the partition is an inconsistency (raw), a device
//! that fails is an error, and the two are never confused. No function panics.

use std::io;

use positioned_io::ReadAt;

use super::FsKind;

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

/// The reason why a reader stopped early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The device returned an error.
    Io(io::Error),
    /// The file system is not understood or contradicts itself: everything must be captured.
    Raw(String),
    /// The file system was not cleanly closed: nothing is captured until the operator decides.
    Refused { reason: String, hint: String },
}

impl Stop {
    /// A stop with "capture everything, because ...".
    pub(super) fn raw(reason: impl Into<String>) -> Self {
        Self::Raw(reason.into())
    }

    /// A stop with "not cleanly closed, because ...; do ...".
    pub(super) fn refused(reason: impl Into<String>, what_to_do: &str) -> Self {
        Self::Refused {
            reason: reason.into(),
            hint: format!(
                "{what_to_do}, or capture this partition raw with --raw-partition NUMBER"
            ),
        }
    }
}

impl Stop {
    /// Adds the name of the structure being read to an error of the device.
    pub(super) fn named(self, structure: &str, kind: FsKind) -> Self {
        match self {
            Self::Io(error) => {
                let text = format!("the {structure} of its {kind} file system: {error}");
                Self::Io(io::Error::new(error.kind(), text))
            }
            other => other,
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A partition; every read stays inside it.
pub(super) struct Volume<'a> {
    dev: &'a dyn ReadAt,
    length: u64,
}

/// Largest buffer that a reader may request, in bytes. Maps are read in windows of this size;
/// single structures are far smaller (the largest is a 2 MiB NTFS cluster).
pub(super) const WINDOW_BYTES: usize = 4 << 20;

impl<'a> Volume<'a> {
    pub(super) const fn new(dev: &'a dyn ReadAt, length: u64) -> Self {
        Self { dev, length }
    }

    /// Length of the partition in bytes.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buf` from byte `at`. A range outside the partition is an inconsistency.
    pub(super) fn read_into(&self, at: u64, buf: &mut [u8]) -> Result<(), Stop> {
        let end = at.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(Stop::raw(format!(
                "a structure at byte {at} lies outside the partition of {} bytes",
                self.length
            )));
        }
        let mut done = 0usize;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.dev.read_at(at + done as u64, rest) {
                Ok(0) => {
                    return Err(Stop::Io(io::Error::new(
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
                Err(error) => return Err(Stop::Io(error)),
            }
        }
        Ok(())
    }

    /// Reads `len` bytes from byte `at`. `len` is checked before anything is allocated.
    pub(super) fn read(&self, at: u64, len: u64) -> Result<Vec<u8>, Stop> {
        match usize::try_from(len) {
            Ok(len) if len <= WINDOW_BYTES => {
                let end = at.checked_add(len as u64);
                if end.is_none_or(|end| end > self.length) {
                    return Err(Stop::raw(format!(
                        "a structure at byte {at} lies outside the partition of {} bytes",
                        self.length
                    )));
                }
                let mut buf = vec![0; len];
                self.read_into(at, &mut buf)?;
                Ok(buf)
            }
            _ => Err(Stop::raw(format!(
                "a structure at byte {at} claims {len} bytes"
            ))),
        }
    }

    /// Reads up to `len` bytes from byte `at`; fewer (or none) if the partition ends earlier.
    pub(super) fn read_available(&self, at: u64, len: u64) -> Result<Vec<u8>, Stop> {
        self.read(at.min(self.length), len.min(self.length.saturating_sub(at)))
    }
}

/// Access to the little-endian fields of a structure. A field beyond its end is an inconsistency,
/// not a panic.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The `len` bytes at `at`.
    pub(super) fn bytes(self, at: usize, len: usize) -> Result<&'a [u8], Stop> {
        at.checked_add(len)
            .and_then(|end| self.0.get(at..end))
            .ok_or_else(|| {
                Stop::raw(format!(
                    "a structure of {} bytes has no field at {at}",
                    self.0.len()
                ))
            })
    }

    fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Stop> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(at, N)?);
        Ok(array)
    }

    pub(super) fn u8(self, at: usize) -> Result<u8, Stop> {
        Ok(u8::from_le_bytes(self.array(at)?))
    }

    pub(super) fn u16(self, at: usize) -> Result<u16, Stop> {
        Ok(u16::from_le_bytes(self.array(at)?))
    }

    pub(super) fn u32(self, at: usize) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    pub(super) fn u64(self, at: usize) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.array(at)?))
    }

    /// A 16-byte UUID in big-endian (network) order, as in Linux file systems; `None` if it is all
    /// zero.
    pub(super) fn uuid(self, at: usize) -> Result<Option<String>, Stop> {
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
    pub(super) fn label(self, at: usize, len: usize) -> Result<Option<String>, Stop> {
        let bytes = self.bytes(at, len)?;
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        Ok((!text.is_empty()).then_some(text))
    }
}

/// Converts a UTF-16 little-endian name to text; invalid units become the replacement character.
pub(super) fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| match pair {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}
