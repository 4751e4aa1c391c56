//! Conversion of bitmaps to byte ranges, in bounded memory.
//!
//! Owns the collection of used ranges, which readers add in any order, mostly ascending. Always
//! holds: no range is ever lost; if there are too many, neighbours are joined across small gaps
//! (over-capture), never dropped. No function panics.

use std::ops::Range;

use crate::extents::ExtentSet;

/// Largest number of ranges before they are joined across gaps: 16 MiB of memory. Without the
/// limit, a terabyte disk with a hole after every 4 KiB block would need 2 GiB.
const MAX_RUNS: usize = 1 << 20;

/// The used ranges collected so far.
pub(super) struct Used {
    runs: Vec<Range<u64>>,
    /// Gaps of up to this many bytes are closed; zero until there were too many ranges.
    gap: u64,
    limit: usize,
}

impl Used {
    pub(super) const fn new() -> Self {
        Self::with_limit(MAX_RUNS)
    }

    const fn with_limit(limit: usize) -> Self {
        Self {
            runs: Vec::new(),
            gap: 0,
            limit,
        }
    }

    /// Adds a range of bytes. An empty range adds nothing.
    pub(super) fn add(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        if let Some(last) = self.runs.last_mut()
            && last.start <= range.start
            && range.start <= last.end.saturating_add(self.gap)
        {
            last.end = last.end.max(range.end);
            return;
        }
        self.runs.push(range);
        if self.runs.len() > self.limit {
            self.compact();
        }
    }

    /// Joins ranges and widens the gap until at most half of the limit is used.
    fn compact(&mut self) {
        loop {
            self.join();
            if self.runs.len() <= self.limit / 2 {
                return;
            }
            // The gap starts at 4 KiB, the granularity of an image's masks; smaller gaps save
            // nothing.
            self.gap = self.gap.saturating_mul(2).max(4096);
        }
    }

    fn join(&mut self) {
        self.runs.sort_unstable_by_key(|run| run.start);
        let gap = self.gap;
        self.runs.dedup_by(|next, kept| {
            let near = next.start <= kept.end.saturating_add(gap);
            if near {
                kept.end = kept.end.max(next.end);
            }
            near
        });
    }

    /// The first range of `wanted` that was not added, if any.
    pub(super) fn first_missing(&mut self, wanted: &ExtentSet) -> Option<Range<u64>> {
        self.join();
        wanted.iter().find(|wanted| !self.covers(wanted))
    }

    /// The ranges of `wanted` that were added.
    pub(super) fn gathered(
        &mut self,
        wanted: impl Iterator<Item = Range<u64>>,
    ) -> impl Iterator<Item = Range<u64>> {
        self.join();
        wanted.filter(|wanted| self.covers(wanted))
    }

    /// True if one run contains the whole range. Runs must be joined before.
    fn covers(&self, wanted: &Range<u64>) -> bool {
        // Only the last run that begins at or before the range can contain it.
        let after = self.runs.partition_point(|run| run.start <= wanted.start);
        let covering = after.checked_sub(1).and_then(|at| self.runs.get(at));
        covering.is_some_and(|run| wanted.end <= run.end)
    }

    /// The added ranges as a set.
    pub(super) fn finish(mut self) -> ExtentSet {
        self.join();
        ExtentSet::from(self.runs)
    }
}

/// Calls `emit` for each run of set bits among the first `count` bits of a bitmap.
///
/// Bit 0 is the lowest bit of byte 0. `emit` gets the bit numbers of each run, in ascending order.
/// Returns the number of set bits. Bits beyond the end of `bitmap` count as clear, so the caller
/// checks lengths.
pub(super) fn set_runs(bitmap: &[u8], count: u64, mut emit: impl FnMut(Range<u64>)) -> u64 {
    let mut set = 0;
    let mut open: Option<u64> = None;
    let mut position = 0u64;
    let mut close = |open: &mut Option<u64>, at: u64| {
        if let Some(start) = open.take() {
            set += at - start;
            emit(start..at);
        }
    };
    for byte in bitmap {
        if position >= count {
            break;
        }
        let left = count - position;
        match byte {
            0 => close(&mut open, position),
            0xFF if left >= 8 => {
                open.get_or_insert(position);
            }
            mixed => {
                for bit in 0..left.min(8) {
                    if mixed >> bit & 1 == 1 {
                        open.get_or_insert(position + bit);
                    } else {
                        close(&mut open, position + bit);
                    }
                }
            }
        }
        position += left.min(8);
    }
    close(&mut open, position);
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_are_the_set_bits(bitmap in proptest::collection::vec(prop_oneof![Just(0u8), Just(0xFF), any::<u8>()], 0..40), count in 0u64..400) {
            let mut seen = Vec::new();
            let set = set_runs(&bitmap, count, |run| seen.extend(run));
            let expected: Vec<u64> = (0..count)
                .filter(|bit| bitmap.get(usize::try_from(bit / 8).unwrap()).is_some_and(|byte| byte >> (bit % 8) & 1 == 1))
                .collect();
            prop_assert_eq!(set, expected.len() as u64);
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn too_many_runs_are_widened_never_lost(starts in proptest::collection::vec(0u64..1 << 24, 0..200)) {
            let mut used = Used::with_limit(16);
            for start in &starts {
                used.add(*start..start + 512);
            }
            prop_assert!(used.runs.len() <= 16);
            let set = used.finish();
            for start in starts {
                prop_assert!(set.contains(start..start + 512));
            }
        }
    }
}
