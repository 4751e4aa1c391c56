//! Rule by which a technician says which disk of a machine is meant.

use crate::as_text;
use crate::failure::{ErrorCode, Failure};
use crate::target::DiskFacts;
use std::fmt;
use std::str::FromStr;

/// Rule that selects a disk of a machine. Written as `first`, `largest`, `smallest`, `path:P` or
/// `serial:S`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum DiskRule {
    /// The first internal disk in the agent's order.
    #[default]
    First,
    /// The disk with this path.
    Path(String),
    /// The disk with this serial number.
    Serial(String),
    /// The largest internal disk.
    Largest,
    /// The smallest internal disk.
    Smallest,
}

/// The text is no rule.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown disk rule {0:?}; use first, largest, smallest, path:/dev/sda or serial:S")]
pub struct BadDiskRule(String);

impl Failure for BadDiskRule {
    fn code(&self) -> ErrorCode {
        ErrorCode::Usage
    }
}

/// The reason a rule selects no disk of a machine.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoDisk {
    /// The machine has no disk.
    #[error("no disk")]
    None,
    /// No disk has the path.
    #[error("no disk {path}; it has {has}")]
    Path {
        /// Path of the rule.
        path: String,
        /// Titles of the disks that are there.
        has: String,
    },
    /// No disk has the serial number.
    #[error("no disk with serial {serial}; it has {has}")]
    Serial {
        /// Serial number of the rule.
        serial: String,
        /// Titles of the disks that are there.
        has: String,
    },
    /// Several disks have the serial number.
    #[error("more than one disk has serial {0}")]
    Several(String),
    /// No internal disk can be written.
    #[error("no internal disk that can be written; it has {0}")]
    NoneToWrite(String),
    /// No disk is internal.
    #[error("no internal disk; it has {0}")]
    NoneInternal(String),
}

impl FromStr for DiskRule {
    type Err = BadDiskRule;

    fn from_str(text: &str) -> Result<Self, BadDiskRule> {
        let value = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let rule = match text.split_once(':') {
            None => match text {
                "first" => Some(Self::First),
                "largest" => Some(Self::Largest),
                "smallest" => Some(Self::Smallest),
                _ => None,
            },
            Some(("path", path)) => value(path).map(Self::Path),
            Some(("serial", serial)) => value(serial).map(Self::Serial),
            Some(_) => None,
        };
        rule.ok_or_else(|| BadDiskRule(text.chars().take(80).collect()))
    }
}

impl fmt::Display for DiskRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::Largest => f.write_str("largest"),
            Self::Smallest => f.write_str("smallest"),
            Self::Path(path) => write!(f, "path:{path}"),
            Self::Serial(serial) => write!(f, "serial:{serial}"),
        }
    }
}

as_text!(DiskRule);

impl DiskRule {
    /// The disk to write that the rule selects.
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn choose<'d>(&self, disks: &'d [DiskFacts]) -> Result<&'d DiskFacts, NoDisk> {
        self.choose_among(disks, |disk| !disk.read_only)
            .ok_or_else(|| self.none_of(disks, NoDisk::NoneToWrite))
    }

    /// The disk to read that the rule selects. A read-only disk is selected only if there is no
    /// other, because a failing master may have become read-only.
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn choose_master<'d>(&self, disks: &'d [DiskFacts]) -> Result<&'d DiskFacts, NoDisk> {
        let writable = self.choose(disks).ok();
        writable
            .or_else(|| self.choose_among(disks, |_| true))
            .ok_or_else(|| self.none_of(disks, NoDisk::NoneInternal))
    }

    fn choose_among<'d>(
        &self,
        disks: &'d [DiskFacts],
        fit: impl Fn(&DiskFacts) -> bool,
    ) -> Option<&'d DiskFacts> {
        // A rule that does not name a removable disk never selects it.
        let mut internal = disks.iter().filter(|disk| !disk.removable && fit(disk));
        match self {
            Self::First => internal.next(),
            // Among equals the first, so that the plan depends only on the agent's order.
            Self::Largest => internal.rev().max_by_key(|disk| disk.size),
            Self::Smallest => internal.min_by_key(|disk| disk.size),
            Self::Path(path) => disks.iter().find(|disk| disk.path == *path),
            Self::Serial(serial) => {
                let mut hits = with_serial(disks, serial);
                hits.next().filter(|_| hits.next().is_none())
            }
        }
    }

    fn none_of(&self, disks: &[DiskFacts], internal: impl Fn(String) -> NoDisk) -> NoDisk {
        let has = titles(disks);
        match self {
            _ if disks.is_empty() => NoDisk::None,
            Self::Path(path) => NoDisk::Path {
                path: path.clone(),
                has,
            },
            Self::Serial(serial) if with_serial(disks, serial).next().is_some() => {
                NoDisk::Several(serial.clone())
            }
            Self::Serial(serial) => NoDisk::Serial {
                serial: serial.clone(),
                has,
            },
            Self::First | Self::Largest | Self::Smallest => internal(has),
        }
    }
}

fn with_serial<'d>(disks: &'d [DiskFacts], serial: &str) -> impl Iterator<Item = &'d DiskFacts> {
    disks
        .iter()
        .filter(move |disk| disk.serial.as_deref().map(str::trim) == Some(serial.trim()))
}

/// Titles of disks, for messages.
pub fn titles(disks: &[DiskFacts]) -> String {
    let titles: Vec<String> = disks.iter().map(DiskFacts::title).collect();
    titles.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn disk(path: &str, size: u64) -> DiskFacts {
        DiskFacts {
            path: path.to_owned(),
            size,
            ..DiskFacts::default()
        }
    }

    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for text in [
            "first",
            "largest",
            "smallest",
            "path:/dev/sdc",
            "serial:S 1",
        ] {
            assert_eq!(text.parse::<DiskRule>().unwrap().to_string(), text);
        }
        for text in ["second", "path:", "serial:", "", "model:X"] {
            assert!(text.parse::<DiskRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn rules_choose_one_disk() {
        let disks = vec![
            disk("/dev/sda", 4 * GIB),
            disk("/dev/sdb", 8 * GIB),
            disk("/dev/sdc", 8 * GIB),
        ];
        for (rule, path) in [
            ("first", "/dev/sda"),
            ("smallest", "/dev/sda"),
            ("largest", "/dev/sdb"),
            ("path:/dev/sdc", "/dev/sdc"),
        ] {
            let rule: DiskRule = rule.parse().unwrap();
            assert_eq!(rule.choose(&disks).unwrap().path, path, "{rule:?}");
        }
        // A failing master is read even when it is read-only; it is never written.
        let mut failing = disks.clone();
        failing[0].read_only = true;
        assert_eq!(
            DiskRule::First.choose_master(&failing).unwrap().path,
            "/dev/sdb"
        );
        let only = &failing[..1];
        assert_eq!(
            DiskRule::First.choose_master(only).unwrap().path,
            "/dev/sda"
        );
        let refused = DiskRule::First.choose(only).unwrap_err();
        assert!(matches!(refused, NoDisk::NoneToWrite(_)), "{refused}");
        let mut twins = disks;
        for twin in &mut twins {
            twin.serial = Some("S".to_owned());
        }
        assert_eq!(
            DiskRule::Serial("S".to_owned()).choose(&twins),
            Err(NoDisk::Several("S".to_owned()))
        );
    }
}
