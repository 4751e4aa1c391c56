//! A master disk opened for capture: surveyed, described, its chunks listed; any number of threads
//! may read it.
//!
//! Owns every refusal before the first chunk is read, and reading a chunk in the form an image
//! holds it: used blocks only, table sectors blanked. Shared by the capture on this machine and the
//! one an agent does for a console. Never writes.

use super::exclusive::{self, Claim};
use super::heads::Heads;
use super::holes::Holes;
use super::missing;
use super::source::Source;
use super::survey::{Survey, SurveyOptions, blank, survey};
use super::watch::Watched;
use super::{Cancelled, DiskError, OnProgress, container, device};
use diskmap::usedmap::Excluded;
use diskmap::{TableKind, other_sector_size};
use imagefmt::{ChunkId, Droppable, Encoder, Geometry, Hole, Mask, Meta, Region, SourceDisk};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Number of chunks compressed before the capture starts, to estimate whether the image fits.
const SAMPLES: usize = 16;

/// Options of a master disk: the captured bytes, and their division into chunks.
#[derive(Clone, Debug)]
pub struct MasterOptions {
    /// Options of the survey, which select the captured bytes.
    pub survey: SurveyOptions,
    /// Chunk size as a power of two, 18 to 22.
    pub chunk_log2: u8,
    /// Logical sector size; needed only for a regular file that holds the copy of a
    /// 4096-byte-sector disk.
    pub sector_size: Option<u32>,
}

/// A master disk, opened and surveyed.
#[derive(Debug)]
pub struct MasterDisk {
    claim: Claim,
    heads: Heads,
    source: Source,
    path: PathBuf,
    geometry: Geometry,
    survey: Survey,
    chunks: Vec<(ChunkId, Mask)>,
    meta: Meta,
}

impl MasterDisk {
    /// Opens and surveys the disk at `path`; `progress` gets the number of bytes read for the
    /// survey. `created` and `note` of its description are empty.
    ///
    /// # Errors
    /// Every error of [`survey`]; [`DiskError::InUse`] for a mounted disk; [`DiskError::Refused`]
    /// for a sector size it does not have; [`DiskError::Cancelled`].
    pub fn open(
        path: &Path,
        options: &MasterOptions,
        progress: OnProgress,
        cancelled: Cancelled,
    ) -> Result<Self, DiskError> {
        let claim = Claim::take(path)?;
        let facts = device::describe(path)?;
        if facts.size == 0 {
            return Err(DiskError::refused(
                format!("{} is empty: it has 0 bytes", path.display()),
                "name a disk, or a file that holds one",
            ));
        }
        if !options.survey.raw {
            container::refuse_source(path, claim.file(), facts.size)?;
        }
        let sector_size = options.sector_size.unwrap_or(facts.logical_sector);
        if !facts.file_backed && sector_size != facts.logical_sector {
            return Err(DiskError::refused(
                format!(
                    "{} has sectors of {} bytes, not {sector_size}",
                    path.display(),
                    facts.logical_sector
                ),
                "leave out --sector-size for a real disk",
            ));
        }
        if facts.file_backed && facts.size % u64::from(sector_size.max(1)) != 0 {
            let file = path.display();
            return Err(DiskError::refused(
                format!(
                    "{file} has {} bytes, which are no whole sectors of {sector_size}: a copy that was cut off",
                    facts.size
                ),
                format!(
                    "copy the disk again; to go on with this one add the rest of its last sector as zeros \
                     (truncate --size=%{sector_size} {file})"
                ),
            ));
        }
        let geometry = Geometry::new(facts.size, sector_size, options.chunk_log2)
            .map_err(|error| DiskError::image(path, error))?;
        if options.sector_size.is_none() && !options.survey.raw {
            refuse_other_sectors(path, claim.file(), facts.size, sector_size)?;
        }
        let holes = if facts.file_backed {
            Holes::of_file(claim.file(), facts.size)
        } else {
            Holes::default()
        };
        let rescue = options.survey.rescue;
        let mut source = Source::new(claim.file(), path, facts.size, sector_size, rescue)
            .map_err(|e| DiskError::io("opening", path, e))?;
        if !options.survey.raw
            && let Ok(table) = diskmap::read_table(&source, facts.size, sector_size)
        {
            source.knows(&table);
        }
        let watched = Watched::new(&source, progress, cancelled);
        let survey = survey(
            &watched,
            &holes,
            facts.size,
            sector_size,
            path,
            &options.survey,
        );
        if watched.is_stopped() {
            return Err(DiskError::Cancelled);
        }
        let mut survey = survey.map_err(|error| located(error, &source))?;
        let excluded = survey.partitions.iter().flat_map(|part| &part.excluded);
        let bad = excluded.filter(|range| range.what == Excluded::BAD);
        source.surveyed(
            bad.map(|range| range.start..range.start.saturating_add(range.length))
                .collect(),
        );
        survey.warnings.extend_from_slice(claim.notes());
        let heads = Heads::read(claim.file(), facts.size, &survey.partitions);
        let meta = Meta {
            tool: concat!("diskcast ", env!("CARGO_PKG_VERSION")).into(),
            source: SourceDisk {
                path: facts.path.clone(),
                model: facts.model.clone().unwrap_or_default(),
                serial: facts.serial.clone().unwrap_or_default(),
                size: facts.size,
                logical_sector: sector_size,
                physical_sector: facts.physical_sector.max(sector_size),
            },
            table_kind: match survey.table.kind {
                TableKind::Gpt => "gpt",
                TableKind::Mbr => "mbr",
                TableKind::None => "none",
            }
            .into(),
            partitions: survey.partitions.clone(),
            droppable: survey
                .leftovers
                .iter()
                .map(|range| Droppable {
                    start: range.start,
                    length: range.end - range.start,
                })
                .collect(),
            warnings: survey.warnings.clone(),
            left_out: survey.left_out.clone(),
            ..Meta::default()
        };
        Ok(Self {
            chunks: chunks(&survey, &geometry),
            heads,
            source,
            claim,
            path: path.to_owned(),
            geometry,
            survey,
            meta,
        })
    }

