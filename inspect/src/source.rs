//! The bytes of one partition, shared by several readers.
//!
//! Nothing beyond the partition's declared length is read.

use std::cell::RefCell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

/// Source that can be read at any position: a slice of an image, a file.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// A handle on the bytes of a partition. Handles share the reader; each has its own position.
#[derive(Clone)]
pub(crate) struct Source {
    reader: Rc<RefCell<Box<dyn ReadSeek>>>,
    position: u64,
    length: u64,
}

impl Source {
    pub(crate) fn new(reader: Box<dyn ReadSeek>, length: u64) -> Self {
        Self {
            reader: Rc::new(RefCell::new(reader)),
            position: 0,
            length,
        }
    }

    /// Length of the partition in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    fn at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(position);
        let room = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let buffer = buffer.get_mut(..room).unwrap_or_default();
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut reader = self
            .reader
            .try_borrow_mut()
            .map_err(|_| io::Error::other("the partition is being read already"))?;
        reader.seek(SeekFrom::Start(position))?;
        reader.read(buffer)
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.at(self.position, buffer)?;
        self.position = self
            .position
            .saturating_add(u64::try_from(count).unwrap_or(0));
        Ok(count)
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl diskmap::ReadAt for Source {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.at(position, buffer)
    }
}

impl ext4_view::Ext4Read for Source {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        self.position = start_byte;
        self.read_exact(dst)?;
        Ok(())
    }
}
