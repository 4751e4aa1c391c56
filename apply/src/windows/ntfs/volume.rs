//! Bytes of an NTFS volume, and the sizes in its boot sector.
//!
//! A [`Geometry`] has powers of two in the ranges that NTFS allows and lies inside the volume, so
//! that arithmetic with it cannot overflow `u64`.

use super::NtfsError;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes between two entries of an update sequence array, independent of the device's sector size.
pub(crate) const STRIDE: usize = 512;

/// A volume that is read and written by position.
pub(crate) trait Volume {
    /// Fills `buffer` from byte `offset`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at byte `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all written bytes are on the medium.
    fn flush(&self) -> io::Result<()>;
}

impl Volume for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Sizes of a volume, from its boot sector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Bytes of a cluster.
    pub(crate) cluster: u64,
    /// Number of clusters of the volume.
    pub(crate) clusters: u64,
    /// Bytes of an MFT record.
    pub(crate) record: usize,
    /// First cluster of `$MFT`.
    pub(crate) mft: u64,
}

const OEM_ID: usize = 3;
const BYTES_PER_SECTOR: usize = 0x0b;
const SECTORS_PER_CLUSTER: usize = 0x0d;
const TOTAL_SECTORS: usize = 0x28;
const MFT_CLUSTER: usize = 0x30;
const RECORD_SIZE: usize = 0x40;

impl Geometry {
    /// Reads and checks the boot sector.
    pub(crate) fn read(volume: &dyn Volume) -> Result<Self, NtfsError> {
        let mut boot = [0; STRIDE];
        volume.read_at(0, &mut boot)?;
        let bad = |what| NtfsError::structure("boot sector", 0, what);
        match boot.get(OEM_ID..OEM_ID + 8) {
            Some(b"NTFS    ") => {}
            Some(b"-FVE-FS-") => return Err(NtfsError::Refused("it is encrypted by BitLocker")),
            _ => return Err(bad("it is not NTFS")),
        }
        let sector = u64::from(u16_at(&boot, BYTES_PER_SECTOR).ok_or(bad("too short"))?);
        let per_cluster = boot[SECTORS_PER_CLUSTER];
        // Above 0x80 the value is a negative exponent: clusters over 64 KiB, Windows 10 1709 and
        // later.
        let per_cluster = match per_cluster {
            1..=0x80 => u64::from(per_cluster),
            0xf4..=0xff => 1 << (256 - u32::from(per_cluster)),
            _ => return Err(bad("the cluster size is nonsense")),
        };
        let cluster = sector * per_cluster;
        if !(256..=4096).contains(&sector)
            || !sector.is_power_of_two()
            || !cluster.is_power_of_two()
            || !(512..=2 << 20).contains(&cluster)
        {
            return Err(bad("the cluster size is nonsense"));
        }
        let total = u64_at(&boot, TOTAL_SECTORS).ok_or(bad("too short"))?;
        if total > u64::MAX >> 13 {
            return Err(bad("the volume size is nonsense"));
        }
        let clusters = total / per_cluster;
        let record = match boot[RECORD_SIZE] {
            exponent @ 0xf4..=0xf7 => 1usize << (256 - u32::from(exponent)),
            count @ 1..=0x40 => {
                usize::try_from(u64::from(count) * cluster).map_err(|_| bad("record size"))?
            }
            _ => return Err(bad("the MFT record size is nonsense")),
        };
        if !record.is_power_of_two() || !(STRIDE..=4096).contains(&record) {
            return Err(bad("the MFT record size is nonsense"));
        }
        let mft = u64_at(&boot, MFT_CLUSTER).ok_or(bad("too short"))?;
        if mft == 0 || mft >= clusters {
            return Err(bad("the MFT lies outside of the volume"));
        }
        Ok(Self {
            cluster,
            clusters,
            record,
            mft,
        })
    }
}

/// Little-endian number at `offset`; `None` beyond the end.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..offset.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

/// Little-endian number at `offset`; `None` beyond the end.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Little-endian number at `offset`; `None` beyond the end.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
