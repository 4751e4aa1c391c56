//! The send rate.
//!
//! The network is the technician's LAN and the cap is theirs, so the control is not TCP-friendly.
//! The rate starts near a cap that the technician has set, climbs while few receivers see loss, and
//! falls only when many lose at the same time, which is the sign of a shared bottleneck. A single
//! machine with loss does not slow the others. A cap taken from an interface's speed may be fifty
//! times what a switch can pass; then the rate starts low and doubles each window until the first
//! window with heavy loss, which takes less than a second on a gigabit link.
//!
//! ```text
//!            ┌──────── < 10 % of receivers above 0.5 % ───► climb 5 % of the cap a second
//!  window ───┤
//!            ├──────── more of them, but little loss ────► climb 0.5 % of the cap a second
//!            └── >= 25 % above 2 % ──► drop to the delivered rate and compare:
//!                    loss went away ──► it was a bottleneck: climb slowly near it
//!                    loss stayed ─────► it was the link itself: back to the old rate, and that
//!                                       much loss is from now on the floor that counts as none
//! ```
//!
//! The rate drops directly to the delivered rate (the median of goodput), not by a factor, so a
//! tail-dropping switch is overrun for one window only. Loss that does not depend on the rate (a
//! bad cable bundle, Wi-Fi) must not slow the room: parity repairs it.
//!
//! Loss means network loss here: packets dropped by a machine's own kernel are counted separately
//! and matter only when most machines drop packets.

use crate::sender::ReceiverId;
use crate::time::{Duration, Instant};
use std::collections::BTreeMap;

/// A share of packets in parts per million.
pub(crate) type Ppm = u64;
const MILLION: u64 = 1_000_000;

/// A receiver with a larger loss than this counts as seeing loss, in parts per million.
const LOSS_SEEN: Ppm = 5_000;
/// A receiver with a larger loss than this counts as losing heavily, in parts per million.
const LOSS_HEAVY: Ppm = 20_000;
/// The rate climbs fast only while less than this share of receivers sees loss, in percent.
const CLIMB_BELOW_PERCENT: u64 = 10;
/// The rate falls only if at least this share of receivers loses heavily, in percent.
const FALL_FROM_PERCENT: u64 = 25;
/// Highest rate at the start, in percent of the cap.
const START_PERCENT: u64 = 99;
/// Fast climb in one second, in percent of the cap.
const CLIMB_PERCENT: u64 = 5;
/// Slow climb in one second, in tenths of a percent of the cap: near a rate that overran the
/// network, or while many receivers see a little loss.
const CLIMB_NEAR_PERMILLE: u64 = 5;
/// The slow climb begins at this share of the rate that overran the network, in percent.
const NEAR_PERCENT: u64 = 95;
/// After a fall the rate is this much below the delivered rate, in percent, so that queues drain.
const DRAIN_PERCENT: u64 = 2;
/// Lowest rate, in percent of the cap, so that a wrong measurement cannot stop a job.
const FLOOR_PERCENT: u64 = 2;
/// Upper limit of that lowest rate, in bytes a second: the slowest network anyone deploys on.
const FLOOR_MOST: u64 = 1_250_000;
/// Largest climb in one second, in percent of the current rate, so that steps stay small under a
/// cap far above the network.
const CLIMB_MOST_PERCENT: u64 = 10;
/// Time after which a bottleneck is forgotten, because it may be gone.
const BOTTLENECK_MEMORY: Duration = Duration::from_secs(30);
/// Time after which a loss floor is forgotten, because a bad link may have become a bottleneck.
const FLOOR_MEMORY: Duration = Duration::from_secs(120);
/// Fewest packets in a window from which a receiver's loss is computed.
const MIN_PACKETS: u64 = 50;
/// Shortest measurement window.
const MIN_WINDOW: Duration = Duration::from_millis(400);
/// Longest measurement window: at the lowest rate under a cap of 100 KB/s, [`MIN_PACKETS`] take 37
/// s.
const LONGEST_WINDOW: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    received: u64,
    lost: u64,
    kernel: u64,
}

/// State kept after a fall, to find out in the next window if the loss went away.
#[derive(Clone, Copy, Debug)]
struct Trial {
    rate_before: u64,
    loss_before: Ppm,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    value: u64,
    at: Instant,
}

