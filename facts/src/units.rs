//! Sizes, rates and durations as a technician types and reads them.
//!
//! Owns: the parsers behind `--rate`, `--timeout` and `PATH=SIZE`, and the short forms in tables
//! and bars. Pure; never panics, whatever the text. Sizes without `B` use powers of 1024 (`64M`,
//! like `truncate -s`), sizes with `B` powers of 1000 (`64MB`). Output always uses powers of 1000,
//! like labels of disks and links.

use crate::failure::{ErrorCode, Failure};
use std::time::Duration;

/// Lowest accepted rate cap, in bits per second: a lower value is probably a typing mistake.
pub const MIN_RATE_BITS_PER_S: u64 = 100_000;

/// The reason a text is no size, rate or duration.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnitError {
    /// Not a size.
    #[error("`{0}` is not a size; write it as 512, 64M, 4G or 500MB")]
    Size(String),
    /// Not a rate.
    #[error("`{0}` is not a rate; write it as 200mbit, 1gbit or 25MB")]
    Rate(String),
    /// A rate under [`MIN_RATE_BITS_PER_S`]; its bits per second.
    #[error(
        "a rate of {0} bit/s is below the least accepted, {MIN_RATE_BITS_PER_S} bit/s; write it as 200mbit or 25MB"
    )]
    TooSlow(u64),
    /// Not a duration.
    #[error("`{0}` is not a duration; write it as 90s, 10m or 1h30m")]
    Duration(String),
}

impl Failure for UnitError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Usage
    }
}

/// Parses a size in bytes: `512`, `64M`, `4G`, `1.5GiB`, `500MB`.
///
/// # Errors
/// [`UnitError::Size`].
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Size(text.to_owned());
    let (number, unit) = split_number(text).ok_or_else(bad)?;
    let unit = unit.to_ascii_lowercase();
    let (prefix, rest) = split_prefix(&unit);
    let base: f64 = match rest {
        "" | "ib" => 1024.0,
        "b" => 1000.0,
        _ => return Err(bad()),
    };
    if prefix == 0 && rest == "ib" {
        return Err(bad());
    }
    scaled(number, base, prefix).ok_or_else(bad)
}

/// Parses a rate in bits per second: `200mbit`, `1g`, `400M` (bits) and `25MB`, `25MB/s`, `24MiB`
/// (bytes).
///
/// # Errors
/// [`UnitError::Rate`], [`UnitError::TooSlow`].
pub fn parse_rate(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Rate(text.to_owned());
    let (number, unit) = split_number(text).ok_or_else(bad)?;
    let unit = unit.strip_suffix("/s").unwrap_or(unit);
    // A capital B means bytes, like on data sheets; everything else is bits.
    let bytes = unit.ends_with('B');
    let unit = unit.to_ascii_lowercase();
    let (prefix, rest) = split_prefix(&unit);
    let (base, factor): (f64, u64) = match (rest, bytes) {
        ("" | "bit" | "bits" | "bps" | "b", false) => (1000.0, 1),
        ("b", true) => (1000.0, 8),
        ("ib", true) => (1024.0, 8),
        _ => return Err(bad()),
    };
    let bits = scaled(number, base, prefix)
        .and_then(|v| v.checked_mul(factor))
        .ok_or_else(bad)?;
    if bits < MIN_RATE_BITS_PER_S {
        return Err(UnitError::TooSlow(bits));
    }
    Ok(bits)
}

/// Parses a duration: `90`, `90s`, `500ms`, `10m`, `1h30m`, `2d`.
///
/// # Errors
/// [`UnitError::Duration`].
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let bad = || UnitError::Duration(text.to_owned());
    let mut rest = text.trim();
    let mut total = 0.0_f64;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let (number, tail) = split_number(rest).ok_or_else(bad)?;
        let unit_len = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_len);
        let seconds = match unit {
            "ms" => 0.001,
            "" | "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(bad()),
        };
        total += number * seconds;
        rest = next;
    }
    // The limit of about a century also keeps `Duration` from overflowing.
    if !total.is_finite() || total > 3.2e9 {
        return Err(bad());
    }
    Ok(Duration::from_secs_f64(total))
}

/// Splits a text into its leading decimal number and the rest.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    number.is_finite().then_some((number, rest.trim_start()))
}

/// Splits a unit into the power of its lower-case prefix (`k` is 1) and the rest.
fn split_prefix(unit: &str) -> (i32, &str) {
    for (power, letter) in [(1, 'k'), (2, 'm'), (3, 'g'), (4, 't'), (5, 'p')] {
        if let Some(rest) = unit.strip_prefix(letter) {
            return (power, rest);
        }
    }
    (0, unit)
}

/// `number * base^power` as an integer; `None` when it does not fit.
fn scaled(number: f64, base: f64, power: i32) -> Option<u64> {
    let value = (number * base.powi(power)).round();
    // The limit is near 2^63, well below 2^64, where f64 rounds past u64.
    if !(0.0..9.2e18).contains(&value) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range was checked above"
    )]
    let whole = value as u64;
    Some(whole)
}

