//! One image going onto one disk: the order of writes that `image restore` and every agent share.
//!
//! ```text
//! prepare (nothing written) -> wipe -> ChunkWriter::write, any order, many threads -> commit
//!                                         '-> ReadBack, behind the writers: flush, read, compare -> Proof --^
//! ```
//!
//! Owns that order. What always holds: until `commit` the disk has no partition table and no boot sector, because
//! `wipe` removed them and chunk content has zeros in their place; `commit` is only reachable through a
//! [`Proof`], which only a complete read-back ([`super::readback`]) makes.

#![expect(
    clippy::disallowed_methods,
    reason = "how long a disk takes is measured where it is written"
)]

use super::buffer::{ALIGNMENT, AlignedBuffer};
use super::front::{self, FRONT_BYTES, Front};
use super::journal::Bitmap;
use super::target_disk::TargetDisk;
use super::{Cancelled, DiskError};
use crate::target::DiskFacts;
use diskmap::{CommitPlan, ExtentSet, Grow, Partition, plan_commit, table_from_regions};
use imagefmt::{Codec, Decoder, FormatError, IdKey, Manifest, Root, content_id};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Zero runs at least this long are left to the device's own zeroing; shorter ones are cheaper written.
const ZERO_BY_DEVICE: usize = 256 << 10;

/// Discarded at once: a device that takes its time can be interrupted in between.
const DISCARD_BYTES: u64 = 1 << 30;

/// An image and the disk it goes onto, with the table sectors already worked out.
pub struct Deployment {
    target: TargetDisk,
    manifest: Arc<Manifest>,
    id_key: Option<IdKey>,
    plan: CommitPlan,
    front: Front,
    front_entries: Range<usize>,
}

/// Every chunk was read back and matches the manifest.
pub struct Proof {
    root: Root,
}

impl Proof {
    /// Root computed from what was read back.
    pub fn root(&self) -> Root {
        self.root
    }
}

/// Why a chunk was not written.
#[derive(Debug, thiserror::Error)]
pub enum ChunkFailure {
    /// The bytes offered are not the chunk the manifest promises; nothing was written.
    #[error(transparent)]
    Corrupt(FormatError),
    /// The disk did not take it.
    #[error(transparent)]
    Disk(DiskError),
}

impl Deployment {
    /// Opens the disk and works out what it will look like; refuses what does not fit. Nothing is written.
    ///
    /// A regular file has no sectors of its own: it takes `sector_size`, or those of the image.
    ///
    /// # Errors
    /// As [`TargetDisk::open`]; [`DiskError::DoesNotFit`], or [`DiskError::Refused`] when captured data lies beyond
    /// the disk's end.
    pub fn prepare(
        facts: &DiskFacts,
        sector_size: Option<u32>,
        manifest: Arc<Manifest>,
        id_key: Option<IdKey>,
        grow: Option<Grow>,
    ) -> Result<Self, DiskError> {
        let mut facts = facts.clone();
        if facts.file_backed {
            facts.logical_sector = sector_size.unwrap_or(manifest.geometry.sector_size);
        }
        let target = TargetDisk::open(&facts)?;
        let plan = plan_for(
            &manifest,
            target.path(),
            target.size(),
            target.sector_size(),
            grow,
        )?;
        Ok(Self {
            front: Front::default(),
            front_entries: front::entries(&manifest),
            target,
            manifest,
            id_key,
            plan,
        })
    }

    /// Partitions as they will be, growth included.
    pub fn partitions(&self) -> &[Partition] {
        &self.plan.partitions
    }

    /// Remarks of the planner for the technician.
    pub fn notes(&self) -> &[String] {
        &self.plan.notes
    }

    /// The disk.
    pub fn target(&self) -> &TargetDisk {
        &self.target
    }

    /// The image.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Device bytes that will be written.
    pub fn total_bytes(&self) -> u64 {
        self.manifest.used_bytes()
    }

    /// Makes the disk plainly blank: LBA 0, both partition tables, everything `commit` will write. From here on the
    /// machine does not boot from it until `commit`.
    ///
    /// # Errors
    /// [`DiskError::Write`].
    pub fn wipe(&self) -> Result<(), DiskError> {
        for range in &self.plan.wipe {
            self.target.zero(range.clone())?;
        }
        self.target.flush()
    }

