//! Surveys a master disk before a byte of it is captured: its contents, and the bytes an image must
//! hold.
//!
//! Owns the decision which bytes are captured: used blocks of every known file system, whole
//! partitions with unknown content, and the gaps that boot loaders use. Never writes. Always holds:
//! capturing too much is fine, capturing too little loses data, so every doubt widens the set.

use super::claims::Claims;
use super::error::DirtyPartition;
use super::holes::Holes;
use super::{DiskError, gaps, leftovers};
use crate::partition_words::content_line;
use diskmap::signature::beside_table;
use diskmap::usedmap::{MapOptions, Mapping, Window, identify, kinds, map_partition};
use diskmap::{
    ExtentSet, Partition, PartitionKind, PartitionTable, ReadAt, TableKind, TypeId, read_table,
    without_table,
};
use facts::target::PartitionFacts;
use imagefmt::{ExcludedRange, FsMeta, LeftOut, PartitionMeta};
use std::io;
use std::ops::Range;
use std::path::Path;

/// Options of a capture that change the set of captured bytes.
#[derive(Clone, Debug, Default)]
pub struct SurveyOptions {
    /// Partitions to capture whole, whatever their content. Number 0 is a disk without a table.
    pub raw_partitions: Vec<u32>,
    /// True to keep contents of page and hibernation files of clean NTFS volumes.
    pub keep_page_files: bool,
    /// True to capture everything that is not zero outside partitions and behind file systems, at
    /// any distance.
    pub all_gaps: bool,
    /// True to capture the whole disk as one range of bytes, ignoring its table.
    pub raw: bool,
    /// True to capture a partition whole when its map of used blocks cannot be read, instead of
    /// failing.
    pub rescue: bool,
}

/// The result of a survey.
#[derive(Debug)]
pub struct Survey {
    /// The partition table with its raw sectors.
    pub table: PartitionTable,
    /// Device bytes an image must hold. Table sectors inside are captured as zeros.
    pub used: ExtentSet,
    /// One entry for each partition, for the image's description.
    pub partitions: Vec<PartitionMeta>,
    /// Facts for the technician that are no errors.
    pub warnings: Vec<String>,
    /// Ranges of the disk with bytes that may be data and are not captured.
    pub left_out: Vec<LeftOut>,
    /// Bytes that may be left out on a smaller disk.
    pub leftovers: Vec<Range<u64>>,
    /// Bytes that are zero in the image, whatever the disk has there.
    pub dropped: Vec<Range<u64>>,
}