/// Formats bytes with three digits and powers of 1000: `512 B`, `64.0 kB`, `1.23 GB`.
pub fn bytes(count: u64) -> String {
    with_prefix(count, "B", &["kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Formats bytes per second: `118 MB/s`.
pub fn bytes_per_s(rate: u64) -> String {
    format!("{}/s", bytes(rate))
}

/// Formats bits per second: `200 Mbit/s`.
pub fn bits_per_s(rate: u64) -> String {
    with_prefix(
        rate,
        "bit/s",
        &["kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s", "Ebit/s"],
    )
}

fn with_prefix(count: u64, plain: &str, prefixed: &[&str]) -> String {
    if count < 1000 {
        return format!("{count} {plain}");
    }
    let mut value = count as f64;
    let mut unit = plain;
    for next in prefixed {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if value < 9.995 {
        format!("{value:.2} {unit}")
    } else if value < 99.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// Formats a remaining time like a clock: `0:42`, `3:10`, `1:02:03`.
pub fn clock(seconds: f64) -> String {
    let total = Duration::try_from_secs_f64(seconds.round().max(0.0)).map_or(0, |d| d.as_secs());
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// Formats a duration in words: `0.42 s`, `12.3 s`, `3 min 10 s`, `1 h 02 min`.
pub fn span(seconds: f64) -> String {
    let seconds = if seconds.is_finite() {
        seconds.max(0.0)
    } else {
        0.0
    };
    if seconds < 9.995 {
        return format!("{seconds:.2} s");
    }
    if seconds < 99.95 {
        return format!("{seconds:.1} s");
    }
    let total = Duration::try_from_secs_f64(seconds.round()).map_or(0, |d| d.as_secs());
    if total < 3600 {
        format!("{} min {:02} s", total / 60, total % 60)
    } else {
        format!("{} h {:02} min", total / 3600, total / 60 % 60)
    }
}

/// Progress in whole percent, rounded down and at most 100, so that 100 % always means the end.
pub fn percent(done: u64, total: u64) -> u8 {
    if total == 0 {
        return 0;
    }
    let hundredths = u128::from(done) * 100 / u128::from(total);
    u8::try_from(hundredths.min(100)).unwrap_or(100)
}

/// Formats a share of 0..1 in percent: `0.02 %`.
pub fn share(part: f64) -> String {
    let part = if part.is_finite() {
        part.clamp(0.0, 1.0) * 100.0
    } else {
        0.0
    };
    if part >= 9.995 {
        format!("{part:.1} %")
    } else {
        format!("{part:.2} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [
            ("512", 512),
            ("0", 0),
            ("64M", 64 << 20),
            ("4G", 4 << 30),
            ("4g", 4 << 30),
            ("1.5GiB", 3 << 29),
            ("500MB", 500_000_000),
            ("2T", 2 << 40),
            ("7 k", 7 << 10),
            ("10b", 10),
        ] {
            assert_eq!(parse_size(text), Ok(want), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "4X",
            "4GG",
            "1e5",
            "ib",
            "9999999999T",
            "1.2.3",
            "5 ib",
            "é",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates() {
        for (text, want) in [
            ("200mbit", 200_000_000),
            ("25MB", 200_000_000),
            ("25MB/s", 200_000_000),
            ("1g", 1_000_000_000),
            ("1Gbit/s", 1_000_000_000),
            ("400M", 400_000_000),
            ("100Mb", 100_000_000),
            ("1MiB", 8 << 20),
            ("2.5gbps", 2_500_000_000),
            ("200000000", 200_000_000),
        ] {
            assert_eq!(parse_rate(text), Ok(want), "{text}");
        }
        for text in [
            "",
            "fast",
            "0",
            "5",
            "99kbit",
            "1mib",
            "25Mbyte",
            "-4m",
            "99999999P",
        ] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        assert!(
            parse_rate("5")
                .unwrap_err()
                .to_string()
                .contains("100000 bit/s")
        );
    }

    #[test]
    fn durations() {
        for (text, want) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("500ms", 500),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(want)),
                "{text}"
            );
        }
        for text in ["", "s", "5x", "h1", "1e9d", "99999999999d", "-5s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn short_forms() {
        for (count, want) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (999_499, "999 kB"),
            (999_600, "1.00 MB"),
            (118_000_000, "118 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(count), want);
        }
        assert_eq!(bits_per_s(200_000_000), "200 Mbit/s");
        assert_eq!(bytes_per_s(25_000_000), "25.0 MB/s");
        assert_eq!(clock(190.4), "3:10");
        assert_eq!(clock(3723.0), "1:02:03");
        assert_eq!(clock(f64::NAN), "0:00");
        assert_eq!(span(0.424), "0.42 s");
        assert_eq!(span(190.0), "3 min 10 s");
        assert_eq!(span(3723.0), "1 h 02 min");
        assert_eq!(span(f64::INFINITY), "0.00 s");
        assert_eq!(share(0.0002), "0.02 %");
        assert_eq!(share(f64::NAN), "0.00 %");
        assert_eq!(
            (percent(999, 1000), percent(5, 0), percent(7, 5)),
            (99, 0, 100)
        );
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }
}
