//! What can be wrong with a hive, or with a wish to change one.

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
    /// The key was deleted, or the id comes from another hive.
    #[error("there is no key at offset {offset:#x}")]
    NoSuchKey {
        /// Where a key was looked for.
        offset: u32,
    },
}

/// A damaged structure, for the many places that find one.
pub(crate) const fn damaged(what: &'static str, offset: u32, why: &'static str) -> HiveError {
    HiveError::Damaged { what, offset, why }
}
