//! Places of an image's bytes on a target: their own offsets, or a partition that begins elsewhere.

use std::ops::Range;

/// A range of the image and its first byte on the target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    /// Range of the master disk; bytes outside have no place on the target.
    image: Range<u64>,
    /// Offset of its first byte on the target.
    start: u64,
}

impl Place {
    /// The whole disk: every byte at its own offset.
    pub(super) fn whole() -> Self {
        Self {
            image: 0..u64::MAX,
            start: 0,
        }
    }

    /// A partition of the image that begins at `start` of the target.
    pub(super) fn partition(image: Range<u64>, start: u64) -> Self {
        Self { image, start }
    }

    /// The part of a run that has a place, counted from the run's start, and its offset on the
    /// target.
    pub(super) fn of(&self, run: Range<u64>) -> Option<(Range<usize>, u64)> {
        let from = run.start.max(self.image.start);
        let to = run.end.min(self.image.end);
        let part = usize::try_from(from.checked_sub(run.start)?).ok()?
            ..usize::try_from(to.checked_sub(run.start)?).ok()?;
        (from < to).then(|| (part, from - self.image.start + self.start))
    }

    /// True when every byte of the run has a place.
    pub(super) fn holds(&self, run: &Range<u64>) -> bool {
        self.image.start <= run.start && run.end <= self.image.end
    }

    /// The first `len` bytes of the image that have a place.
    pub(super) fn front(&self, len: u64) -> Range<u64> {
        self.image.start..self.image.start.saturating_add(len).min(self.image.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_cut_at_the_borders_of_the_partition_and_moves_with_it() {
        let place = Place::partition(1000..5000, 70_000);
        assert_eq!(place.of(0..1000), None);
        assert_eq!(place.of(500..1500), Some((500..1000, 70_000)));
        assert_eq!(place.of(2000..2100), Some((0..100, 71_000)));
        assert_eq!(place.of(4990..6000), Some((0..10, 73_990)));
        assert_eq!(place.of(5000..6000), None);
        assert!(place.holds(&(1000..5000)) && !place.holds(&(999..1001)));
        assert_eq!(place.front(512), 1000..1512);
        assert_eq!(Place::whole().of(7..9), Some((0..2, 7)));
    }
}
