//! Reads a master disk that may be unreadable in places.
//!
//! Owns the handling of medium errors. Without `--rescue` an error ends the capture, with its
//! place. With it the surroundings are read sector by sector; unreadable bytes become zeros and a
//! hole, and every hole is recorded. Always holds: the table and the maps of file systems are never
//! replaced by zeros, because a map that reads as "free" loses data. Only a backup table, which is
//! made again anyway, may be.

use super::buffer::{ALIGNMENT, AlignedBuffer};
use diskmap::{ExtentSet, PartitionTable, ReadAt, TableKind};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Sectors of a backup GPT: the header and 128 entries.
const BACKUP_SECTORS: u64 = 33;

/// Errors with which Linux reports a failing medium or a failing path to it (`blk_errors` in
/// block/blk-core.c).
const MEDIUM_ERRORS: [Errno; 5] = [
    Errno::IO,
    Errno::NODATA,
    Errno::ILSEQ,
    Errno::REMOTEIO,
    Errno::TIMEDOUT,
];

/// A master disk that is being read.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    /// The same file opened without the page cache, which reads whole pages only.
    direct: Option<File>,
    size: u64,
    sector: u64,
    rescue: bool,
    /// Range of the backup table of a GPT disk: if it cannot be read it is made again.
    backup: Range<u64>,
    /// Ranges that may contain maps of file systems.
    partitions: Vec<Range<u64>>,
    /// Blocks that file systems list as bad; if one shares a page with others it reads as zeros.
    known_bad: ExtentSet,
    /// True while maps are being read.
    surveying: bool,
    holes: Mutex<ExtentSet>,
    failed: Mutex<Option<u64>>,
}

impl Source {
    /// Reads from `file`; `path` is its path.
    pub(super) fn new(
        file: &File,
        path: &Path,
        size: u64,
        sector: u32,
        rescue: bool,
    ) -> io::Result<Self> {
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(path)
            .ok();
        Ok(Self {
            file: file.try_clone()?,
            direct,
            size,
            sector: u64::from(sector).max(512),
            rescue,
            backup: size..size,
            partitions: Vec::new(),
            known_bad: ExtentSet::new(),
            surveying: true,
            holes: Mutex::new(ExtentSet::new()),
            failed: Mutex::new(None),
        })
    }

    /// Takes over the partitions and the place of the backup table.
    pub(super) fn knows(&mut self, table: &PartitionTable) {
        self.partitions = match table.kind {
            TableKind::None => std::iter::once(0..self.size).collect(),
            _ => {
                let all = table.partitions.iter().filter(|part| !part.is_extended());
                all.map(|part| part.start..part.start.saturating_add(part.length))
                    .collect()
            }
        };
        let backup = self.size.saturating_sub(BACKUP_SECTORS * self.sector)..self.size;
        let free = self.partitions.iter().all(|part| part.end <= backup.start);
        if table.kind == TableKind::Gpt && free {
            self.backup = backup;
        }
    }

    /// Ends the survey: the maps and their bad blocks are known, so further unreadable bytes are
    /// holes in data.
    pub(super) fn surveyed(&mut self, known_bad: ExtentSet) {
        self.surveying = false;
        self.known_bad = known_bad;
    }

    /// Device bytes that could not be read.
    pub(super) fn holes(&self) -> ExtentSet {
        let holes = self.holes.lock().unwrap_or_else(PoisonError::into_inner);
        holes.clone()
    }

    /// First unreadable byte of the last read that ended in a medium error.
    pub(super) fn failed_at(&self) -> Option<u64> {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `buffer` from byte `at`.
    ///
    /// # Errors
    /// The medium fails there, and the bytes may not be skipped.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        match FileExt::read_exact_at(&self.file, buffer, at) {
            Err(error) if is_medium(&error) => self.read_around(at, buffer),
            read => read,
        }
    }

    /// Reads page by page, and sector by sector in a page that cannot be read.
    fn read_around(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (mut at, mut rest) = (at, buffer);
        while !rest.is_empty() {
            let page = ALIGNMENT as u64;
            let len = usize::try_from(page - at % page)
                .unwrap_or(ALIGNMENT)
                .min(rest.len());
            let (part, tail) = rest.split_at_mut(len);
            if let Err(error) = FileExt::read_exact_at(&self.file, part, at) {
                if !is_medium(&error) {
                    return Err(error);
                }
                self.read_sectors(at, part, error)?;
            }
            at += len as u64;
            rest = tail;
        }
        Ok(())
    }

    fn read_sectors(&self, at: u64, page: &mut [u8], error: io::Error) -> io::Result<()> {
        let (mut at, mut rest) = (at, page);
        while !rest.is_empty() {
            let first = at - at % self.sector;
            let len = usize::try_from(self.sector - at % self.sector)
                .unwrap_or(rest.len())
                .min(rest.len());
            let (part, tail) = rest.split_at_mut(len);
            match self.read_sector(first) {
                Some(sector) => {
                    let from = usize::try_from(at - first).unwrap_or(0);
                    if let Some(bytes) = sector.bytes().get(from..from + len) {
                        part.copy_from_slice(bytes);
                    }
                }
                None if self.may_miss(at) => {
                    part.fill(0);
                    self.misses(first..(first + self.sector).min(self.size));
                }
                None => {
                    self.fails(at);
                    return Err(error);
                }
            }
            at += len as u64;
            rest = tail;
        }
        Ok(())
    }

    fn read_sector(&self, at: u64) -> Option<AlignedBuffer> {
        let mut sector = AlignedBuffer::new(usize::try_from(self.sector).ok()?);
        let direct = self.direct.as_ref()?;
        FileExt::read_exact_at(direct, sector.bytes_mut(), at).ok()?;
        Some(sector)
    }

    fn may_miss(&self, at: u64) -> bool {
        let in_map = || {
            self.surveying
                && (self.partitions.is_empty()
                    || self.partitions.iter().any(|part| part.contains(&at)))
        };
        self.is_no_loss(at) || (self.rescue && !in_map())
    }

    /// True when no data is lost if byte `at` is not read: it belongs to the backup GPT or to a
    /// known bad block.
    fn is_no_loss(&self, at: u64) -> bool {
        self.backup.contains(&at) || self.known_bad.contains(at..at + 1)
    }

    fn misses(&self, range: Range<u64>) {
        if self.is_no_loss(range.start) {
            return;
        }
        let mut holes = self.holes.lock().unwrap_or_else(PoisonError::into_inner);
        holes.insert(range);
    }

    fn fails(&self, at: u64) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

impl ReadAt for Source {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let part = buffer.get_mut(..len).unwrap_or_default();
        self.read(at, part).map(|()| len)
    }
}

fn is_medium(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    MEDIUM_ERRORS
        .iter()
        .any(|medium| number == Some(medium.raw_os_error()))
}
