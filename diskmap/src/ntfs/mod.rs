//! The one reader of NTFS: from the boot sector to the content of a file.
//!
//! Owns the meaning of every structure of a volume that is read here, and the steps from a record
//! number or a path to bytes. Never writes, and never decides what a finding means: the used map
//! decides what is captured, `inspect` what is installed, `apply` what is changed.
//!
//! ```text
//!   Geometry (boot sector) -> Mft -> Record -> Attribute --+-> Stream -> bytes (or places, for a write)
//!                              |                 ^         |
//!                              |   attribute list, other   +-> Index -> Node -> Entry -> FileName
//!                              |   records of the file     |
//!                              +-> lookup of a path (UpCase)
//! ```
//!
//! Always holds: every run of a [`Stream`] lies inside the volume, runs follow each other without a
//! gap, a stream is not longer than its runs, and has no more clusters than the volume. Bytes are damaged or hostile until parsed: no
//! function panics, loops are bounded by the structure they read (a list has at most 256 KiB, a
//! path through an index at most [`index::MOST_LEVELS`] nodes), and nothing is allocated by a
//! declared size that was not compared with the volume or with a limit of the caller.

mod boot;
pub mod fixup;
mod folder;
pub mod index;
mod layout;
mod log;
mod lznt1;
mod mft;
mod name;
mod record;
mod records;
mod runs;
mod stream;

pub use boot::{BootFault, Geometry};
pub use folder::{Hit, I30};
pub use index::Index;
pub use log::{Log, RestartPage};
pub use mft::{Mft, VolumeInformation};
pub use name::{FileName, UpCase};
pub use record::{Attribute, Body, Clusters, Record, Reference};
pub use stream::{Piece, Resident, Stream};

use crate::volume::ReadError;

/// Types of attributes.
pub mod kind {
    /// Times and flags of a file.
    pub const STANDARD_INFORMATION: u32 = 0x10;
    /// The places of a file's attributes, if they lie in several records.
    pub const ATTRIBUTE_LIST: u32 = 0x20;
    /// A name of a file, with its folder.
    pub const FILE_NAME: u32 = 0x30;
    /// A security descriptor that is stored with its file.
    pub const SECURITY_DESCRIPTOR: u32 = 0x50;
    /// The label of the volume.
    pub const VOLUME_NAME: u32 = 0x60;
    /// Version and flags of the volume.
    pub const VOLUME_INFORMATION: u32 = 0x70;
    /// The content of a file.
    pub const DATA: u32 = 0x80;
    /// The root node of an index.
    pub const INDEX_ROOT: u32 = 0x90;
    /// The other nodes of an index.
    pub const INDEX_ALLOCATION: u32 = 0xA0;
    /// A map of the records or index blocks in use.
    pub const BITMAP: u32 = 0xB0;
    /// The target of a link, or the mark of another driver.
    pub const REPARSE_POINT: u32 = 0xC0;
    /// The end of the attributes of a record.
    pub(super) const END: u32 = 0xFFFF_FFFF;
}

/// Numbers of the records that are the file system's own.
pub mod number {
    /// `$MFT`: all records.
    pub const MFT: u64 = 0;
    /// `$MFTMirr`: a copy of the first records.
    pub const MIRROR: u64 = 1;
    /// `$LogFile`: the journal.
    pub const LOG_FILE: u64 = 2;
    /// `$Volume`: label, version and flags.
    pub const VOLUME: u64 = 3;
    /// The root folder.
    pub const ROOT: u64 = 5;
    /// `$Bitmap`: the clusters in use.
    pub const BITMAP: u64 = 6;
    /// `$Boot`: the boot sector and the boot loader.
    pub const BOOT: u64 = 7;
    /// `$BadClus`: the clusters that cannot be read.
    pub const BAD_CLUSTERS: u64 = 8;
    /// `$Secure`: the security descriptors that files share.
    pub const SECURE: u64 = 9;
    /// `$UpCase`: the upper case of every character.
    pub const UPCASE: u64 = 10;
    /// The last record that is the file system's own.
    pub const LAST_OF_SYSTEM: u64 = 15;
}

/// The reason why a structure of a volume cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NtfsError {
    /// The bytes could not be had.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The boot sector makes no sense.
    #[error(transparent)]
    Boot(#[from] BootFault),
    /// A structure contradicts itself or another one.
    #[error("NTFS {part} {at}: {what}")]
    Structure {
        /// Name of the structure.
        part: &'static str,
        /// Record number, block number or offset of the structure.
        at: u64,
        /// Description of the fault.
        what: &'static str,
    },
}

impl NtfsError {
    /// A fault of the structure `part` number `at`.
    #[must_use]
    pub const fn structure(part: &'static str, at: u64, what: &'static str) -> Self {
        Self::Structure { part, at, what }
    }

    const fn record(number: u64, what: &'static str) -> Self {
        Self::structure("record", number, what)
    }

    /// True if the device failed, as opposed to bytes that make no sense.
    #[must_use]
    pub const fn is_io(&self) -> bool {
        matches!(self, Self::Read(ReadError::Io(_)))
    }
}
