//! Writes one image to one disk: the order of writes that `image restore` and every agent share.
//!
//! ```text
//! prepare (nothing written) -> wipe -> ChunkWriter::write, any order, many threads -> commit
//!                                         '-> ReadBack, behind the writers: flush, read, compare -> Proof --^
//! ```
//!
//! Owns that order. Always holds: until `commit` the disk has no partition table and no boot
//! sector, because `wipe` removed them and chunk content has zeros in their place; `commit` needs a
//! [`Proof`], which only a complete read-back ([`super::readback`]) makes. If one partition goes
//! onto another, the disk's own table stays, and the partition has no file system until everything
//! else of it was read back.

mod chunk_writer;

pub use chunk_writer::{ChunkFailure, ChunkWriter};

use super::buffer::AlignedBuffer;
use super::choice::root_of;
use super::fit::{Disk, Fit, Fitted, fitted};
use super::front::{self, FRONT_BYTES, Front};
use super::journal::{self, Bitmap};
use super::remains;
use super::spans::spans;
use super::target_disk::TargetDisk;
use super::{Cancelled, DiskError};
use diskmap::{
    ExtentSet, Partition, boot_sector_copy, boot_sector_is_last_too, relocate_boot_sector,
};
use facts::target::DiskFacts;
use imagefmt::{Entry, IdKey, Manifest, Root, content_id};
use std::ops::Range;
use std::sync::Arc;

/// Bytes in one read of ranges that became zero.
const BLANK_READ_BYTES: usize = 1 << 20;

/// Bytes in one discard, so that a slow device can be interrupted in between.
const DISCARD_BYTES: u64 = 1 << 30;

/// An image and its target disk, with the final table sectors computed.
pub struct Deployment {
    target: TargetDisk,
    manifest: Arc<Manifest>,
    id_key: Option<IdKey>,
    fitted: Fitted,
    /// The root to be proven.
    root: Root,
    front: Front,
    front_entries: Range<usize>,
    /// Bytes of the target that the image and its table write.
    written: ExtentSet,
    /// Bytes of the target that are zeroed, so that no signature of its former content is found
    /// there.
    blank: ExtentSet,
}

/// Proof that every wanted chunk was read back and matches the manifest.
pub struct Proof {
    root: Root,
}

impl Proof {
    /// The root computed from the bytes read back.
    pub fn root(&self) -> Root {
        self.root
    }
}

impl Deployment {
    /// Opens the disk and computes its final layout. Nothing is written.
    ///
    /// # Errors
    /// The errors of [`TargetDisk::open`]; [`DiskError::DoesNotFit`], or [`DiskError::Refused`]
    /// when captured data lies beyond the disk's end, or the image or the disk has no such
    /// partition.
    pub fn prepare(
        facts: &DiskFacts,
        manifest: Arc<Manifest>,
        id_key: Option<IdKey>,
        fit: &Fit,
    ) -> Result<Self, DiskError> {
        let mut facts = facts.clone();
        if facts.file_backed {
            facts.logical_sector = fit.sector_size.unwrap_or(manifest.geometry.sector_size);
        }
        let target = TargetDisk::open(&facts)?;
        let disk = Disk {
            path: target.path(),
            size: target.size(),
            sector_size: target.sector_size(),
        };
        let fitted = fitted(&manifest, disk, fit)?;
        let written = written(&manifest, &fitted);
        let blank = remains::of(&remains::Target {
            size: target.size(),
            partitions: &fitted.plan.partitions,
            onto: fitted.onto.as_ref(),
            written: &written,
        });
        Ok(Self {
            written,
            blank,
            front: Front::default(),
            front_entries: front::entries(&manifest, &fitted.place),
            root: root_of(&manifest, &fitted.wanted),
            target,
            manifest,
            id_key,
            fitted,
        })
    }

    /// The final partitions, growth included.
    pub fn partitions(&self) -> &[Partition] {
        &self.fitted.plan.partitions
    }

    /// Notes of the planner for the technician.
    pub fn notes(&self) -> &[String] {
        &self.fitted.plan.notes
    }

    /// The target disk.
    pub fn target(&self) -> &TargetDisk {
        &self.target
    }

