//! Files of an ext volume, read within limits.
//!
//! A size that the volume declares is checked against a limit before it decides how much is read. A
//! file that cannot be read is recorded with the reason.

use crate::source::Source;
use ext4_view::{Ext4, Ext4Error};
use std::cell::RefCell;
use std::io::{Read, Seek, SeekFrom};

/// Largest configuration file that is read, in bytes.
const MAX_TEXT: u64 = 4 << 20;

/// Most entries of one folder that are read.
const MAX_ENTRIES: usize = 10_000;

/// Most block groups: 128 TiB with the usual 128 MiB each. A larger file system is refused.
const MAX_GROUPS: u64 = 1 << 20;

/// Offset of the superblock's first byte.
const SUPERBLOCK: u64 = 1024;

/// An ext volume.
pub(super) struct Tree {
    ext: Ext4,
    /// The superblock is marked as having errors.
    pub(super) has_errors: bool,
    /// Free bytes.
    pub(super) free_bytes: u64,
    unreadable: RefCell<Vec<(String, String)>>,
}

/// Fields of the superblock that decide how much is read (kernel documentation, `ext4/super.rst`).
struct Declared {
    groups: u64,
    bytes: u64,
    free: u64,
    errors: bool,
}

impl Declared {
    fn read(source: &mut Source) -> Result<Self, String> {
        let mut block = [0_u8; 1024];
        source
            .seek(SeekFrom::Start(SUPERBLOCK))
            .and_then(|_| source.read_exact(&mut block))
            .map_err(|error| error.to_string())?;
        let word = |at: usize| {
            let bytes = block.get(at..at.saturating_add(4)).unwrap_or_default();
            bytes.try_into().map_or(0, u32::from_le_bytes)
        };
        let log_block_size = word(0x18);
        // Blocks have at most 64 KiB.
        if log_block_size > 6 {
            return Err(format!("its blocks are 2^{} KiB", log_block_size));
        }
        // The reader (crate ext4-view) uses the upper half even if the 64-bit feature is off.
        let blocks = u64::from(word(0x150)) << 32 | u64::from(word(0x4));
        let block_bytes = 1024_u64 << log_block_size;
        Ok(Self {
            groups: blocks / u64::from(word(0x20)).max(1),
            bytes: blocks.saturating_mul(block_bytes),
            // s_free_blocks_count_lo at 0xc, _hi at 0x158.
            free: (u64::from(word(0x158)) << 32 | u64::from(word(0xc))).saturating_mul(block_bytes),
            // s_state at 0x3a, bit 1; s_magic is the lower half of the same word.
            errors: (word(0x38) >> 16) & 0x2 != 0,
        })
    }
}

impl Tree {
    pub(super) fn open(mut source: Source) -> Result<Self, String> {
        let declared = Declared::read(&mut source)?;
        if declared.bytes > source.length() {
            return Err(format!(
                "it says that it has {} bytes, and the partition has {}",
                declared.bytes,
                source.length()
            ));
        }
        if declared.groups > MAX_GROUPS {
            return Err(format!(
                "it says that it has {} block groups",
                declared.groups
            ));
        }
        let ext = Ext4::load(Box::new(source)).map_err(|error| error.to_string())?;
        Ok(Self {
            ext,
            has_errors: declared.errors,
            free_bytes: declared.free.min(declared.bytes),
            unreadable: RefCell::new(Vec::new()),
        })
    }

    /// Files that could not be read so far: path and reason.
    pub(super) fn take_unreadable(&self) -> Vec<(String, String)> {
        self.unreadable.take()
    }

    /// True if the path exists; links are followed inside the volume.
    pub(super) fn has(&self, path: &str) -> bool {
        self.ext.exists(path).unwrap_or(false)
    }

    /// True if at least one of the paths exists.
    pub(super) fn has_any(&self, paths: &[&str]) -> bool {
        paths.iter().any(|path| self.has(path))
    }

    /// True if the name exists, even as a dangling link.
    pub(super) fn has_link(&self, path: &str) -> bool {
        self.ext.symlink_metadata(path).is_ok()
    }

    /// True for a masked systemd unit: its link leads nowhere.
    pub(super) fn is_masked(&self, unit: &str) -> bool {
        let link = self
            .ext
            .read_link(format!("/etc/systemd/system/{unit}").as_str());
        link.is_ok_and(|target| target.to_str() == Ok("/dev/null"))
    }

    /// Last part of a symbolic link's target.
    pub(super) fn link_name(&self, path: &str) -> Option<String> {
        let target = self.ext.read_link(path).ok()?;
        Some(target.to_str().ok()?.rsplit('/').next()?.to_owned())
    }

    /// Text of a file; bytes that are not UTF-8 are replaced.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let content = match self.ext.metadata(path) {
            Ok(metadata) if metadata.is_dir() => return None,
            Ok(metadata) if metadata.len() > MAX_TEXT => {
                self.note(path, format!("{} bytes are too many", metadata.len()));
                return None;
            }
            Ok(_) => self.ext.read(path),
            Err(error) => Err(error),
        };
        match content {
            Ok(content) => Some(String::from_utf8_lossy(&content).into_owned()),
            Err(Ext4Error::NotFound | Ext4Error::NotADirectory | Ext4Error::IsASpecialFile) => None,
            Err(error) => {
                self.note(path, error.to_string());
                None
            }
        }
    }

    /// Fills the buffer with the first bytes of a file; false if that fails.
    pub(super) fn head(&self, path: &str, buffer: &mut [u8]) -> bool {
        let Ok(mut file) = self.ext.open(path) else {
            return false;
        };
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_bytes(rest) {
                Ok(0) | Err(_) => return false,
                Ok(count) => filled = filled.saturating_add(count),
            }
        }
        true
    }

    /// Names in a folder.
    pub(super) fn list(&self, path: &str) -> Vec<String> {
        let entries = match self.ext.read_dir(path) {
            Ok(entries) => entries,
            Err(Ext4Error::NotFound | Ext4Error::NotADirectory) => return Vec::new(),
            Err(error) => {
                self.note(path, error.to_string());
                return Vec::new();
            }
        };
        let mut names: Vec<String> = entries
            .take(MAX_ENTRIES)
            .map_while(Result::ok)
            .filter_map(|entry| entry.file_name().as_str().map(str::to_owned).ok())
            .filter(|name| name != "." && name != "..")
            .collect();
        names.sort();
        names
    }

    fn note(&self, path: &str, reason: String) {
        self.unreadable.borrow_mut().push((path.to_owned(), reason));
    }
}
