//! Fits an image onto a disk, before anything is written.
//!
//! Owns every reason to refuse it. If one partition goes onto another it reads the target's own
//! table; it writes nothing.

use super::DiskError;
use super::choice::{self, ChoiceError};
use super::front::FRONT_BYTES;
use super::journal::Bitmap;
use super::master::refuse_other_sectors;
use super::place::Place;
use diskmap::{
    CommitPlan, ExtentSet, Grow, Partition, PartitionTable, TableError, plan_commit, read_table,
    refuse_onto, refuse_sectors, table_from_regions, without_table_from_regions,
};
use facts::target::Choice;
use imagefmt::{FsMeta, MASK_BLOCK, Manifest};
use std::fs::OpenOptions;
use std::ops::Range;
use std::path::Path;

/// Options of a deployment besides image and disk.
#[derive(Clone, Debug, Default)]
pub struct Fit {
    /// Logical sector size, in bytes, of a regular file, which has none of its own; by default that
    /// of the image.
    pub sector_size: Option<u32>,
    /// Partition that grows into the free space.
    pub grow: Option<Grow>,
    /// The chosen part of the image.
    pub choice: Choice,
}

/// An image fitted onto a disk of a certain size.
pub(super) struct Fitted {
    /// The final content of the disk's beginning and end.
    pub(super) plan: CommitPlan,
    /// Place of the image's bytes on the target.
    pub(super) place: Place,
    /// Entries to write.
    pub(super) wanted: Bitmap,
    /// Range of the partition that is overwritten, when the disk's table stays.
    pub(super) onto: Option<Range<u64>>,
}

/// The target disk.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'a> {
    /// Path of the device or file.
    pub path: &'a Path,
    /// Size in bytes.
    pub size: u64,
    /// Logical sector size, in bytes.
    pub sector_size: u32,
}

/// Checks that an image fits, without touching the disk.
///
/// # Errors
/// The errors of [`super::deployment::Deployment::prepare`].
pub fn check(manifest: &Manifest, disk: Disk<'_>, fit: &Fit) -> Result<(), DiskError> {
    fitted(manifest, disk, fit).map(drop)
}

/// Entries of an image that belong to a choice. `path` is the image, for messages.
///
/// # Errors
/// [`DiskError::Refused`] for a choice the image cannot serve, [`DiskError::Table`].
pub fn wanted(manifest: &Manifest, path: &Path, choice: &Choice) -> Result<Bitmap, DiskError> {
    let table = image_table(manifest, path)?;
    choice::table(choice, &table).map_err(refuse)?;
    Ok(choice::wanted(choice, manifest, &table))
}

fn refuse(error: ChoiceError) -> DiskError {
    DiskError::refused(
        error.to_string(),
        "diskcast image info shows the partitions of an image",
    )
}

pub(super) fn fitted(manifest: &Manifest, disk: Disk<'_>, fit: &Fit) -> Result<Fitted, DiskError> {
    let table = image_table(manifest, disk.path)?;
    let wanted = choice::wanted(&fit.choice, manifest, &table);
    if let Some(source) = choice::one(&fit.choice, &table).map_err(refuse)? {
        return onto_partition(manifest, source, disk, fit, wanted);
    }
    let kept = choice::table(&fit.choice, &table).map_err(refuse)?;
    let mut plan = plan_commit(&kept, disk.size, disk.sector_size, fit.grow).map_err(|source| {
        DiskError::DoesNotFit {
            path: disk.path.to_owned(),
            source,
        }
    })?;
    let needed = end_of_data(manifest, &wanted);
    if needed > disk.size {
        return Err(DiskError::refused(
            format!(
                "{} holds {} bytes, the image has data up to byte {needed}",
                disk.path.display(),
                disk.size
            ),
            "use a disk at least as large as the master",
        ));
    }
    let dropped = left_behind(manifest, &wanted, disk.size);
    let place = if dropped.is_empty() {
        Place::whole()
    } else {
        plan.notes.push(format!(
            "{} bytes behind the last partition of the master (from byte {}) are left out: the disk is too small for them, \
             and they belong to no partition",
            dropped.total(),
            dropped.iter().next().map_or(0, |range| range.start)
        ));
        Place::partition(0..disk.size, 0)
    };
    Ok(Fitted {
        plan,
        place,
        wanted,
        onto: None,
    })
}

