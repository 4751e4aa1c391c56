//! Module files on disk instead of in memory.
//!
//! The generic kernel unpacks to 400 MB, and the selection of modules is known only when the last
//! one's dependencies have been read. Reading the package once into an unnamed file costs less than
//! unpacking it twice (xz: some ten seconds) or holding it all in memory. Owns the file, which
//! ceases to exist with the spool.

use super::deb::invalid;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A piece of the spool.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Place {
    offset: u64,
    pub(crate) len_bytes: u64,
}

/// An unnamed file that pieces are appended to.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    len_bytes: u64,
}

impl Spool {
    /// Makes an empty spool in `folder`.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile_in(folder)?,
            len_bytes: 0,
        })
    }

    /// Appends bytes; returns their place.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> io::Result<Place> {
        self.file.write_all(bytes)?;
        let place = Place {
            offset: self.len_bytes,
            len_bytes: bytes.len() as u64,
        };
        self.len_bytes += place.len_bytes;
        Ok(place)
    }

    /// Reads the bytes at a place.
    pub(crate) fn get(&self, place: Place) -> io::Result<Vec<u8>> {
        let len = usize::try_from(place.len_bytes).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, place.offset)?;
        Ok(bytes)
    }
}

/// Reads all bytes of a reader, at most `limit`.
pub(crate) fn read_bounded(reader: &mut dyn Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(invalid(format!(
            "a file in it is larger than {limit} bytes"
        )));
    }
    Ok(bytes)
}

/// Uncompressed bytes of a file, and its name without the suffix: modules and firmware may end in
/// `.xz` or `.zst`.
pub(crate) fn plain<'n>(
    name: &'n str,
    reader: &mut dyn Read,
    limit: u64,
) -> io::Result<(&'n str, Vec<u8>)> {
    let stored = read_bounded(reader, limit)?;
    if let Some(short) = name.strip_suffix(".xz") {
        let mut decoder = lzma_rust2::XzReader::new_mem_limit(stored.as_slice(), true, 192 << 10);
        Ok((short, read_bounded(&mut decoder, limit)?))
    } else if let Some(short) = name.strip_suffix(".zst") {
        let mut decoder = zstd::Decoder::with_buffer(stored.as_slice())?;
        Ok((short, read_bounded(&mut decoder, limit)?))
    } else {
        Ok((name, stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path()).unwrap();
        let a = spool.put(b"first").unwrap();
        let empty = spool.put(b"").unwrap();
        let b = spool.put(b"second").unwrap();
        assert_eq!(spool.get(b).unwrap(), b"second");
        assert_eq!(spool.get(a).unwrap(), b"first");
        assert_eq!(spool.get(empty).unwrap(), b"");
    }

    #[test]
    fn compressed_files_come_plain_and_bombs_do_not() {
        let packed = zstd::bulk::compress(&[7; 5000], 3).unwrap();
        let (name, bytes) = plain("a.ko.zst", &mut packed.as_slice(), 5000).unwrap();
        assert_eq!((name, bytes.len()), ("a.ko", 5000));
        assert!(plain("a.ko.zst", &mut packed.as_slice(), 4999).is_err());
        assert!(plain("a.ko.xz", &mut packed.as_slice(), 5000).is_err());
        assert_eq!(plain("a.ko", &mut &b"xy"[..], 2).unwrap().1, b"xy");
    }
}
