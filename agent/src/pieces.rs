//! Chunks that span blocks: a chunk larger than a block is whole only when all its blocks have
//! come.
//!
//! Holds the parts of such chunks until they are complete. Chunks of the default size do not span
//! blocks.

use multicast::Part;
use std::collections::HashMap;

/// Parts of incomplete chunks.
#[derive(Default)]
pub(super) struct Pieces {
    partial: HashMap<u32, Partial>,
}

struct Partial {
    bytes: Vec<u8>,
    /// Offsets of the parts that have come; the same part may come twice.
    parts: Vec<u32>,
    filled: usize,
}

impl Pieces {
    /// Adds a part of a chunk of `len` bytes; returns the whole chunk once no part is missing.
    pub(super) fn add(&mut self, part: &Part, len: usize, bytes: &[u8]) -> Option<Vec<u8>> {
        let partial = self.partial.entry(part.piece).or_insert_with(|| Partial {
            bytes: vec![0; len],
            parts: Vec::new(),
            filled: 0,
        });
        if !partial.parts.contains(&part.piece_offset) {
            let at = part.piece_offset as usize;
            partial
                .bytes
                .get_mut(at..at.checked_add(bytes.len())?)?
                .copy_from_slice(bytes);
            partial.parts.push(part.piece_offset);
            partial.filled += bytes.len();
        }
        if partial.filled < len {
            return None;
        }
        self.partial
            .remove(&part.piece)
            .map(|partial| partial.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(piece: u32, piece_offset: u32, len: u32) -> Part {
        Part {
            piece,
            piece_offset,
            block_offset: 0,
            len,
        }
    }

    #[test]
    fn a_piece_is_whole_when_its_last_part_came_in_any_order_and_twice() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.add(&part(7, 3, 2), 5, b"de"), None);
        assert_eq!(pieces.add(&part(7, 3, 2), 5, b"de"), None);
        assert_eq!(
            pieces.add(&part(7, 0, 3), 5, b"abc").as_deref(),
            Some(b"abcde".as_slice())
        );
        assert_eq!(pieces.add(&part(7, 0, 3), 5, b"abc"), None);
    }

    #[test]
    fn a_part_outside_its_piece_is_ignored() {
        assert_eq!(Pieces::default().add(&part(1, 4, 2), 5, b"xy"), None);
    }
}
