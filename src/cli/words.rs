//! Values of options: their parsers, each with the words that say the accepted form.

use api::StartRule;
use api::name::is_valid_name;
use disk::volumes::VOLUME_MIN;
use facts::failure::{ErrorCode, Failure};
use facts::units::{UnitError, parse_duration, parse_size};
use pxe::export::words::CONTROL_PORT;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The reason a value is not what its option takes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum BadValue {
    #[error("write KEY=VALUE, for example network.mode=dhcp")]
    KeyValue,
    #[error("expected NAME=TEXT")]
    Label,
    #[error("`{0}` is no limit; write at least 1s, for example 10m or 2h")]
    Limit(String),
    #[error("write all, now, manual, a number of targets, or at=TIME")]
    Start,
    #[error("`{0}` is not a time; write it as 2026-01-31T18:30 or 2026-01-31T18:30:00Z")]
    Time(String),
    #[error("expected 1s to 125s")]
    QueryInterval,
    #[error("expected a share between 0 and 0.5, such as 0.01 or 1%")]
    Share,
    #[error("expected 256K, 512K, 1M, 2M or 4M")]
    ChunkSize,
    #[error("a part has at least 16M")]
    VolumeSize,
    #[error("expected 1 to 63 of letters, digits, -, _ and .")]
    SetName,
    #[error(
        "expected an address such as 10.0.0.1 or 10.0.0.1:5001; names are not looked up by agents"
    )]
    Address,
    #[error(transparent)]
    Unit(#[from] UnitError),
}

impl Failure for BadValue {
    fn code(&self) -> ErrorCode {
        ErrorCode::Usage
    }
}

/// Parses `key=value` of `--set`.
pub(super) fn key_value(text: &str) -> Result<(String, String), BadValue> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err(BadValue::KeyValue),
    }
}

/// Parses `NAME=TEXT` of a label.
pub(super) fn label(text: &str) -> Result<(String, String), BadValue> {
    match text.split_once('=') {
        Some((name, text)) => Ok((name.to_owned(), text.to_owned())),
        None => Err(BadValue::Label),
    }
}

/// Parses a limit into whole seconds.
pub(super) fn limit(text: &str) -> Result<u32, BadValue> {
    let seconds = parse_duration(text)?.as_secs();
    match u32::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(BadValue::Limit(text.to_owned())),
    }
}

/// Parses the rule by which a job starts.
pub(super) fn start_rule(text: &str) -> Result<StartRule, BadValue> {
    if let Some(time) = text.strip_prefix("at=") {
        return start_time(time).map(StartRule::At);
    }
    match text {
        "all" => Ok(StartRule::All),
        "now" => Ok(StartRule::Now),
        "manual" => Ok(StartRule::Manual),
        _ => match text.parse() {
            Ok(number) if number > 0 => Ok(StartRule::Count(number)),
            _ => Err(BadValue::Start),
        },
    }
}

/// Converts a time to RFC 3339: from RFC 3339, or from a local time without an offset.
pub(super) fn start_time(text: &str) -> Result<String, BadValue> {
    let bad = |_| BadValue::Time(text.to_owned());
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.to_string());
    }
    let local: jiff::civil::DateTime = text.parse().map_err(bad)?;
    let zoned = local.to_zoned(jiff::tz::TimeZone::system()).map_err(bad)?;
    Ok(zoned.timestamp().to_string())
}

/// Parses the interval of IGMP queries: long enough for all members to answer, short enough that
/// memberships (260 s) survive one lost query.
pub(super) fn query_interval(text: &str) -> Result<Duration, BadValue> {
    let interval = parse_duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(125)).contains(&interval) {
        Ok(interval)
    } else {
        Err(BadValue::QueryInterval)
    }
}

/// Parses a share of lost packets: a number up to 0.5, or percent.
pub(super) fn share(text: &str) -> Result<f64, BadValue> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (text, 1.0),
    };
    match number.parse::<f64>() {
        Ok(share) if (0.0..=0.5).contains(&(share / scale)) => Ok(share / scale),
        _ => Err(BadValue::Share),
    }
}

/// Parses the size of a chunk into its power of two.
pub(super) fn chunk_log2(text: &str) -> Result<u8, BadValue> {
    let bytes = parse_size(text)?;
    (imagefmt::MIN_CHUNK_LOG2..=imagefmt::MAX_CHUNK_LOG2)
        .find(|log2| bytes == 1 << log2)
        .ok_or(BadValue::ChunkSize)
}

/// Parses the largest size of a part of an image.
pub(super) fn volume_size(text: &str) -> Result<u64, BadValue> {
    match parse_size(text)? {
        bytes if bytes < VOLUME_MIN => Err(BadValue::VolumeSize),
        bytes => Ok(bytes),
    }
}

/// Checks the name of the disks of one machine.
pub(super) fn set_name(text: &str) -> Result<String, BadValue> {
    match is_valid_name(text) {
        true => Ok(text.to_owned()),
        false => Err(BadValue::SetName),
    }
}

/// Parses a console's address; a missing port is that of the control channel.
pub(super) fn address(text: &str) -> Result<SocketAddr, BadValue> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let ip: IpAddr = text.parse().map_err(|_| BadValue::Address)?;
    Ok(SocketAddr::new(ip, CONTROL_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_rules() {
        assert_eq!(start_rule("all"), Ok(StartRule::All));
        assert_eq!(start_rule("now"), Ok(StartRule::Now));
        assert_eq!(start_rule("manual"), Ok(StartRule::Manual));
        assert_eq!(start_rule("20"), Ok(StartRule::Count(20)));
        assert_eq!(
            start_rule("at=2026-01-31T18:30:00+01:00"),
            Ok(StartRule::At("2026-01-31T17:30:00Z".into()))
        );
        let Ok(StartRule::At(local)) = start_rule("at=2026-01-31T18:30") else {
            panic!("a local time is a time")
        };
        assert!(local.parse::<jiff::Timestamp>().is_ok());
        for text in [
            "",
            "0",
            "-1",
            "soon",
            "at=",
            "at=tomorrow",
            "at=2026-13-01T00:00",
        ] {
            assert!(start_rule(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_a_number_or_percent() {
        assert_eq!(share("0.01"), Ok(0.01));
        assert_eq!(share("1%"), Ok(0.01));
        assert!(share("0.6").is_err() && share("60%").is_err() && share("-1").is_err());
        assert!(share("NaN").is_err());
    }

    #[test]
    fn sizes_and_limits_have_bounds() {
        assert_eq!(limit("10m"), Ok(600));
        assert!(limit("0s").is_err() && limit("100ms").is_err() && limit("x").is_err());
        assert_eq!(chunk_log2("1M"), Ok(20));
        assert!(chunk_log2("3M").is_err() && volume_size("1M").is_err());
        assert!(query_interval("126s").is_err() && query_interval("60s").is_ok());
    }
}
