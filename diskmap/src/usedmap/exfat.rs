//! Used clusters of exFAT, from its allocation bitmap.
//!
//! The bitmap is a file: the FAT chain of the root directory leads to an entry of type 0x81, whose
//! chain leads to the bitmap. Bit 0 is cluster 2. Always holds: both boot regions and the FAT
//! (everything before the cluster heap) are used, and so is everything behind the last cluster; a
//! bitmap that marks itself or the root directory as free is not trusted. Layout: Microsoft, "exFAT
//! file system specification" 1.00.

use super::bits::{Used, set_runs};
use super::exfat_bad;
use super::stop::Stop;
use super::{Found, FsInfo, FsKind, MapOptions, Reader};
use crate::extents::ExtentSet;
use crate::volume::{Fields, Volume, utf16};
use std::ops::Range;

/// Largest root directory that is read, in bytes; it is the specification's limit.
const MAX_DIRECTORY_BYTES: u64 = 256 << 20;

const ACTIVE_FAT: u16 = 1;
const VOLUME_DIRTY: u16 = 2;
const MEDIA_FAILURE: u16 = 4;

/// An exFAT volume.
pub(super) struct ExFat {
    info: FsInfo,
    geometry: Geometry,
    flags: u16,
    root: Vec<u32>,
    bitmap: Vec<u32>,
    bitmap_bytes: u64,
}

/// The positions of clusters and FAT entries.
pub(super) struct Geometry {
    pub(super) fat_at: u64,
    pub(super) heap_at: u64,
    pub(super) cluster_bytes: u64,
    pub(super) clusters: u32,
}

/// The contents of the root directory that matter here.
#[derive(Default)]
struct Root {
    label: Option<String>,
    bitmap: Option<(u32, u64)>,
}

impl Reader for ExFat {
    fn open(volume: &Volume<'_>) -> Result<Self, Stop> {
        let head = volume.read(0, 512)?;
        let boot = Fields(&head);
        let sector_shift = boot.u8(108)?;
        let cluster_shift = boot.u8(109)?;
        if !(9..=12).contains(&sector_shift) || cluster_shift > 25 - sector_shift {
            return Err(Stop::raw(format!(
                "exFAT sectors of 1 << {sector_shift}, clusters of 1 << {cluster_shift} sectors"
            )));
        }
        let sector_bytes = 1u64 << sector_shift;
        check_boot_region(volume, sector_bytes)?;
        if boot.u8(110)? != 1 || boot.u8(105)? != 1 {
            return Err(Stop::raw(format!(
                "exFAT revision {} with {} tables (TexFAT?)",
                boot.u8(105)?,
                boot.u8(110)?
            )));
        }
        let sectors = boot.u64(72)?;
        let geometry = Geometry {
            fat_at: u64::from(boot.u32(80)?) * sector_bytes,
            heap_at: u64::from(boot.u32(88)?) * sector_bytes,
            cluster_bytes: sector_bytes << cluster_shift,
            clusters: boot.u32(92)?,
        };
        let fat_end = geometry.fat_at + u64::from(boot.u32(84)?) * sector_bytes;
        let entries_end = geometry.fat_at + (u64::from(geometry.clusters) + 2) * 4;
        let heap_bytes = u64::from(geometry.clusters) * geometry.cluster_bytes;
        let size = sectors
            .checked_mul(sector_bytes)
            .filter(|size| *size <= volume.length());
        let fits = |size: &u64| {
            geometry.fat_at >= 24 * sector_bytes
                && entries_end <= fat_end
                && fat_end <= geometry.heap_at
                && geometry.clusters <= 0xFFFF_FFF5
                && geometry
                    .heap_at
                    .checked_add(heap_bytes)
                    .is_some_and(|end| end <= *size)
        };
        let Some(size) = size.filter(fits) else {
            return Err(Stop::raw(format!(
                "exFAT of {sectors} sectors of {sector_bytes} bytes and {} clusters in a partition \
                 of {} bytes",
                geometry.clusters,
                volume.length()
            )));
        };
        let root = geometry.chain(volume, boot.u32(96)?, MAX_DIRECTORY_BYTES)?;
        let found = read_root(volume, &geometry, &root)?;
        let (first, bitmap_bytes) = found
            .bitmap
            .ok_or_else(|| Stop::raw("exFAT root directory names no allocation bitmap"))?;
        let needed = u64::from(geometry.clusters).div_ceil(8);
        let bitmap = geometry.chain(volume, first, needed + geometry.cluster_bytes)?;
        if bitmap_bytes < needed || (bitmap.len() as u64) * geometry.cluster_bytes < needed {
            return Err(Stop::raw(format!(
                "exFAT bitmap of {bitmap_bytes} bytes in {} clusters for {} clusters",
                bitmap.len(),
                geometry.clusters
            )));
        }
        let serial = boot.u32(100)?;
        Ok(Self {
            info: FsInfo {
                kind: FsKind::ExFat,
                label: found.label.filter(|label| !label.is_empty()),
                uuid: Some(format!("{:04X}-{:04X}", serial >> 16, serial & 0xFFFF)),
                // At most 32 MiB, checked above.
                block_size: u32::try_from(geometry.cluster_bytes).unwrap_or(0),
                size,
            },
            geometry,
            flags: boot.u16(106)?,
            root,
            bitmap,
            bitmap_bytes: needed,
        })
    }

