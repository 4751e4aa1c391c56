//! Dates as the API and the store write them. The one place of the console that asks for the date.

use jiff::Timestamp;

/// Now, RFC 3339 in UTC, to the millisecond.
pub fn now_text() -> String {
    format!("{:.3}", Timestamp::now())
}

/// Now.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// How long until a date, RFC 3339; zero when it has passed. `None` when the text is no date.
pub fn until(date: &str) -> Option<std::time::Duration> {
    let date: Timestamp = date.parse().ok()?;
    Some(
        date.duration_since(Timestamp::now())
            .try_into()
            .unwrap_or(std::time::Duration::ZERO),
    )
}

/// Seconds between two dates, RFC 3339; zero when either is no date.
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