/// Surveys a whole disk. Its holes are not read.
///
/// # Errors
/// [`DiskError::SourceTable`] for a table that cannot be read, [`DiskError::Dirty`] with every
/// partition that was not closed cleanly, [`DiskError::Refused`] for a `--raw-partition` that does
/// not exist.
pub(super) fn survey(
    dev: &dyn ReadAt,
    holes: &Holes,
    size: u64,
    sector_size: u32,
    path: &Path,
    options: &SurveyOptions,
) -> Result<Survey, DiskError> {
    let unreadable = |source| DiskError::SourceTable {
        path: path.to_owned(),
        source,
    };
    if options.raw {
        return without_table(dev, size, sector_size)
            .map(raw)
            .map_err(unreadable);
    }
    let table = read_table(dev, size, sector_size).map_err(unreadable)?;
    let mut warnings = table.warnings.clone();
    warnings.extend(diskmap::cross_check(&table, dev));
    let areas = data_areas(&table, size);
    for number in &options.raw_partitions {
        if !areas.iter().any(|area| area.number == *number) {
            return Err(DiskError::refused(
                format!(
                    "--raw-partition {number}: {} has no such partition",
                    path.display()
                ),
                format!("it has {}; --raw captures the whole disk", numbers(&areas)),
            ));
        }
    }

    let claims = Claims::look(dev, &table, path)?;
    warnings.extend(claims.warnings);
    let outside = gaps::scan(dev, &table, size, holes, options.all_gaps).map_err(|source| {
        DiskError::Read {
            path: path.to_owned(),
            offset: 0,
            source,
        }
    })?;
    let (mut used, mut left_out) = (outside.taken, outside.left_out);
    let mut partitions = Vec::new();
    let mut dirty = Vec::new();
    for area in areas {
        let mut meta = area.meta();
        let raw_asked = options.raw_partitions.contains(&area.number);
        let raw_reason = if raw_asked {
            Some("asked for with --raw-partition".into())
        } else {
            claims.everything.clone()
        };
        let window = Window::new(dev, area.range.start, area.len());
        let map_options = MapOptions {
            keep_page_files: options.keep_page_files,
            all_slack: options.all_gaps,
            holes: holes.from(area.range.start),
        };
        let mapping = map_partition(&window, area.len(), &map_options).or_else(|error| {
            let text = format!("partition {}: {error}", area.number);
            if options.rescue {
                // An unreadable part of its map may stand for used blocks, so everything readable
                // is captured.
                return Ok(Mapping::Raw {
                    fs: None,
                    reason: text,
                });
            }
            Err(DiskError::Read {
                path: path.to_owned(),
                offset: area.range.start,
                source: io::Error::new(error.kind(), text),
            })
        })?;
        meta.fs = mapping.fs().map(|fs| FsMeta {
            kind: fs.kind.name().to_owned(),
            label: fs.label.clone(),
            uuid: fs.uuid.clone(),
            block_size: fs.block_size,
        });
        match (mapping, raw_reason) {
            (Mapping::Refused { fs, reason, hint }, _) if !raw_asked => {
                dirty.push(DirtyPartition {
                    number: area.number,
                    fs: fs.kind.name().to_owned(),
                    reason,
                    hint,
                });
            }
            (_, Some(reason))
            | (Mapping::Raw { reason, .. } | Mapping::Refused { reason, .. }, None) => {
                take_raw(&mut used, &mut meta, &area.range, reason);
            }
            (Mapping::Used(map), None) => {
                left_out.extend(gaps::unread_slack(&area.range, area.number, &map));
                for extent in &map.extents {
                    used.insert(area.range.start + extent.start..area.range.start + extent.end);
                }
                meta.used_bytes = map.used_bytes();
                meta.capture = "used".into();
                meta.excluded = map
                    .excluded
                    .into_iter()
                    .map(|excluded| ExcludedRange {
                        what: excluded.what,
                        start: area.range.start + excluded.range.start,
                        length: excluded.range.end - excluded.range.start,
                    })
                    .collect();
            }
        }
        partitions.push(meta);
    }
    let mut dropped = Vec::new();
    if claims.everything.is_some() {
        used.insert(0..size);
        left_out.clear();
    } else {
        dropped = leftovers::stale_gpt(dev, &table);
        warnings.extend(dropped.iter().map(|range| {
            format!(
                "a GPT header of an earlier table at byte {} is left out: the disk has an MBR",
                range.start
            )
        }));
    }
    let pinned = claims.pinned || claims.everything.is_some();
    if dirty.is_empty() {
        Ok(Survey {
            leftovers: if pinned {
                Vec::new()
            } else {
                leftovers::droppable(&table, &used)
            },
            table,
            used,
            partitions,
            warnings,
            left_out,
            dropped,
        })
    } else {
        Err(DiskError::Dirty(dirty))
    }
}

/// The survey of a disk that is captured byte for byte.
fn raw(table: PartitionTable) -> Survey {
    let mut used = ExtentSet::new();
    let size = table.disk_size;
    let partitions = data_areas(&table, size)
        .into_iter()
        .map(|area| {
            let mut meta = area.meta();
            let reason = "asked for with --raw".into();
            take_raw(&mut used, &mut meta, &area.range, reason);
            meta
        })
        .collect();
    Survey {
        table,
        used,
        partitions,
        warnings: Vec::new(),
        leftovers: Vec::new(),
        dropped: Vec::new(),
        left_out: Vec::new(),
    }
}

/// Contents of a disk, one line for each partition, without reading allocation maps.
///
/// # Errors
/// The disk cannot be read.
pub fn glance(dev: &dyn ReadAt, size: u64, sector_size: u32) -> io::Result<Vec<String>> {
    let table = match read_table(dev, size, sector_size) {
        Ok(table) => table,
        Err(error) => return Ok(vec![format!("partition table damaged: {error}")]),
    };
    let mut lines: Vec<String> = beside_table(dev, &table)?
        .iter()
        .map(|claim| format!("the whole disk: {} at byte {}", claim.kind, claim.at))
        .collect();
    for area in data_areas(&table, size) {
        let window = Window::new(dev, area.range.start, area.len());
        let fs = identify(&window, area.len())?;
        let several = kinds(&window, area.len())?;
        let kind = match &fs {
            Some(fs) => Some(fs.kind.name().to_owned()),
            None if several.len() > 1 => {
                let names: Vec<&str> = several.iter().map(|kind| kind.name()).collect();
                Some(format!("signatures of {}", names.join(" and ")))
            }
            None if table.kind == TableKind::None => continue,
            None => None,
        };
        lines.push(content_line(
            area.number,
            kind.as_deref(),
            fs.as_ref().and_then(|fs| fs.label.as_deref()),
            area.name.as_deref(),
            area.len(),
        ));
    }
    Ok(lines)
}

/// The partitions of a disk that can hold a file system; empty when it has no readable table.
pub fn partitions(dev: &dyn ReadAt, size: u64, sector_size: u32) -> Vec<PartitionFacts> {
    let table = read_table(dev, size, sector_size).ok();
    let all = table.iter().flat_map(|table| &table.partitions);
    all.filter(|partition| !partition.is_extended())
        .map(|partition| PartitionFacts {
            number: partition.number,
            start: partition.start,
            length: partition.length,
        })
        .collect()
}