    /// The manifest of the image.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Number of device bytes to write.
    pub fn total_bytes(&self) -> u64 {
        (0..self.manifest.entries.len())
            .map(|index| self.entry_bytes(index))
            .sum()
    }

    /// True when an entry belongs to the chosen part.
    pub fn wants(&self, index: usize) -> bool {
        self.fitted.wanted.contains(index)
    }

    /// True when the first MiB of the disk may hold a journal, which is not so if the disk keeps
    /// its table.
    pub fn keeps_journal(&self) -> bool {
        self.fitted.onto.is_none()
    }

    /// Blanks the disk: LBA 0, both partition tables, and everything `commit` will write. Of a
    /// partition that is overwritten it blanks the first MiB. Also removed are signatures of former
    /// file systems that the image would leave ([`super::remains`]). From here on the machine does
    /// not boot from the disk until `commit`.
    ///
    /// # Errors
    /// [`DiskError::Write`].
    pub fn wipe(&self) -> Result<(), DiskError> {
        self.hide()?;
        let mut blank = self.blank.clone();
        // The journal of an earlier agent is still useful; it becomes zero with the first MiB.
        if let Some(area) = self.journal_area() {
            blank.remove(area);
        }
        for range in blank.iter() {
            self.target.zero(range)?;
        }
        self.target.flush()
    }

    /// Removes the table, the boot sector and the front of a partition.
    fn hide(&self) -> Result<(), DiskError> {
        for range in &self.fitted.plan.wipe {
            self.target.zero(range.clone())?;
        }
        self.target.flush()
    }

    /// Bytes of the target for a journal; `None` when the disk keeps its table or is too small.
    fn journal_area(&self) -> Option<Range<u64>> {
        journal::area(self.target.size()).filter(|_| self.keeps_journal())
    }

    /// Reads back the ranges that became zero.
    ///
    /// # Errors
    /// [`DiskError::NotBlank`] with the first byte that is not zero, [`DiskError::Read`].
    pub(super) fn prove_blank(&self, cancelled: Cancelled) -> Result<(), DiskError> {
        self.target.flush()?;
        let mut buffer = AlignedBuffer::new(BLANK_READ_BYTES);
        for range in self.blank.iter() {
            let mut at = range.start;
            while at < range.end {
                if cancelled() {
                    return Err(DiskError::Cancelled);
                }
                let len = usize::try_from(range.end - at)
                    .map_or(BLANK_READ_BYTES, |left| left.min(BLANK_READ_BYTES));
                let bytes = &mut buffer.bytes_mut()[..len];
                self.target.read_at(at, bytes)?;
                if let Some(wrong) = bytes.iter().position(|byte| *byte != 0) {
                    return Err(DiskError::NotBlank {
                        path: self.target.path().to_owned(),
                        offset: at + wrong as u64,
                    });
                }
                at += len as u64;
            }
        }
        Ok(())
    }

