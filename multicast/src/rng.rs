//! Pseudo-random jitter from a seed. It must not be used for secrets.

/// The SplitMix64 generator: one word of state, good enough to spread reports over an interval.
#[derive(Clone, Debug)]
pub(crate) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number in `0..bound`; 0 when the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31).checked_rem(bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Jitter;

    #[test]
    fn same_seed_same_numbers_all_below_the_bound() {
        let (mut one, mut other) = (Jitter::new(4), Jitter::new(4));
        for bound in [1, 2, 1000, u64::MAX] {
            let number = one.below(bound);
            assert!(number < bound);
            assert_eq!(number, other.below(bound));
        }
        assert_eq!(one.below(0), 0);
    }
}
