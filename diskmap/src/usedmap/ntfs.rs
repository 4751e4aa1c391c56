//! Used clusters of NTFS, from `$Bitmap`.
//!
//! Owns the boot sector, the state of the volume (dirty flag, `$LogFile`) and the reading of the
//! bitmap through its run list. Always holds:
//!
//! - The volume is one sector shorter than its partition; that sector holds the backup boot sector
//!   and is always used (partclone loses it, and Windows then reports a damaged copy).
//! - The bitmap is longer than the volume and its padding bits are set, so the number of clusters
//!   limits it.
//! - `$Boot`, `$MFT`, its mirror, `$LogFile` and `$Bitmap` itself must be marked as used in the
//!   bitmap; otherwise the bitmap is not trusted.
//! - A volume with data that may still be in a Windows cache (dirty, `$LogFile` open, hibernated)
//!   is refused.

use super::bits::{Used, set_runs};
use super::ntfs_attr::{
    DATA, Geometry, Mft, STANDARD_INFORMATION, Stream, VOLUME_INFORMATION, VOLUME_NAME, undo_fixups,
};
use super::ntfs_bad;
use super::ntfs_mirror;
use super::ntfs_scratch;
use super::volume::{Fields, Stop, Volume, utf16};
use super::{Found, FsInfo, FsKind, MapOptions, Reader};
use crate::extents::ExtentSet;

const RECORD_MIRROR: u64 = 1;
const RECORD_LOGFILE: u64 = 2;
const RECORD_VOLUME: u64 = 3;
const RECORD_BITMAP: u64 = 6;
const RECORD_BOOT: u64 = 7;

/// Number of bytes of the bitmap that are read at once: 32 GiB of volume with 4 KiB clusters.
const BITMAP_WINDOW: u64 = 1 << 20;

/// Largest cluster that Windows creates, in bytes.
const MAX_CLUSTER_BYTES: u64 = 2 << 20;

/// Flags in `$VOLUME_INFORMATION` that mean pending work: dirty, resize log, chkdsk in progress.
const PENDING: u16 = 0x0001 | 0x0002 | 0x4000;

/// An NTFS volume.
pub(super) struct Ntfs {
    pub(super) geometry: Geometry,
    pub(super) mft: Mft,
    info: FsInfo,
    sector_bytes: u64,
    flags: u16,
}

impl Reader for Ntfs {
    fn open(volume: &Volume<'_>) -> Result<Self, Stop> {
        let sector = volume.read(0, 512)?;
        let boot = Fields(&sector);
        let sector_bytes = u64::from(boot.u16(11)?);
        if boot.bytes(510, 2)? != [0x55, 0xAA]
            || !sector_bytes.is_power_of_two()
            || !(512..=4096).contains(&sector_bytes)
        {
            return Err(Stop::raw(format!(
                "NTFS boot sector: sectors of {sector_bytes} bytes"
            )));
        }
        // For clusters above 64 KiB the byte is a negative power of two: 0xF4 means 4096 sectors.
        let sectors_per_cluster = match boot.u8(13)? {
            code @ 1..=128 if code.is_power_of_two() => u64::from(code),
            code @ 0xF4..=0xFF => 1u64 << (256 - u32::from(code)),
            code => return Err(Stop::raw(format!("NTFS sectors per cluster {code:#04x}"))),
        };
        let cluster_bytes = sector_bytes * sectors_per_cluster;
        let sectors = boot.u64(0x28)?;
        let size = sectors
            .checked_mul(sector_bytes)
            .filter(|size| *size <= volume.length());
        let (Some(size), true) = (size, cluster_bytes <= MAX_CLUSTER_BYTES) else {
            return Err(Stop::raw(format!(
                "NTFS volume of {sectors} sectors of {sector_bytes} bytes in a partition of {} bytes",
                volume.length()
            )));
        };
        let geometry = Geometry {
            cluster_bytes,
            clusters: sectors / sectors_per_cluster,
            record_bytes: record_bytes(boot.u8(0x40)?, cluster_bytes)?,
        };
        let mft_at = boot
            .u64(0x30)?
            .checked_mul(cluster_bytes)
            .filter(|at| *at < size)
            .ok_or_else(|| Stop::raw("NTFS $MFT lies outside the volume"))?;
        let mft = Mft::open(volume, &geometry, mft_at)?;

        let record = mft.record(volume, &geometry, RECORD_VOLUME)?;
        let state = record
            .resident(VOLUME_INFORMATION)?
            .ok_or_else(|| Stop::raw("NTFS $Volume has no information"))?;
        let state = Fields(&state);
        let version = (state.u8(8)?, state.u8(9)?);
        if !matches!(version, (1, 2) | (3, 0 | 1)) {
            return Err(Stop::raw(format!(
                "NTFS version {}.{}",
                version.0, version.1
            )));
        }
        let label = record.resident(VOLUME_NAME)?.map(|name| utf16(&name));
        let record = record.resident(STANDARD_INFORMATION)?;
        if record.is_none() {
            return Err(Stop::raw("NTFS $Volume is not a file"));
        }
        Ok(Self {
            info: FsInfo {
                kind: FsKind::Ntfs,
                label: label.filter(|label| !label.is_empty()),
                uuid: Some(format!("{:016X}", boot.u64(0x48)?)),
                // At most 2 MiB, checked above.
                block_size: u32::try_from(cluster_bytes).unwrap_or(0),
                size,
            },
            geometry,
            mft,
            sector_bytes,
            flags: state.u16(10)?,
        })
    }

