//! The one place where session code meets a clock.

#![expect(
    clippy::disallowed_methods,
    reason = "this is where the pure session's time comes from"
)]

/// Counts microseconds from its start, as the session crate wants time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// A clock that stands at zero now.
    pub fn start() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }

    /// Time since the start.
    pub fn now(&self) -> multicast::Instant {
        // Half a million years fit; the conversion cannot fail on any machine that boots.
        multicast::Instant::from_micros(
            u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX),
        )
    }

    /// How long from `now` to `deadline`, zero when it has passed.
    pub fn until(&self, deadline: multicast::Instant) -> std::time::Duration {
        std::time::Duration::from_micros(
            deadline.as_micros().saturating_sub(self.now().as_micros()),
        )
    }
}
