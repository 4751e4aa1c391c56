//! Used clusters of NTFS, from `$Bitmap`.
//!
//! Owns the state of the volume (dirty flag, `$LogFile`) and the reading of the bitmap; structures
//! are read by [`crate::ntfs`]. Always holds:
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
use super::ntfs_bad;
use super::ntfs_mirror;
use super::ntfs_scratch;
use super::stop::Stop;
use super::{Found, FsInfo, FsKind, MapOptions, Reader};
use crate::extents::ExtentSet;
use crate::ntfs::{Log, Mft, RestartPage, Stream, VolumeInformation, kind, number};
use crate::volume::{Volume, utf16};

/// Number of bytes of the bitmap that are read at once: 32 GiB of volume with 4 KiB clusters.
const BITMAP_WINDOW: u64 = 1 << 20;

/// Flags of a volume that mean pending work.
const PENDING: u16 =
    VolumeInformation::DIRTY | VolumeInformation::RESIZE_LOG | VolumeInformation::CHECKING;

/// An NTFS volume.
pub(super) struct Ntfs {
    pub(super) mft: Mft,
    info: FsInfo,
    flags: u16,
}

impl Reader for Ntfs {
    fn open(volume: &Volume<'_>) -> Result<Self, Stop> {
        let mft = Mft::open(volume)?;
        let information = mft.information(volume)?;
        let version = information.version;
        if !matches!(version, (1, 2) | (3, 0 | 1)) {
            return Err(Stop::raw(format!(
                "NTFS version {}.{}",
                version.0, version.1
            )));
        }
        let record = mft.record(volume, number::VOLUME)?;
        if mft
            .find(volume, &record, kind::STANDARD_INFORMATION, "")?
            .is_none()
        {
            return Err(Stop::raw("NTFS $Volume is not a file"));
        }
        let label = mft.find(volume, &record, kind::VOLUME_NAME, "")?;
        let label = label.as_ref().and_then(Stream::resident);
        let label = label.map(|label| utf16(&label.value));
        let geometry = *mft.geometry();
        Ok(Self {
            info: FsInfo {
                kind: FsKind::Ntfs,
                label: label.filter(|label| !label.is_empty()),
                uuid: Some(format!("{:016X}", geometry.serial())),
                // At most 2 MiB.
                block_size: u32::try_from(geometry.cluster_bytes()).unwrap_or(0),
                size: geometry.size(),
            },
            mft,
            flags: information.flags,
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
        ntfs_scratch::check_not_hibernated(volume, &scratch)?;
        check_log_closed(Log::read(&self.mft, volume)?)?;
        let mirror = self.file(volume, number::MIRROR)?;
        ntfs_mirror::check(self, volume, &mirror)?;

        let mut used = Used::new();
        let bitmap = self.file(volume, number::BITMAP)?;
        self.read_bitmap(volume, &bitmap, &mut used)?;

        let mut metadata = ExtentSet::new();
        let boot = self.file(volume, number::BOOT)?;
        let log = self.file(volume, number::LOG_FILE)?;
        for stream in [&mirror, &boot, &log, &bitmap, self.mft.stream()] {
            metadata.extend(stream.ranges());
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
        let geometry = self.mft.geometry();
        let end = geometry.size().saturating_add(geometry.sector_bytes());
        used.add(geometry.clusters() * geometry.cluster_bytes()..end.min(volume.length()));
        Ok(Found { used, excluded })
    }
}

impl Ntfs {
    /// The content of a system file.
    fn file(&self, volume: &Volume<'_>, number: u64) -> Result<Stream, Stop> {
        let record = self.mft.record(volume, number)?;
        self.mft
            .find(volume, &record, kind::DATA, "")?
            .filter(Stream::is_plain)
            .ok_or_else(|| Stop::raw(format!("NTFS record {number} has no plain data")))
    }

    fn read_bitmap(
        &self,
        volume: &Volume<'_>,
        bitmap: &Stream,
        used: &mut Used,
    ) -> Result<(), Stop> {
        let clusters = self.mft.geometry().clusters();
        let needed = clusters.div_ceil(8);
        if bitmap.size() < needed {
            return Err(Stop::raw(format!(
                "NTFS bitmap of {} bytes for {clusters} clusters",
                bitmap.size()
            )));
        }
        let mut at = 0;
        while at < needed {
            let len = BITMAP_WINDOW.min(needed - at);
            let bits = bitmap.read_metadata(volume, at, len)?;
            let first = at * 8;
            let unit = self.mft.geometry().cluster_bytes();
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
fn check_log_closed(log: Log) -> Result<(), Stop> {
    let hint = "boot Windows and shut it down with `shutdown /s /t 0` (a normal shutdown with \
                Fast Startup does not close the volume)";
    let RestartPage {
        version, is_open, ..
    } = match log {
        Log::Empty => return Ok(()), // emptied by ntfs-3g or mkntfs: clean by definition
        Log::Unreadable => return Err(Stop::raw("NTFS $LogFile has no readable restart page")),
        Log::Page(page) => page,
    };
    match version {
        (1, _) if !is_open => Ok(()),
        (1, _) => Err(Stop::refused(
            "NTFS $LogFile was not closed: the volume is in use, or the machine lost power",
            hint,
        )),
        (2, 0) => Err(Stop::refused(
            "NTFS $LogFile was left by Fast Startup, or by a machine that lost power",
            hint,
        )),
        (major, minor) => Err(Stop::raw(format!("NTFS $LogFile version {major}.{minor}"))),
    }
}
