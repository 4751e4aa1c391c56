//! Number of parity symbols that follow a block's source symbols before anyone requests them.
//!
//! With many receivers, the largest deficit varies little from block to block. Sending about that
//! much parity at once costs almost no bandwidth and lets most blocks complete without a report.
//! Without loss the number must be zero.
//!
//! With few receivers, or with bursts of loss, the largest deficit varies widely. Then less is
//! sent, one mean deviation below the mean, because the number of useless symbols grows with the
//! deviation.
//!
//! Owns a running mean of the symbols that blocks needed, and the mean deviation. A block that
//! needed no repair after `n` proactive symbols needed at most `n`; the exact number is unknown.
//! Such a block counts as one deviation below the mean, so the mean settles where half of the
//! blocks need more.

use crate::sender::ledger::{Ledger, Seen};
use std::collections::VecDeque;

/// Inverse weight of one block in the mean: a block counts one sixteenth.
const WEIGHT: i64 = 16;
/// One symbol in the fixed-point numbers of this module.
const ONE: i64 = 256;
/// Number of healthy receivers from which the largest deficit varies little.
const MANY: usize = 8;
/// Largest number of blocks that wait for their outcome; the oldest are dropped.
const MAX_UNJUDGED: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct Proactive {
    mean: i64,
    deviation: i64,
    /// Number of blocks in the mean, at most [`WEIGHT`].
    samples: i64,
    cap: u16,
    unjudged: VecDeque<u32>,
}

impl Proactive {
    pub(crate) fn new(cap: u16) -> Self {
        Self {
            mean: 0,
            deviation: 0,
            samples: 0,
            cap,
            unjudged: VecDeque::new(),
        }
    }

    /// Number of parity symbols for the next block, with `healthy` healthy receivers.
    pub(crate) fn symbols(&self, healthy: usize) -> u16 {
        let margin = if healthy < MANY {
            self.deviation
        } else {
            // A deviation of a fourth of the mean or more means loss in bursts.
            self.deviation * (4 * self.deviation).min(self.mean) / self.mean.max(1)
        };
        let symbols = (self.mean - margin).max(0) / ONE;
        u16::try_from(symbols).unwrap_or(self.cap).min(self.cap)
    }

    /// Records that a block was sent. Its outcome is known once all receivers have seen its end.
    pub(crate) fn sent(&mut self, block: u32) {
        if self.unjudged.len() >= MAX_UNJUDGED {
            self.unjudged.pop_front();
        }
        self.unjudged.push_back(block);
    }

    /// Records that a block needed `needed` symbols in total.
    pub(crate) fn needed(&mut self, needed: u16) {
        self.pull(i64::from(needed) * ONE);
    }

    /// Judges the blocks that all healthy receivers have seen the end of (`spoken`) without a
    /// request for more.
    pub(crate) fn judge(&mut self, ledger: &Ledger, spoken: &Seen) {
        while let Some(block) = self.unjudged.front() {
            if !ledger.has_passed(*block, spoken) {
                if ledger.goes(*block) > 0 && !ledger.was_claimed(*block) {
                    break;
                }
            } else if !ledger.was_claimed(*block) {
                self.enough();
            }
            self.unjudged.pop_front();
        }
    }

    /// Records a block that needed no more than was sent: it counts as one deviation, but at least
    /// one symbol, below the mean.
    fn enough(&mut self) {
        let less = self.mean - self.deviation.max(ONE);
        self.mean = (self.mean + (less - self.mean) / WEIGHT).max(0);
    }

    fn pull(&mut self, towards: i64) {
        // The first blocks count more than a sixteenth, so that a lossy room gets enough parity
        // before sixteen answers are known.
        self.samples = (self.samples + 1).min(WEIGHT);
        let off = towards - self.mean;
        self.mean = (self.mean + off / self.samples).max(0);
        self.deviation += (off.abs() - self.deviation) / WEIGHT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_widely_is_left_to_be_asked_for() {
        let mut proactive = Proactive::new(64);
        for at in 0..400 {
            proactive.needed(if at % 2 == 0 { 10 } else { 70 });
        }
        // The mean is 40 and the deviation 30.
        assert!(proactive.symbols(50) <= 14, "{}", proactive.symbols(50));
        for at in 0..400 {
            proactive.needed(if at % 2 == 0 { 38 } else { 42 });
        }
        assert!((37..=40).contains(&proactive.symbols(50)));
    }

    #[test]
    fn nothing_without_loss_and_the_mean_with_it() {
        let mut proactive = Proactive::new(64);
        assert_eq!(proactive.symbols(50), 0);
        for _ in 0..200 {
            proactive.needed(12);
        }
        assert!((11..=12).contains(&proactive.symbols(50)));
        assert!(proactive.symbols(1) <= proactive.symbols(50));
        for _ in 0..200 {
            proactive.needed(1000);
        }
        assert_eq!(proactive.symbols(50), 64);
        for _ in 0..20_000 {
            proactive.enough();
        }
        assert_eq!(proactive.symbols(50), 0);
    }
}
