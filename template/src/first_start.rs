//! The report of a machine's first start: where it goes, and the key that signs it.
//!
//! The key never leaves the order of that one machine and the first-boot job on its disk: whoever
//! knows it can report in the machine's name.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes of a [`ReportKey`].
pub const KEY_BYTES: usize = 32;

/// Destination and key of a machine's report of its first start (docs/protocol.md, First start).
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FirstStart {
    /// Addresses of the console, `address:port`, tried in this order. In an order of the console
    /// they are only those of the template.
    pub consoles: Vec<String>,
    /// Number of the job.
    pub job: u64,
    /// Id of the target.
    pub target: String,
    /// Key of the report; each job and target has its own.
    pub key: ReportKey,
}

/// Key of HMAC-SHA256 over a report. `Debug` does not show it.
#[derive(Clone, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReportKey([u8; KEY_BYTES]);

impl ReportKey {
    /// A key with these bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Bytes of the key.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key as 64 lower-case hex digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl From<ReportKey> for String {
    fn from(key: ReportKey) -> Self {
        key.hex()
    }
}

/// The text is not a key of 64 hex digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the key of a first-start report is 64 hex digits")]
pub struct NotAReportKey;

impl TryFrom<String> for ReportKey {
    type Error = NotAReportKey;

    fn try_from(text: String) -> Result<Self, NotAReportKey> {
        let digits = text.as_bytes();
        if digits.len() != 2 * KEY_BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(NotAReportKey);
        }
        let mut key = [0; KEY_BYTES];
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotAReportKey)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAReportKey)?;
        }
        Ok(Self(key))
    }
}

impl fmt::Debug for ReportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReportKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_travels_as_hex_and_is_never_shown() {
        let key = ReportKey::new(std::array::from_fn(|at| u8::try_from(at * 7).unwrap()));
        let text = serde_json::to_string(&key).unwrap();
        assert!(text.starts_with("\"00070e15"), "{text}");
        assert_eq!(serde_json::from_str::<ReportKey>(&text).unwrap(), key);
        assert_eq!(format!("{key:?}"), "ReportKey(..)");
        for bad in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert!(ReportKey::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
