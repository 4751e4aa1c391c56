//! The errors of an image, in words that a technician can act on.
//!
//! Owns the only error type of the crate. Messages are short, lower case and contain the numbers
//! (offset, chunk, expected and found); the outermost layer adds the operation and the file.

use crate::ChunkId;
use crate::names::{Class, Name};

/// The reason why an image, a manifest or a chunk cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The first bytes are not those of a master image.
    #[error("not a diskcast image: the first 8 bytes are not its signature")]
    NotAnImage,
    /// The layout is newer than this program supports.
    #[error("image format {found} is newer than {supported}, the newest this program reads")]
    UnsupportedVersion {
        /// Major version in the file.
        found: u16,
        /// Newest major version that this program reads.
        supported: u16,
    },
    /// The image has features of a later version that forbid additions.
    #[error(
        "image may be read but not changed: it has features this program does not have: {names}; use a newer one"
    )]
    ReadOnly {
        /// The feature bits and their names.
        names: String,
    },
    /// The image needs a feature that this program does not have.
    #[error("image needs features this program does not have: {names}; use a newer one")]
    UnknownFeature {
        /// The unknown incompatible feature bits.
        bits: u64,
        /// The bits as text, with the names given in the image.
        names: String,
    },
    /// The image uses a record type, codec, cipher, hash or key slot that this program does not know.
    #[error("{what} {number}{name} is not known to this program; use a newer one")]
    Unknown {
        /// Kind of the number.
        what: &'static str,
        /// The number.
        number: u64,
        /// Its name, if the image contains one.
        name: Name,
    },
    /// The file ends too early. If a prologue is intact, [`crate::Image::rebuild`] may save the
    /// rest.
    #[error(
        "image is cut short: no trailer at the end of {len} bytes (capture or copy unfinished; `diskcast image rebuild` saves what is there)"
    )]
    Truncated {
        /// Length of the file in bytes (all volumes together).
        len: u64,
    },
    /// The image is encrypted and no password was given.
    #[error("image is protected by a password")]
    PasswordNeeded,
    /// The password opens no key slot.
    #[error("wrong password")]
    WrongPassword,
    /// A structure is damaged.
    #[error("{what} at byte {offset} is damaged: {reason}")]
    Damaged {
        /// Name of the structure.
        what: &'static str,
        /// Start of the structure, in bytes from the start of its volume or buffer.
        offset: u64,
        /// The check that failed.
        reason: &'static str,
    },
    /// The content of one chunk differs from the manifest.
    #[error("chunk {chunk} is damaged: {reason}")]
    ChunkDamaged {
        /// Number of the chunk.
        chunk: ChunkId,
        /// The check that failed.
        reason: &'static str,
    },
    /// A declared number is outside the limits of this program.
    #[error("{what} is {value}, the limit is {limit}")]
    LimitExceeded {
        /// Name of the number.
        what: &'static str,
        /// Declared value.
        value: u64,
        /// The largest (or smallest) accepted value.
        limit: u64,
    },
    /// A number is not a multiple of another number.
    #[error("{what} is {value}, which is no multiple of {of}")]
    NotMultiple {
        /// Name of the number.
        what: &'static str,
        /// Declared value.
        value: u64,
        /// Required divisor.
        of: u64,
    },
    /// A volume of a divided image was not supplied.
    #[error("volume {number} of the image is missing")]
    VolumeMissing {
        /// Number of the volume as in the file name: 1 is `name.dcimg`, 2 is `name.dcimg.002`.
        number: u32,
    },
    /// A volume belongs to another image or is in the wrong place.
    #[error(
        "volume {expected} is not part of this image or is out of order (it says volume {found})"
    )]
    VolumeMismatch {
        /// Number expected at its place in the list.
        expected: u32,
        /// Number in its prologue.
        found: u32,
    },
    /// The signature does not match the image and the key.
    #[error("signature does not match this image and key")]
    BadSignature,
    /// The image carries no signature.
    #[error("image is not signed")]
    NotSigned,
    /// The caller requested something that the format cannot store.
    #[error("cannot write image: {what}")]
    Unwritable {
        /// The thing that cannot be written, and the reason.
        what: &'static str,
    },
    /// META is not the JSON document defined by this format.
    #[error("image description (META) is not readable")]
    Meta(#[source] serde_json::Error),
    /// Compressor or decompressor failed to start or ran out of memory.
    #[error("compressor failed")]
    Compressor(#[source] std::io::Error),
    /// The medium returned an error.
    #[error("input or output error at byte {offset}")]
    Io {
        /// Offset in the volume.
        offset: u64,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
}

/// Result type of the crate.
pub type Result<T, E = FormatError> = std::result::Result<T, E>;

/// Makes the error for an unknown number; its name is added later, where the image's names are
/// available.
pub(crate) fn unknown(class: Class, number: impl Into<u64>) -> FormatError {
    FormatError::Unknown {
        what: class.word(),
        number: number.into(),
        name: Name::default(),
    }
}

/// Returns `Ok` if `value` is a multiple of `of`.
pub(crate) fn multiple(what: &'static str, value: u64, of: u64) -> Result<()> {
    if !value.is_multiple_of(of) {
        return Err(FormatError::NotMultiple { what, value, of });
    }
    Ok(())
}

/// Converts a length from outside to `usize`; fails only on a 32-bit host.
pub(crate) fn to_usize(value: u64, what: &'static str) -> Result<usize> {
    usize::try_from(value).map_err(|_| FormatError::LimitExceeded {
        what,
        value,
        limit: u64::try_from(usize::MAX).unwrap_or(u64::MAX),
    })
}

/// Converts a length to `u32`, for fields of that width.
pub(crate) fn narrow(value: usize, what: &'static str) -> Result<u32> {
    u32::try_from(value).map_err(|_| FormatError::LimitExceeded {
        what,
        value: value as u64,
        limit: u64::from(u32::MAX),
    })
}

/// Returns `Ok` if `value <= limit`, otherwise an error with all three arguments.
pub(crate) fn at_most(what: &'static str, value: u64, limit: u64) -> Result<()> {
    if value > limit {
        return Err(FormatError::LimitExceeded { what, value, limit });
    }
    Ok(())
}
