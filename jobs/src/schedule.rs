//! Start times of scheduled jobs. Pure: the clock is an argument, and is trusted only within a
//! window.
//!
//! A wrong clock, or a console that was off at the time, must not start a job during a lesson. A
//! job has a start window: if the clock is past it and the job has not begun, the job is missed and
//! needs a new confirmation. If the clock is then corrected to before the time, the job waits
//! again.

use crate::run::stall::in_words;
use api::{DeployRequest, JobState, StartRule};
use facts::units;
use jiff::Timestamp;
use std::time::Duration;

/// Default start window: enough for a restart of the console or a suspended laptop.
pub const START_WINDOW: Duration = Duration::from_secs(15 * 60);

/// Longest delay that still counts as in time.
const IN_TIME: Duration = Duration::from_secs(2);

/// State of a scheduled job at a given time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// The start time is in the future.
    Early,
    /// The start time has come, and the window is open.
    Now,
    /// The start window has passed.
    Missed,
}

/// Compares the clock with the start time of a job.
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

/// Returns the start window of a request.
pub fn window_of(request: &DeployRequest) -> Duration {
    let seconds = request.start_window_seconds;
    seconds.map_or(START_WINDOW, |seconds| Duration::from_secs(seconds.into()))
}

/// Returns the delay of a job's start; `None` if it is in time.
pub fn late_by(now: Timestamp, at: Timestamp) -> Option<Duration> {
    let late: Duration = now.duration_since(at).try_into().ok()?;
    (late > IN_TIME).then_some(late)
}

/// Describes how the start of a scheduled job differs from its time: missed, or late.
pub fn note(request: &DeployRequest, state: JobState, started: Option<&str>) -> Option<String> {
    let StartRule::At(at) = &request.start else {
        return None;
    };
    let window = in_words(window_of(request));
    if state == JobState::Missed {
        return Some(format!(
            "missed: {at} passed more than {window} ago and the job had not begun; it waits to be started by hand"
        ));
    }
    let late = late_by(started?.parse().ok()?, at.parse().ok()?)?;
    let by_hand = match late > window_of(request) {
        true => ", started by hand",
        false => "",
    };
    Some(format!(
        "began {} late{by_hand}: its time was {at}, its window {window}",
        units::span(late.as_secs_f64())
    ))
}

/// Returns the time from `now` until a date in RFC 3339, zero if it has passed. `None` if the text
/// is not a date.
pub fn until(now: Timestamp, date: &str) -> Option<Duration> {
    let date: Timestamp = date.parse().ok()?;
    Some(
        date.duration_since(now)
            .try_into()
            .unwrap_or(Duration::ZERO),
    )
}

/// Returns the seconds between two dates in RFC 3339; zero if either is not a date.
pub fn seconds_between(from: &str, to: &str) -> f64 {
    match (from.parse::<Timestamp>(), to.parse::<Timestamp>()) {
        (Ok(from), Ok(to)) => to.duration_since(from).as_secs_f64().max(0.0),
        _ => 0.0,
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
            // The console was off and comes back during the first lesson.
            ("2026-11-30T22:15:00.001Z", Due::Missed),
            ("2026-12-01T08:05:00Z", Due::Missed),
            // A wrong clock.
            ("2099-01-01T00:00:00Z", Due::Missed),
            ("1970-01-01T00:00:00Z", Due::Early),
        ];
        for (now, due) in cases {
            assert_eq!(judge(now.parse().unwrap(), at, START_WINDOW), due, "{now}");
        }
    }

    #[test]
    fn a_late_start_says_so() {
        let request = DeployRequest {
            start: StartRule::At("2026-11-30T22:00:00Z".to_owned()),
            ..DeployRequest::default()
        };
        let at = |started| note(&request, JobState::Running, Some(started));
        assert_eq!(at("2026-11-30T22:00:01Z"), None);
        // A technician started it before its time.
        assert_eq!(at("2026-11-30T21:00:00Z"), None);
        assert_eq!(
            at("2026-11-30T22:03:20Z").unwrap(),
            "began 3 min 20 s late: its time was 2026-11-30T22:00:00Z, its window 15 minutes"
        );
        let by_hand = at("2026-12-01T08:05:00Z").unwrap();
        assert!(
            by_hand.starts_with("began 10 h 05 min late, started by hand"),
            "{by_hand}"
        );
        let missed = note(&request, JobState::Missed, None).unwrap();
        assert!(missed.starts_with("missed: "), "{missed}");
        assert_eq!(note(&request, JobState::Waiting, None), None);
        assert_eq!(
            note(
                &DeployRequest::default(),
                JobState::Running,
                Some("2027-01-01T00:00:00Z")
            ),
            None
        );
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let (first, last) = (Timestamp::MIN, Timestamp::MAX);
        assert_eq!(judge(first, last, Duration::MAX), Due::Early);
        assert_eq!(judge(last, first, Duration::MAX), Due::Now);
        assert_eq!(judge(last, first, Duration::ZERO), Due::Missed);
    }

    #[test]
    fn dates_are_read_back() {
        let now: Timestamp = "2026-11-30T22:00:00Z".parse().unwrap();
        assert!(until(now, "2000-01-01T00:00:00Z").unwrap().is_zero());
        let hour = until(now, "2026-12-01T00:00:00+01:00").unwrap();
        assert_eq!(hour, Duration::from_secs(3600));
        assert!(until(now, "tomorrow").is_none());
        let seconds = seconds_between("2030-01-01T00:00:00Z", "2030-01-01T00:01:00.5Z");
        assert!((seconds - 60.5).abs() < 1e-6);
    }
}