/// A range of the disk with one file system: a partition, or the whole of a disk without a table.
struct Area {
    number: u32,
    range: Range<u64>,
    type_id: String,
    unique_id: Option<String>,
    name: Option<String>,
    attributes: u64,
    bootable: bool,
    logical: bool,
}

impl Area {
    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn meta(&self) -> PartitionMeta {
        PartitionMeta {
            number: self.number,
            start: self.range.start,
            length: self.len(),
            type_id: self.type_id.clone(),
            unique_id: self.unique_id.clone(),
            name: self.name.clone(),
            attributes: self.attributes,
            bootable: self.bootable,
            logical: self.logical,
            fs: None,
            used_bytes: 0,
            capture: String::new(),
            reason: None,
            excluded: Vec::new(),
        }
    }
}

fn data_areas(table: &PartitionTable, size: u64) -> Vec<Area> {
    if table.kind == TableKind::None {
        return vec![Area {
            number: 0,
            range: 0..size,
            type_id: "none".into(),
            unique_id: None,
            name: None,
            attributes: 0,
            bootable: false,
            logical: false,
        }];
    }
    table
        .partitions
        .iter()
        .filter(|p| p.kind != PartitionKind::Extended)
        .map(area_of)
        .collect()
}

fn area_of(partition: &Partition) -> Area {
    Area {
        number: partition.number,
        range: partition.start..partition.start.saturating_add(partition.length),
        type_id: match partition.type_id {
            TypeId::Gpt(guid) => guid.to_string(),
            TypeId::Mbr(kind) => format!("{kind:02x}"),
        },
        unique_id: partition.unique.as_ref().map(ToString::to_string),
        name: partition.name.clone().filter(|name| !name.is_empty()),
        attributes: partition.attributes,
        bootable: partition.bootable,
        logical: partition.kind == PartitionKind::Logical,
    }
}

fn numbers(areas: &[Area]) -> String {
    let list: Vec<String> = areas.iter().map(|a| a.number.to_string()).collect();
    if list.is_empty() {
        "none".into()
    } else {
        list.join(", ")
    }
}

fn take_raw(used: &mut ExtentSet, meta: &mut PartitionMeta, range: &Range<u64>, reason: String) {
    used.insert(range.clone());
    meta.used_bytes = range.end - range.start;
    meta.capture = "raw".into();
    meta.reason = Some(reason);
}

/// Zeroes the part of `bytes` (which lie at device offset `at`) that belongs to a table region.
pub(super) fn blank(bytes: &mut [u8], at: u64, region_offset: u64, region_len: usize) {
    let region_end = region_offset.saturating_add(region_len as u64);
    // Positions within `bytes`; one that does not fit a usize is behind its end.
    let within = |place: u64| {
        usize::try_from(place.saturating_sub(at))
            .unwrap_or(usize::MAX)
            .min(bytes.len())
    };
    let (from, to) = (within(region_offset), within(region_end));
    if from < to {
        bytes[from..to].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_sectors_are_blanked_wherever_they_touch_a_buffer() {
        for (at, region, len, expect) in [
            (0u64, 0u64, 2usize, [0u8, 0, 1, 1]),
            (10, 8, 3, [0, 1, 1, 1]),
            (10, 13, 5, [1, 1, 1, 0]),
            (10, 14, 5, [1, 1, 1, 1]),
            (10, 0, 10, [1, 1, 1, 1]),
            (10, 0, 100, [0, 0, 0, 0]),
        ] {
            let mut bytes = [1u8; 4];
            blank(&mut bytes, at, region, len);
            assert_eq!(bytes, expect, "buffer at {at}, region {region}+{len}");
        }
    }

    #[test]
    fn a_disk_of_unknown_bytes_is_taken_whole() {
        let disk = vec![0x5a_u8; 1 << 20];
        let survey = survey(
            &disk,
            &Holes::default(),
            1 << 20,
            512,
            Path::new("disk"),
            &SurveyOptions::default(),
        )
        .unwrap();
        assert_eq!(survey.used.total(), 1 << 20);
        assert_eq!(survey.partitions.len(), 1);
        assert_eq!(survey.partitions[0].capture, "raw");
    }

    #[test]
    fn a_raw_partition_that_does_not_exist_is_refused() {
        let disk = vec![0u8; 1 << 20];
        let options = SurveyOptions {
            raw_partitions: vec![3],
            ..Default::default()
        };
        let holes = Holes::default();
        let error = survey(&disk, &holes, 1 << 20, 512, Path::new("disk"), &options).unwrap_err();
        assert!(matches!(error, DiskError::Refused { .. }), "{error}");
    }
}
