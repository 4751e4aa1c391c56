//! One image going onto one disk: the order of writes that `image restore` and every agent share.
//!
//! ```text
//! prepare (nothing written) -> wipe -> ChunkWriter::write, any order, many threads -> flush -> verify -> commit
//! ```
//!
//! Owns that order. What always holds: until `commit` the disk has no partition table and no boot sector, because
//! `wipe` removed them and chunk content has zeros in their place; `commit` is only reachable through a
//! [`Proof`], which only a complete read-back makes.

use super::buffer::{ALIGNMENT, AlignedBuffer};
use super::target_disk::TargetDisk;
use super::{Cancelled, DiskError, OnProgress};
use crate::target::DiskFacts;
use diskmap::{CommitPlan, Grow, Partition, plan_commit, table_from_regions};
use imagefmt::{Codec, ContentId, Decoder, Entry, FormatError, IdKey, Manifest, Root, content_id};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Zero runs at least this long are left to the device's own zeroing; shorter ones are cheaper written.
const ZERO_BY_DEVICE: usize = 256 << 10;

/// An image and the disk it goes onto, with the table sectors already worked out.
pub struct Deployment {
    target: TargetDisk,
    manifest: Arc<Manifest>,
    id_key: Option<IdKey>,
    plan: CommitPlan,
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
        })
    }

    /// Writes are on the medium when this returns.
    ///
    /// # Errors
    /// [`DiskError::Io`] when the device lost a write.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.target.flush()
    }

    /// Reads every chunk back from the disk and compares it with the manifest, on `threads` threads.
    ///
    /// # Errors
    /// [`DiskError::Mismatch`] with the chunk, [`DiskError::Read`], [`DiskError::Cancelled`].
    pub fn verify(
        &self,
        threads: usize,
        progress: OnProgress,
        cancelled: Cancelled,
    ) -> Result<Proof, DiskError> {
        let total = self.total_bytes();
        let done = AtomicU64::new(0);
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<DiskError>> = Mutex::new(None);
        let mut ids: Vec<(imagefmt::ChunkId, ContentId)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads.max(1))
                .map(|_| {
                    scope.spawn(|| {
                        let mut ids = Vec::new();
                        let mut buffer =
                            AlignedBuffer::new(self.manifest.geometry.chunk_size() as usize);
                        while let Some(entry) = self
                            .manifest
                            .entries
                            .get(next.fetch_add(1, Ordering::Relaxed))
                        {
                            if cancelled() {
                                record(&failure, DiskError::Cancelled);
                            }
                            if is_set(&failure) {
                                break;
                            }
                            match self.verify_chunk(entry, buffer.bytes_mut()) {
                                Ok(id) => ids.push((entry.chunk, id)),
                                Err(error) => record(&failure, error),
                            }
                            let bytes = u64::from(entry.mask.used_bytes());
                            progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
                        }
                        ids
                    })
                })
                .collect();
            workers
                .into_iter()
                .flat_map(|worker| worker.join().unwrap_or_default())
                .collect()
        });
        if let Some(error) = failure
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
        {
            return Err(error);
        }
        ids.sort_unstable_by_key(|(chunk, _)| *chunk);
        let root = self.manifest.root_of(ids.iter().copied());
        if root != self.manifest.root() {
            return Err(DiskError::refused(
                format!(
                    "read-back root {root} is not the image's {}",
                    self.manifest.root()
                ),
                "the disk stays without a partition table; deploy again",
            ));
        }
        Ok(Proof { root })
    }

    /// Reads one chunk back and compares it.
    fn verify_chunk(&self, entry: &Entry, buffer: &mut [u8]) -> Result<ContentId, DiskError> {
        let offset = self.manifest.geometry.chunk_offset(entry.chunk);
        // A mask never counts more bytes than a chunk has, and the buffer holds a chunk.
        let used = &mut buffer[..entry.mask.used_bytes() as usize];
        let mut rest = &mut *used;
        for run in entry.mask.runs() {
            let (part, tail) = rest.split_at_mut((run.end - run.start) as usize);
            self.target.read_at(offset + u64::from(run.start), part)?;
            rest = tail;
        }
        let id = content_id(self.id_key.as_ref(), &entry.mask, used);
        if id == entry.id {
            return Ok(id);
        }
        Err(DiskError::Mismatch {
            path: self.target.path().to_owned(),
            chunk: entry.chunk.0,
            offset,
            end: offset + u64::from(entry.mask.chunk_len()),
        })
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
        let offset = manifest.geometry.chunk_offset(entry.chunk);
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
        Ok(used.len() as u64)
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

fn record(slot: &Mutex<Option<DiskError>>, error: DiskError) {
    slot.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .get_or_insert(error);
}

fn is_set(slot: &Mutex<Option<DiskError>>) -> bool {
    slot.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .is_some()
}
