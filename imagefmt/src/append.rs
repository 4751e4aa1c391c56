//! Additions to a finished image: labels and signatures, followed by a new end.
//!
//! ```text
//! ... | INDEX | PROLOGUE | TRAILER                                          as it was
//! ... | INDEX | PROLOGUE | TRAILER | LABELS or SIG | PROLOGUE | TRAILER     afterwards
//! ```
//!
//! No existing byte is changed. The last valid trailer counts, so an incomplete addition leaves the
//! image as it was.

use positioned_io::ReadAt;

use crate::codec::DEFAULT_LEVEL;
use crate::error::{FormatError, Result};
use crate::record::RecordKind;
use crate::tail::COPY_RECORD_BYTES;
use crate::trailer::{TRAILER_BYTES, Trailer};
use crate::{Image, Labels, RootSignature, sign};

/// Bytes to be written to a volume of an image. Bytes at or behind that offset belong to nothing
/// and must be cut off first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// Number of the volume; 0 is the first.
    pub volume: u32,
    /// Byte offset in the volume.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl<R: ReadAt> Image<R> {
    /// Makes the addition that replaces the image's labels by these.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] for labels beyond their limits or an image that was rebuilt in
    /// memory; [`FormatError::ReadOnly`] for an image that must not be changed.
    pub fn with_labels(&self, labels: &Labels) -> Result<Addition> {
        let json = labels.to_json()?;
        let record = self
            .sealer()
            .pack(RecordKind::Labels, &json, DEFAULT_LEVEL)?;
        self.addition(record)
    }

    /// Makes the addition of one more signature over the image's root.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] for an image that was rebuilt in memory,
    /// [`FormatError::BadSignature`] for a signature that is not valid (the image could not be
    /// opened any more), [`FormatError::ReadOnly`] for an image that must not be changed.
    pub fn with_signature(&self, signature: &RootSignature) -> Result<Addition> {
        let body = signature.to_body();
        sign::check(&body, &self.root)?;
        self.addition(self.sealer().pack_open(RecordKind::Signature, &body)?)
    }

    fn addition(&self, record: Vec<u8>) -> Result<Addition> {
        let Some((trailer, at)) = &self.end else {
            return Err(FormatError::Unwritable {
                what: "an image without an end has to be rebuilt first",
            });
        };
        self.prologue.may_grow()?;
        let sealer = self.sealer();
        let mut bytes = record;
        let copy = self.prologue.as_first().to_bytes();
        bytes.extend(sealer.pack_open(RecordKind::Prologue, &copy)?);
        debug_assert!(bytes.len() > COPY_RECORD_BYTES);
        let trailer = Trailer {
            total_len: trailer
                .total_len
                .saturating_add((bytes.len() + TRAILER_BYTES) as u64),
            ..trailer.clone()
        };
        bytes.extend(sealer.pack_open(RecordKind::Trailer, &trailer.to_bytes())?);
        Ok(Addition {
            volume: at.volume,
            offset: at.offset.saturating_add(TRAILER_BYTES as u64),
            bytes,
        })
    }
}
