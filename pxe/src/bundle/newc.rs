//! The archive the kernel unpacks as its first root: cpio "newc" (Linux
//! `Documentation/driver-api/early-userspace/ buffer-format.rst`).
//!
//! ```text
//! "070701" ino mode uid gid nlink mtime len major minor rmajor rminor namelen check   each 8 hex digits
//! name \0, zeros to 4 bytes | data, zeros to 4 bytes | ... | "TRAILER!!!"
//! ```
//!
//! Every owner is root and every time is zero, so that the same tree gives the same bytes. Pure.

use std::io::{self, Write};

/// File types in the field `mode`.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// Writes an archive: entries, then the trailer.
pub(crate) struct Newc<W> {
    out: W,
    /// Bytes written; the padding depends on it.
    len: u64,
    next_ino: u32,
}

impl<W: Write> Newc<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            len: 0,
            next_ino: 1,
        }
    }

    /// Writes a folder.
    pub(crate) fn folder(&mut self, name: &str, mode: u32) -> io::Result<()> {
        self.entry(name, FOLDER | mode, 2, (0, 0), &[])
    }

    /// Writes a file with its bytes.
    pub(crate) fn file(&mut self, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.entry(name, FILE | mode, 1, (0, 0), data)
    }

    /// Writes a symbolic link.
    pub(crate) fn link(&mut self, name: &str, target: &str) -> io::Result<()> {
        self.entry(name, LINK | 0o777, 1, (0, 0), target.as_bytes())
    }

    /// Writes a character device: a header alone, so root is not needed.
    pub(crate) fn character(
        &mut self,
        name: &str,
        mode: u32,
        device: (u32, u32),
    ) -> io::Result<()> {
        self.entry(name, CHARACTER | mode, 1, device, &[])
    }

    /// Writes the trailer; returns the writer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.next_ino = 0;
        self.entry("TRAILER!!!", 0, 1, (0, 0), &[])?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        links: u32,
        device: (u32, u32),
        data: &[u8],
    ) -> io::Result<()> {
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: too long"));
        let len = u32::try_from(data.len()).map_err(too_long)?;
        let name_len = u32::try_from(name.len() + 1).map_err(too_long)?;
        let mut header = String::from("070701");
        let fields = [
            self.next_ino,
            mode,
            0, // uid
            0, // gid
            links,
            0, // mtime
            len,
            0, // major and minor of the file system
            0,
            device.0,
            device.1,
            name_len,
            0, // check
        ];
        for field in fields {
            header.push_str(&format!("{field:08X}"));
        }
        self.next_ino += 1;
        self.put(header.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()?;
        self.put(data)?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.len += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        while !self.len.is_multiple_of(4) {
            self.put(&[0])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One entry, written down byte by byte from the format's description. `tests/export.rs`
    /// compares whole archives with cpio.
    #[test]
    fn an_entry_byte_by_byte() {
        let mut newc = Newc::new(Vec::new());
        newc.file("init", 0o755, b"hello").unwrap();
        newc.character("dev/console", 0o600, (5, 1)).unwrap();
        let bytes = newc.finish().unwrap();
        let first = "070701\
                     00000001\
                     000081ED\
                     0000000000000000\
                     00000001\
                     00000000\
                     00000005\
                     0000000000000000\
                     0000000000000000\
                     00000005\
                     00000000\
                     init\0\0\
                     hello\0\0\0\
                     070701\
                     00000002\
                     00002180";
        // 110 bytes of header and 5 of name are padded to 116, 5 of data to 124.
        assert_eq!(String::from_utf8_lossy(&bytes[..first.len()]), first);
        let device = &bytes[124 + 6 + 8 * 9..][..16];
        assert_eq!(device, b"0000000500000001");
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
    }
}
