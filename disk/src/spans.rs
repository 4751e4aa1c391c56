//! Joins runs of a chunk that are close together: one large transfer costs a disk less than a
//! hundred small ones.
//!
//! A file system after years of use has runs of one block with free blocks between them. Free
//! blocks have no content, so a write may fill them with zeros, and a read may include and drop
//! them. Pure.

use std::ops::Range;

/// Most free bytes that are transferred with the used ones on both sides rather than skipped: about
/// the amount a disk transfers in the time of one request.
const BRIDGE_BYTES: u32 = 64 << 10;

/// Joins ascending runs with gaps of at most a bridge.
pub(super) fn spans(runs: impl Iterator<Item = Range<u32>>) -> impl Iterator<Item = Range<u32>> {
    let mut runs = runs.peekable();
    std::iter::from_fn(move || {
        let mut span = runs.next()?;
        while let Some(next) =
            runs.next_if(|next| next.start.saturating_sub(span.end) <= BRIDGE_BYTES)
        {
            span.end = next.end;
        }
        Some(span)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_and_what_is_far_stays_apart() {
        let far = 8192 + BRIDGE_BYTES + 4096;
        let runs = [0..4096, 8192..12288, far + 4096..far + 8192];
        let all: Vec<_> = spans(runs.into_iter()).collect();
        assert_eq!(all, [0..12288, far + 4096..far + 8192]);
        assert_eq!(spans(std::iter::empty()).count(), 0);
    }
}