/// The rate controller.
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    cap: u64,
    rate: u64,
    window_from: Instant,
    samples: BTreeMap<ReceiverId, Sample>,
    trial: Option<Trial>,
    bottleneck: Option<Remembered>,
    floor: Option<Remembered>,
    /// True while the rate doubles from a cautious start: until the cap, or the first window in
    /// which the rate must fall.
    doubling: bool,
    falls: u64,
    /// Loss of the median receiver in the last window.
    usual: Ppm,
}

impl Rate {
    /// A controller that starts at `start`, or near the cap if that is lower. Rates are in bytes a
    /// second.
    pub(crate) fn new(now: Instant, cap: u64, start: u64) -> Self {
        let cap = cap.max(1);
        let near_cap = percent(cap, START_PERCENT);
        Self {
            cap,
            rate: start.min(near_cap).max(1),
            doubling: start < near_cap,
            window_from: now,
            samples: BTreeMap::new(),
            trial: None,
            bottleneck: None,
            floor: None,
            falls: 0,
            usual: 0,
        }
    }

    pub(crate) fn rate(&self) -> u64 {
        self.rate
    }

    pub(crate) fn cap(&self) -> u64 {
        self.cap
    }

    /// Number of times the rate fell.
    pub(crate) fn falls(&self) -> u64 {
        self.falls
    }

    /// Loss of the median receiver in the last window.
    pub(crate) fn usual_loss(&self) -> Ppm {
        self.usual
    }

    pub(crate) fn set_cap(&mut self, cap: u64) {
        self.cap = cap.max(1);
        self.rate = self.rate.min(self.cap);
    }

    /// Adds what a healthy receiver counted since its last status. Ignored just after a change of
    /// the rate, because those packets were sent at the old rate.
    pub(crate) fn sample(
        &mut self,
        now: Instant,
        id: ReceiverId,
        received: u64,
        lost: u64,
        kernel: u64,
    ) {
        if now < self.window_from {
            return;
        }
        let sample = self.samples.entry(id).or_default();
        sample.received = sample.received.saturating_add(received);
        sample.lost = sample.lost.saturating_add(lost);
        sample.kernel = sample.kernel.saturating_add(kernel);
    }

    pub(crate) fn forget(&mut self, id: ReceiverId) {
        self.samples.remove(&id);
    }

    /// Ends the measurement window if it is long enough for every receiver to have reported; true
    /// if the rate changed.
    pub(crate) fn evaluate(&mut self, now: Instant, status_interval: Duration) -> bool {
        let needed = MIN_WINDOW.max(status_interval.times(2));
        let length = now.saturating_since(self.window_from);
        if length < needed {
            return false;
        }
        let mut losses: Vec<Ppm> = Vec::new();
        let mut kernel_heavy = 0_u64;
        for sample in self.samples.values() {
            let total = sample.received.saturating_add(sample.lost);
            if total < MIN_PACKETS {
                continue;
            }
            let network = sample.lost.saturating_sub(sample.kernel);
            losses.push(ppm(network, total));
            kernel_heavy += u64::from(ppm(sample.kernel.min(total), total) > LOSS_HEAVY);
        }
        if losses.is_empty() && length < LONGEST_WINDOW {
            // At a low rate the window goes on until enough packets are counted: windows that end
            // without a result would keep the rate low for ever.
            return false;
        }
        self.samples.clear();
        self.window_from = now;
        if losses.is_empty() {
            return false;
        }
        losses.sort_unstable();
        self.usual = losses.get(losses.len() / 2).copied().unwrap_or(0);
        let before = self.rate;
        self.decide(now, length, &losses, kernel_heavy);
        self.rate = self.rate.clamp(
            percent(self.cap, FLOOR_PERCENT).clamp(1, FLOOR_MOST),
            self.cap,
        );
        if self.rate != before {
            // Packets still under way were sent at the old rate, and each receiver's next status
            // covers some of them, so the next window begins after both.
            self.window_from = now + status_interval.times(2);
        }
        self.rate != before
    }

