//! The master disk inside an image, read like a disk.
//!
//! Owns: a few decoded chunks. What the image does not hold (free blocks, excluded files) reads as zeros. Every byte that is handed
//! out was proven against the manifest by the decoder.

use imagefmt::{Decoder, Image, Manifest};
use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// Decoded chunks kept: readers of file systems jump between a table and what it points to.
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
    /// `length` bytes of the disk from `start` on.
    ///
    /// # Errors
    /// When the decompressor has no memory.
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

    /// The whole chunk of an entry, zeros where the image has nothing.
    fn chunk(&mut self, index: usize) -> io::Result<Arc<[u8]>> {
        if let Some(found) = self.chunks.iter().position(|(entry, _)| *entry == index) {
            // Last used, last to go.
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

/// The entry of the chunk that holds a byte of the disk, and where the chunk begins and ends.
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
        // No longer than the buffer.
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
