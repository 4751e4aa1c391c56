//! A set of byte positions, stored as sorted runs.
//!
//! Owns the set arithmetic for bytes: those that a file system uses, those that table sectors
//! cover, and the difference between two sets. It never interprets the bytes.
//!
//! Always holds: runs are sorted, disjoint, not empty, and never adjacent (adjacent runs are
//! joined), so two sets with the same positions compare equal. No function panics.

use std::ops::Range;

/// A set of `u64` positions (bytes, unless the caller says otherwise) as sorted, disjoint runs.
///
/// An insert in ascending order takes constant time, which is the case when a bitmap is read. Any
/// other insert is a binary search and a move of the later runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtentSet {
    runs: Vec<Range<u64>>,
}

impl ExtentSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { runs: Vec::new() }
    }

    /// Adds a run. An empty or reversed range adds nothing.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        // Ascending input is the usual case: the last run is extended, or a new one is added.
        match self.runs.last_mut() {
            None => return self.runs.push(range),
            Some(last) if last.end < range.start => return self.runs.push(range),
            Some(last) if last.start <= range.start => {
                last.end = last.end.max(range.end);
                return;
            }
            Some(_) => {}
        }
        // The runs first..after overlap or touch `range`; all of them become one.
        let first = self.runs.partition_point(|run| run.end < range.start);
        let after = self.runs.partition_point(|run| run.start <= range.end);
        let mut joined = range;
        if let Some(touched) = self.runs.get(first..after)
            && let (Some(low), Some(high)) = (touched.first(), touched.last())
        {
            joined.start = joined.start.min(low.start);
            joined.end = joined.end.max(high.end);
        }
        self.runs
            .splice(first..after.max(first), std::iter::once(joined));
    }

    /// Removes a run. An empty or reversed range removes nothing.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        let first = self.runs.partition_point(|run| run.end <= range.start);
        let after = self.runs.partition_point(|run| run.start < range.end);
        let mut kept = Vec::new();
        if let Some(touched) = self.runs.get(first..after) {
            for run in touched {
                if run.start < range.start {
                    kept.push(run.start..range.start);
                }
                if run.end > range.end {
                    kept.push(range.end..run.end);
                }
            }
        }
        self.runs.splice(first..after.max(first), kept);
    }

    /// The positions in this set or in `other`.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        // In the order of their starts, all inserts take constant time.
        let mut merged = Self::new();
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a.start <= b.start => left.next(),
                (Some(_), None) => left.next(),
                _ => right.next(),
            };
            match next {
                Some(run) => merged.insert(run),
                None => return merged,
            }
        }
    }

    /// The positions in this set that are not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut left = Self::new();
        let mut cuts = other.runs.iter().peekable();
        for run in &self.runs {
            let mut start = run.start;
            while let Some(cut) = cuts.peek() {
                if cut.end <= start {
                    cuts.next();
                } else if cut.start >= run.end {
                    break;
                } else {
                    left.insert(start..cut.start);
                    start = cut.end;
                    // A cut that ends behind this run may also reach into the next one, so it is
                    // kept.
                    if cut.end > run.end {
                        break;
                    }
                    cuts.next();
                }
            }
            left.insert(start..run.end);
        }
        left
    }

    /// The positions in both this set and `other`.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::new();
        let (mut a, mut b) = (self.iter().peekable(), other.iter().peekable());
        while let (Some(left), Some(right)) = (a.peek(), b.peek()) {
            both.insert(left.start.max(right.start)..left.end.min(right.end));
            if left.end <= right.end {
                a.next();
            } else {
                b.next();
            }
        }
        both
    }

    /// The part of this set inside `range`.
    #[must_use]
    pub fn within(&self, range: Range<u64>) -> Self {
        let first = self.runs.partition_point(|run| run.end <= range.start);
        let mut part = Self::new();
        for run in self.runs.iter().skip(first) {
            if run.start >= range.end {
                break;
            }
            part.insert(run.start.max(range.start)..run.end.min(range.end));
        }
        part
    }

    /// True if any position of `range` is in the set.
    #[must_use]
    pub fn intersects(&self, range: Range<u64>) -> bool {
        let first = self.runs.partition_point(|run| run.end <= range.start);
        range.start < range.end
            && self
                .runs
                .get(first)
                .is_some_and(|run| run.start < range.end)
    }

    /// True if every position of `range` is in the set; always true for an empty range.
    #[must_use]
    pub fn contains(&self, range: Range<u64>) -> bool {
        if range.start >= range.end {
            return true;
        }
        let first = self.runs.partition_point(|run| run.end <= range.start);
        self.runs
            .get(first)
            .is_some_and(|run| run.start <= range.start && range.end <= run.end)
    }

    /// The same set with every run extended outwards to multiples of `unit`; zero changes nothing.
    #[must_use]
    pub fn aligned_outwards(&self, unit: u64) -> Self {
        if unit == 0 {
            return self.clone();
        }
        self.iter()
            .map(|run| {
                let end = run.end.checked_next_multiple_of(unit).unwrap_or(u64::MAX);
                (run.start - run.start % unit)..end
            })
            .collect()
    }

    /// Number of positions in the set.
    #[must_use]
    pub fn total(&self) -> u64 {
        // Runs are disjoint within u64, so the sum cannot exceed u64::MAX.
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// True if the set has no position.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Number of runs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// The runs in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + ExactSizeIterator + '_ {
        self.runs.iter().cloned()
    }

    /// The runs in ascending order, borrowed.
    #[must_use]
    pub fn as_slice(&self) -> &[Range<u64>] {
        &self.runs
    }

    /// The runs in ascending order, owned.
    #[must_use]
    pub fn into_vec(self) -> Vec<Range<u64>> {
        self.runs
    }
}

