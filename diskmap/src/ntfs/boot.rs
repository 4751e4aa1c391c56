//! The boot sector: sizes of sectors, clusters and records.
//!
//! A [`Geometry`] has powers of two in the ranges that NTFS allows, and a size that the partition
//! has, so that arithmetic with clusters inside it cannot overflow `u64`.

use super::NtfsError;
use super::layout::boot::{
    AT_CLUSTER_SECTORS, AT_MARK, AT_MFT, AT_OEM, AT_RECORD_BYTES, AT_SECTOR_BYTES, AT_SECTORS,
    AT_SERIAL, BYTES,
};
use crate::volume::{Fields, Volume};

/// Largest cluster that Windows creates, in bytes.
const MAX_CLUSTER_BYTES: u64 = 2 << 20;

/// The reason why a boot sector is not one of NTFS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootFault {
    /// Name or end mark are missing.
    #[error("NTFS boot sector: it is not one of NTFS")]
    NotNtfs,
    /// No size of a sector.
    #[error("NTFS boot sector: sectors of {0} bytes")]
    SectorBytes(u64),
    /// No number of sectors in a cluster.
    #[error("NTFS sectors per cluster {0:#04x}")]
    ClusterSectors(u8),
    /// The volume is larger than its partition, or its clusters are too large.
    #[error(
        "NTFS volume of {sectors} sectors of {sector_bytes} bytes in a partition of {length} bytes"
    )]
    Size {
        /// Number of sectors that the volume claims.
        sectors: u64,
        /// Length of a sector in bytes.
        sector_bytes: u64,
        /// Length of the partition in bytes.
        length: u64,
    },
    /// No size of a record.
    #[error("NTFS file records of {0} bytes")]
    RecordBytes(u64),
    /// The first record is said to lie behind the end.
    #[error("NTFS $MFT lies outside the volume")]
    MftOutside,
}

/// Sizes and positions that every read of a volume needs.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    sector_bytes: u64,
    cluster_bytes: u64,
    clusters: u64,
    record_bytes: u64,
    size: u64,
    mft_at: u64,
    serial: u64,
}

impl Geometry {
    /// Reads and checks the boot sector.
    ///
    /// # Errors
    ///
    /// It is not one of NTFS, or the volume does not fit into the partition.
    pub fn read(volume: &Volume<'_>) -> Result<Self, NtfsError> {
        let sector = volume.read(0, BYTES as u64)?;
        let boot = Fields(&sector);
        if boot.bytes(AT_OEM, 8)? != b"NTFS    " {
            return Err(BootFault::NotNtfs.into());
        }
        let sector_bytes = u64::from(boot.u16(AT_SECTOR_BYTES)?);
        if boot.bytes(AT_MARK, 2)? != [0x55, 0xAA]
            || !sector_bytes.is_power_of_two()
            || !(512..=4096).contains(&sector_bytes)
        {
            return Err(BootFault::SectorBytes(sector_bytes).into());
        }
        // For clusters above 64 KiB the byte is a negative power of two: 0xF4 means 4096 sectors.
        let sectors_per_cluster = match boot.u8(AT_CLUSTER_SECTORS)? {
            code @ 1..=128 if code.is_power_of_two() => u64::from(code),
            code @ 0xF4..=0xFF => 1u64 << (256 - u32::from(code)),
            code => return Err(BootFault::ClusterSectors(code).into()),
        };
        let cluster_bytes = sector_bytes * sectors_per_cluster;
        let sectors = boot.u64(AT_SECTORS)?;
        let size = sectors
            .checked_mul(sector_bytes)
            .filter(|size| *size <= volume.length() && cluster_bytes <= MAX_CLUSTER_BYTES)
            .ok_or(BootFault::Size {
                sectors,
                sector_bytes,
                length: volume.length(),
            })?;
        let mft_at = boot
            .u64(AT_MFT)?
            .checked_mul(cluster_bytes)
            .filter(|at| *at < size)
            .ok_or(BootFault::MftOutside);
        let record_bytes = record_bytes(boot.u8(AT_RECORD_BYTES)?, cluster_bytes)?;
        Ok(Self {
            sector_bytes,
            cluster_bytes,
            clusters: sectors / sectors_per_cluster,
            record_bytes,
            size,
            mft_at: mft_at?,
            serial: boot.u64(AT_SERIAL)?,
        })
    }

    /// Bytes of a sector.
    #[must_use]
    pub const fn sector_bytes(&self) -> u64 {
        self.sector_bytes
    }

    /// Bytes of a cluster.
    #[must_use]
    pub const fn cluster_bytes(&self) -> u64 {
        self.cluster_bytes
    }

    /// Number of whole clusters.
    #[must_use]
    pub const fn clusters(&self) -> u64 {
        self.clusters
    }

    /// Bytes of a file record.
    #[must_use]
    pub const fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// Bytes of the volume; the sector behind them holds the backup boot sector.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Place of record 0, in bytes.
    #[must_use]
    pub const fn mft_at(&self) -> u64 {
        self.mft_at
    }

    /// Serial number of the volume.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }
}

/// Size of a file record in bytes: the code is a number of clusters, or a negative power of two in
/// bytes.
fn record_bytes(code: u8, cluster_bytes: u64) -> Result<u64, BootFault> {
    let bytes = match code {
        0xE0..=0xFF => 1u64 << (256 - u32::from(code)),
        code => u64::from(code) * cluster_bytes,
    };
    // Windows creates records of 1 KiB, or 4 KiB on native 4 KiB sectors; older tools use up to one
    // cluster.
    if !bytes.is_power_of_two() || !(512..=64 << 10).contains(&bytes) {
        return Err(BootFault::RecordBytes(bytes));
    }
    Ok(bytes)
}
