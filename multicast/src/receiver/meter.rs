//! Received and lost packets of one lane, counted by gaps in the packet numbers.
//!
//! A skipped number counts as lost only after [`REORDER`] higher numbers were passed, so reordering
//! is not counted as loss. A packet that arrives even later is subtracted from the loss again.

use crate::packet::status::LaneStatus;

/// Distance, in packets, by which a packet may be overtaken before it counts as lost.
pub(crate) const REORDER: u64 = 64;

/// The packet counts of one lane at one receiver.
#[derive(Clone, Debug, Default)]
pub(crate) struct LaneMeter {
    status: LaneStatus,
    first: u64,
    /// Bit `n` is set if number `seen - n` arrived. Numbers before the first one received count as
    /// arrived.
    recent: u64,
}

impl LaneMeter {
    pub(crate) fn status(&self) -> LaneStatus {
        self.status
    }

    /// Counts `count` consecutive packets, if `counter` directly follows the highest number seen;
    /// otherwise counts nothing and returns false.
    pub(crate) fn count_next(&mut self, counter: u64, count: u64) -> bool {
        let Some(seen) = self.status.seen else {
            return false;
        };
        let Some(last) = counter.checked_add(count.saturating_sub(1)) else {
            return false;
        };
        if seen.checked_add(1) != Some(counter) || count == 0 {
            return false;
        }
        let passed = if count < REORDER {
            let out = self.recent >> (REORDER - count);
            self.recent = self.recent << count | ((1 << count) - 1);
            count - u64::from(out.count_ones())
        } else {
            let out = REORDER - u64::from(self.recent.count_ones());
            self.recent = u64::MAX;
            out
        };
        self.status.lost = self.status.lost.saturating_add(passed);
        self.status.received = self.status.received.saturating_add(count);
        self.status.seen = Some(last);
        true
    }

    /// Counts a packet. The caller must pass each number only once.
    pub(crate) fn count(&mut self, counter: u64) {
        let Some(seen) = self.status.seen else {
            self.status = LaneStatus {
                seen: Some(counter),
                received: 1,
                lost: 0,
            };
            self.first = counter;
            self.recent = u64::MAX;
            return;
        };
        if counter > seen {
            let step = counter - seen;
            let passed = if step < REORDER {
                let out = self.recent >> (REORDER - step);
                self.recent <<= step;
                step - u64::from(out.count_ones())
            } else {
                let out = REORDER - u64::from(self.recent.count_ones());
                self.recent = 0;
                out + (step - REORDER)
            };
            self.recent |= 1;
            self.status.lost = self.status.lost.saturating_add(passed);
            self.status.seen = Some(counter);
        } else if counter < self.first {
            return;
        } else if seen - counter < REORDER {
            let bit = 1 << (seen - counter);
            if self.recent & bit != 0 {
                return;
            }
            self.recent |= bit;
        } else {
            self.status.lost = self.status.lost.saturating_sub(1);
        }
        self.status.received = self.status.received.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(numbers: impl IntoIterator<Item = u64>) -> LaneStatus {
        let mut meter = LaneMeter::default();
        for number in numbers {
            meter.count(number);
        }
        meter.status()
    }

    #[test]
    fn what_came_before_joining_is_not_loss() {
        let status = count(1000..2000);
        assert_eq!((status.received, status.lost), (1000, 0));
        assert_eq!(status.seen, Some(1999));
    }

    #[test]
    fn gaps_are_loss_and_overtaking_is_not() {
        let status = count((0..1000).filter(|n| n % 10 != 3));
        assert_eq!((status.received, status.lost), (900, 94));
        let status = count((0..8).chain((8..496).map(|n| n ^ 7)));
        assert_eq!((status.received, status.lost), (496, 0));
        let status = count((0..200).chain([5000]));
        assert_eq!((status.received, status.lost), (201, 4800 - 63));
    }

    #[test]
    fn what_comes_very_late_is_taken_back() {
        let status = count((0..10).chain(11..200).chain([10]));
        assert_eq!((status.received, status.lost), (200, 0));
    }

    #[test]
    fn a_number_from_nowhere_does_not_overflow() {
        let status = count([0, (1 << 63) - 1, 5, (1 << 63) - 1]);
        assert_eq!(status.seen, Some((1 << 63) - 1));
    }
}
