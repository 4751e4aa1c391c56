//! The order in which the source symbols of blocks are sent.
//!
//! A carousel goes over the owed blocks in ascending order, again and again, and skips the rest. A
//! receiver that joins late gets the rest of the current round, then the part it missed.

use crate::block::blockset::BlockSet;

#[derive(Clone, Debug, Default)]
pub(crate) struct Carousel {
    position: u32,
}

impl Carousel {
    /// The next wanted block at or after the position; the search wraps around at the end.
    pub(crate) fn next(&mut self, wanted: &BlockSet) -> Option<u32> {
        let block = wanted.next(self.position).or_else(|| wanted.next(0))?;
        self.position = block.saturating_add(1);
        Some(block)
    }

    /// The order of the next blocks, if the set of wanted blocks does not change.
    pub(crate) fn upcoming<'a>(&self, wanted: &'a BlockSet) -> impl Iterator<Item = u32> + use<'a> {
        let start = self.position;
        let from_here = wanted.iter_from(start);
        from_here.chain(wanted.iter().take_while(move |block| *block < start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round_over_what_is_wanted() {
        let mut wanted = BlockSet::full(5);
        let mut carousel = Carousel::default();
        assert_eq!(carousel.next(&wanted), Some(0));
        assert_eq!(carousel.next(&wanted), Some(1));
        wanted.remove(2);
        wanted.remove(4);
        assert_eq!(carousel.next(&wanted), Some(3));
        assert_eq!(carousel.upcoming(&wanted).collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(carousel.next(&wanted), Some(0));
        assert_eq!(carousel.upcoming(&wanted).collect::<Vec<_>>(), [1, 3, 0]);
        assert_eq!(carousel.next(&BlockSet::empty(5)), None);
    }
}