    fn info(&self) -> FsInfo {
        self.info.clone()
    }

    fn used(&self, volume: &Volume<'_>, _options: &MapOptions) -> Result<Found, Stop> {
        if self.flags & ACTIVE_FAT != 0 {
            return Err(Stop::raw("exFAT uses a second table (TexFAT)"));
        }
        if self.flags & VOLUME_DIRTY != 0 {
            return Err(Stop::refused(
                "exFAT is mounted, or was not cleanly unmounted",
                "unmount it, or run fsck.exfat -p (Windows: chkdsk /f)",
            ));
        }
        if self.flags & MEDIA_FAILURE != 0 {
            return Err(Stop::refused(
                "exFAT is marked as having met disk errors",
                "run chkdsk /r on it in Windows",
            ));
        }
        let geometry = &self.geometry;
        let mut used = Used::new();
        used.add(0..geometry.heap_at);
        let clusters = u64::from(geometry.clusters);
        let mut left = self.bitmap_bytes;
        let mut first = 0u64; // bit at the start of the piece that was read
        for cluster in &self.bitmap {
            let mut at = geometry.place(*cluster)?;
            let mut in_cluster = geometry.cluster_bytes.min(left);
            left -= in_cluster;
            while in_cluster > 0 {
                let len = in_cluster.min(1 << 20);
                let bits = volume.read(at, len)?;
                set_runs(&bits, (clusters - first).min(len * 8), |run| {
                    let byte = |bit: u64| geometry.heap_at + (first + bit) * geometry.cluster_bytes;
                    used.add(byte(run.start)..byte(run.end));
                });
                first += len * 8;
                at += len;
                in_cluster -= len;
            }
        }
        let mut metadata = ExtentSet::new();
        for cluster in self.root.iter().chain(&self.bitmap) {
            let at = geometry.place(*cluster)?;
            metadata.insert(at..at + geometry.cluster_bytes);
        }
        if let Some(free) = used.first_missing(&metadata) {
            return Err(Stop::raw(format!(
                "exFAT bitmap has metadata at bytes {}..{} free",
                free.start, free.end
            )));
        }
        let excluded = exfat_bad::excluded(volume, geometry, &self.root, &mut used);
        used.add(geometry.heap_at + clusters * geometry.cluster_bytes..self.info.size);
        Ok(Found { used, excluded })
    }
}

/// Checks the checksum of the first eleven sectors of the main boot region, which the twelfth
/// repeats.
fn check_boot_region(volume: &Volume<'_>, sector_bytes: u64) -> Result<(), Stop> {
    let region = volume.read(0, 11 * sector_bytes)?;
    let sums = volume.read(11 * sector_bytes, sector_bytes)?;
    let mut sum = 0u32;
    for (at, byte) in region.iter().enumerate() {
        // Volume flags and "percent in use" are not included in the checksum.
        if !matches!(at, 106 | 107 | 112) {
            sum = sum.rotate_right(1).wrapping_add(u32::from(*byte));
        }
    }
    if sums.chunks_exact(4).any(|found| found != sum.to_le_bytes()) {
        return Err(Stop::raw("exFAT boot region checksum does not match"));
    }
    Ok(())
}

