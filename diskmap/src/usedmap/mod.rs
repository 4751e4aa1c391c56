//! The bytes of a partition that hold data.
//!
//! Owns the reading of allocation maps of file systems: [`map_partition`] recognises the content of
//! a partition and returns the byte ranges that a capture must take. It only reads, and never
//! repairs.
//!
//! The invariant: **over-capture is fine, under-capture is data loss.** There are exactly three
//! answers:
//!
//! - [`Mapping::Used`]: the file system is understood, clean, and consistent in everything that was
//!   read.
//! - [`Mapping::Raw`]: the content is unknown, encrypted, inconsistent or has an unknown feature.
//!   The whole partition must be captured; the reason is given.
//! - [`Mapping::Refused`]: the content is understood but was not cleanly closed. Its map may be
//!   older than its data, and an image would silently lose data. The hint says what to do.
//!
//! ```text
//!   map_partition -> probe ---- nothing, several, or opaque -------------> Raw
//!                      | one known file system
//!                      v
//!                   Reader::open -> Reader::used -> slack -> Used
//!                      |                |
//!                      +-- Stop::Raw / Stop::Refused / Stop::Io
//! ```
//!
//! Always holds: ranges of a [`UsedMap`] are sorted, disjoint and inside the partition; `excluded`
//! ranges are not in `extents`. Memory is bounded whatever the partition's size: maps are read
//! through windows, and a map of more than a million runs is coarsened outwards. No input causes a
//! panic.

mod bits;
mod checksum;
mod exfat;
mod exfat_bad;
mod ext;
mod ext_bad;
mod ext_layout;
mod fat;
mod ntfs;
mod ntfs_bad;
mod ntfs_mirror;
mod ntfs_scratch;
mod probe;
mod slack;
mod stop;
mod swap;

use std::fmt;
use std::io;
use std::ops::Range;

use positioned_io::ReadAt;
use serde::{Deserialize, Serialize};

use crate::ExtentSet;
use crate::volume::Volume;
use bits::Used;
use stop::Stop;

pub use crate::volume::Window;
pub(crate) use probe::{MD_MAGIC, Signature, boot_sector, boot_sector_kind};

/// Options for a used-block map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapOptions {
    /// Keeps the contents of `pagefile.sys`, `swapfile.sys` and `hiberfil.sys` of a clean NTFS
    /// volume. Without this option they are left out.
    pub keep_page_files: bool,
    /// Reads all bytes behind the file system's end, however many there are.
    pub all_slack: bool,
    /// Bytes of the partition that are known to be zero without a read: holes of a file.
    pub holes: ExtentSet,
}

/// A kind of content found in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FsKind {
    /// ext2, which has no journal.
    Ext2,
    /// ext3, which has a journal but no features of ext4.
    Ext3,
    /// ext4.
    Ext4,
    /// NTFS.
    Ntfs,
    /// FAT with 12-bit entries.
    Fat12,
    /// FAT with 16-bit entries.
    Fat16,
    /// FAT with 32-bit entries.
    Fat32,
    /// exFAT.
    ExFat,
    /// Linux swap space.
    Swap,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// Microsoft ReFS.
    ReFs,
    /// APFS container.
    Apfs,
    /// HFS+.
    HfsPlus,
    /// F2FS.
    F2fs,
    /// BitLocker encrypted volume.
    BitLocker,
    /// LUKS encrypted volume.
    Luks,
    /// LVM2 physical volume.
    LvmPv,
    /// Member of a Linux md array.
    MdRaid,
    /// Member of a ZFS pool.
    Zfs,
    /// Device of bcache: a cache or a backing device.
    Bcache,
    /// Member of an array created by the firmware of a board or controller (Intel, DDF).
    BiosRaid,
}

impl FsKind {
    /// The name known to technicians: that of blkid if blkid has one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Ntfs => "ntfs",
            Self::Fat12 => "fat12",
            Self::Fat16 => "fat16",
            Self::Fat32 => "fat32",
            Self::ExFat => "exfat",
            Self::Swap => "swap",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::ReFs => "refs",
            Self::Apfs => "apfs",
            Self::HfsPlus => "hfsplus",
            Self::F2fs => "f2fs",
            Self::BitLocker => "bitlocker",
            Self::Luks => "luks",
            Self::LvmPv => "lvm2",
            Self::MdRaid => "md",
            Self::Zfs => "zfs",
            Self::Bcache => "bcache",
            Self::BiosRaid => "bios-raid",
        }
    }
}

impl fmt::Display for FsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Known properties of the content of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsInfo {
    /// Kind of the content.
    pub kind: FsKind,
    /// Label; `None` if it has none.
    pub label: Option<String>,
    /// Identity in the form of blkid: a UUID, or a serial number in hexadecimal.
    pub uuid: Option<String>,
    /// Allocation unit in bytes; 0 if not known.
    pub block_size: u32,
    /// Size of the file system by its own header, in bytes; the partition's size if not known.
    pub size: u64,
}

