//! The end of an image: its last trailer, signatures and labels, and the copies of its prologue.
//!
//! Owns the redundancy of the prologue and the trailer: the prologue is stored again directly
//! before the trailer and at the start of each volume, and the trailer is found even if bytes were
//! added behind it, as in copies made in whole blocks. Always holds: a trailer counts only if its
//! own end position is right, so a trailer inside the content of another image is never taken for
//! that image's own.

use positioned_io::ReadAt;

use crate::error::{FormatError, Result};
use crate::prologue::{PROLOGUE_BYTES, Prologue};
use crate::record::{ALIGN, HEADER_BYTES, RecordKind, SYNC, raw_kind, stored_len};
use crate::seal::Keys;
use crate::sign::{self, VerifyingKey};
use crate::store::Store;
use crate::trailer::{BODY_BYTES, TRAILER_BYTES, Trailer};
use crate::{Labels, Position, Root};

/// Length in bytes of the record with the copy of the prologue. It ends at the start of the
/// trailer.
pub(crate) const COPY_RECORD_BYTES: usize = HEADER_BYTES + PROLOGUE_BYTES;
/// Largest number of bytes behind the end with which a trailer is still found.
const SEARCH_MAX: u64 = 16 << 20;
/// The same limit for a divided image, where each volume is searched because it may be the last.
const SEARCH_MAX_DIVIDED: u64 = 1 << 20;
/// Number of bytes examined in one read.
const WINDOW: u64 = 64 << 10;
/// Largest number of records between index and trailer that are read; there are only signatures and
/// labels.
const TAIL_RECORDS_MAX: usize = 4096;

impl<R: ReadAt> Store<R> {
    /// Returns the properties common to all volumes, from the first valid prologue: the first
    /// volume's own, its copy before the trailer, or that of a later volume.
    pub(crate) fn prologue(&self) -> Result<Prologue> {
        let own = self.volume_prologue(0);
        let first = match own {
            Ok(first) => first,
            Err(error) => self.other_prologue().ok_or(error)?,
        };
        if first.volume != 0 {
            return Err(FormatError::VolumeMismatch {
                expected: 1,
                found: first.volume.saturating_add(1),
            });
        }
        for number in 1..self.count() {
            let next = match self.volume_prologue(number) {
                Ok(next) => next,
                // Only its prologue is damaged if a record of this image follows it.
                Err(_) if self.header(&first, behind_prologue(number)).is_ok() => continue,
                Err(error) => return Err(error),
            };
            if next.as_first() != first || next.volume != number {
                return Err(FormatError::VolumeMismatch {
                    expected: number + 1,
                    found: next.volume.saturating_add(1),
                });
            }
        }
        Ok(first)
    }

    /// The volumes with an invalid prologue.
    pub(crate) fn damaged_prologues(&self) -> Vec<u32> {
        (0..self.count())
            .filter(|&number| self.volume_prologue(number).is_err())
            .collect()
    }

    /// Finds a prologue to be used instead of the first volume's own.
    fn other_prologue(&self) -> Option<Prologue> {
        let last = self.count().checked_sub(1)?;
        let copy = self.search_trailer(last, SEARCH_MAX, |at| {
            let at = Position {
                offset: at.offset.checked_sub(COPY_RECORD_BYTES as u64)?,
                ..at
            };
            let mut bytes = [0; COPY_RECORD_BYTES];
            self.read(at, &mut bytes).ok()?;
            let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>()?;
            let fits = raw_kind(header) == Some(RecordKind::Prologue)
                && stored_len(header) == PROLOGUE_BYTES as u64;
            // Its own hash shows if it is intact.
            let prologue = fits.then(|| Prologue::parse(body).ok()).flatten()?;
            self.header(&prologue, at).is_ok().then_some(prologue)
        });
        copy.or_else(|| {
            (1..self.count()).find_map(|number| {
                let prologue = self.volume_prologue(number).ok()?;
                (prologue.volume == number).then(|| prologue.as_first())
            })
        })
    }

    /// Returns the last valid trailer and its position.
    pub(crate) fn trailer(&self, prologue: &Prologue) -> Result<(Trailer, Position)> {
        let last = self.count().saturating_sub(1);
        let limit = if prologue.divided {
            SEARCH_MAX_DIVIDED
        } else {
            SEARCH_MAX
        };
        let mut refused = None;
        let found = self.search_trailer(last, limit, |at| match self.trailer_at(prologue, at) {
            Ok(trailer) => Some((trailer, at)),
            Err(error) => {
                refused = refused.take().or(Some(error));
                None
            }
        });
        if let Some(found) = found {
            return Ok(found);
        }
        Err(match refused {
            Some(error) => error,
            None if prologue.divided => FormatError::VolumeMissing {
                number: last.saturating_add(2),
            },
            None => FormatError::Truncated {
                len: self.total_len(),
            },
        })
    }

