//! Which block's source symbols go out next.
//!
//! A carousel: ascending over the blocks somebody is owed, round and round, skipping the
//! rest. Whoever joins late gets what is left of this round, then the part it missed.

use crate::blockset::BlockSet;

#[derive(Clone, Debug, Default)]
pub(crate) struct Carousel {
    position: u32,
    rounds: u32,
}

impl Carousel {
    /// The next wanted block at or after the position, going round at the end.
    pub(crate) fn next(&mut self, wanted: &BlockSet) -> Option<u32> {
        let block = match wanted.next(self.position) {
            Some(block) => block,
            None => {
                let block = wanted.next(0)?;
                self.rounds = self.rounds.saturating_add(1);
                block
            }
        };
        self.position = block.saturating_add(1);
        Some(block)
    }

    /// What comes next, if nothing else is wanted meanwhile.
    pub(crate) fn upcoming<'a>(&self, wanted: &'a BlockSet) -> impl Iterator<Item = u32> + use<'a> {
        let start = self.position;
        let from_here = wanted.iter_from(start);
        from_here.chain(wanted.iter().take_while(move |block| *block < start))
    }

    /// Times it went round.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds
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
        assert_eq!(carousel.rounds(), 0);
        assert_eq!(carousel.upcoming(&wanted).collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(carousel.next(&wanted), Some(0));
        assert_eq!(carousel.upcoming(&wanted).collect::<Vec<_>>(), [1, 3, 0]);
        assert_eq!(carousel.rounds(), 1);
        assert_eq!(carousel.next(&BlockSet::empty(5)), None);
    }
}