impl FsInfo {
    /// Content with only its kind known: nothing inside was read or could be read.
    const fn opaque(kind: FsKind, size: u64) -> Self {
        Self {
            kind,
            label: None,
            uuid: None,
            block_size: 0,
            size,
        }
    }
}

/// Allocated bytes that are left out of the capture on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// Byte range in the partition.
    pub range: Range<u64>,
    /// The content of the range: a file name such as `pagefile.sys`, or [`Excluded::BAD`].
    pub what: String,
}

impl Excluded {
    /// Value of `what` for bad blocks and clusters.
    pub const BAD: &str = "bad blocks";

    /// Largest number of ranges of bad blocks that are left out; further ones are read normally.
    const BAD_MAX: usize = 1 << 16;

    /// The exclusion of blocks that the file system lists as unreadable.
    fn bad(range: Range<u64>) -> Self {
        Self {
            range,
            what: Self::BAD.to_owned(),
        }
    }
}

/// The used bytes of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedMap {
    /// The file system the map comes from.
    pub fs: FsInfo,
    /// Bytes of the partition to capture: sorted, disjoint, inside the partition.
    pub extents: Vec<Range<u64>>,
    /// Allocated bytes left out on purpose; never in `extents`.
    pub excluded: Vec<Excluded>,
    /// Bytes behind the file system that are neither in `extents` nor were read, because there are
    /// too many.
    pub unread: Vec<Range<u64>>,
}

impl UsedMap {
    /// Number of bytes to capture.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.extents.iter().map(|run| run.end - run.start).sum()
    }
}

/// The result for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// These ranges must be captured.
    Used(UsedMap),
    /// The whole partition must be captured.
    Raw {
        /// Known properties of the content, if any.
        fs: Option<FsInfo>,
        /// The reason why there is no map.
        reason: String,
    },
    /// Nothing must be captured before the operator has corrected the state or asked for raw.
    Refused {
        /// Known properties of the content.
        fs: FsInfo,
        /// The reason for the refusal.
        reason: String,
        /// Advice for the operator.
        hint: String,
    },
}

impl Mapping {
    /// Known properties of the content, for any result.
    #[must_use]
    pub const fn fs(&self) -> Option<&FsInfo> {
        match self {
            Self::Used(map) => Some(&map.fs),
            Self::Raw { fs, .. } => fs.as_ref(),
            Self::Refused { fs, .. } => Some(fs),
        }
    }
}

/// The result of a reader: the file system's own allocation, before slack is added.
struct Found {
    used: Used,
    excluded: Vec<Excluded>,
}