    /// A writer for one thread.
    ///
    /// # Errors
    /// [`ChunkFailure::Corrupt`] when the decompressor has no memory.
    pub fn writer(&self) -> Result<ChunkWriter<'_>, ChunkFailure> {
        let decoder = Decoder::new(self.id_key.clone()).map_err(ChunkFailure::Corrupt)?;
        let chunk = self.manifest.geometry.chunk_size() as usize;
        // The mask of a chunk follows its bytes: 32 to 128 bytes.
        Ok(ChunkWriter {
            deployment: self,
            decoder,
            used: AlignedBuffer::new(chunk + ALIGNMENT),
            disk_time: Duration::ZERO,
        })
    }

    /// Writes are on the medium when this returns.
    ///
    /// # Errors
    /// [`DiskError::Io`] when the device lost a write.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.target.flush()
    }

    /// Entries of the manifest whose chunks begin in the first MiB: [`ChunkWriter`] holds them back.
    pub fn front_entries(&self) -> Range<usize> {
        self.front_entries.clone()
    }

    /// Looks whether the disk holds a chunk of the first MiB already, and keeps it in memory when it does. To be asked
    /// after [`Deployment::wipe`] and before the journal takes the place.
    ///
    /// # Errors
    /// As [`Deployment::read_back`].
    pub fn keep_front(&self, index: usize) -> Result<bool, DiskError> {
        let mut buffer = AlignedBuffer::new(self.manifest.geometry.chunk_size() as usize);
        let kept =
            self.front_entries.contains(&index) && self.read_back(index, buffer.bytes_mut())?;
        if kept {
            let used = usize::try_from(self.entry_bytes(index)).unwrap_or(0);
            self.front
                .hold(index, buffer.bytes().get(..used).unwrap_or_default());
        }
        Ok(kept)
    }

    /// Puts the chunks of the first MiB on the disk, over the journal.
    ///
    /// # Errors
    /// [`DiskError::Write`].
    pub(super) fn write_front(&self) -> Result<(), DiskError> {
        self.front.write(&self.target, &self.manifest)
    }

    /// Device bytes of an entry.
    pub fn entry_bytes(&self, index: usize) -> u64 {
        self.manifest
            .entries
            .get(index)
            .map_or(0, |entry| u64::from(entry.mask.used_bytes()))
    }

    /// Reads the chunk of an entry from the disk, into a buffer of a chunk's size, and says whether it is what the
    /// manifest promises.
    ///
    /// # Errors
    /// [`DiskError::Read`].
    pub fn read_back(&self, index: usize, buffer: &mut [u8]) -> Result<bool, DiskError> {
        let Some(entry) = self.manifest.entries.get(index) else {
            return Ok(false);
        };
        let offset = self.manifest.geometry.chunk_offset(entry.chunk);
        // A mask never counts more bytes than a chunk has, and the buffer holds a chunk.
        let used = &mut buffer[..entry.mask.used_bytes() as usize];
        let mut rest = &mut *used;
        for run in entry.mask.runs() {
            let (part, tail) = rest.split_at_mut((run.end - run.start) as usize);
            self.target.read_at(offset + u64::from(run.start), part)?;
            rest = tail;
        }
        Ok(content_id(self.id_key.as_ref(), &entry.mask, used) == entry.id)
    }

    /// The error for a chunk that was written and reads back as something else.
    pub(super) fn mismatch(&self, index: usize) -> DiskError {
        let geometry = &self.manifest.geometry;
        let (chunk, offset, len) = self.manifest.entries.get(index).map_or((0, 0, 0), |entry| {
            (
                entry.chunk.0,
                geometry.chunk_offset(entry.chunk),
                entry.mask.chunk_len(),
            )
        });
        DiskError::Mismatch {
            path: self.target.path().to_owned(),
            chunk,
            offset,
            end: offset + u64::from(len),
        }
    }

    /// The proof, when every entry is among those that were read back and equal.
    pub(super) fn proof(&self, proven: &Bitmap) -> Result<Proof, DiskError> {
        let entries = &self.manifest.entries;
        let unproven = entries.len() - proven.count();
        // Each of these ids is what was read, compared one by one.
        let ids = entries
            .iter()
            .enumerate()
            .filter(|(index, _)| proven.contains(*index))
            .map(|(_, entry)| (entry.chunk, entry.id));
        let root = self.manifest.root_of(ids);
        if unproven > 0 || root != self.manifest.root() {
            return Err(DiskError::refused(
                format!(
                    "{unproven} of {} chunks were not read back; root {root}, the image's is {}",
                    entries.len(),
                    self.manifest.root()
                ),
                "the disk stays without a partition table; deploy again",
            ));
        }
        Ok(Proof { root })
    }

    /// Tells the device that nothing is stored where the image has nothing, where it listens to that. Answers the
    /// bytes discarded.
    ///
    /// # Errors
    /// [`DiskError::Write`] when the device refuses; nothing is lost by it.
    pub fn discard_free(&self, cancelled: Cancelled) -> Result<u64, DiskError> {
        if !self.target.discards() {
            return Ok(0);
        }
        let geometry = &self.manifest.geometry;
        let mut used = ExtentSet::default();
        used.insert(0..FRONT_BYTES);
        for entry in &self.manifest.entries {
            let offset = geometry.chunk_offset(entry.chunk);
            for run in entry.mask.runs() {
                used.insert(offset + u64::from(run.start)..offset + u64::from(run.end));
            }
        }
        for (offset, bytes) in self.plan.stages.iter().flatten() {
            used.insert(*offset..offset + bytes.len() as u64);
        }
        let mut all = ExtentSet::default();
        all.insert(0..self.target.size());
        let mut discarded = 0;
        for range in all.subtract(&used.aligned_outwards(FRONT_BYTES)).iter() {
            let mut start = range.start;
            while start < range.end {
                if cancelled() {
                    return Err(DiskError::Cancelled);
                }
                let end = range.end.min(start + DISCARD_BYTES);
                self.target.discard(start..end)?;
                discarded += end - start;
                start = end;
            }
        }
        Ok(discarded)
    }

    /// Writes the sectors that make the disk bootable, backup table first and LBA 0 last, with a flush after each
    /// stage, and reads them back.
    ///
    /// # Errors
    /// [`DiskError::Write`], [`DiskError::TableMismatch`].
    pub fn commit(&self, proof: &Proof) -> Result<(), DiskError> {
        // A proof of another deployment would be our own mistake, not the world's.
        assert!(
            proof.root == self.manifest.root(),
            "commit with a proof of another image"
        );
        for stage in &self.plan.stages {
            for (offset, bytes) in stage {
                self.target.write_at(*offset, bytes)?;
            }
            self.target.flush()?;
        }
        let mut read = Vec::new();
        for (offset, bytes) in self.plan.stages.iter().flatten() {
            read.resize(bytes.len(), 0);
            self.target.read_at(*offset, &mut read)?;
            if &read != bytes {
                return Err(DiskError::TableMismatch {
                    path: self.target.path().to_owned(),
                    offset: *offset,
                });
            }
        }
        self.target.reread_partitions();
        Ok(())
    }
}

