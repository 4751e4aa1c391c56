//! Speed and remaining time, from the last few seconds.
//!
//! Owns: a short window of samples. Time is an argument, so the arithmetic is tested without a
//! clock. The window is bounded, unlike an average since the start, because a technician wants the
//! current speed.

use std::collections::VecDeque;
use std::time::Duration;

/// Age after which a sample no longer counts.
const WINDOW: Duration = Duration::from_secs(10);
/// Least distance between samples: closer ones replace each other. It bounds the queue to WINDOW /
/// SPACING + 2.
const SPACING: Duration = Duration::from_millis(100);

/// Progress in bytes at points in time, newest last.
#[derive(Debug, Default)]
pub struct RateWindow {
    samples: VecDeque<(Duration, u64)>,
}

impl RateWindow {
    /// Adds a sample: `done` bytes at `now`, a time since the start that never goes back.
    pub fn note(&mut self, now: Duration, done: u64) {
        // The newest sample is replaced while it is close to the one before, so samples stay
        // SPACING apart.
        let count = self.samples.len();
        if count >= 2
            && let Some(&(before, _)) = self.samples.get(count - 2)
            && now.saturating_sub(before) < SPACING
        {
            self.samples.pop_back();
        }
        self.samples.push_back((now, done));
        while self.samples.len() > 2
            && self
                .samples
                .front()
                .is_some_and(|(time, _)| now.saturating_sub(*time) > WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Bytes per second over the window; 0 until there are two samples.
    pub fn bytes_per_s(&self) -> u64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return 0;
        };
        let micros = last.0.saturating_sub(first.0).as_micros();
        if micros == 0 {
            return 0;
        }
        u64::try_from(u128::from(last.1.saturating_sub(first.1)) * 1_000_000 / micros)
            .unwrap_or(u64::MAX)
    }

    /// Seconds until `total` bytes are done; `None` while the speed is unknown or 0.
    pub fn eta_seconds(&self, total: u64) -> Option<f64> {
        let (rate, done) = (self.bytes_per_s(), self.samples.back()?.1);
        (rate > 0).then(|| total.saturating_sub(done) as f64 / rate as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_of_the_last_seconds() {
        let mut window = RateWindow::default();
        assert_eq!((window.bytes_per_s(), window.eta_seconds(10)), (0, None));
        // The speed is 1 MB/s for 100 s, then 5 MB/s for 20 s: only the latter counts.
        let mut done = 0;
        for second in 0..120_u64 {
            window.note(Duration::from_secs(second), done);
            done += if second < 100 { 1_000_000 } else { 5_000_000 };
        }
        assert_eq!(window.bytes_per_s(), 5_000_000);
        let newest = done - 5_000_000;
        assert_eq!(window.eta_seconds(newest + 50_000_000), Some(10.0));
        assert_eq!(
            window.eta_seconds(0),
            Some(0.0),
            "past the end is no time left"
        );
    }

    #[test]
    fn the_window_is_bounded() {
        let mut window = RateWindow::default();
        for n in 0..1_000_000_u64 {
            window.note(Duration::from_micros(n * 37), n);
        }
        assert!(window.samples.len() <= 110, "{}", window.samples.len());
        assert!(window.bytes_per_s() > 25_000);
    }
}