    fn decide(&mut self, now: Instant, length: Duration, losses: &[Ppm], kernel_heavy: u64) {
        if self
            .floor
            .is_some_and(|floor| now.saturating_since(floor.at) > FLOOR_MEMORY)
        {
            self.floor = None;
        }
        let count = losses.len() as u64;
        let floor = self.floor.map_or(0, |floor| floor.value);
        let above = |limit: Ppm| losses.iter().filter(|loss| **loss > limit).count() as u64;
        let heavy = above(floor + LOSS_HEAVY);
        let seen = above(floor + LOSS_SEEN);
        let median = self.usual;

        if let Some(trial) = self.trial.take()
            && median > LOSS_SEEN
            && median.saturating_mul(10) > trial.loss_before.saturating_mul(7)
        {
            // The lower rate did not help: the link itself loses packets.
            self.rate = trial.rate_before;
            self.floor = Some(Remembered {
                value: median,
                at: now,
            });
            self.bottleneck = None;
            return;
        }
        if self.doubling && heavy * 100 < count * FALL_FROM_PERCENT && kernel_heavy * 2 <= count {
            self.rate = self.rate.saturating_mul(2);
            self.doubling = self.rate < self.cap;
            return;
        }
        self.doubling = false;
        if kernel_heavy * 2 > count {
            // Most machines cannot read this fast, which has the same effect as a full switch.
            self.rate = percent(self.rate, 85);
            self.falls += 1;
            return;
        }
        if heavy * 100 >= count * FALL_FROM_PERCENT {
            let delivered = self.rate.saturating_mul(MILLION - median.min(MILLION)) / MILLION;
            self.trial = Some(Trial {
                rate_before: self.rate,
                loss_before: median,
            });
            self.bottleneck = Some(Remembered {
                value: delivered,
                at: now,
            });
            self.rate = percent(delivered, 100 - DRAIN_PERCENT);
            self.falls += 1;
        } else {
            // The climb slows down, but does not stop, while many receivers see some loss.
            // Otherwise loss that does not depend on the rate would keep the rate low.
            let careful = seen * 100 >= count * CLIMB_BELOW_PERCENT;
            self.climb(now, length, careful);
        }
    }

    fn climb(&mut self, now: Instant, length: Duration, careful: bool) {
        let near = self.bottleneck.is_some_and(|bottleneck| {
            now.saturating_since(bottleneck.at) < BOTTLENECK_MEMORY
                && self.rate >= percent(bottleneck.value, NEAR_PERCENT)
        });
        let permille = if near || careful {
            CLIMB_NEAR_PERMILLE
        } else {
            CLIMB_PERCENT * 10
        };
        let a_second = (self.cap.saturating_mul(permille) / 1000)
            .min(percent(self.rate, CLIMB_MOST_PERCENT))
            .max(1);
        let step = a_second.saturating_mul(length.as_micros().min(2 * MILLION)) / MILLION;
        self.rate = self.rate.saturating_add(step);
    }
}

fn percent(value: u64, percent: u64) -> u64 {
    value.saturating_mul(percent) / 100
}