    fn info(&self) -> FsInfo {
        self.info.clone()
    }

    fn used(&self, volume: &Volume<'_>, options: &MapOptions) -> Result<Found, Stop> {
        if self.flags & PENDING != 0 {
            return Err(Stop::refused(
                format!("NTFS volume is marked dirty (flags {:#06x})", self.flags),
                "boot Windows, run chkdsk /f on the volume and shut down with `shutdown /s /t 0`",
            ));
        }
        let scratch = ntfs_scratch::find(self, volume)?;
        ntfs_scratch::check_not_hibernated(self, volume, &scratch)?;
        let log = self.file(volume, RECORD_LOGFILE)?;
        check_log_closed(&self.geometry, volume, &log)?;
        let mirror = self.file(volume, RECORD_MIRROR)?;
        ntfs_mirror::check(self, volume, &mirror)?;

        let mut used = Used::new();
        let bitmap = self.file(volume, RECORD_BITMAP)?;
        self.read_bitmap(volume, &bitmap, &mut used)?;

        let mut metadata = ExtentSet::new();
        let own = [mirror, self.file(volume, RECORD_BOOT)?, log, bitmap];
        for stream in own.iter().chain([&self.mft.stream]) {
            metadata.extend(stream.ranges(&self.geometry));
        }
        if let Some(free) = used.first_missing(&metadata) {
            return Err(Stop::raw(format!(
                "NTFS bitmap has metadata at bytes {}..{} free",
                free.start, free.end
            )));
        }
        let mut excluded = ntfs_bad::excluded(self, volume, &metadata, &mut used)?;
        if !options.keep_page_files {
            let scratch = ntfs_scratch::excluded(self, &scratch, &metadata, &mut used)?;
            excluded.extend(scratch);
        }

        // Sectors behind the last whole cluster have no bit; they are followed by the backup boot
        // sector.
        let end = self.info.size.saturating_add(self.sector_bytes);
        used.add(self.geometry.clusters * self.geometry.cluster_bytes..end.min(volume.length()));
        Ok(Found { used, excluded })
    }
}

/// Size of a file record in bytes: the code is a number of clusters, or a negative power of two in
/// bytes.
fn record_bytes(code: u8, cluster_bytes: u64) -> Result<u64, Stop> {
    let bytes = match code {
        0xE0..=0xFF => 1u64 << (256 - u32::from(code)),
        code => u64::from(code) * cluster_bytes,
    };
    // Windows creates records of 1 KiB, or 4 KiB on native 4 KiB sectors; older tools use up to one
    // cluster.
    if !bytes.is_power_of_two() || !(512..=64 << 10).contains(&bytes) {
        return Err(Stop::raw(format!("NTFS file records of {bytes} bytes")));
    }
    Ok(bytes)
}