impl Geometry {
    /// Position of the first byte of a cluster.
    fn place(&self, cluster: u32) -> Result<u64, Stop> {
        match cluster.checked_sub(2) {
            Some(index) if index < self.clusters => {
                Ok(self.heap_at + u64::from(index) * self.cluster_bytes)
            }
            _ => Err(Stop::raw(format!(
                "exFAT cluster {cluster} of {}",
                self.clusters
            ))),
        }
    }

    /// Byte range of `clusters` consecutive clusters.
    pub(super) fn run(&self, first: u32, clusters: u64) -> Result<Range<u64>, Stop> {
        let start = self.place(first)?;
        let left = self.heap_at + u64::from(self.clusters) * self.cluster_bytes - start;
        let bytes = clusters.checked_mul(self.cluster_bytes);
        match bytes.filter(|bytes| *bytes <= left) {
            Some(bytes) => Ok(start..start + bytes),
            None => Err(Stop::raw(format!(
                "exFAT file of {clusters} clusters from cluster {first}"
            ))),
        }
    }

    /// Follows a FAT chain to its end. A chain longer than `most_bytes` is an inconsistency.
    /// Entries are read a page at a time, because chains of metadata are mostly contiguous.
    pub(super) fn chain(
        &self,
        volume: &Volume<'_>,
        first: u32,
        most_bytes: u64,
    ) -> Result<Vec<u32>, Stop> {
        const PAGE: u64 = 4096;
        const LAST: u32 = 0xFFFF_FFFF;
        let mut chain = Vec::new();
        let mut page: Option<(u64, Vec<u8>)> = None;
        let mut cluster = first;
        // A chain contains no cluster twice, so it is not longer than the number of clusters.
        let most = (most_bytes / self.cluster_bytes).clamp(1, u64::from(self.clusters));
        loop {
            self.place(cluster)?;
            if chain.len() as u64 >= most {
                return Err(Stop::raw(format!(
                    "exFAT chain from cluster {first} is longer than {most} clusters"
                )));
            }
            chain.push(cluster);
            let at = self.fat_at + u64::from(cluster) * 4;
            let start = at - at % PAGE;
            if page.as_ref().is_none_or(|(have, _)| *have != start) {
                page = Some((start, volume.read_available(start, PAGE)?));
            }
            let bytes = page.as_ref().map_or(&[][..], |(_, bytes)| bytes);
            let within = usize::try_from(at - start).map_err(|_| Stop::raw("exFAT table"))?;
            cluster = Fields(bytes).u32(within)?;
            if cluster == LAST {
                return Ok(chain);
            }
        }
    }
}

/// Finds the label and the allocation bitmap in the root directory.
fn read_root(volume: &Volume<'_>, geometry: &Geometry, chain: &[u32]) -> Result<Root, Stop> {
    const END: u8 = 0x00;
    const BITMAP: u8 = 0x81;
    const LABEL: u8 = 0x83;
    let mut root = Root::default();
    for cluster in chain {
        let place = geometry.place(*cluster)?;
        let mut done = 0;
        while done < geometry.cluster_bytes {
            let len = (1u64 << 20).min(geometry.cluster_bytes - done);
            let bytes = volume.read(place + done, len)?;
            for entry in bytes.chunks_exact(32).map(Fields) {
                match entry.u8(0)? {
                    END => return Ok(root),
                    BITMAP => {
                        // Flag bit 0 means the second bitmap, which only TexFAT has.
                        if entry.u8(1)? & 1 != 0 || root.bitmap.is_some() {
                            return Err(Stop::raw("exFAT with two allocation bitmaps (TexFAT)"));
                        }
                        root.bitmap = Some((entry.u32(20)?, entry.u64(24)?));
                    }
                    LABEL => {
                        let len = usize::from(entry.u8(1)?.min(11)) * 2;
                        root.label = Some(utf16(entry.bytes(2, len)?));
                    }
                    _ => {}
                }
            }
            done += len;
        }
    }
    Ok(root)
}
