//! What the way to one receiver does to a packet.

use crate::rng::Rng;

/// Probabilities in parts per million.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    /// Gilbert-Elliott: chance to enter a burst at each packet, and to leave it.
    pub(crate) burst_enter: u64,
    pub(crate) burst_leave: u64,
    pub(crate) duplicate: u64,
    pub(crate) reorder: u64,
    /// The packet arrives but its seal does not open.
    pub(crate) corrupt: u64,
}

impl Faults {
    pub(crate) fn loss(ppm: u64) -> Self {
        Self {
            loss: ppm,
            ..Self::default()
        }
    }

    pub(crate) fn everything(rng: &mut Rng) -> Self {
        Self {
            loss: rng.below(30_000),
            burst_enter: rng.below(1_000),
            burst_leave: 50_000 + rng.below(400_000),
            duplicate: rng.below(20_000),
            reorder: rng.below(50_000),
            corrupt: rng.below(5_000),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) faults: Faults,
    in_burst: bool,
    rng: Rng,
}

/// Delays, in microseconds, after which copies of the packet arrive; at most two.
pub(crate) type Arrivals = [Option<u64>; 2];

impl Link {
    pub(crate) fn new(faults: Faults, seed: u64) -> Self {
        Self {
            faults,
            in_burst: false,
            rng: Rng::new(seed),
        }
    }

    pub(crate) fn pass(&mut self) -> Arrivals {
        let faults = self.faults;
        if faults.burst_enter > 0 {
            let turn = if self.in_burst {
                faults.burst_leave
            } else {
                faults.burst_enter
            };
            self.in_burst ^= self.rng.chance(turn);
        }
        if self.in_burst || self.rng.chance(faults.loss) || self.rng.chance(faults.corrupt) {
            return [None, None];
        }
        let delay = if self.rng.chance(faults.reorder) {
            self.rng.below(400)
        } else {
            0
        };
        let copy = self
            .rng
            .chance(faults.duplicate)
            .then(|| self.rng.below(2_000));
        [Some(delay), copy]
    }
}