/// Fits one partition of the image onto one of the disk, which keeps its table.
fn onto_partition(
    manifest: &Manifest,
    source: &Partition,
    disk: Disk<'_>,
    fit: &Fit,
    wanted: Bitmap,
) -> Result<Fitted, DiskError> {
    let number = fit.choice.onto.unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .open(disk.path)
        .map_err(|error| DiskError::io("opening", disk.path, error))?;
    refuse_other_sectors(disk.path, &file, disk.size, disk.sector_size)?;
    let own =
        read_table(&file, disk.size, disk.sector_size).map_err(|source| DiskError::Table {
            path: disk.path.to_owned(),
            source,
        })?;
    let target = own.partition(number).filter(|p| !p.is_extended());
    let length = target.map(|partition| partition.length);
    refuse_onto(source, number, fit.grow, length).map_err(|reason| {
        DiskError::refused(
            format!("{}: {reason}", disk.path.display()),
            "choose a partition that is large enough, or deploy the whole disk",
        )
    })?;
    let fs = file_system(manifest, source.number);
    let fs = fs.as_ref().map(|fs| (fs.kind.as_str(), fs.block_size));
    refuse_sectors(fs, manifest.geometry.sector_size, disk.sector_size).map_err(|reason| {
        DiskError::refused(
            format!("{}: {reason}", disk.path.display()),
            "capture it from a disk with sectors of the same size",
        )
    })?;
    let target = target.cloned().unwrap_or_else(|| source.clone());
    let mut notes = vec![format!(
        "partition {number} of the disk is overwritten with partition {} of the image; everything else stays",
        source.number
    )];
    if target.type_id != source.type_id {
        notes.push(format!(
            "partition {number} keeps its type {}, the image's has {}",
            target.type_id, source.type_id
        ));
    }
    let front = target.start..target.start.saturating_add(FRONT_BYTES).min(target.end());
    let filled = fit.grow.is_some() && target.length > source.length;
    let length = if filled { target.length } else { source.length };
    Ok(Fitted {
        place: Place::partition(source.range(), target.start),
        wanted,
        onto: Some(target.range()),
        plan: CommitPlan {
            wipe: vec![front],
            stages: Vec::new(),
            // Steps identify a partition by its number in the image.
            partitions: vec![Partition {
                start: target.start,
                length,
                ..source.clone()
            }],
            notes,
        },
    })
}

/// The file system in a partition of the image.
pub fn file_system(manifest: &Manifest, number: u32) -> Option<FsMeta> {
    let mut partitions = manifest.meta.partitions.iter();
    partitions
        .find(|partition| partition.number == number)
        .and_then(|partition| partition.fs.clone())
}

/// The image's own table; an empty one if it was captured without a table.
pub(super) fn image_table(manifest: &Manifest, path: &Path) -> Result<PartitionTable, DiskError> {
    table_of(manifest).map_err(|source| DiskError::Table {
        path: path.to_owned(),
        source,
    })
}

/// The table that an image was captured with. A disk captured without a table has none, whatever
/// its first sector looks like.
///
/// # Errors
/// The errors of [`table_from_regions`], or for a disk without a table those of
/// [`without_table_from_regions`].
pub fn table_of(manifest: &Manifest) -> Result<PartitionTable, TableError> {
    let regions = manifest
        .table
        .iter()
        .map(|region| (region.offset, region.bytes.as_slice()));
    let geometry = manifest.geometry;
    if manifest.meta.table_kind == "none" {
        without_table_from_regions(regions, geometry.disk_size, geometry.sector_size)
    } else {
        table_from_regions(regions, geometry.disk_size, geometry.sector_size)
    }
}

/// Droppable bytes among the wanted data that lie behind the end of a disk of `size` bytes.
fn left_behind(manifest: &Manifest, wanted: &Bitmap, size: u64) -> ExtentSet {
    let leftovers = leftovers(manifest);
    let mut behind = ExtentSet::new();
    for run in runs(manifest, wanted).filter(|run| run.end > size) {
        let out = leftovers.within(run.start.max(size)..run.end);
        for range in out.iter() {
            behind.insert(range);
        }
    }
    behind
}

/// Droppable bytes in whole blocks, the unit of masks. If a partition has bytes in such a block,
/// they fit on the disk, or its table does not fit.
fn leftovers(manifest: &Manifest) -> ExtentSet {
    let block = u64::from(MASK_BLOCK);
    let ranges = manifest.meta.droppable.iter();
    ranges
        .map(|range| {
            let end = range.start.saturating_add(range.length);
            range.start - range.start % block..end.next_multiple_of(block)
        })
        .collect()
}

/// The used bytes of the entries to write, as ranges of the master disk.
fn runs<'m>(manifest: &'m Manifest, wanted: &'m Bitmap) -> impl Iterator<Item = Range<u64>> + 'm {
    let entries = manifest.entries.iter().enumerate();
    entries
        .filter(|(index, _)| wanted.contains(*index))
        .flat_map(|(_, entry)| {
            let offset = manifest.geometry.chunk_offset(entry.chunk);
            let runs = entry.mask.runs();
            runs.map(move |run| offset + u64::from(run.start)..offset + u64::from(run.end))
        })
}

/// Offset behind the last byte that has to be written.
fn end_of_data(manifest: &Manifest, wanted: &Bitmap) -> u64 {
    let leftovers = leftovers(manifest);
    runs(manifest, wanted)
        .map(|run| {
            let needed = ExtentSet::from(run).subtract(&leftovers);
            needed.iter().map(|range| range.end).max().unwrap_or(0)
        })
        .max()
        .unwrap_or(0)
}