impl Ntfs {
    /// The content of a system file.
    fn file(&self, volume: &Volume<'_>, number: u64) -> Result<Stream, Stop> {
        let record = self.mft.record(volume, &self.geometry, number)?;
        self.mft
            .stream(volume, &self.geometry, &record, DATA, &[])?
            .filter(|stream| stream.plain)
            .ok_or_else(|| Stop::raw(format!("NTFS record {number} has no plain data")))
    }

    fn read_bitmap(
        &self,
        volume: &Volume<'_>,
        bitmap: &Stream,
        used: &mut Used,
    ) -> Result<(), Stop> {
        let clusters = self.geometry.clusters;
        let needed = clusters.div_ceil(8);
        if bitmap.size < needed {
            return Err(Stop::raw(format!(
                "NTFS bitmap of {} bytes for {clusters} clusters",
                bitmap.size
            )));
        }
        let mut at = 0;
        while at < needed {
            let len = BITMAP_WINDOW.min(needed - at);
            let bits = bitmap.read(volume, &self.geometry, at, len)?;
            let first = at * 8;
            let unit = self.geometry.cluster_bytes;
            set_runs(&bits, (clusters - first).min(len * 8), |run| {
                used.add((first + run.start) * unit..(first + run.end) * unit);
            });
            at += len;
        }
        Ok(())
    }
}

/// Refuses a volume with an open `$LogFile`.
///
/// Windows had it mounted when the power failed, still has it mounted, or shut down with Fast
/// Startup and keeps metadata in its hibernation file (restart page version 2.0; a clean shutdown
/// returns to 1.1). These are the rules of ntfs-3g's `logfile.c`.
fn check_log_closed(geometry: &Geometry, volume: &Volume<'_>, log: &Stream) -> Result<(), Stop> {
    const EMPTY: [u8; 4] = [0xFF; 4];
    const FLAG_CLEAN: u16 = 2;
    const NO_CLIENT: u16 = 0xFFFF;
    let head = log.read(volume, geometry, 0, 512)?;
    let page_bytes = if head.starts_with(&EMPTY) {
        4096
    } else {
        u64::from(Fields(&head).u32(16)?)
    };
    if !page_bytes.is_power_of_two() || !(512..=64 << 10).contains(&page_bytes) {
        return Err(Stop::raw(format!(
            "NTFS $LogFile pages of {page_bytes} bytes"
        )));
    }
    // The newer of two pages that are written in turn is used; one of them may be torn.
    let mut latest: Option<(u64, (u16, u16), bool)> = None;
    let mut empty = 0;
    for at in [0, page_bytes] {
        let mut page = log.read(volume, geometry, at, page_bytes)?;
        if page.starts_with(&EMPTY) {
            empty += 1;
            continue;
        }
        let magic = if page.starts_with(b"CHKD") {
            b"CHKD"
        } else {
            b"RSTR"
        };
        match undo_fixups(&mut page, magic, "NTFS $LogFile") {
            Ok(()) => {}
            Err(Stop::Raw(_)) => continue,
            Err(other) => return Err(other),
        }
        let page = Fields(&page);
        let version = (page.u16(28)?, page.u16(26)?);
        let area = usize::from(page.u16(24)?);
        let lsn = page.u64(area)?;
        let open = page.u16(area + 12)? != NO_CLIENT && page.u16(area + 14)? & FLAG_CLEAN == 0;
        if latest.is_none_or(|(best, ..)| lsn > best) {
            latest = Some((lsn, version, open));
        }
    }
    let hint = "boot Windows and shut it down with `shutdown /s /t 0` (a normal shutdown with \
                Fast Startup does not close the volume)";
    match latest {
        None if empty == 2 => Ok(()), // emptied by ntfs-3g or mkntfs: clean by definition
        Some((_, (1, _), false)) => Ok(()),
        Some((_, (1, _), true)) => Err(Stop::refused(
            "NTFS $LogFile was not closed: the volume is in use, or the machine lost power",
            hint,
        )),
        Some((_, (2, 0), _)) => Err(Stop::refused(
            "NTFS $LogFile was left by Fast Startup, or by a machine that lost power",
            hint,
        )),
        Some((_, (major, minor), _)) => {
            Err(Stop::raw(format!("NTFS $LogFile version {major}.{minor}")))
        }
        None => Err(Stop::raw("NTFS $LogFile has no readable restart page")),
    }
}
