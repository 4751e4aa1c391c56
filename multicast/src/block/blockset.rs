//! A set of block indexes of one object, stored as a bitmap.
//!
//! The set covers the indexes `0..len` and never grows: an index past the end is neither inserted
//! nor found. The number of members is kept beside the bitmap, so `count` takes constant time.

use std::ops::Range;

const WORD_BITS: u32 = 64;

/// A set of blocks of an object with a fixed number of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSet {
    words: Vec<u64>,
    len: u32,
    count: u32,
}

impl BlockSet {
    /// The empty set over `len` blocks.
    #[must_use]
    pub fn empty(len: u32) -> Self {
        Self {
            words: vec![0; len.div_ceil(WORD_BITS) as usize],
            len,
            count: 0,
        }
    }

    /// The set of all `len` blocks.
    #[must_use]
    pub fn full(len: u32) -> Self {
        let mut set = Self::empty(len);
        set.insert_range(0..len);
        set
    }

    /// Number of blocks of the object, members or not.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Number of blocks in the set.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// True if no block is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True if every block is in the set.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count == self.len
    }

    /// True if `index` is in the set; false past the end.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        index < self.len
            && self
                .words
                .get((index / WORD_BITS) as usize)
                .is_some_and(|word| word >> (index % WORD_BITS) & 1 == 1)
    }

    /// Inserts `index`; true if it was not in the set and is now.
    pub fn insert(&mut self, index: u32) -> bool {
        if index >= self.len {
            return false;
        }
        let bit = 1 << (index % WORD_BITS);
        match self.words.get_mut((index / WORD_BITS) as usize) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    /// Removes `index`; true if it was in the set.
    pub fn remove(&mut self, index: u32) -> bool {
        if index >= self.len {
            return false;
        }
        let bit = 1 << (index % WORD_BITS);
        match self.words.get_mut((index / WORD_BITS) as usize) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                self.count -= 1;
                true
            }
            _ => false,
        }
    }

    /// Inserts a range of indexes; the part past the end is ignored.
    pub fn insert_range(&mut self, range: Range<u32>) {
        let (start, end) = (range.start, range.end.min(self.len));
        if start >= end {
            return;
        }
        let (first, last) = (start / WORD_BITS, (end - 1) / WORD_BITS);
        for (number, word) in (first..=last).zip(self.words.iter_mut().skip(first as usize)) {
            let mut mask = u64::MAX;
            if number == first {
                mask &= u64::MAX << (start % WORD_BITS);
            }
            if number == last {
                mask &= u64::MAX >> (WORD_BITS - 1 - (end - 1) % WORD_BITS);
            }
            self.count += (mask & !*word).count_ones();
            *word |= mask;
        }
    }

    /// Removes all members of `other`, a set over the same blocks.
    pub fn subtract(&mut self, other: &Self) {
        for (word, taken) in self.words.iter_mut().zip(&other.words) {
            self.count -= (*word & taken).count_ones();
            *word &= !taken;
        }
    }

    /// Removes all members that are not in `other`, a set over the same blocks.
    pub fn intersect(&mut self, other: &Self) {
        for (at, word) in self.words.iter_mut().enumerate() {
            let kept = *word & other.words.get(at).copied().unwrap_or(0);
            self.count -= (*word ^ kept).count_ones();
            *word = kept;
        }
    }

    /// Inserts all members of `other`; nothing if `other` is a set over another number of blocks.
    pub fn unite(&mut self, other: &Self) {
        if other.len != self.len {
            return;
        }
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            self.count += (more & !*word).count_ones();
            *word |= more;
        }
    }

    /// The first member at or after `from`.
    #[must_use]
    pub fn next(&self, from: u32) -> Option<u32> {
        if from >= self.len {
            return None;
        }
        let first = from / WORD_BITS;
        let mut mask = u64::MAX << (from % WORD_BITS);
        for (number, word) in (first..).zip(self.words.get(first as usize..)?) {
            let rest = word & mask;
            if rest != 0 {
                return Some(number * WORD_BITS + rest.trailing_zeros());
            }
            mask = u64::MAX;
        }
        None
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter_from(0)
    }

    /// The members at or after `from`, ascending.
    pub fn iter_from(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        let mut from = from;
        std::iter::from_fn(move || {
            let found = self.next(from)?;
            from = found + 1;
            Some(found)
        })
    }

    /// The members as maximal runs, ascending.
    pub fn runs(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let start = self.next(from)?;
            let mut end = start + 1;
            while self.contains(end) {
                end += 1;
            }
            from = end;
            Some(start..end)
        })
    }

    /// The set of the blocks that are not in this one.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut other = Self::full(self.len);
        other.subtract(self);
        other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ends_are_exact() {
        for len in [0, 1, 63, 64, 65, 200] {
            let full = BlockSet::full(len);
            assert_eq!(full.count(), len);
            assert!(!full.contains(len));
            assert_eq!(full.iter().count(), len as usize);
            assert!(full.complement().is_empty());
            let mut set = BlockSet::empty(len);
            assert!(!set.insert(len));
            assert_eq!(set.next(0), None);
        }
    }

    #[test]
    fn whole_sets_behave_as_their_members() {
        let len = 200;
        let ranges = [
            0..0,
            0..1,
            5..64,
            63..65,
            64..128,
            100..300,
            199..200,
            250..260,
        ];
        for one in &ranges {
            for other in &ranges {
                let set = |range: &Range<u32>| {
                    let mut set = BlockSet::empty(len);
                    set.insert_range(range.clone());
                    set
                };
                let (a, b) = (set(one), set(other));
                let members = |keep: &dyn Fn(u32) -> bool| {
                    let mut set = BlockSet::empty(len);
                    for index in (0..len).filter(|index| keep(*index)) {
                        set.insert(index);
                    }
                    set
                };
                assert_eq!(a, members(&|index| one.contains(&index)));
                let (mut less, mut both, mut either) = (a.clone(), a.clone(), a.clone());
                less.subtract(&b);
                both.intersect(&b);
                either.unite(&b);
                let (ina, inb) = (|i| one.contains(&i), |i| other.contains(&i));
                assert_eq!(less, members(&|index| ina(index) && !inb(index)));
                assert_eq!(both, members(&|index| ina(index) && inb(index)));
                assert_eq!(either, members(&|index| ina(index) || inb(index)));
            }
        }
        // Sets over different objects have nothing in common.
        let mut set = BlockSet::full(10);
        set.unite(&BlockSet::full(200));
        set.intersect(&BlockSet::empty(0));
        assert_eq!((set.len(), set.count()), (10, 0));
    }

    #[test]
    fn behaves_as_the_slow_obvious_twin() {
        let mut set = BlockSet::empty(150);
        let mut twin = BTreeSet::new();
        let mut state = 7_u32;
        for _ in 0..2000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let index = (state >> 8) % 150;
            if state & 1 == 0 {
                assert_eq!(set.insert(index), twin.insert(index));
            } else {
                assert_eq!(set.remove(index), twin.remove(&index));
            }
            assert_eq!(set.count() as usize, twin.len());
            assert_eq!(set.next(index), twin.range(index..).next().copied());
        }
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            twin.iter().copied().collect::<Vec<_>>()
        );
        let runs: Vec<u32> = set.runs().flatten().collect();
        assert_eq!(runs, twin.into_iter().collect::<Vec<_>>());
    }
}