    fn trailer_at(&self, prologue: &Prologue, at: Position) -> Result<Trailer> {
        let header = self.header(prologue, at)?;
        let damaged = |reason| FormatError::Damaged {
            what: "trailer",
            offset: at.offset,
            reason,
        };
        if header.stored_len != BODY_BYTES as u64 {
            return Err(damaged("its length is wrong"));
        }
        let mut body = Vec::new();
        self.stored(&header, at, &mut body)?;
        header.check_stored(&body, at.offset)?;
        let trailer = Trailer::parse(&header.plain(body, None, at.offset)?, at.offset)?;
        let before = (0..at.volume).fold(0_u64, |sum, number| {
            sum.saturating_add(self.volume_len(number))
        });
        let end = before
            .saturating_add(at.offset)
            .saturating_add(TRAILER_BYTES as u64);
        // The other volumes may have grown in copying, like the last one.
        let fits = match at.volume {
            0 => end == trailer.total_len,
            _ => end >= trailer.total_len,
        };
        if !fits || trailer.volumes != self.count() {
            return Err(damaged(
                "volumes are missing, or bytes were lost or added in copying",
            ));
        }
        Ok(trailer)
    }

    /// Calls `ask` for each position at the end of a volume that looks like a trailer, the last one
    /// first, until it returns a value.
    fn search_trailer<T>(
        &self,
        volume: u32,
        limit: u64,
        mut ask: impl FnMut(Position) -> Option<T>,
    ) -> Option<T> {
        let len = self.volume_len(volume);
        let behind = PROLOGUE_BYTES as u64;
        let mut end = (len / ALIGN * ALIGN).max(behind);
        let stop = len.saturating_sub(limit).max(behind);
        let mut window = Vec::new();
        while end > stop {
            let start = end.saturating_sub(WINDOW).max(stop);
            let start = start.next_multiple_of(ALIGN);
            let at = Position {
                volume,
                offset: start,
            };
            // A window that cannot be read is skipped.
            if start < end && self.read_vec(at, end - start, &mut window).is_ok() {
                let step = usize::try_from(ALIGN).unwrap_or(64);
                let places = window.chunks(step).enumerate().rev();
                let found = places
                    .filter(|(_, piece)| {
                        piece.starts_with(&SYNC)
                            && piece.get(8) == Some(&RecordKind::Trailer.code())
                    })
                    .find_map(|(index, _)| {
                        let offset = start + index as u64 * ALIGN;
                        ask(Position { volume, offset })
                    });
                if found.is_some() {
                    return found;
                }
            }
            if start <= stop {
                break;
            }
            end = start;
        }
        None
    }

    /// Reads the records between the index and the end: signatures, each checked against the root,
    /// and the last labels.
    ///
    /// # Errors
    /// [`FormatError::BadSignature`] for a signature that is not valid. A damaged record is ignored
    /// here; the check of stored bytes reports it.
    pub(crate) fn tail(
        &self,
        prologue: &Prologue,
        trailer: &Trailer,
        trailer_at: Position,
        root: &Root,
    ) -> Result<Tail> {
        let mut at = Position {
            offset: trailer.index.offset.saturating_add(trailer.index_len),
            ..trailer.index
        };
        let mut tail = Tail::default();
        let mut body = Vec::new();
        for _ in 0..TAIL_RECORDS_MAX {
            if at.volume != trailer_at.volume || at.offset >= trailer_at.offset {
                break;
            }
            let Ok(header) = self.header(prologue, at) else {
                break;
            };
            let whole = matches!(header.kind, RecordKind::Signature | RecordKind::Labels)
                && self.stored(&header, at, &mut body).is_ok()
                && header.check_stored(&body, at.offset).is_ok();
            if whole && header.kind == RecordKind::Labels {
                tail.labels = Some(at);
            } else if whole && let Some(key) = sign::check(&body, root)? {
                tail.signatures.push((key, body.clone()));
            }
            at.offset = at.offset.saturating_add(header.record_len());
        }
        Ok(tail)
    }

    /// Reads the labels at this position; empty if they are not valid, because nothing depends on
    /// them.
    pub(crate) fn labels(&self, prologue: &Prologue, keys: Option<&Keys>, at: Position) -> Labels {
        let read = || {
            let header = self.header(prologue, at)?;
            let mut body = Vec::new();
            self.stored(&header, at, &mut body)?;
            header.open_body(keys, &mut body, at.offset)?;
            Labels::from_json(&header.plain(body, keys.map(|keys| &keys.id), at.offset)?)
        };
        read().unwrap_or_default()
    }
}

/// The records between index and trailer.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// The keys of the signatures, with the bodies of their records.
    pub(crate) signatures: Vec<(VerifyingKey, Vec<u8>)>,
    /// Position of the labels that count.
    pub(crate) labels: Option<Position>,
}

impl Tail {
    pub(crate) fn signers(&self) -> Vec<VerifyingKey> {
        self.signatures.iter().map(|(key, _)| *key).collect()
    }
}

fn behind_prologue(volume: u32) -> Position {
    Position {
        volume,
        offset: PROLOGUE_BYTES as u64,
    }
}
