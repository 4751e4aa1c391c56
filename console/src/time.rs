//! Dates in the form of the API and the store. Only `doctor` reads the clock elsewhere, in
//! microseconds.

use jiff::Timestamp;

/// Returns the present time, RFC 3339 in UTC, to the millisecond.
pub fn now_text() -> String {
    format!("{:.3}", Timestamp::now())
}

/// Returns the present time.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Returns the time until a date in RFC 3339, zero if it has passed. `None` if the text is not a
/// date.
pub fn until(date: &str) -> Option<std::time::Duration> {
    let date: Timestamp = date.parse().ok()?;
    Some(
        date.duration_since(Timestamp::now())
            .try_into()
            .unwrap_or(std::time::Duration::ZERO),
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
    fn dates_are_read_back() {
        assert!(until("2000-01-01T00:00:00Z").unwrap().is_zero());
        assert!(until("9000-01-01T00:00:00+01:00").unwrap().as_secs() > 0);
        assert!(until("tomorrow").is_none());
        assert!(until(&now_text()).is_some());
        let seconds = seconds_between("2030-01-01T00:00:00Z", "2030-01-01T00:01:00.5Z");
        assert!((seconds - 60.5).abs() < 1e-6);
    }
}
