//! What can be wrong with a hive, or with a wish to change one.

use std::fmt;

use thiserror::Error;

/// Why a hive could not be opened, read or changed. Offsets are those of cells: bytes behind the base
/// block, which itself is 4096 bytes long.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HiveError {
    /// The file is no hive of a kind this crate knows.
    #[error("not a registry hive: {why}")]
    NotAHive {
        /// What was seen.
        why: &'static str,
    },
    /// The last write of the hive did not finish, and no log completes it.
    #[error(
        "the hive was not written out completely and its logs do not complete it ({why}): \
         shut the system down cleanly once before it is imaged"
    )]
    Dirty {
        /// Why no log applied.
        why: &'static str,
    },
    /// A structure does not hold.
    #[error("hive damaged: {what} at offset {offset:#x}: {why}")]
    Damaged {
        /// Which structure.
        what: &'static str,
        /// Where it is.
        offset: u32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A hive with faults is not edited.
    #[error("the hive has faults and is not changed ({count} found; the first: {first})")]
    Faulty {
        /// How many were found. Counting ends early.
        count: usize,
        /// The first of them.
        first: Fault,
    },
    /// A name that no key or value may have.
    #[error("not a name the registry takes: {why}")]
    Name {
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another key of that name is there.
    #[error("there is a key of the name {name:?} already")]
    Exists {
        /// The name.
        name: String,
    },
    /// The root can neither be deleted nor renamed.
    #[error("the root key can neither be deleted nor renamed")]
    Root,
    /// Windows has no keys below that level.
    #[error("the key would be more than 512 levels below the root")]
    TooDeep,
    /// Data that does not fit a value of this hive.
    #[error("a value of {len} bytes is too long: this hive takes {most}")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// How many a value may have.
        most: usize,
    },
    /// It would be longer than 2 GiB, or a count would not fit its field.
    #[error("the hive is full")]
    Full,
    /// No security descriptor in the form a hive holds.
    #[error("not a self-relative security descriptor")]
    NotADescriptor,
    /// The key was deleted, or the id comes from another hive.
    #[error("there is no key at offset {offset:#x}")]
    NoSuchKey {
        /// Where a key was looked for.
        offset: u32,
    },
}

/// Something a hive has that it should not have. One of many a validation may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which structure.
    pub what: &'static str,
    /// Where it is.
    pub offset: u32,
    /// What is wrong with it.
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

/// A damaged structure, for the many places that find one.
pub(crate) const fn damaged(what: &'static str, offset: u32, why: &'static str) -> HiveError {
    HiveError::Damaged { what, offset, why }
}
