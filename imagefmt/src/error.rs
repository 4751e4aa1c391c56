//! Everything that can go wrong with an image, in words a technician can act on.
//!
//! Owns the one error type of the crate. Messages are short, lower case and carry the numbers (offset,
//! chunk, expected and found); the outermost layer adds what was being done and to which file.

use crate::ChunkId;
use crate::names::{Class, Name};

/// Why an image, a manifest or a chunk cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The first bytes are not those of a master image.
    #[error("not a diskcast image: the first 8 bytes are not its signature")]
    NotAnImage,
    /// A newer layout than this program knows.
    #[error("image format {found} is newer than {supported}, the newest this program reads")]
    UnsupportedVersion {
        /// Major version in the file.
        found: u16,
        /// Newest major version understood here.
        supported: u16,
    },
    /// The image has features of a later version that forbid to add to it.
    #[error(
        "image may be read but not changed: it has features this program does not have: {names}; use a newer one"
    )]
    ReadOnly {
        /// Bits and their names.
        names: String,
    },
    /// The image needs a feature this program does not have.
    #[error("image needs features this program does not have: {names}; use a newer one")]
    UnknownFeature {
        /// The incompatible feature bits that are not understood.
        bits: u64,
        /// The bits in words, with the names the image gives them.
        names: String,
    },
    /// The image uses a record type, codec, cipher, hash or key slot that this program does not know.
    #[error("{what} {number}{name} is not known to this program; use a newer one")]
    Unknown {
        /// Kind of the number.
        what: &'static str,
        /// The number.
        number: u64,
        /// Its name, where the image gives one.
        name: Name,
    },
    /// The file ends too early. With a prologue intact, [`crate::Image::rebuild`] may save what is there.
    #[error(
        "image is cut short: no trailer at the end of {len} bytes (capture or copy unfinished; `diskcast image rebuild` saves what is there)"
    )]
    Truncated {
        /// Bytes in the file (all volumes together).
        len: u64,
    },
    /// The image is encrypted and no password was given.
    #[error("image is protected by a password")]
    PasswordNeeded,
    /// No key slot opens with this password.
    #[error("wrong password")]
    WrongPassword,
    /// Bytes are not what was written.
    #[error("{what} at byte {offset} is damaged: {reason}")]
    Damaged {
        /// Which structure.
        what: &'static str,
        /// Where it starts, in bytes from the start of its volume or buffer.
        offset: u64,
        /// What does not hold.
        reason: &'static str,
    },
    /// The content of one chunk is not what the manifest promises.
    #[error("chunk {chunk} is damaged: {reason}")]
    ChunkDamaged {
        /// The chunk.
        chunk: ChunkId,
        /// What does not hold.
        reason: &'static str,
    },
    /// A declared number is beyond what this program accepts.
    #[error("{what} is {value}, the limit is {limit}")]
    LimitExceeded {
        /// Which number.
        what: &'static str,
        /// Declared value.
        value: u64,
        /// The most (or least) that is accepted.
        limit: u64,
    },
    /// A number has to be a multiple of another.
    #[error("{what} is {value}, which is no multiple of {of}")]
    NotMultiple {
        /// Which number.
        what: &'static str,
        /// Declared value.
        value: u64,
        /// Required divisor.
        of: u64,
    },
    /// A volume of a divided image was not supplied.
    #[error("volume {number} of the image is missing")]
    VolumeMissing {
        /// Number as in the file name: 1 is `name.dcimg`, 2 is `name.dcimg.002`.
        number: u32,
    },
    /// A volume belongs to another image or stands in the wrong place.
    #[error(
        "volume {expected} is not part of this image or is out of order (it says volume {found})"
    )]
    VolumeMismatch {
        /// Number its place in the list calls for.
        expected: u32,
        /// Number its prologue carries.
        found: u32,
    },
    /// The signature does not match the image and the key.
    #[error("signature does not match this image and key")]
    BadSignature,
    /// The image carries no signature.
    #[error("image is not signed")]
    NotSigned,
    /// The caller asked for something the format cannot hold.
    #[error("cannot write image: {what}")]
    Unwritable {
        /// What cannot be written and why.
        what: &'static str,
    },
    /// META is not the JSON document this format defines.
    #[error("image description (META) is not readable")]
    Meta(#[source] serde_json::Error),
    /// Compressor or decompressor failed to start or ran out of memory.
    #[error("compressor failed")]
    Compressor(#[source] std::io::Error),
    /// The medium failed.
    #[error("input or output error at byte {offset}")]
    Io {
        /// Offset in the volume.
        offset: u64,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// Result of every fallible call in this crate.
pub type Result<T, E = FormatError> = std::result::Result<T, E>;

/// A number nobody here knows; its name is looked up where the image's names are at hand.
pub(crate) fn unknown(class: Class, number: impl Into<u64>) -> FormatError {
    FormatError::Unknown {
        what: class.word(),
        number: number.into(),
        name: Name::default(),
    }
}

/// `Ok` when `value` is a multiple of `of`.
pub(crate) fn multiple(what: &'static str, value: u64, of: u64) -> Result<()> {
    if !value.is_multiple_of(of) {
        return Err(FormatError::NotMultiple { what, value, of });
    }
    Ok(())
}

/// A length from outside as `usize`; only a 32-bit host can refuse it.
pub(crate) fn to_usize(value: u64, what: &'static str) -> Result<usize> {
    usize::try_from(value).map_err(|_| FormatError::LimitExceeded {
        what,
        value,
        limit: u64::try_from(usize::MAX).unwrap_or(u64::MAX),
    })
}

/// A length of ours as `u32`, for fields of that width.
pub(crate) fn narrow(value: usize, what: &'static str) -> Result<u32> {
    u32::try_from(value).map_err(|_| FormatError::LimitExceeded {
        what,
        value: value as u64,
        limit: u64::from(u32::MAX),
    })
}

/// `Ok` when `value <= limit`, the error that names all three otherwise.
pub(crate) fn at_most(what: &'static str, value: u64, limit: u64) -> Result<()> {
    if value > limit {
        return Err(FormatError::LimitExceeded { what, value, limit });
    }
    Ok(())
}
