//! Update sequences: the protection of records, index blocks and restart pages against torn writes.
//!
//! On disk each 512 bytes of a block end with the update sequence number; the true words are kept
//! in an array in the header of the block. [`undo`] puts the true words back, [`redo`] replaces them
//! again by the next number. No function panics.

use super::layout::block::{AT_LOG, AT_MAGIC, AT_SEQUENCE, AT_SEQUENCE_COUNT};
use crate::volume::Fields;

/// Bytes that one entry of an update sequence protects, whatever the sector size.
pub const STRIDE: usize = 512;

/// The reason why the true words of a block are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The block begins with other letters.
    #[error("it does not begin with its letters")]
    Magic,
    /// The array is not where an array can be, or does not protect the whole block.
    #[error("its update sequence is malformed")]
    Malformed,
    /// A part of the block is older or newer than another.
    #[error("it was torn while being written")]
    Torn,
}

impl Fault {
    /// Text of the fault; `magic` says that the first letters are wrong.
    pub(super) const fn what(self, magic: &'static str) -> &'static str {
        match self {
            Self::Magic => magic,
            Self::Malformed => "its update sequence is malformed",
            Self::Torn => "it was torn while being written",
        }
    }
}

/// Puts the true words back into a block that begins with `magic`.
///
/// # Errors
///
/// The block is another one, or torn; some of its words may then be changed.
pub fn undo(block: &mut [u8], magic: &[u8; 4]) -> Result<(), Fault> {
    if Fields(block).bytes(AT_MAGIC, magic.len()).ok() != Some(magic.as_slice()) {
        return Err(Fault::Magic);
    }
    let (at, count) = array_of(block).ok_or(Fault::Malformed)?;
    let array = Fields(block)
        .bytes(at, count * 2)
        .map_err(|_| Fault::Malformed)?
        .to_vec();
    let (number, words) = array.split_at_checked(2).ok_or(Fault::Malformed)?;
    for (stride, word) in block.chunks_exact_mut(STRIDE).zip(words.chunks_exact(2)) {
        match stride.last_chunk_mut::<2>() {
            Some(end) if end == number => end.copy_from_slice(word),
            _ => return Err(Fault::Torn),
        }
    }
    Ok(())
}

/// Reverse of [`undo`], with the next update sequence number. A block that did not come out of
/// [`undo`] stays as it is.
pub fn redo(block: &mut [u8]) {
    let Some((at, count)) = array_of(block) else {
        return;
    };
    // 0 and 0xFFFF are not used as sequence numbers.
    let number = Fields(block).u16(at).unwrap_or(0);
    let next = match number.wrapping_add(1) {
        0 | 0xFFFF => 1,
        next => next,
    };
    let mut array = next.to_le_bytes().to_vec();
    for stride in block.chunks_exact_mut(STRIDE) {
        if let Some(end) = stride.last_chunk_mut::<2>() {
            array.extend_from_slice(end);
            end.copy_from_slice(&next.to_le_bytes());
        }
    }
    if let Some(place) = block.get_mut(at..at + count * 2) {
        place.copy_from_slice(&array);
    }
}

/// Sets the array to zeros, for a comparison of blocks.
pub(super) fn clear(block: &mut [u8]) {
    if let Some((at, count)) = array_of(block)
        && let Some(array) = block.get_mut(at..at + count * 2)
    {
        array.fill(0);
    }
}

/// Offset of the array, and its number of words: the sequence number and one for each stride. The
/// array lies before the first word that it protects.
fn array_of(block: &[u8]) -> Option<(usize, usize)> {
    let at = usize::from(Fields(block).u16(AT_SEQUENCE).ok()?);
    let count = usize::from(Fields(block).u16(AT_SEQUENCE_COUNT).ok()?);
    let strides = block.len() / STRIDE;
    let fits = block.len().is_multiple_of(STRIDE)
        && strides > 0
        && count == strides + 1
        && at % 2 == 0
        && at >= AT_LOG
        && at + count * 2 <= STRIDE - 2;
    fits.then_some((at, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block() -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        bytes[..4].copy_from_slice(b"FILE");
        bytes[4] = 0x30;
        bytes[6] = 3;
        bytes[0x30..0x32].copy_from_slice(&7u16.to_le_bytes());
        bytes[0x32..0x36].copy_from_slice(&[1, 2, 3, 4]);
        for end in [510, 1022] {
            bytes[end..end + 2].copy_from_slice(&7u16.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_block_comes_back_and_a_torn_one_does_not() {
        let mut bytes = block();
        undo(&mut bytes, b"FILE").unwrap();
        assert_eq!(
            (&bytes[510..512], &bytes[1022..]),
            (&[1, 2][..], &[3, 4][..])
        );
        let plain = bytes.clone();
        redo(&mut bytes);
        assert_eq!(bytes[510..512], 8u16.to_le_bytes());
        undo(&mut bytes, b"FILE").unwrap();
        assert_eq!(bytes[0x32..], plain[0x32..]);
        for (at, byte, fault) in [
            (510, 9, Fault::Torn),
            (1023, 9, Fault::Torn),
            (0, b'B', Fault::Magic),
            (6, 4, Fault::Malformed),
            (4, 0x31, Fault::Malformed),
            (4, 4, Fault::Malformed),
            (5, 2, Fault::Malformed),
        ] {
            let mut bytes = block();
            bytes[at] = byte;
            assert_eq!(undo(&mut bytes, b"FILE"), Err(fault), "{at}");
        }
        assert_eq!(undo(&mut block()[..1000], b"FILE"), Err(Fault::Malformed));
        assert_eq!(undo(&mut [], b"FILE"), Err(Fault::Magic));
    }

    #[test]
    fn sequence_numbers_leave_out_zero_and_all_ones() {
        for (before, after) in [(0xFFFEu16, 1u16), (0xFFFF, 1), (7, 8)] {
            let mut bytes = block();
            for at in [0x30, 510, 1022] {
                bytes[at..at + 2].copy_from_slice(&before.to_le_bytes());
            }
            undo(&mut bytes, b"FILE").unwrap();
            redo(&mut bytes);
            assert_eq!(bytes[510..512], after.to_le_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_block_or_none(mut bytes in proptest::collection::vec(any::<u8>(), 0..2048), header in any::<bool>()) {
            if header && bytes.len() >= 8 {
                let count = u8::try_from(bytes.len() / STRIDE + 1).unwrap();
                bytes[..8].copy_from_slice(&[b'F', b'I', b'L', b'E', 0x30, 0, count, 0]);
            }
            let _ = undo(&mut bytes, b"FILE");
            redo(&mut bytes);
        }
    }
}