/// A file system whose allocation map can be read.
trait Reader: Sized {
    /// Reads and checks the header. Stops if the header shows that the map cannot be trusted.
    fn open(volume: &Volume<'_>) -> Result<Self, Stop>;
    /// Properties of the file system by its header.
    fn info(&self) -> FsInfo;
    /// Reads the allocation map.
    fn used(&self, volume: &Volume<'_>, options: &MapOptions) -> Result<Found, Stop>;
}

/// Finds the bytes of the partition `dev` (`length` bytes from offset 0) that hold data.
///
/// # Errors
///
/// Only if the device cannot be read or is shorter than `length`. Errors in the content are a
/// result ([`Mapping::Raw`] or [`Mapping::Refused`]), not an error.
pub fn map_partition(
    dev: &dyn ReadAt,
    length: u64,
    options: &MapOptions,
) -> Result<Mapping, io::Error> {
    let volume = Volume::new(dev, length);
    let found = match probe::identify(&volume) {
        Ok(found) => found,
        Err(stop) => return settle(None, stop),
    };
    match found {
        probe::Content::Unknown => Ok(Mapping::Raw {
            fs: None,
            reason: "no known file system".into(),
        }),
        probe::Content::Several(kinds) => {
            let names: Vec<_> = kinds.into_iter().map(FsKind::name).collect();
            Ok(Mapping::Raw {
                fs: None,
                reason: format!("signatures of several file systems: {}", names.join(", ")),
            })
        }
        probe::Content::Opaque(kind, reason) => Ok(Mapping::Raw {
            fs: Some(FsInfo::opaque(kind, length)),
            reason,
        }),
        probe::Content::One(kind) => match kind {
            FsKind::Ext2 | FsKind::Ext3 | FsKind::Ext4 => run::<ext::Ext>(kind, &volume, options),
            FsKind::Ntfs => run::<ntfs::Ntfs>(kind, &volume, options),
            FsKind::Fat12 | FsKind::Fat16 | FsKind::Fat32 => {
                run::<fat::Fat>(kind, &volume, options)
            }
            FsKind::ExFat => run::<exfat::ExFat>(kind, &volume, options),
            FsKind::Swap => run::<swap::Swap>(kind, &volume, options),
            other => Ok(Mapping::Raw {
                fs: Some(FsInfo::opaque(other, length)),
                reason: format!("no used-block reader for {other}"),
            }),
        },
    }
}

/// Identifies the content of a partition from its header alone. This is cheap and meant for lists
/// of a disk's contents.
///
/// # Errors
///
/// Only if the device cannot be read.
pub fn identify(dev: &dyn ReadAt, length: u64) -> Result<Option<FsInfo>, io::Error> {
    fn header<R: Reader>(kind: FsKind, volume: &Volume<'_>) -> FsInfo {
        // A header that cannot be trusted still gives the kind of file system.
        R::open(volume).map_or_else(|_| FsInfo::opaque(kind, volume.length()), |r| r.info())
    }
    let volume = Volume::new(dev, length);
    Ok(match probe::identify(&volume) {
        Err(Stop::Io(error)) => return Err(error),
        Err(_) | Ok(probe::Content::Unknown | probe::Content::Several(_)) => None,
        Ok(probe::Content::Opaque(kind, _)) => Some(FsInfo::opaque(kind, length)),
        Ok(probe::Content::One(kind)) => Some(match kind {
            FsKind::Ext2 | FsKind::Ext3 | FsKind::Ext4 => header::<ext::Ext>(kind, &volume),
            FsKind::Ntfs => header::<ntfs::Ntfs>(kind, &volume),
            FsKind::Fat12 | FsKind::Fat16 | FsKind::Fat32 => header::<fat::Fat>(kind, &volume),
            FsKind::ExFat => header::<exfat::ExFat>(kind, &volume),
            FsKind::Swap => header::<swap::Swap>(kind, &volume),
            other => FsInfo::opaque(other, length),
        }),
    })
}

/// All kinds of content that a partition has a signature of. There are several if something was
/// created over older content and the old signature is still there.
///
/// # Errors
///
/// Only if the device cannot be read.
pub fn kinds(dev: &dyn ReadAt, length: u64) -> Result<Vec<FsKind>, io::Error> {
    match probe::identify(&Volume::new(dev, length)) {
        Err(Stop::Io(error)) => Err(error),
        Err(_) | Ok(probe::Content::Unknown) => Ok(Vec::new()),
        Ok(probe::Content::Several(kinds)) => Ok(kinds),
        Ok(probe::Content::Opaque(kind, _) | probe::Content::One(kind)) => Ok(vec![kind]),
    }
}

/// The signatures of content that fills the whole of `dev`, with their positions.
///
/// A signature of ext counts only with a plausible superblock, because two bytes of a boot loader
/// may equal its magic number.
///
/// # Errors
///
/// Only if the device cannot be read.
pub(crate) fn signatures(dev: &dyn ReadAt, length: u64) -> Result<Vec<Signature>, io::Error> {
    let volume = Volume::new(dev, length);
    let mut found = match probe::signatures(&volume) {
        Ok(found) => found,
        Err(Stop::Io(error)) => return Err(error),
        Err(_) => Vec::new(),
    };
    let is_ext = |kind| matches!(kind, FsKind::Ext2 | FsKind::Ext3 | FsKind::Ext4);
    if found.iter().any(|signature| is_ext(signature.kind)) && ext::Ext::open(&volume).is_err() {
        found.retain(|signature| !is_ext(signature.kind));
    }
    Ok(found)
}

/// Runs one reader and adds the bytes outside the file system to its result.
fn run<R: Reader>(
    kind: FsKind,
    volume: &Volume<'_>,
    options: &MapOptions,
) -> Result<Mapping, io::Error> {
    let reader = match R::open(volume).map_err(|stop| stop.named("header", kind)) {
        Ok(reader) => reader,
        Err(stop) => return settle(Some(FsInfo::opaque(kind, volume.length())), stop),
    };
    let fs = reader.info();
    let found = reader.used(volume, options);
    let found = found.map_err(|stop| stop.named("map of used blocks", kind));
    let outcome = found.and_then(|found| {
        let mut used = found.used;
        let unread = slack::add(volume, fs.size, options, &mut used)
            .map_err(|stop| stop.named("space behind the end", kind))?;
        let mut extents = used.finish();
        for excluded in &found.excluded {
            extents.remove(excluded.range.clone());
        }
        // The last bytes of a partition are always kept, so an excluded range never reaches into
        // them.
        let tail = slack::tail(volume.length());
        extents.insert(tail.clone());
        let excluded = found
            .excluded
            .into_iter()
            .map(|mut excluded| {
                excluded.range.end = excluded.range.end.min(tail.start);
                excluded
            })
            .filter(|excluded| excluded.range.start < excluded.range.end)
            .collect();
        let extents = extents.within(0..volume.length()).into_vec();
        Ok((extents, excluded, unread))
    });
    match outcome {
        Ok((extents, excluded, unread)) => Ok(Mapping::Used(UsedMap {
            fs,
            extents,
            excluded,
            unread,
        })),
        Err(stop) => settle(Some(fs), stop),
    }
}

/// Turns a stop into the corresponding result.
fn settle(fs: Option<FsInfo>, stop: Stop) -> Result<Mapping, io::Error> {
    match (stop, fs) {
        (Stop::Io(error), _) => Err(error),
        (Stop::Refused { reason, hint }, Some(fs)) => Ok(Mapping::Refused { fs, reason, hint }),
        (Stop::Raw(reason) | Stop::Refused { reason, .. }, fs) => Ok(Mapping::Raw { fs, reason }),
    }
}
