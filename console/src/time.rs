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