    /// Checks that the disk is the same as when it was opened; called after everything was read.
    ///
    /// # Errors
    /// [`DiskError::Refused`] when its size, its time or the head of one of its file systems
    /// changed.
    pub fn confirm_unchanged(&self) -> Result<(), DiskError> {
        self.claim.check()?;
        let now = Heads::read(
            self.claim.file(),
            self.geometry.disk_size,
            &self.survey.partitions,
        );
        match self.heads.difference(&now) {
            None => Ok(()),
            Some(what) => Err(exclusive::changed(
                &self.path,
                &format!("{what} is another now"),
            )),
        }
    }

    /// The error of a failed read. One behind the end means that the disk became shorter since it
    /// was surveyed.
    fn read_error(&self, at: u64, source: io::Error) -> DiskError {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return DiskError::Shrunk {
                path: self.path.clone(),
                end: self.geometry.disk_size,
            };
        }
        let path = self.path.clone();
        match self.source.failed_at() {
            Some(offset) => DiskError::Unreadable {
                path,
                offset,
                place: missing::place(&self.meta, offset),
                source,
            },
            None => DiskError::Read {
                path,
                offset: at,
                source,
            },
        }
    }

    /// Ranges that could not be read so far; empty without `--rescue`.
    pub fn holes(&self) -> Vec<Hole> {
        missing::listed(self.source.holes())
    }

    /// Path of the device or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sizes of disk, sectors and chunks.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The description of the disk for the image.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Chunks with content, with their masks, in device order.
    pub fn chunks(&self) -> &[(ChunkId, Mask)] {
        &self.chunks
    }

    /// Number of device bytes that the image will hold.
    pub fn used_bytes(&self) -> u64 {
        let used = |(_, mask): &(ChunkId, Mask)| u64::from(mask.used_bytes());
        self.chunks.iter().map(used).sum()
    }

    /// Sectors of the partition table.
    pub fn regions(&self) -> Vec<Region> {
        let regions = self.survey.table.regions.iter();
        regions
            .map(|region| Region {
                offset: region.offset,
                bytes: region.bytes.clone(),
            })
            .collect()
    }

    /// One hash over the results of the survey: size, table, description, and the set of used
    /// blocks. It stays the same for the same disk until any of that changes.
    ///
    /// # Errors
    /// [`DiskError::Image`] for a description beyond the limits of an image.
    pub fn digest(&self) -> Result<blake3::Hash, DiskError> {
        // The path may change with a restart; model, serial number and size identify the disk.
        let mut meta = self.meta.clone();
        meta.source.path.clear();
        let json = meta
            .to_json(&self.geometry)
            .map_err(|error| DiskError::image(&self.path, error))?;
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(&self.geometry.disk_size.to_le_bytes());
        part(&self.geometry.sector_size.to_le_bytes());
        part(&[self.geometry.chunk_log2]);
        part(&json);
        for region in &self.survey.table.regions {
            part(&region.offset.to_le_bytes());
            part(&region.bytes);
        }
        for (chunk, mask) in &self.chunks {
            part(&chunk.0.to_le_bytes());
            part(&mask.to_bytes());
        }
        Ok(hasher.finalize())
    }

    /// Estimates the image's size in bytes: a few chunks spread over the disk are read and
    /// compressed.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn estimate(&self, level: i32) -> Result<u64, DiskError> {
        let bad = |error| DiskError::image(&self.path, error);
        let mut encoder = Encoder::new(level, None).map_err(bad)?;
        let mut buffer = Vec::new();
        let (mut plain, mut stored) = (0u64, 0u64);
        let step = (self.chunks.len() / SAMPLES).max(1);
        for (index, (_, mask)) in self.chunks.iter().enumerate().step_by(step) {
            self.read_chunk(index, &mut buffer)?;
            let body = encoder.encode(mask, &buffer).map_err(bad)?;
            plain += buffer.len() as u64;
            stored += body.bytes.len() as u64;
        }
        let expected =
            u128::from(self.used_bytes()) * u128::from(stored) / u128::from(plain.max(1));
        Ok(u64::try_from(expected).unwrap_or(u64::MAX))
    }

    /// Reads the used blocks of the chunk at index `index` of [`MasterDisk::chunks`], table sectors
    /// blanked.
    ///
    /// # Errors
    /// [`DiskError::Read`].
    pub fn read_chunk(&self, index: usize, buffer: &mut Vec<u8>) -> Result<(), DiskError> {
        buffer.clear();
        let Some((chunk, mask)) = self.chunks.get(index) else {
            return Ok(());
        };
        let base = self.geometry.chunk_offset(*chunk);
        buffer.resize(mask.used_bytes() as usize, 0);
        let mut rest = buffer.as_mut_slice();
        for run in mask.runs() {
            let (part, tail) = rest.split_at_mut((run.end - run.start) as usize);
            let at = base + u64::from(run.start);
            self.source
                .read(at, part)
                .map_err(|source| self.read_error(at, source))?;
            for region in &self.survey.table.regions {
                blank(part, at, region.offset, region.bytes.len());
            }
            for range in &self.survey.dropped {
                let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                blank(part, at, range.start, length);
            }
            rest = tail;
        }
        Ok(())
    }
}

