//! The errors of reading and changing a hive.

use std::fmt;

use thiserror::Error;

/// The reason why a hive cannot be opened, read or changed. Offsets are those of cells: bytes
/// behind the base block, which itself is 4096 bytes long.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HiveError {
    /// The file is not a hive of a known kind.
    #[error("not a registry hive: {why}")]
    NotAHive {
        /// The check that failed.
        why: &'static str,
    },
    /// The last write of the hive did not finish, and no log completes it.
    #[error(
        "the hive was not written out completely and its logs do not complete it ({why}): \
         shut the system down cleanly once before it is imaged"
    )]
    Dirty {
        /// The reason why no log could be applied.
        why: &'static str,
    },
    /// A structure is damaged.
    #[error("hive damaged: {what} at offset {offset:#x}: {why}")]
    Damaged {
        /// Name of the structure.
        what: &'static str,
        /// Offset of the structure.
        offset: u32,
        /// The check that failed.
        why: &'static str,
    },
    /// The hive has faults and is not edited.
    #[error("the hive has faults and is not changed ({count} found; the first: {first})")]
    Faulty {
        /// Number of faults found; the search may end early.
        count: usize,
        /// The first fault.
        first: Fault,
    },
    /// The name is not valid for a key or value.
    #[error("not a name the registry takes: {why}")]
    Name {
        /// The rule that the name breaks.
        why: &'static str,
    },
    /// Another key with this name exists.
    #[error("there is a key of the name {name:?} already")]
    Exists {
        /// The name.
        name: String,
    },
    /// The root can neither be deleted nor renamed.
    #[error("the root key can neither be deleted nor renamed")]
    Root,
    /// The key would be deeper than Windows allows.
    #[error("the key would be more than 512 levels below the root")]
    TooDeep,
    /// The data is too long for a value of this hive.
    #[error("a value of {len} bytes is too long: this hive takes {most}")]
    TooLong {
        /// Length of the data in bytes.
        len: usize,
        /// Longest allowed data in bytes.
        most: usize,
    },
    /// The hive would be longer than 2 GiB, or a count would not fit its field.
    #[error("the hive is full")]
    Full,
    /// The bytes are not a security descriptor in the form stored in a hive.
    #[error("not a self-relative security descriptor")]
    NotADescriptor,
    /// The key was deleted, or the id belongs to another hive.
    #[error("there is no key at offset {offset:#x}")]
    NoSuchKey {
        /// Offset at which a key was expected.
        offset: u32,
    },
}

/// A fault in a hive; a validation may find many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Name of the structure.
    pub what: &'static str,
    /// Offset of the structure.
    pub offset: u32,
    /// The check that failed.
    pub why: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{} at offset {:#x}: {}",
            self.what, self.offset, self.why
        )
    }
}

impl From<Fault> for HiveError {
    fn from(Fault { what, offset, why }: Fault) -> HiveError {
        damaged(what, offset, why)
    }
}

/// Makes the error for a damaged structure.
pub(crate) const fn damaged(what: &'static str, offset: u32, why: &'static str) -> HiveError {
    HiveError::Damaged { what, offset, why }
}
