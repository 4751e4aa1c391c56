//! A disk being written: opened exclusively, written at offsets from many threads, flushed, read
//! back.
//!
//! Owns the file descriptors of one target disk. Decides nothing about content. Large and aligned
//! transfers use `O_DIRECT`, so that a read-back comes from the device and not from memory. The
//! rest, and files on file systems without direct I/O, go through the page cache and are synced and
//! dropped from it before they are read back.

use super::buffer::AlignedBuffer;
use super::{DiskError, device, ground, sys};
use facts::target::DiskFacts;
use rustix::fs::{Advice, FallocateFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of zeros in one write when the device cannot zero by itself.
const IO_BYTES: usize = 1 << 20;

/// Shortest write, in bytes, that bypasses the page cache. The cache sorts and joins thousands of
/// shorter ones until the next flush; waiting for each of them would take a disk ten times as long.
const SMALL_BYTES: usize = 64 << 10;

/// An open target disk. All methods take `&self`: threads share it.
pub struct TargetDisk {
    path: PathBuf,
    file: File,
    /// The same device or file opened with `O_DIRECT`, if possible.
    direct: Option<File>,
    size: u64,
    sector_size: u32,
    file_backed: bool,
}

impl TargetDisk {
    /// Opens the disk for writing after examining it again.
    ///
    /// # Errors
    /// [`DiskError::InUse`] when anything uses it, [`DiskError::Refused`] for a read-only device.
    pub fn open(facts: &DiskFacts) -> Result<Self, DiskError> {
        let path = Path::new(&facts.path);
        if !facts.holders.is_empty() {
            return Err(DiskError::InUse {
                path: path.to_owned(),
                holders: facts.holders.clone(),
            });
        }
        if facts.read_only {
            return Err(DiskError::refused(
                format!("{} is read-only", path.display()),
                "check the write protection",
            ));
        }
        if facts.file_backed {
            ground::refuse_image_as_disk(path)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        // O_EXCL on a block device requests exclusive use from the kernel: it fails with EBUSY when
        // a file system or another program took it since the examination.
        let exclusive = if facts.file_backed {
            0
        } else {
            rustix::fs::OFlags::EXCL.bits().cast_signed()
        };
        let file = options
            .clone()
            .custom_flags(exclusive)
            .open(path)
            .map_err(|source| {
                if source.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) {
                    DiskError::InUse {
                        path: path.to_owned(),
                        holders: vec!["the kernel says it is busy".into()],
                    }
                } else {
                    DiskError::io("opening", path, source)
                }
            })?;
        // Some file systems have no direct I/O; then the page cache is synced and dropped instead.
        let direct = options
            .custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed())
            .open(path)
            .ok();
        let direct = match direct {
            Some(direct) if takes_sectors(&direct, facts) => Some(direct),
            Some(_) if !facts.file_backed => {
                return Err(DiskError::refused(
                    format!(
                        "{} does not take transfers of {} bytes: its sectors are larger",
                        path.display(),
                        facts.logical_sector
                    ),
                    "name the whole disk",
                ));
            }
            _ => None,
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            direct,
            size: facts.size,
            sector_size: facts.logical_sector,
            file_backed: facts.file_backed,
        })
    }

    /// Path of the disk, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Logical sector size, in bytes.
    pub fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// Writes `bytes` at `offset`. Memory from an [`AlignedBuffer`] goes to the device without a
    /// copy.
    ///
    /// # Errors
    /// [`DiskError::Write`] with the offset.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let failed = |source| DiskError::Write {
            path: self.path.clone(),
            offset,
            source,
        };
        if offset
            .checked_add(bytes.len() as u64)
            .is_none_or(|end| end > self.size)
        {
            return Err(failed(io::Error::other(format!(
                "beyond the end of the disk ({} bytes)",
                self.size
            ))));
        }
        let small = bytes.len() < SMALL_BYTES && is_pages(offset, bytes.len());
        let direct = self.direct.as_ref();
        let Some(direct) = direct.filter(|_| !small && self.is_aligned(offset, bytes.len())) else {
            return self.file.write_all_at(bytes, offset).map_err(failed);
        };
        if is_page_aligned(bytes.as_ptr()) {
            return direct.write_all_at(bytes, offset).map_err(failed);
        }
        let mut copy = AlignedBuffer::new(bytes.len());
        copy.bytes_mut().copy_from_slice(bytes);
        direct.write_all_at(copy.bytes(), offset).map_err(failed)
    }

    /// Reads `into.len()` bytes at `offset`, from the device if that works without the page cache.
    ///
    /// # Errors
    /// [`DiskError::Read`] with the offset.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let failed = |source| DiskError::Read {
            path: self.path.clone(),
            offset,
            source,
        };
        let Some(direct) = self
            .direct
            .as_ref()
            .filter(|_| self.is_aligned(offset, into.len()))
        else {
            return self.file.read_exact_at(into, offset).map_err(failed);
        };
        if is_page_aligned(into.as_ptr()) {
            return direct.read_exact_at(into, offset).map_err(failed);
        }
        let mut copy = AlignedBuffer::new(into.len());
        direct
            .read_exact_at(copy.bytes_mut(), offset)
            .map_err(failed)?;
        into.copy_from_slice(copy.bytes());
        Ok(())
    }

    /// Makes a range read as zeros, with the device's own command if it has one.
    ///
    /// # Errors
    /// [`DiskError::Write`] with the offset.
    pub fn zero(&self, range: Range<u64>) -> Result<(), DiskError> {
        let end = range.end.min(self.size);
        let Some(len) = end.checked_sub(range.start).filter(|len| *len > 0) else {
            return Ok(());
        };
        let flags = if self.file_backed {
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE
        } else {
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE
        };
        let whole_sectors = self.is_aligned(range.start, usize::try_from(len).unwrap_or(1));
        if whole_sectors && rustix::fs::fallocate(&self.file, flags, range.start, len).is_ok() {
            return Ok(());
        }
        let zeros = vec![0u8; IO_BYTES.min(usize::try_from(len).unwrap_or(IO_BYTES))];
        let mut at = range.start;
        while at < end {
            let part = usize::try_from(end - at)
                .unwrap_or(IO_BYTES)
                .min(zeros.len());
            self.file
                .write_all_at(&zeros[..part], at)
                .map_err(|source| DiskError::Write {
                    path: self.path.clone(),
                    offset: at,
                    source,
                })?;
            at += part as u64;
        }
        Ok(())
    }

    /// Returns once all writes are on the medium and later reads come from it.
    ///
    /// # Errors
    /// [`DiskError::Io`] when the device reported a write error, at the latest here.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.file
            .sync_data()
            .map_err(|e| DiskError::io("flushing", &self.path, e))?;
        // Only clean pages are dropped, and all are clean now. This is a hint: if it fails, the
        // read-back merely comes from memory.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        Ok(())
    }

    /// Makes the kernel read the new partitions. A device without partitions (a file, a loop
    /// without scanning) is fine.
    pub fn reread_partitions(&self) {
        if !self.file_backed
            && let Err(error) = sys::reread_partition_table(&self.file)
        {
            tracing::debug!(disk = %self.path.display(), %error, "kernel did not read the partition table again");
        }
    }

    /// True for a device that gains from discards: flash, or a thin disk.
    pub fn discards(&self) -> bool {
        !self.file_backed && device::discards(&self.file)
    }

    /// Tells the device that a range is not used any more. Reads there are undefined afterwards.
    ///
    /// # Errors
    /// [`DiskError::Write`] with the offset.
    pub fn discard(&self, range: Range<u64>) -> Result<(), DiskError> {
        sys::discard(&self.file, range.clone()).map_err(|error| DiskError::Write {
            path: self.path.clone(),
            offset: range.start,
            source: error.into(),
        })
    }

    fn is_aligned(&self, offset: u64, len: usize) -> bool {
        // The sector size of the disk below a file is not known: a page suits all of them.
        let sector = if self.file_backed {
            super::buffer::ALIGNMENT as u64
        } else {
            u64::from(self.sector_size)
        };
        offset.is_multiple_of(sector) && (len as u64).is_multiple_of(sector)
    }
}

/// True when direct transfers of the sizes used here work, tried with a read before anything is
/// written. A read error other than `EINVAL` counts as working: an unreadable sector may still be
/// written.
fn takes_sectors(direct: &File, facts: &DiskFacts) -> bool {
    let len = match facts.file_backed {
        true => super::buffer::ALIGNMENT,
        false => facts.logical_sector as usize,
    };
    if facts.size < len as u64 {
        return true;
    }
    let mut buffer = AlignedBuffer::new(len);
    let read = direct.read_exact_at(buffer.bytes_mut(), 0);
    !read.is_err_and(|error| error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()))
}

/// True for whole pages: the page cache then holds no part of their surroundings, so a direct write
/// beside them meets no stale copy.
fn is_pages(offset: u64, len: usize) -> bool {
    let page = super::buffer::ALIGNMENT as u64;
    offset.is_multiple_of(page) && (len as u64).is_multiple_of(page)
}

fn is_page_aligned(memory: *const u8) -> bool {
    memory.align_offset(super::buffer::ALIGNMENT) == 0
}
