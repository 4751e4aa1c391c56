//! Replay protection: a window over packet numbers for each lane.
//!
//! Owns a record of the last [`WINDOW`] numbers of each lane. A number below the window is refused
//! as too old; its symbol can be requested again. The window must be used only after the packet's
//! seal was opened, so that a forged number cannot move it.

use crate::packet::wire::{PacketNumber, PerLane};
use thiserror::Error;

/// Length of the window in packets: 49 ms of reordering at 83 000 packets a second.
pub const WINDOW: u64 = 4096;
const WORDS: usize = 64;
const _: () = assert!(WORDS as u64 * 64 == WINDOW);

/// The reason why a packet number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Replayed {
    /// The number was taken before.
    #[error("packet number {0} was received before")]
    Twice(u64),
    /// The number is below the window, so it is unknown if it was taken.
    #[error("packet number {0} is too old to tell")]
    Old(u64),
}

/// The replay windows of a session.
#[derive(Clone, Debug, Default)]
pub struct ReplayWindow {
    lanes: PerLane<LaneWindow>,
}

#[derive(Clone, Debug)]
struct LaneWindow {
    /// One past the highest number taken.
    end: u64,
    /// Bit `n % WINDOW` for the numbers `end - WINDOW .. end`.
    taken: [u64; WORDS],
}

impl Default for LaneWindow {
    fn default() -> Self {
        Self {
            end: 0,
            taken: [0; WORDS],
        }
    }
}

impl ReplayWindow {
    /// Windows in which no number is taken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a packet number; each number can be taken once.
    ///
    /// # Errors
    /// [`Replayed`] if the number was taken before or is below the window.
    pub fn take(&mut self, number: PacketNumber) -> Result<(), Replayed> {
        self.lanes.get_mut(number.lane()).take(number.counter())
    }
}

impl LaneWindow {
    fn take(&mut self, counter: u64) -> Result<(), Replayed> {
        if counter >= self.end {
            // Clears the bits that the window moves over, at most one full window.
            let from = self.end.max(counter.saturating_sub(WINDOW - 1));
            if from > self.end {
                self.taken = [0; WORDS];
            } else {
                for skipped in from..=counter {
                    self.clear(skipped);
                }
            }
            // Counters stay below 2^63.
            self.end = counter.saturating_add(1);
        } else if self.end - counter > WINDOW {
            return Err(Replayed::Old(counter));
        }
        let (word, bit) = place(counter);
        match self.taken.get_mut(word) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                Ok(())
            }
            _ => Err(Replayed::Twice(counter)),
        }
    }

    fn clear(&mut self, counter: u64) {
        let (word, bit) = place(counter);
        if let Some(word) = self.taken.get_mut(word) {
            *word &= !bit;
        }
    }
}

fn place(counter: u64) -> (usize, u64) {
    let bit = counter % WINDOW;
    (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::wire::Lane;
    use std::collections::BTreeSet;

    fn main(counter: u64) -> PacketNumber {
        PacketNumber::new(Lane::Main, counter)
    }

    #[test]
    fn each_number_once_and_lanes_apart() {
        let mut window = ReplayWindow::new();
        assert_eq!(window.take(main(0)), Ok(()));
        assert_eq!(window.take(main(0)), Err(Replayed::Twice(0)));
        assert_eq!(window.take(PacketNumber::new(Lane::Second, 0)), Ok(()));
        assert_eq!(window.take(main(5000)), Ok(()));
        assert_eq!(window.take(main(904)), Err(Replayed::Old(904)));
        assert_eq!(window.take(main(905)), Ok(()));
        assert_eq!(window.take(main((1 << 63) - 1)), Ok(()));
        assert_eq!(window.take(main(5000)), Err(Replayed::Old(5000)));
    }

    #[test]
    fn agrees_with_a_set_under_reordering() {
        let mut window = ReplayWindow::new();
        let mut twin = BTreeSet::new();
        let mut state = 3_u64;
        let mut highest = 0;
        for step in 0..50_000_u64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let counter = (step * 2 + 6000).saturating_sub((state >> 40) % 6000);
            let too_old = counter + WINDOW <= highest;
            let fresh = !too_old && twin.insert(counter);
            assert_eq!(window.take(main(counter)).is_ok(), fresh);
            if !too_old {
                highest = highest.max(counter);
            }
        }
    }
}
