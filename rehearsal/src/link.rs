//! The network link to one target and its faults.
//!
//! Losses are drawn as distances: the number of packets before the next lost one. Distances come
//! from a table of integers, so that a seed has the same effect on every machine. The table is
//! exact to 2^-32. A distance past its end continues with another draw, which is right because
//! losses are memoryless.

use crate::rng::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The probabilities of faults in parts per million, for each packet separately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The network loses the packet.
    pub loss_ppm: u64,
    /// A burst of losses begins with this packet (Gilbert-Elliott model).
    pub burst_enter_ppm: u64,
    /// A burst of losses ends after this packet.
    pub burst_leave_ppm: u64,
    /// The packet arrives twice.
    pub duplicate_ppm: u64,
    /// Others overtake the packet, by up to 0.4 ms.
    pub reorder_ppm: u64,
    /// The packet arrives, but its seal does not open.
    pub corrupt_ppm: u64,
    /// The packet arrives, but the machine's own kernel drops it because it was not read in time.
    pub kernel_ppm: u64,
}

impl Faults {
    /// Faults with independent loss only.
    #[must_use]
    pub fn loss(ppm: u64) -> Self {
        Self {
            loss_ppm: ppm,
            ..Self::default()
        }
    }

    /// Faults with bursts of `length` packets on average and `ppm` of all packets lost.
    #[must_use]
    pub fn bursts(ppm: u64, length: u64) -> Self {
        let leave = 1_000_000 / length.max(1);
        Self {
            burst_enter_ppm: (ppm.min(999_999) * leave) / (1_000_000 - ppm.min(999_999)),
            burst_leave_ppm: leave,
            ..Self::default()
        }
    }
}

/// Number of table entries of a distance.
const REACH: usize = 2048;

/// The tables of a room; links with equal loss share them.
#[derive(Debug, Default)]
pub(crate) struct Tables(BTreeMap<u64, Distance>);

impl Tables {
    fn distance(&mut self, ppm: u64) -> Distance {
        let table = self.0.entry(ppm).or_insert_with(|| Distance::new(ppm));
        table.clone()
    }
}

/// The distances to the next event of a probability.
#[derive(Clone, Debug)]
struct Distance {
    /// `survives[n]` is the chance, in 2^32, that n + 1 packets pass without the event.
    survives: Arc<[u64]>,
}

impl Distance {
    fn new(ppm: u64) -> Self {
        let stays = ((1_000_000 - ppm.min(1_000_000)) << 32) / 1_000_000;
        let mut chance = 1_u64 << 32;
        let survives = (0..REACH)
            .map(|_| {
                chance = (chance * stays) >> 32;
                chance
            })
            .collect();
        Self { survives }
    }

    /// Draws the number of packets before the event.
    fn draw(&self, rng: &mut Rng) -> u64 {
        let mut distance = 0;
        loop {
            let level = rng.draw() >> 32;
            let at = self.survives.partition_point(|chance| *chance > level);
            distance += at as u64;
            // A distance beyond four thousand million packets does not matter.
            if at < REACH || distance > 1 << 32 {
                return distance;
            }
        }
    }
}

/// A random event that affects some packets.
#[derive(Clone, Debug)]
struct Strikes {
    distance: Option<Distance>,
    left: u64,
}

impl Strikes {
    fn new(ppm: u64, tables: &mut Tables, rng: &mut Rng) -> Self {
        let distance = (ppm > 0).then(|| tables.distance(ppm));
        let left = distance
            .as_ref()
            .map_or(u64::MAX, |distance| distance.draw(rng));
        Self { distance, left }
    }

    /// Moves on by `count` packets, none of which is affected; there must be that many.
    fn pass(&mut self, count: u64) {
        self.left = self.left.saturating_sub(count);
    }

    fn strike(&mut self, rng: &mut Rng) {
        self.left = self
            .distance
            .as_ref()
            .map_or(u64::MAX, |distance| distance.draw(rng));
    }
}

/// The link to one target.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    faults: Faults,
    loss: Strikes,
    kernel: Strikes,
    burst: Strikes,
    burst_end: Strikes,
    in_burst: bool,
    rng: Rng,
}

/// The fate of the next packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrive(u64),
    Lost(u64),
    /// Dropped by the machine's own kernel.
    Dropped(u64),
}