/// Decodes, checks and writes chunks; one to a thread.
pub struct ChunkWriter<'a> {
    deployment: &'a Deployment,
    decoder: Decoder,
    used: AlignedBuffer,
    disk_time: Duration,
}

impl ChunkWriter<'_> {
    /// Checks the body of entry `index` against the manifest and writes it. Answers the bytes written.
    ///
    /// # Errors
    /// [`ChunkFailure::Corrupt`] before anything was written, [`ChunkFailure::Disk`] otherwise.
    pub fn write(&mut self, index: usize, body: &[u8]) -> Result<u64, ChunkFailure> {
        let manifest = &self.deployment.manifest;
        let Some(entry) = manifest.entries.get(index) else {
            return Err(ChunkFailure::Corrupt(FormatError::LimitExceeded {
                what: "chunk entry",
                value: index as u64,
                limit: manifest.entries.len() as u64,
            }));
        };
        let used = self
            .decoder
            .decode_into(&manifest.geometry, entry, body, self.used.bytes_mut())
            .map_err(ChunkFailure::Corrupt)?;
        let used = self.used.bytes().get(..used).unwrap_or_default();
        if self.deployment.front_entries.contains(&index) {
            self.deployment.front.hold(index, used);
            return Ok(used.len() as u64);
        }
        let offset = manifest.geometry.chunk_offset(entry.chunk);
        let began = Instant::now();
        let mut rest = used;
        for run in entry.mask.runs() {
            let (part, tail) = rest.split_at((run.end - run.start) as usize);
            let at = offset + u64::from(run.start);
            let outcome = if entry.codec == Codec::Zero && part.len() >= ZERO_BY_DEVICE {
                self.deployment.target.zero(at..at + part.len() as u64)
            } else {
                self.deployment.target.write_at(at, part)
            };
            outcome.map_err(ChunkFailure::Disk)?;
            rest = tail;
        }
        self.disk_time += began.elapsed();
        Ok(used.len() as u64)
    }

    /// Time spent waiting for the disk since this was asked last.
    pub fn take_disk_time(&mut self) -> Duration {
        std::mem::take(&mut self.disk_time)
    }
}

/// The table sectors for a disk of this size, or why the image does not go onto it.
///
/// # Errors
/// As [`Deployment::prepare`].
pub fn plan_for(
    manifest: &Manifest,
    path: &Path,
    size: u64,
    sector_size: u32,
    grow: Option<Grow>,
) -> Result<CommitPlan, DiskError> {
    let regions = manifest
        .table
        .iter()
        .map(|region| (region.offset, region.bytes.as_slice()));
    let geometry = manifest.geometry;
    let table = table_from_regions(regions, geometry.disk_size, geometry.sector_size).map_err(
        |source| DiskError::Table {
            path: path.to_owned(),
            source,
        },
    )?;
    let plan =
        plan_commit(&table, size, sector_size, grow).map_err(|source| DiskError::DoesNotFit {
            path: path.to_owned(),
            source,
        })?;
    let needed = manifest
        .entries
        .last()
        .and_then(|entry| Some((entry, entry.mask.runs().last()?)))
        .map_or(0, |(entry, run)| {
            geometry.chunk_offset(entry.chunk) + u64::from(run.end)
        });
    if needed > size {
        return Err(DiskError::refused(
            format!(
                "{} holds {size} bytes, the image has data up to byte {needed}",
                path.display()
            ),
            "use a disk at least as large as the master",
        ));
    }
    Ok(plan)
}

/// `last` or a partition number, as `--grow` and orders write it.
///
/// # Errors
/// Says what was expected.
pub fn parse_grow(text: &str) -> Result<Grow, String> {
    match text {
        "last" => Ok(Grow::Last),
        number => number
            .parse()
            .map(Grow::Number)
            .map_err(|_| "expected `last` or a partition number".into()),
    }
}