/// Refuses a disk whose content was written for another sector size than the disk has, or than a
/// file is assumed to have.
pub(super) fn refuse_other_sectors(
    path: &Path,
    file: &File,
    size: u64,
    assumed: u32,
) -> Result<(), DiskError> {
    let found = other_sector_size(file, size, assumed).map_err(|source| DiskError::Read {
        path: path.to_owned(),
        offset: 0,
        source,
    })?;
    match found {
        None => Ok(()),
        Some(found) => Err(DiskError::refused(
            format!(
                "{} was partitioned in sectors of {found} bytes and is looked at in sectors of {assumed}",
                path.display()
            ),
            format!(
                "for a file say --sector-size {found}; a real disk shows its own sectors without the adapter it hangs on; \
                 --sector-size {assumed} insists"
            ),
        )),
    }
}

/// Adds the unreadable byte to an error of a survey.
fn located(error: DiskError, source: &Source) -> DiskError {
    match (error, source.failed_at()) {
        (
            DiskError::Read {
                path,
                source: cause,
                ..
            },
            Some(offset),
        ) => DiskError::Unreadable {
            path,
            offset,
            place: "while looking for what is used".into(),
            source: cause,
        },
        (error, _) => error,
    }
}

fn chunks(survey: &Survey, geometry: &Geometry) -> Vec<(ChunkId, Mask)> {
    let mut chunks: Vec<(ChunkId, Mask)> = Vec::new();
    let size = u64::from(geometry.chunk_size());
    for extent in survey.used.iter() {
        let mut at = extent.start;
        while at < extent.end {
            let Some(chunk) = geometry.chunk_at(at) else {
                break;
            };
            let base = geometry.chunk_offset(chunk);
            let end = extent.end.min(base + size);
            if chunks.last().is_none_or(|(last, _)| *last != chunk) {
                chunks.push((chunk, Mask::empty(geometry.chunk_len(chunk))));
            }
            if let (Some((_, mask)), Ok(from), Ok(to)) = (
                chunks.last_mut(),
                u32::try_from(at - base),
                u32::try_from(end - base),
            ) {
                mask.set_range(from..to);
            }
            at = end;
        }
    }
    chunks
}
