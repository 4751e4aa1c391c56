//! When a job that was told a time begins. Pure: the clock is an argument, and is not believed far.
//!
//! A clock that lies, or a console that was off at the time, must not start a job in the first lesson. A job has a window: when
//! the clock is seen past it without the job having begun, the job was missed, and asks again. A clock put right afterwards, so
//! that the time is still to come, makes it wait again.

use jiff::Timestamp;
use std::time::Duration;

/// How late a job may begin, unless told otherwise: a restart of the console, a suspended laptop.
pub const START_WINDOW: Duration = Duration::from_secs(15 * 60);

/// Standing of a scheduled job against the clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// Its time is to come.
    Early,
    /// Now.
    Now,
    /// Its window is over.
    Missed,
}

/// Holds the clock against the time a job was told.
pub fn judge(now: Timestamp, at: Timestamp, window: Duration) -> Due {
    let late = now.duration_since(at);
    if late.is_negative() {
        Due::Early
    } else if late.unsigned_abs() <= window {
        Due::Now
    } else {
        Due::Missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_begins_in_its_window_and_never_after_it() {
        let at: Timestamp = "2026-11-30T22:00:00Z".parse().unwrap();
        let cases = [
            ("2026-11-30T21:59:59.999Z", Due::Early),
            ("2026-11-30T22:00:00Z", Due::Now),
            ("2026-11-30T22:15:00Z", Due::Now),
            // The console was off and is back in the first lesson.
            ("2026-11-30T22:15:00.001Z", Due::Missed),
            ("2026-12-01T08:05:00Z", Due::Missed),
            // A clock that lies.
            ("2099-01-01T00:00:00Z", Due::Missed),
            ("1970-01-01T00:00:00Z", Due::Early),
        ];
        for (now, due) in cases {
            assert_eq!(judge(now.parse().unwrap(), at, START_WINDOW), due, "{now}");
        }
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let (first, last) = (Timestamp::MIN, Timestamp::MAX);
        assert_eq!(judge(first, last, Duration::MAX), Due::Early);
        assert_eq!(judge(last, first, Duration::MAX), Due::Now);
        assert_eq!(judge(last, first, Duration::ZERO), Due::Missed);
    }
}
