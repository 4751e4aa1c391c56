//! Demotion of receivers that would slow the others.
//!
//! Two kinds of receivers are demoted while a pass runs. A *lossy* receiver needs far more repair
//! than any other, block after block; its deficits do not count. A *slow* receiver skips a large
//! part of the blocks because it has no free buffer; the blocks it stores are repaired like any
//! other's, but the sender does not wait for its reports, and its losses do not lower the rate.
//! Both keep listening and get the rest at the end of the session.
//!
//! Hysteresis: a receiver is demoted after ten expensive blocks in a row or after a whole
//! [`WINDOW`], and promoted after a clearly better window or at the end of a pass. A receiver that
//! changes back and forth costs the others at most ten repairs in five seconds.

use crate::sender::rate::Ppm;
use crate::time::{Duration, Instant};

/// Length of the window in which a receiver's disk and loss are measured.
pub(crate) const WINDOW: Duration = Duration::from_secs(5);
/// Number of blocks in a row whose repair a single receiver made more expensive, before it is
/// demoted.
const STRIKES: u32 = 10;
/// The extra repair for a single receiver that counts as expensive, in percent of a block's
/// symbols.
const STRIKE_PERCENT: u32 = 5;
/// A receiver that skips more than this share of the blocks sent is slow, in percent.
const SLOW_PERCENT: u64 = 30;
/// A receiver that skips at most this share is no longer slow, in percent.
const QUICK_PERCENT: u64 = 10;
/// Fewest blocks in a window from which a disk is judged.
const MIN_BLOCKS: u64 = 20;
/// Fewest packets in a window from which loss is computed.
const MIN_PACKETS: u64 = 1_000;
/// A receiver whose loss is at most this much above the room's usual loss is no longer lossy.
const USUAL_MARGIN: Ppm = 20_000;

/// The reason for a demotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Demotion {
    /// The receiver needs far more repair than any other.
    Lossy {
        /// Share of packets it loses, in parts per million, as last measured.
        lost_ppm: u64,
        /// Loss of the median receiver, in parts per million.
        usual_ppm: u64,
    },
    /// The receiver skips blocks, because its disk is slower than the others.
    Slow {
        /// Part of the source symbols that it stores, in bytes a second.
        takes_bytes_per_s: u64,
        /// All source symbols sent in the same time, in bytes a second.
        room_bytes_per_s: u64,
    },
}

/// A change of a receiver's standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Demoted(Demotion),
    Promoted,
}

/// Amount of the image sent in the session so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Number of blocks begun.
    pub(crate) blocks: u64,
    /// Bytes of source symbols sent.
    pub(crate) bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    aside: Option<Demotion>,
    strikes: u32,
    from: Option<(Instant, Sent)>,
    skipped: u64,
    received: u64,
    lost: u64,
    /// Loss in the previous window, used while this window has too few packets.
    lost_before_ppm: Ppm,
}

impl Standing {
    pub(crate) fn aside(&self) -> Option<Demotion> {
        self.aside
    }

    /// True if the receiver is demoted as lossy: its deficits do not count while a pass runs.
    pub(crate) fn is_lossy(&self) -> bool {
        matches!(self.aside, Some(Demotion::Lossy { .. }))
    }

    /// Adds the receiver's counts since its last status.
    pub(crate) fn count(&mut self, received: u64, lost: u64, skipped: u64) {
        self.received = self.received.saturating_add(received);
        self.lost = self.lost.saturating_add(lost);
        self.skipped = self.skipped.saturating_add(skipped);
    }

    /// Records that this receiver had the largest deficit of a block, `gap` symbols of `k` more
    /// than the second largest. Returns the demotion if that happened too often in a row.
    pub(crate) fn strike(&mut self, gap: u16, k: u16, usual_ppm: Ppm) -> Option<Change> {
        if u32::from(gap) * 100 <= u32::from(k) * STRIKE_PERCENT {
            self.strikes = 0;
            return None;
        }
        self.strikes = self.strikes.saturating_add(1);
        if self.strikes < STRIKES || self.is_lossy() {
            return None;
        }
        self.aside = Some(Demotion::Lossy {
            lost_ppm: self.lost_ppm(),
            usual_ppm,
        });
        self.start_window();
        self.aside.map(Change::Demoted)
    }

