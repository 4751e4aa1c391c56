//! Writes chunks of an image to a disk: each is decoded, checked against the manifest, and written
//! to its place.
//!
//! Owns one thread's decompressor and buffers. Always holds: no byte of a chunk is written before
//! all of it matches the manifest; bytes of the first MiB, and bytes that belong to a neighbour, go
//! to memory and not to the disk.

#![expect(
    clippy::disallowed_methods,
    reason = "how long a disk takes is measured where it is written"
)]

use super::Deployment;
use crate::DiskError;
use crate::buffer::{ALIGNMENT, AlignedBuffer};
use crate::spans::spans;
use imagefmt::{Codec, Decoder, FormatError};
use std::time::{Duration, Instant};

/// Shortest run of zeros, in bytes, that the device zeroes by itself; shorter ones are faster to
/// write.
const ZERO_BY_DEVICE: usize = 256 << 10;

/// The reason a chunk was not written.
#[derive(Debug, thiserror::Error)]
pub enum ChunkFailure {
    /// The bytes do not match the manifest; nothing was written.
    #[error(transparent)]
    Corrupt(FormatError),
    /// The disk failed to write.
    #[error(transparent)]
    Disk(DiskError),
}

impl Deployment {
    /// Makes a writer for one thread.
    ///
    /// # Errors
    /// [`ChunkFailure::Corrupt`] when the decompressor gets no memory.
    pub fn writer(&self) -> Result<ChunkWriter<'_>, ChunkFailure> {
        let decoder = Decoder::new(self.id_key.clone()).map_err(ChunkFailure::Corrupt)?;
        let chunk = self.manifest.geometry.chunk_size() as usize;
        // The mask of a chunk follows its bytes: 32 to 128 bytes.
        Ok(ChunkWriter {
            deployment: self,
            decoder,
            used: AlignedBuffer::new(chunk + ALIGNMENT),
            spread: AlignedBuffer::new(chunk),
            disk_time: Duration::ZERO,
        })
    }
}

/// Decodes, checks and writes chunks; one for each thread.
pub struct ChunkWriter<'a> {
    deployment: &'a Deployment,
    decoder: Decoder,
    used: AlignedBuffer,
    /// Runs at their places, with zeros between them.
    spread: AlignedBuffer,
    disk_time: Duration,
}

impl ChunkWriter<'_> {
    /// Checks the body of entry `index` against the manifest and writes its chosen bytes. Returns
    /// the number of bytes written.
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
        manifest
            .refuse_table_bytes(entry, used)
            .map_err(ChunkFailure::Corrupt)?;
        let deployment = self.deployment;
        let is_front = deployment.front_entries.contains(&index);
        if is_front || deployment.reaches_out(entry) {
            deployment.front.hold(index, used);
        }
        if is_front {
            return Ok(used.len() as u64);
        }
        let began = Instant::now();
        let offset = manifest.geometry.chunk_offset(entry.chunk);
        let mut runs = entry.mask.runs().peekable();
        let mut rest = used;
        for span in spans(entry.mask.runs()) {
            // Spans without free blocks are written directly; in others the free blocks are filled
            // with zeros.
            let mut filled = span.start;
            let mut joined = None;
            while let Some(run) = runs.next_if(|run| run.end <= span.end) {
                let (bytes, tail) = rest.split_at((run.end - run.start) as usize);
                rest = tail;
                if run == span {
                    joined = Some(bytes);
                    break;
                }
                let place = &mut self.spread.bytes_mut()[..span.end as usize];
                place[filled as usize..run.start as usize].fill(0);
                place[run.start as usize..run.end as usize].copy_from_slice(bytes);
                filled = run.end;
            }
            let bytes = match joined {
                Some(bytes) => bytes,
                None => &self.spread.bytes()[span.start as usize..span.end as usize],
            };
            let range = offset + u64::from(span.start)..offset + u64::from(span.end);
            let Some((part, at)) = deployment.fitted.place.of(range) else {
                continue;
            };
            let bytes = bytes.get(part).unwrap_or_default();
            let outcome = if entry.codec == Codec::Zero && bytes.len() >= ZERO_BY_DEVICE {
                deployment.target.zero(at..at + bytes.len() as u64)
            } else {
                deployment.target.write_at(at, bytes)
            };
            outcome.map_err(ChunkFailure::Disk)?;
        }
        self.disk_time += began.elapsed();
        Ok(used.len() as u64)
    }

    /// Time spent waiting for the disk since the last call.
    pub fn take_disk_time(&mut self) -> Duration {
        std::mem::take(&mut self.disk_time)
    }
}
