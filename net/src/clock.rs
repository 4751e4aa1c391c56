//! The only clock of session code.

#![expect(
    clippy::disallowed_methods,
    reason = "this is where the pure session's time comes from"
)]

/// Clock in microseconds from its start, as the session crate uses time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// A clock that is zero now.
    pub fn start() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }

    /// Time since the start.
    pub fn now(&self) -> multicast::Instant {
        // Half a million years fit, so the conversion cannot fail.
        multicast::Instant::from_micros(
            u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX),
        )
    }

    /// Time from now to `deadline`; zero when it has passed.
    pub fn until(&self, deadline: multicast::Instant) -> std::time::Duration {
        std::time::Duration::from_micros(
            deadline.as_micros().saturating_sub(self.now().as_micros()),
        )
    }
}