    /// Returns once all writes are on the medium.
    ///
    /// # Errors
    /// [`DiskError::Io`] when the device lost a write.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.target.flush()
    }

    /// Entries of the manifest whose chunks begin in the first MiB; [`ChunkWriter`] holds them
    /// back.
    pub fn front_entries(&self) -> Range<usize> {
        self.front_entries.clone()
    }

    /// Checks whether the disk holds a chunk of the first MiB already, and if so keeps it in
    /// memory. Called after [`Deployment::wipe`] and before the journal overwrites the place.
    ///
    /// # Errors
    /// The errors of [`Deployment::read_back`].
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

    /// Writes the chunks of the first MiB to the disk, over the journal.
    ///
    /// # Errors
    /// [`DiskError::Write`].
    pub(super) fn write_front(&self) -> Result<(), DiskError> {
        if let Some(area) = self.journal_area() {
            self.target.zero(area)?;
        }
        self.front.write(
            &self.target,
            &self.manifest,
            &self.fitted.place,
            self.front_entries(),
        )
    }

    /// Device bytes of an entry; 0 for one that is not wanted.
    pub fn entry_bytes(&self, index: usize) -> u64 {
        self.manifest
            .entries
            .get(index)
            .filter(|_| self.wants(index))
            .map_or(0, |entry| u64::from(entry.mask.used_bytes()))
    }

    /// The used bytes of an entry, run by run: the number of bytes, and their range on the master
    /// disk.
    fn runs<'e>(&self, entry: &'e Entry) -> impl Iterator<Item = (usize, Range<u64>)> + use<'e> {
        let offset = self.manifest.geometry.chunk_offset(entry.chunk);
        entry.mask.runs().map(move |run| {
            let bytes = offset + u64::from(run.start)..offset + u64::from(run.end);
            ((run.end - run.start) as usize, bytes)
        })
    }

    /// True when an entry has bytes without a place on the target, which belong to its neighbours.
    fn reaches_out(&self, entry: &Entry) -> bool {
        self.runs(entry)
            .any(|(_, run)| !self.fitted.place.holds(&run))
    }

    /// Reads the chunk of an entry from the disk, into a buffer of a chunk's size; true when it
    /// matches the manifest.
    ///
    /// # Errors
    /// [`DiskError::Read`].
    pub fn read_back(&self, index: usize, buffer: &mut [u8]) -> Result<bool, DiskError> {
        let Some(entry) = self.manifest.entries.get(index) else {
            return Ok(false);
        };
        // A mask never counts more bytes than a chunk has, and the buffer holds a chunk.
        let count = entry.mask.used_bytes() as usize;
        if self.reaches_out(entry) {
            if !self.front.copy(index, &mut buffer[..count]) {
                return Ok(false);
            }
            self.read_runs(entry, &mut buffer[..count])?;
        } else {
            self.read_spans(entry, buffer)?;
        }
        let used = &buffer[..count];
        Ok(content_id(self.id_key.as_ref(), &entry.mask, used) == entry.id)
    }

    /// Reads those used bytes of an entry that have a place on the target, run by run. The other
    /// bytes of `used` stay as they are.
    fn read_runs(&self, entry: &Entry, used: &mut [u8]) -> Result<(), DiskError> {
        let mut rest = used;
        for (len, run) in self.runs(entry) {
            let (bytes, tail) = rest.split_at_mut(len);
            rest = tail;
            if let Some((part, at)) = self.fitted.place.of(run)
                && let Some(bytes) = bytes.get_mut(part)
            {
                self.target.read_at(at, bytes)?;
            }
        }
        Ok(())
    }

    /// Reads the used bytes of an entry that lies completely on the target, in few large requests,
    /// and moves them together.
    fn read_spans(&self, entry: &Entry, buffer: &mut [u8]) -> Result<(), DiskError> {
        let offset = self.manifest.geometry.chunk_offset(entry.chunk);
        for span in spans(entry.mask.runs()) {
            let range = offset + u64::from(span.start)..offset + u64::from(span.end);
            if let Some((_, at)) = self.fitted.place.of(range)
                && let Some(bytes) = buffer.get_mut(span.start as usize..span.end as usize)
            {
                self.target.read_at(at, bytes)?;
            }
        }
        let mut filled = 0;
        for run in entry.mask.runs() {
            let (start, end) = (run.start as usize, run.end as usize);
            buffer.copy_within(start..end, filled);
            filled += end - start;
        }
        Ok(())
    }

    /// The error for a chunk whose read-back differs from the bytes written.
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

    /// Makes the proof if every wanted entry was read back and equal.
    pub(super) fn proof(&self, proven: &Bitmap) -> Result<Proof, DiskError> {
        let entries = &self.manifest.entries;
        let wanted = (0..entries.len()).filter(|index| self.wants(*index));
        let unproven = wanted.filter(|index| !proven.contains(*index)).count();
        // Each of these ids was computed from the bytes read, and compared.
        let ids = entries
            .iter()
            .enumerate()
            .filter(|(index, _)| self.wants(*index) && proven.contains(*index))
            .map(|(_, entry)| (entry.chunk, entry.id));
        let root = self.manifest.root_of(ids);
        if unproven > 0 || root != self.root {
            return Err(DiskError::refused(
                format!(
                    "{unproven} of {} chunks were not read back; root {root}, the image's is {}",
                    self.fitted.wanted.count(),
                    self.root
                ),
                "nothing of it starts as it is; deploy again",
            ));
        }
        Ok(Proof { root })
    }

    /// Tells a device that accepts discards which bytes the image does not use. Returns the number
    /// of bytes discarded.
    ///
    /// # Errors
    /// [`DiskError::Write`] when the device refuses; no data is lost then.
    pub fn discard_free(&self, cancelled: Cancelled) -> Result<u64, DiskError> {
        if !self.target.discards() {
            return Ok(0);
        }
        // Reads of discarded bytes are undefined, so no proven byte may be among them.
        let mut used = self.written.union(&self.blank);
        let mut all = ExtentSet::default();
        match &self.fitted.onto {
            Some(onto) => {
                all.insert(onto.clone());
                used.insert(onto.start..onto.start + FRONT_BYTES);
            }
            None => {
                all.insert(0..self.target.size());
                used.insert(0..FRONT_BYTES);
            }
        }
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

    /// Writes the sectors that make the disk bootable, backup table first and LBA 0 last, with a
    /// flush after each stage, and reads them back.
    ///
    /// # Errors
    /// [`DiskError::Write`], [`DiskError::TableMismatch`].
    pub fn commit(&self, proof: &Proof) -> Result<(), DiskError> {
        // A proof of another deployment would be our own mistake, not the world's.
        assert!(
            proof.root == self.root,
            "commit with a proof of another image"
        );
        if let Some(onto) = &self.fitted.onto {
            self.relocate(onto)?;
        }
        for stage in &self.fitted.plan.stages {
            for (offset, bytes) in stage {
                self.target.write_at(*offset, bytes)?;
            }
            self.target.flush()?;
        }
        let mut read = Vec::new();
        for (offset, bytes) in self.fitted.plan.stages.iter().flatten() {
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

    /// Corrects the start of the partition in a file system that records it in its boot sector and
    /// a copy of that. Runs after the proof, because these bytes then differ from the image's.
    fn relocate(&self, onto: &Range<u64>) -> Result<(), DiskError> {
        let (start, end) = (onto.start, onto.end);
        let sector_size = u64::from(self.target.sector_size());
        let lba = start / sector_size;
        let mut first = vec![0; self.target.sector_size() as usize];
        self.target.read_at(start, &mut first)?;
        let copy = boot_sector_copy(&first).map(|copy| start.saturating_add(copy));
        if relocate_boot_sector(&mut first, lba) {
            self.target.write_at(start, &first)?;
        }
        if let Some(at) = copy.filter(|at| at.saturating_add(sector_size) <= end) {
            let mut second = vec![0; first.len()];
            self.target.read_at(at, &mut second)?;
            if relocate_boot_sector(&mut second, lba) {
                self.target.write_at(at, &second)?;
            }
        }
        if boot_sector_is_last_too(&first) {
            self.target.write_at(end - sector_size, &first)?;
        }
        self.target.flush()
    }

    /// Removes the file system again that was written onto a partition, after a later step failed.
    /// A disk whose table is not written needs nothing of the kind.
    ///
    /// # Errors
    /// [`DiskError::Write`].
    pub fn give_up(&self) -> Result<(), DiskError> {
        match self.fitted.onto {
            Some(_) => self.hide(),
            None => Ok(()),
        }
    }
}

/// Bytes of the target that data and table are written to.
fn written(manifest: &Manifest, fitted: &Fitted) -> ExtentSet {
    let mut written = ExtentSet::new();
    for (index, entry) in manifest.entries.iter().enumerate() {
        if !fitted.wanted.contains(index) {
            continue;
        }
        let offset = manifest.geometry.chunk_offset(entry.chunk);
        for run in entry.mask.runs() {
            let run = offset + u64::from(run.start)..offset + u64::from(run.end);
            if let Some((part, at)) = fitted.place.of(run) {
                written.insert(at..at + part.len() as u64);
            }
        }
    }
    for (offset, bytes) in fitted.plan.stages.iter().flatten() {
        written.insert(*offset..offset + bytes.len() as u64);
    }
    written
}
