//! The archive the kernel unpacks as its first root: cpio "newc" (Linux `Documentation/driver-api/early-userspace/
//! buffer-format.rst`).
//!
//! ```text
//! "070701" ino mode uid gid nlink mtime len major minor rmajor rminor namelen check   each 8 hex digits
//! name \0, zeros to 4 bytes | data, zeros to 4 bytes | ... | "TRAILER!!!"
//! ```
//!
//! Every owner is root and every time is zero, so that the same tree gives the same bytes. Pure.

use std::io::{self, Write};

/// File types of `mode`.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// Writes entries, then the trailer.
pub(crate) struct Newc<W> {
    out: W,
    /// Bytes written, for the padding.
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

    /// A folder.
    pub(crate) fn folder(&mut self, name: &str, mode: u32) -> io::Result<()> {
        self.entry(name, FOLDER | mode, 2, (0, 0), &[])
    }

    /// A file and its bytes.
    pub(crate) fn file(&mut self, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.entry(name, FILE | mode, 1, (0, 0), data)
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, name: &str, target: &str) -> io::Result<()> {
        self.entry(name, LINK | 0o777, 1, (0, 0), target.as_bytes())
    }

    /// A character device: a header and nothing else, so nobody has to be root.
    pub(crate) fn character(
        &mut self,
        name: &str,
        mode: u32,
        device: (u32, u32),
    ) -> io::Result<()> {
        self.entry(name, CHARACTER | mode, 1, device, &[])
    }

    /// The trailer; gives the writer back.
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
