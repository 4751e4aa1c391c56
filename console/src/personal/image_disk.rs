//! Reader of a partition inside an image.
//!
//! Owns a few decoded chunks. Ranges that the image does not hold (free blocks, excluded files)
//! read as zeros. The decoder has checked every other byte against the manifest.

use imagefmt::{Decoder, Image, Manifest};
use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// Maximum number of decoded chunks kept, since readers of file systems jump between a table and
/// its targets.
const KEPT: usize = 32;

/// One partition of the disk in an image.
pub(super) struct ImageSlice<R> {
    image: Arc<Image<R>>,
    decoder: Decoder,
    chunks: VecDeque<(usize, Arc<[u8]>)>,
    start: u64,
    length: u64,
    at: u64,
}

impl<R: imagefmt::ReadAt> ImageSlice<R> {
    /// Opens `length` bytes of the disk, starting at `start`.
    ///
    /// # Errors
    /// The decompressor has no memory.
    pub(super) fn new(image: Arc<Image<R>>, start: u64, length: u64) -> imagefmt::Result<Self> {
        Ok(Self {
            decoder: image.decoder()?,
            image,
            chunks: VecDeque::new(),
            start,
            length,
            at: 0,
        })
    }

    /// Returns the whole chunk of an entry, with zeros where the image has no data.
    fn chunk(&mut self, index: usize) -> io::Result<Arc<[u8]>> {
        if let Some(found) = self.chunks.iter().position(|(entry, _)| *entry == index) {
            // The chunk used last is evicted last.
            if let Some(kept) = self.chunks.remove(found) {
                self.chunks.push_back(kept.clone());
                return Ok(kept.1);
            }
        }
        let (mut body, mut out) = (Vec::new(), Vec::new());
        let used = self
            .image
            .read_chunk(index, &mut self.decoder, &mut body, &mut out)
            .map_err(io::Error::other)?;
        let Some(entry) = self.image.manifest().entries.get(index) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let mut whole = vec![0; entry.mask.chunk_len() as usize];
        let mut rest = used;
        for run in entry.mask.runs() {
            let place = whole.get_mut(run.start as usize..run.end as usize);
            let (part, tail) = rest
                .split_at_checked((run.end - run.start) as usize)
                .ok_or(io::ErrorKind::InvalidData)?;
            place
                .ok_or(io::ErrorKind::InvalidData)?
                .copy_from_slice(part);
            rest = tail;
        }
        let whole: Arc<[u8]> = whole.into();
        if self.chunks.len() >= KEPT {
            self.chunks.pop_front();
        }
        self.chunks.push_back((index, Arc::clone(&whole)));
        Ok(whole)
    }
}

/// Returns the entry of the chunk at a disk offset, and the chunk's start and end. The entry is an
/// error if the image does not hold the chunk.
fn entry_at(manifest: &Manifest, offset: u64) -> Option<(Result<usize, ()>, u64, u64)> {
    let chunk = manifest.geometry.chunk_at(offset)?;
    let begins = manifest.geometry.chunk_offset(chunk);
    let ends = begins + u64::from(manifest.geometry.chunk_len(chunk));
    let found = manifest
        .entries
        .binary_search_by_key(&chunk, |entry| entry.chunk)
        .map_err(|_| ());
    Some((found, begins, ends))
}

impl<R: imagefmt::ReadAt> Read for ImageSlice<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.at);
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let offset = self.start.saturating_add(self.at);
        let Some((entry, begins, ends)) = entry_at(self.image.manifest(), offset) else {
            return Ok(0);
        };
        let len = left.min(ends - offset).min(buffer.len() as u64);
        // `len` is at most the length of the buffer.
        let len = usize::try_from(len).unwrap_or(buffer.len());
        let out = buffer.get_mut(..len).ok_or(io::ErrorKind::InvalidInput)?;
        match entry {
            Ok(index) => {
                let chunk = self.chunk(index)?;
                // A chunk is at most 4 MiB.
                let from = usize::try_from(offset - begins).unwrap_or(usize::MAX);
                let bytes = from.checked_add(len).and_then(|to| chunk.get(from..to));
                out.copy_from_slice(bytes.ok_or(io::ErrorKind::InvalidData)?);
            }
            Err(()) => out.fill(0),
        }
        self.at += len as u64;
        Ok(len)
    }
}

impl<R> Seek for ImageSlice<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "before the start of the partition",
            )
        })?;
        Ok(self.at)
    }
}
