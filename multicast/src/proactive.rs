//! How much parity follows a block's source symbols before anybody asks.
//!
//! With many receivers the largest deficit of a block hardly varies, so sending about that
//! much at once costs next to nothing on the wire and lets most blocks complete without a
//! report. Without loss it must be nothing at all.
//!
//! With few receivers it varies a lot, and with losses in bursts whatever their number, so less
//! is sent: one mean deviation below the mean. What is sent in vain goes with the deviation.
//!
//! Owns: a running mean of what blocks needed, and its deviation. A block that needed no repair
//! after `n` proactive symbols needed at most `n`, which is all that can be known: it pulls the
//! mean down by a deviation, as blocks that needed more pull it up, so that it settles where half
//! of the blocks need more.

use crate::ledger::{Ledger, Seen};
use std::collections::VecDeque;

/// Weight of one block in the mean: a sixteenth.
const WEIGHT: i64 = 16;
/// Fixed point: 1 symbol.
const ONE: i64 = 256;
/// From so many receivers on the largest deficit varies little enough.
const MANY: usize = 8;
/// Blocks whose outcome is awaited at most; older ones are forgotten.
const MAX_UNJUDGED: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct Proactive {
    mean: i64,
    deviation: i64,
    /// Blocks in the mean, as far as they count.
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

    /// Parity symbols for the next block, with so many healthy receivers.
    pub(crate) fn symbols(&self, healthy: usize) -> u16 {
        let margin = if healthy < MANY {
            self.deviation
        } else {
            // A fourth of the mean or more is wide: bursts.
            self.deviation * (4 * self.deviation).min(self.mean) / self.mean.max(1)
        };
        let symbols = (self.mean - margin).max(0) / ONE;
        u16::try_from(symbols).unwrap_or(self.cap).min(self.cap)
    }

    /// A block was sent; its outcome will be known when all have seen its end.
    pub(crate) fn sent(&mut self, block: u32) {
        if self.unjudged.len() >= MAX_UNJUDGED {
            self.unjudged.pop_front();
        }
        self.unjudged.push_back(block);
    }

    /// A block needed `needed` symbols in all.
    pub(crate) fn needed(&mut self, needed: u16) {
        self.pull(i64::from(needed) * ONE);
    }

    /// Judges the blocks that everybody healthy has `spoken` about without asking for more.
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

    /// A block needed no more than was sent: less than the mean, by about a deviation.
    fn enough(&mut self) {
        let less = self.mean - self.deviation.max(ONE);
        self.mean = (self.mean + (less - self.mean) / WEIGHT).max(0);
    }

    fn pull(&mut self, towards: i64) {
        // The first blocks have the weight of their number: a room that loses should not wait
        // for sixteen answers before it is sent what it needs.
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
        // Mean 40, deviation 30.
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
