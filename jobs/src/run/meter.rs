//! Rate and remaining time of a target.
//!
//! Owns the progress of the last few seconds. Pure. Invariants: a target that starts another phase
//! (from writing to reading back) is measured afresh; a number that goes backwards never becomes a
//! huge rate.

use std::collections::VecDeque;
use std::time::Duration;

/// Time span over which the rate is measured: long enough to be steady, short enough to show a
/// stall.
const WINDOW: Duration = Duration::from_secs(5);
/// Maximum number of samples kept. Reports come about twice a second, so the window needs no more.
const MAX_POINTS: usize = 64;

/// Progress samples of one target in one phase.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    points: VecDeque<(Duration, u64)>,
}

impl Meter {
    /// Forgets all samples, because another phase begins.
    pub fn reset(&mut self) {
        self.points.clear();
    }

    /// Records `done` bytes at `now`, by any monotonic clock.
    pub fn record(&mut self, now: Duration, done: u64) {
        if self.points.back().is_some_and(|(_, last)| *last > done) {
            self.reset();
        }
        self.points.push_back((now, done));
        let old = |(at, _): &(Duration, u64)| now.saturating_sub(*at) > WINDOW;
        // One point older than the window stays, so that the rate spans the whole window.
        while self.points.len() > MAX_POINTS || self.points.get(1).is_some_and(old) {
            self.points.pop_front();
        }
    }

    /// Returns the rate in bytes per second up to `now`; it falls to zero when reports stop.
    pub fn rate_bytes_per_s(&self, now: Duration) -> u64 {
        let (Some((from, before)), Some((_, after))) = (self.points.front(), self.points.back())
        else {
            return 0;
        };
        let span_ms = now.saturating_sub(*from).as_millis();
        // Half a second is too short to measure, and a stalled target must not keep its last rate.
        if span_ms < 500
            || self
                .points
                .back()
                .is_none_or(|(at, _)| now.saturating_sub(*at) > WINDOW)
        {
            return 0;
        }
        u64::try_from(u128::from(after.saturating_sub(*before)) * 1000 / span_ms)
            .unwrap_or(u64::MAX)
    }

    /// Returns the seconds until `total` is reached, or `None` without a rate.
    pub fn eta_seconds(&self, now: Duration, total: u64) -> Option<f64> {
        let (_, done) = self.points.back()?;
        let rate = self.rate_bytes_per_s(now);
        (rate > 0).then(|| total.saturating_sub(*done) as f64 / rate as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn rate_follows_the_last_seconds_only() {
        let mut meter = Meter::default();
        for tick in 0..20_u64 {
            meter.record(at(tick * 500), tick * 500_000);
        }
        assert_eq!(meter.rate_bytes_per_s(at(9_500)), 1_000_000);
        assert!((meter.eta_seconds(at(9_500), 19_500_000).unwrap() - 10.0).abs() < 1e-6);
        for tick in 20..40_u64 {
            meter.record(at(tick * 500), 9_500_000 + (tick - 19) * 50_000);
        }
        assert_eq!(meter.rate_bytes_per_s(at(19_500)), 100_000);
        assert_eq!(meter.rate_bytes_per_s(at(60_000)), 0, "silent for long");
    }

    #[test]
    fn a_new_phase_is_no_rate_and_nothing_divides_by_zero() {
        let mut meter = Meter::default();
        assert_eq!(meter.rate_bytes_per_s(at(0)), 0);
        meter.record(at(0), u64::MAX);
        meter.record(at(0), 10);
        assert_eq!(meter.rate_bytes_per_s(at(0)), 0);
        assert_eq!(meter.eta_seconds(at(0), u64::MAX), None);
    }
}