/// Delays, in microseconds, of the copies of a packet; at most two.
pub(crate) type Arrivals = [Option<u64>; 2];

impl Link {
    pub(crate) fn new(faults: Faults, tables: &mut Tables, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let lost = faults.loss_ppm.min(1_000_000);
        let spoilt = faults.corrupt_ppm.min(1_000_000);
        // For a receiver, a lost packet and an unreadable one are the same.
        let either = lost + spoilt - lost * spoilt / 1_000_000;
        Self {
            faults,
            loss: Strikes::new(either, tables, &mut rng),
            kernel: Strikes::new(faults.kernel_ppm, tables, &mut rng),
            burst: Strikes::new(faults.burst_enter_ppm, tables, &mut rng),
            burst_end: Strikes::new(faults.burst_leave_ppm, tables, &mut rng),
            in_burst: false,
            rng,
        }
    }

    /// True if packets arrive in order and once.
    pub(crate) fn is_plain(&self) -> bool {
        self.faults.duplicate_ppm == 0 && self.faults.reorder_ppm == 0
    }

    /// Draws the fate of the next packets: at least one and at most `most` of them.
    pub(crate) fn next(&mut self, most: u64) -> Fate {
        if self.in_burst {
            let count = most.min(self.burst_end.left.saturating_add(1)).max(1);
            if count > self.burst_end.left {
                self.in_burst = false;
                self.burst_end.strike(&mut self.rng);
            } else {
                self.burst_end.pass(count);
            }
            return Fate::Lost(count);
        }
        let clear = self.loss.left.min(self.kernel.left).min(self.burst.left);
        if clear > 0 {
            let count = most.min(clear);
            self.loss.pass(count);
            self.kernel.pass(count);
            self.burst.pass(count);
            return Fate::Arrive(count);
        }
        if self.burst.left == 0 {
            self.burst.strike(&mut self.rng);
            self.in_burst = true;
            return self.next(most);
        }
        if self.loss.left == 0 {
            self.loss.strike(&mut self.rng);
            self.kernel.pass(1);
            self.burst.pass(1);
            return Fate::Lost(1);
        }
        self.kernel.strike(&mut self.rng);
        self.loss.pass(1);
        self.burst.pass(1);
        Fate::Dropped(1)
    }

    /// Draws the delays of the copies of a packet that arrives.
    pub(crate) fn arrivals(&mut self) -> Arrivals {
        let delay = if self.rng.chance(self.faults.reorder_ppm) {
            self.rng.below(400)
        } else {
            0
        };
        let copy = self
            .rng
            .chance(self.faults.duplicate_ppm)
            .then(|| self.rng.below(2_000));
        [Some(delay), copy]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of packets lost out of a million, and the average number of losses in a row.
    fn count(faults: Faults) -> (u64, u64) {
        let mut link = Link::new(faults, &mut Tables::default(), 5);
        let (mut left, mut lost, mut bursts, mut in_burst) = (1_000_000, 0, 0, false);
        while left > 0 {
            match link.next(left.min(20)) {
                Fate::Arrive(count) => {
                    left -= count;
                    in_burst = false;
                }
                Fate::Lost(count) | Fate::Dropped(count) => {
                    left -= count;
                    lost += count;
                    bursts += u64::from(!in_burst);
                    in_burst = true;
                }
            }
        }
        (lost, lost.checked_div(bursts).unwrap_or(0))
    }

    #[test]
    fn as_much_is_lost_as_was_asked_for() {
        assert_eq!(count(Faults::default()).0, 0);
        for ppm in [100, 1_000, 10_000, 50_000, 900_000, 1_000_000] {
            let (lost, _) = count(Faults::loss(ppm));
            assert!(lost.abs_diff(ppm) <= ppm / 10 + 20, "{ppm}: {lost}");
        }
        let (lost, length) = count(Faults::bursts(10_000, 32));
        assert!((8_500..=11_500).contains(&lost), "{lost}");
        assert!((28..=36).contains(&length), "{length}");
        let kernel = Faults {
            kernel_ppm: 30_000,
            ..Faults::default()
        };
        assert!((28_000..=32_000).contains(&count(kernel).0));
    }
}