    /// Judges the window once it is complete. `others` says if another receiver is healthy too,
    /// because a receiver that is alone slows nobody.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        sent: Sent,
        usual_ppm: Ppm,
        others: bool,
    ) -> Option<Change> {
        let Some((from, sent_before)) = self.from else {
            self.start_window();
            self.from = Some((now, sent));
            return None;
        };
        let length = now.saturating_since(from);
        if length < WINDOW {
            return None;
        }
        let blocks = sent.blocks.saturating_sub(sent_before.blocks);
        let bytes = sent.bytes.saturating_sub(sent_before.bytes);
        let skipped = self.skipped.min(blocks);
        let above = |percent: u64| skipped.saturating_mul(100) > blocks.saturating_mul(percent);
        let change = match self.aside {
            None if others && blocks >= MIN_BLOCKS && above(SLOW_PERCENT) => {
                let a_second = |bytes: u64| {
                    bytes
                        .saturating_mul(1_000_000)
                        .checked_div(length.as_micros())
                        .unwrap_or(0)
                };
                let taken = bytes / blocks.max(1) * (blocks - skipped);
                self.aside = Some(Demotion::Slow {
                    takes_bytes_per_s: a_second(taken),
                    room_bytes_per_s: a_second(bytes),
                });
                self.aside.map(Change::Demoted)
            }
            Some(Demotion::Slow { .. }) if blocks >= MIN_BLOCKS && !above(QUICK_PERCENT) => {
                Some(self.promote())
            }
            Some(Demotion::Lossy { .. })
                if self.received.saturating_add(self.lost) >= MIN_PACKETS
                    && self.lost_ppm() <= usual_ppm.saturating_add(USUAL_MARGIN) =>
            {
                Some(self.promote())
            }
            _ => None,
        };
        self.start_window();
        self.from = Some((now, sent));
        change
    }

    /// Ends the demotion, because the pass is over.
    pub(crate) fn restore(&mut self) -> Option<Change> {
        self.strikes = 0;
        self.aside.is_some().then(|| self.promote())
    }

    fn promote(&mut self) -> Change {
        self.aside = None;
        self.strikes = 0;
        Change::Promoted
    }

    fn start_window(&mut self) {
        self.lost_before_ppm = self.lost_ppm();
        (self.received, self.lost, self.skipped, self.from) = (0, 0, 0, None);
    }

    fn lost_ppm(&self) -> Ppm {
        let all = self.received.saturating_add(self.lost);
        if all < MIN_PACKETS {
            return self.lost_before_ppm;
        }
        self.lost.saturating_mul(1_000_000) / all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at: u64) -> Instant {
        Instant::from_micros(at * 1_000_000)
    }

    fn sent(blocks: u64) -> Sent {
        Sent {
            blocks,
            bytes: blocks * 1_000_000,
        }
    }

    #[test]
    fn a_disk_at_a_third_of_the_room_is_set_aside_and_comes_back_when_it_keeps_up() {
        let mut standing = Standing::default();
        assert_eq!(standing.judge(second(0), sent(0), 0, true), None);
        standing.count(0, 0, 400);
        assert_eq!(standing.judge(second(4), sent(480), 0, true), None);
        assert_eq!(
            standing.judge(second(5), sent(600), 0, true),
            Some(Change::Demoted(Demotion::Slow {
                takes_bytes_per_s: 40_000_000,
                room_bytes_per_s: 120_000_000
            }))
        );
        // The first window is better, but not clearly; the second is.
        standing.count(0, 0, 100);
        assert_eq!(standing.judge(second(10), sent(1_200), 0, true), None);
        assert!(standing.aside().is_some() && !standing.is_lossy());
        standing.count(0, 0, 10);
        assert_eq!(
            standing.judge(second(15), sent(1_800), 0, true),
            Some(Change::Promoted)
        );
    }

    #[test]
    fn nobody_is_slow_alone_or_by_a_few_blocks() {
        let mut standing = Standing::default();
        standing.judge(second(0), sent(0), 0, false);
        standing.count(0, 0, 500);
        assert_eq!(standing.judge(second(5), sent(600), 0, false), None);
        standing.count(0, 0, 19);
        assert_eq!(standing.judge(second(10), sent(619), 0, true), None);
        // More skipped blocks than were sent are a false claim.
        standing.count(0, 0, u64::MAX);
        assert!(matches!(
            standing.judge(second(15), sent(719), 0, true),
            Some(Change::Demoted(Demotion::Slow {
                takes_bytes_per_s: 0,
                ..
            }))
        ));
    }

    #[test]
    fn ten_dear_blocks_set_aside_and_a_good_window_brings_back() {
        let mut standing = Standing::default();
        standing.judge(second(0), sent(0), 0, true);
        standing.count(800, 200, 0);
        // A new window begins with the loss of the one before.
        standing.judge(second(5), sent(0), 10_000, true);
        for _ in 0..9 {
            assert_eq!(standing.strike(100, 745, 10_000), None);
        }
        assert_eq!(standing.strike(10, 745, 10_000), None);
        for _ in 0..9 {
            assert_eq!(standing.strike(100, 745, 10_000), None);
        }
        assert_eq!(
            standing.strike(100, 745, 10_000),
            Some(Change::Demoted(Demotion::Lossy {
                lost_ppm: 200_000,
                usual_ppm: 10_000
            }))
        );
        assert!(standing.is_lossy());
        standing.judge(second(6), sent(0), 10_000, true);
        standing.count(9_000, 1_000, 0);
        assert_eq!(standing.judge(second(11), sent(0), 10_000, true), None);
        standing.count(9_800, 200, 0);
        assert_eq!(
            standing.judge(second(16), sent(0), 10_000, true),
            Some(Change::Promoted)
        );
        for _ in 0..10 {
            standing.strike(745, 745, 0);
        }
        assert_eq!(standing.restore(), Some(Change::Promoted));
        assert_eq!(standing.restore(), None);
    }
}
