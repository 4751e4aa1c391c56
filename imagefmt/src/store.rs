//! The volumes of an image, read by offset. Every read stays within the existing bytes.

use positioned_io::ReadAt;

use crate::error::{FormatError, Result, to_usize};
use crate::names::Class;
use crate::prologue::{MAGIC, PROLOGUE_BYTES, Prologue, named};
use crate::record::{HEADER_BYTES, Header};
use crate::{Position, RecordKind};

/// One volume and its length in bytes.
#[derive(Debug)]
pub struct Volume<R> {
    /// Reader of the volume's bytes.
    pub reader: R,
    /// Length of the volume in bytes.
    pub len: u64,
}

/// True if an image is divided into volumes according to the prologue of its first volume, which
/// has `len` bytes.
///
/// # Errors
/// The error of a prologue that cannot be read, is truncated or is not valid.
pub fn is_divided<R: ReadAt>(reader: R, len: u64) -> Result<bool> {
    let volumes = vec![Volume { reader, len }];
    Ok(Store { volumes }.volume_prologue(0)?.divided)
}

#[derive(Debug)]
pub(crate) struct Store<R> {
    pub(crate) volumes: Vec<Volume<R>>,
}

impl<R: ReadAt> Store<R> {
    /// Length of all volumes in bytes.
    pub(crate) fn total_len(&self) -> u64 {
        self.volumes
            .iter()
            .fold(0, |sum, volume| sum.saturating_add(volume.len))
    }

    /// Number of volumes.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.volumes.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn volume_len(&self, volume: u32) -> u64 {
        self.volume(volume).map_or(0, |volume| volume.len)
    }

    fn volume(&self, number: u32) -> Result<&Volume<R>> {
        self.volumes
            .get(number as usize)
            .ok_or(FormatError::VolumeMissing {
                number: number.saturating_add(1),
            })
    }

    /// Fills `buffer` from this position.
    pub(crate) fn read(&self, at: Position, buffer: &mut [u8]) -> Result<()> {
        let volume = self.volume(at.volume)?;
        let end = at.offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > volume.len) {
            return Err(FormatError::Truncated {
                len: self.total_len(),
            });
        }
        volume
            .reader
            .read_exact_at(at.offset, buffer)
            .map_err(|source| FormatError::Io {
                offset: at.offset,
                source,
            })
    }

    /// Reads `len` bytes after a check that they exist.
    pub(crate) fn read_vec(&self, at: Position, len: u64, out: &mut Vec<u8>) -> Result<()> {
        let end = at.offset.checked_add(len);
        if end.is_none_or(|end| end > self.volume_len(at.volume)) {
            return Err(FormatError::Truncated {
                len: self.total_len(),
            });
        }
        // The buffer is not cleared first: only growth is filled with zeros, so a reused buffer
        // costs nothing.
        out.resize(to_usize(len, "length of a record")?, 0);
        self.read(at, out)
    }

    pub(crate) fn volume_prologue(&self, number: u32) -> Result<Prologue> {
        let len = self.volume(number)?.len.min(PROLOGUE_BYTES as u64);
        let mut bytes = Vec::with_capacity(PROLOGUE_BYTES);
        self.read_vec(
            Position {
                volume: number,
                offset: 0,
            },
            len,
            &mut bytes,
        )?;
        // A copy that stopped within the first eight bytes is still recognised as an image.
        if !bytes.is_empty() && bytes.len() < MAGIC.len() && MAGIC.starts_with(&bytes) {
            return Err(FormatError::Truncated {
                len: bytes.len() as u64,
            });
        }
        Prologue::parse(&bytes)
    }

    /// Reads the header at this position and checks it against the image it should belong to.
    pub(crate) fn header(&self, prologue: &Prologue, at: Position) -> Result<Header> {
        let mut bytes = [0; HEADER_BYTES];
        self.read(at, &mut bytes)?;
        let header = Header::parse(&bytes, &prologue.geometry, at.offset).map_err(|error| {
            [Class::Codec, Class::Cipher, Class::Hash]
                .into_iter()
                .fold(error, |error, class| named(error, class, &prologue.names))
        })?;
        if header.uuid_prefix != prologue.image_uuid[..8] {
            return Err(header.damaged(at.offset, "it belongs to another image"));
        }
        let open = matches!(
            header.kind,
            RecordKind::Signature | RecordKind::Prologue | RecordKind::Trailer
        );
        let foreign = matches!(header.kind, RecordKind::Other(_));
        if !foreign && header.encrypted != (prologue.encrypted() && !open) {
            return Err(header.damaged(
                at.offset,
                "it is encrypted and the image is not, or the other way round",
            ));
        }
        Ok(header)
    }

    /// Reads the stored bytes of the record with this header. Its padding is checked too, so that
    /// every byte of a file is covered by a check.
    pub(crate) fn stored(&self, header: &Header, at: Position, out: &mut Vec<u8>) -> Result<()> {
        let stored = to_usize(header.stored_len, "length of a record")?;
        let len = header.record_len().saturating_sub(HEADER_BYTES as u64);
        self.read_vec(body_at(at), len, out)?;
        if out
            .get(stored..)
            .is_none_or(|padding| padding.iter().any(|&byte| byte != 0))
        {
            return Err(header.damaged(at.offset, "the bytes that fill it up are not zero"));
        }
        out.truncate(stored);
        Ok(())
    }
}

/// Start of the stored bytes of a record. Offsets were checked when its header was read.
fn body_at(at: Position) -> Position {
    Position {
        offset: at.offset.saturating_add(HEADER_BYTES as u64),
        ..at
    }
}