fn ppm(part: u64, whole: u64) -> Ppm {
    part.saturating_mul(MILLION).checked_div(whole).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: u64 = 125_000_000;
    const INTERVAL: Duration = Duration::from_millis(100);

    /// Runs for `seconds` with receivers whose loss (ppm) at a given rate is `loss`.
    fn run(rate: &mut Rate, from: u64, seconds: u64, loss: impl Fn(u32, u64) -> u64) -> u64 {
        for tick in 0..seconds * 10 {
            for id in 0..20 {
                let packets = rate.rate() / 15_140;
                let lost = packets * loss(id, rate.rate()) / MILLION;
                let now = Instant::from_micros((from * 10 + tick) * 100_000);
                rate.sample(now, ReceiverId(id), packets - lost, lost, 0);
            }
            rate.evaluate(Instant::from_micros((from * 10 + tick) * 100_000), INTERVAL);
        }
        from + seconds
    }

    #[test]
    fn reaches_the_cap_and_never_passes_it() {
        let mut rate = Rate::new(Instant::ZERO, CAP, CAP);
        run(&mut rate, 0, 3, |_, _| 0);
        assert_eq!(rate.rate(), CAP);
        rate.set_cap(1000);
        assert_eq!(rate.rate(), 1000);
    }

    #[test]
    fn a_cap_far_above_the_network_is_approached_by_doubling() {
        let link = 25_000_000;
        let overrun = |_, rate: u64| rate.saturating_sub(link) * MILLION / rate;
        let mut rate = Rate::new(Instant::ZERO, 10 * CAP, link / 4);
        let from = run(&mut rate, 0, 4, overrun);
        assert!(
            (link * 80 / 100..=link * 110 / 100).contains(&rate.rate()),
            "{}",
            rate.rate()
        );
        assert!(rate.falls() >= 1);
        run(&mut rate, from, 60, overrun);
        assert!(
            (link * 85 / 100..=link * 115 / 100).contains(&rate.rate()),
            "{}",
            rate.rate()
        );
    }

    #[test]
    fn a_cautious_start_reaches_a_cap_that_holds() {
        let mut rate = Rate::new(Instant::ZERO, CAP, CAP / 5);
        run(&mut rate, 0, 3, |_, _| 0);
        assert_eq!(rate.rate(), CAP);
    }

    #[test]
    fn few_losers_slow_nobody() {
        let mut rate = Rate::new(Instant::ZERO, CAP, CAP);
        run(&mut rate, 0, 20, |id, _| if id < 4 { 300_000 } else { 0 });
        assert!(rate.rate() >= CAP * 98 / 100);
    }

    #[test]
    fn kernel_drops_of_one_machine_are_its_own_and_those_of_most_slow_the_room() {
        // The network lost nothing: the missing packets were dropped from the machine's own queue.
        let room = |droppers: u32, of: u32| {
            let mut rate = Rate::new(Instant::ZERO, CAP, CAP);
            for tick in 0..100 {
                let now = Instant::from_micros(tick * 100_000);
                for id in 0..of {
                    let dropped = if id < droppers { 2_000 } else { 0 };
                    rate.sample(now, ReceiverId(id), 8_000 - dropped, dropped, dropped);
                }
                rate.evaluate(now, INTERVAL);
            }
            (rate.rate(), rate.falls(), rate.usual_loss())
        };
        assert_eq!(room(1, 2), (CAP, 0, 0));
        assert_eq!(room(1, 20), (CAP, 0, 0));
        assert_eq!(room(10, 20), (CAP, 0, 0));
        let (rate, falls, _) = room(11, 20);
        assert!(rate < CAP * 3 / 4 && falls >= 2, "{rate} {falls}");
    }

    #[test]
    fn loss_that_does_not_go_away_slows_nobody() {
        let mut rate = Rate::new(Instant::ZERO, CAP, CAP);
        let from = run(&mut rate, 0, 10, |_, _| 50_000);
        assert!(rate.rate() >= CAP * 98 / 100, "{}", rate.rate());
        run(&mut rate, from, 60, |_, _| 50_000);
        assert_eq!(rate.rate(), CAP);
        assert_eq!(rate.falls(), 1);
    }

    #[test]
    fn a_bottleneck_is_found_in_one_step_and_kept() {
        let link = 60_000_000;
        let overrun = |_, rate: u64| {
            if rate > link {
                (rate - link) * MILLION / rate
            } else {
                0
            }
        };
        let mut rate = Rate::new(Instant::ZERO, CAP, CAP);
        let from = run(&mut rate, 0, 2, overrun);
        assert!(rate.rate() <= link, "{}", rate.rate());
        let mut least = u64::MAX;
        let mut from = from;
        for _ in 0..30 {
            from = run(&mut rate, from, 1, overrun);
            least = least.min(rate.rate());
        }
        assert!(least >= link * 90 / 100, "{least}");
    }

    #[test]
    fn a_low_cap_is_reached_again_from_the_floor() {
        // At 50 KB/s, the lowest rate, the shortest window has thirteen packets.
        let cap = 2_500_000;
        let mut rate = Rate::new(Instant::ZERO, cap, cap);
        let from = run(&mut rate, 0, 2, |_, _| 990_000);
        assert!(rate.rate() < cap / 4, "{}", rate.rate());
        run(&mut rate, from, 120, |_, _| 0);
        assert!(rate.rate() > cap * 9 / 10, "{}", rate.rate());
    }

    #[test]
    fn a_bottleneck_behind_a_bad_link_is_still_found() {
        let link = 60_000_000;
        let both = |_, rate: u64| 50_000 + rate.saturating_sub(link) * 950_000 / rate;
        let mut rate = Rate::new(Instant::ZERO, CAP, CAP);
        run(&mut rate, 0, 20, both);
        assert!((link * 85 / 100..=link * 110 / 100).contains(&rate.rate()));
    }
}