impl FromIterator<Range<u64>> for ExtentSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::new();
        set.extend(ranges);
        set
    }
}

impl Extend<Range<u64>> for ExtentSet {
    fn extend<I: IntoIterator<Item = Range<u64>>>(&mut self, ranges: I) {
        for range in ranges {
            self.insert(range);
        }
    }
}

impl From<Vec<Range<u64>>> for ExtentSet {
    fn from(ranges: Vec<Range<u64>>) -> Self {
        ranges.into_iter().collect()
    }
}

impl From<Range<u64>> for ExtentSet {
    fn from(range: Range<u64>) -> Self {
        std::iter::once(range).collect()
    }
}

impl IntoIterator for ExtentSet {
    type Item = Range<u64>;
    type IntoIter = std::vec::IntoIter<Range<u64>>;

    fn into_iter(self) -> Self::IntoIter {
        self.runs.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A slow and simple model: one bool for each position.
    fn bits(ranges: &[Range<u64>]) -> [bool; 64] {
        let mut bits = [false; 64];
        for range in ranges {
            for position in range.clone() {
                bits[usize::try_from(position).unwrap()] = true;
            }
        }
        bits
    }

    fn well_formed(set: &ExtentSet) {
        for run in set.as_slice() {
            assert!(run.start < run.end);
        }
        for pair in set.as_slice().windows(2) {
            assert!(pair[0].end < pair[1].start, "{pair:?}");
        }
    }

    fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
        proptest::collection::vec((0u64..64, 0u64..64), 0..12)
            .prop_map(|pairs| pairs.into_iter().map(|(a, b)| a.min(b)..a.max(b)).collect())
    }

    #[test]
    fn touching_runs_join_and_empty_ranges_vanish() {
        let set: ExtentSet = vec![10..20, 30..40, 20..30, 5..5].into();
        assert_eq!(set.as_slice(), std::slice::from_ref(&(10..40)));
        assert_eq!(set.total(), 30);
    }

    #[test]
    fn the_far_end_of_u64_is_a_position_like_any_other() {
        let mut set: ExtentSet = (0..u64::MAX).into();
        set.remove(1..u64::MAX - 1);
        assert_eq!(set.as_slice(), &[0..1, u64::MAX - 1..u64::MAX]);
        assert_eq!(set.aligned_outwards(4096).len(), 2);
    }

    proptest! {
        #[test]
        fn agrees_with_one_bool_a_position(a in ranges(), b in ranges(), cut in (0u64..64, 0u64..64)) {
            let (left, right) = (ExtentSet::from(a.clone()), ExtentSet::from(b.clone()));
            let (left_bits, right_bits) = (bits(&a), bits(&b));
            let (union, difference, both) =
                (left.union(&right), left.subtract(&right), left.intersection(&right));
            for set in [&left, &right, &union, &difference, &both] {
                well_formed(set);
            }
            let cut = cut.0.min(cut.1)..cut.0.max(cut.1);
            let mut removed = left.clone();
            removed.remove(cut.clone());
            well_formed(&removed);
            let (union, difference, both, within, removed) = (
                bits(union.as_slice()),
                bits(difference.as_slice()),
                bits(both.as_slice()),
                bits(left.within(cut.clone()).as_slice()),
                bits(removed.as_slice()),
            );
            for at in 0..64usize {
                let inside = cut.contains(&(at as u64));
                prop_assert_eq!(union[at], left_bits[at] || right_bits[at]);
                prop_assert_eq!(difference[at], left_bits[at] && !right_bits[at]);
                prop_assert_eq!(both[at], left_bits[at] && right_bits[at]);
                prop_assert_eq!(within[at], left_bits[at] && inside);
                prop_assert_eq!(removed[at], left_bits[at] && !inside);
            }
            let any = cut.clone().any(|at| left_bits[usize::try_from(at).unwrap()]);
            let all = cut.clone().all(|at| left_bits[usize::try_from(at).unwrap()]);
            prop_assert_eq!(left.intersects(cut.clone()), any);
            prop_assert_eq!(left.contains(cut), all);
            prop_assert_eq!(left.total(), left_bits.iter().filter(|bit| **bit).count() as u64);
        }
    }
}
