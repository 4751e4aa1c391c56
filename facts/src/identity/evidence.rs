//! Identity values that a machine reports, and the set of those that several machines report.

use crate::{Mac, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Limit of cards remembered for one machine; even a large site has fewer docks.
const MAX_CARDS: usize = 64;
/// Length limit of a serial number that is kept, in characters.
const MAX_SERIAL: usize = 256;
/// Limit of values remembered as shared. Beyond it a technician may be asked again after a restart;
/// machines are never merged because of it.
const MAX_SHARED: usize = 65_536;

/// Known identity values of a machine. A missing value decides nothing.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Evidence {
    /// SMBIOS UUID.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// SMBIOS serial number, in small letters.
    #[serde(default)]
    pub serial: Option<String>,
    /// Network cards, those seen last first.
    #[serde(default)]
    pub cards: Vec<Mac>,
    /// Regular files that stand for disks: agents with different files on one machine are different
    /// targets.
    #[serde(default)]
    pub files: Vec<String>,
    /// Host name, kept only when the machine has no other value.
    #[serde(default)]
    pub host: Option<String>,
}

impl Evidence {
    /// Reads the values that firmware and kernel report. Values that cannot be one machine's own
    /// are left out: empty, all zeros, all F, a group address.
    pub fn read<'a>(
        uuid: Option<&str>,
        serial: Option<&str>,
        cards: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut all = Self {
            uuid: uuid.and_then(|text| text.trim().parse().ok()),
            serial: serial.and_then(given_serial),
            ..Self::default()
        };
        for card in cards.into_iter().filter_map(|text| text.parse().ok()) {
            all.add_card(card);
        }
        all
    }

    fn add_card(&mut self, card: Mac) {
        if card.is_card() && !self.cards.contains(&card) && self.cards.len() < MAX_CARDS {
            self.cards.push(card);
        }
    }

    /// Adds the files that stand for disks.
    #[must_use]
    pub fn with_files<'a>(mut self, files: impl IntoIterator<Item = &'a str>) -> Self {
        self.files = files.into_iter().map(str::to_owned).collect();
        self.files.sort_unstable();
        self
    }

    /// Adds the host name, which counts only when there is no other value.
    #[must_use]
    pub fn or_host(mut self, host: &str) -> Self {
        let nothing_else = self.values().next().is_none();
        self.host = nothing_else.then(|| host.to_owned());
        self
    }

    /// UUID, serial number and cards.
    pub fn values(&self) -> impl Iterator<Item = Value> + '_ {
        let uuid = self.uuid.map(Value::Uuid);
        let serial = self.serial.clone().map(Value::Serial);
        let cards = self.cards.iter().copied().map(Value::Card);
        uuid.into_iter().chain(serial).chain(cards)
    }

    /// Updates the values with those the same machine reports now. Cards that are no longer
    /// reported stay: the machine may come back with them.
    pub fn learn(&mut self, seen: &Self) {
        self.uuid = seen.uuid.or(self.uuid);
        if seen.serial.is_some() {
            self.serial.clone_from(&seen.serial);
        }
        let old = std::mem::replace(&mut self.cards, seen.cards.clone());
        for card in old {
            self.add_card(card);
        }
        if self.values().next().is_some() {
            self.host = None;
        }
    }

    /// True when both have the same values, in any order.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let values = |of: &Self| of.values().collect::<BTreeSet<Value>>();
        values(self) == values(other) && self.files == other.files && self.host == other.host
    }

    /// Values that both have in common.
    pub fn common(&self, other: &Self) -> Vec<Value> {
        let theirs: BTreeSet<Value> = other.values().collect();
        self.values()
            .filter(|value| theirs.contains(value))
            .collect()
    }
}

/// A serial number in one spelling; `None` when it is empty or filler (all `0` or all `F`).
fn given_serial(text: &str) -> Option<String> {
    let text: String = text
        .trim()
        .to_lowercase()
        .chars()
        .take(MAX_SERIAL)
        .collect();
    let mut letters = text.chars().filter(|c| c.is_alphanumeric());
    let first = letters.next()?;
    let filler = matches!(first, '0' | 'f') && letters.all(|c| c == first);
    (!filler).then_some(text)
}

/// One identity value of a machine.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum Value {
    /// SMBIOS UUID.
    Uuid(Uuid),
    /// SMBIOS serial number.
    Serial(String),
    /// MAC address of a card.
    Card(Mac),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => write!(f, "UUID {uuid}"),
            Self::Serial(serial) => write!(f, "serial number {serial:?}"),
            Self::Card(mac) => write!(f, "network card {mac}"),
        }
    }
}

/// Values that more than one machine has. They decide nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shared(BTreeSet<Value>);

impl Shared {
    /// True when several machines have this value.
    pub fn has(&self, value: &Value) -> bool {
        self.0.contains(value)
    }

    /// Adds a value; false when it is known already, or the limit is reached.
    pub fn insert(&mut self, value: Value) -> bool {
        self.0.len() < MAX_SHARED && self.0.insert(value)
    }

    /// Removes a value that belongs to one machine after all; false when it was not there.
    pub fn remove(&mut self, value: &Value) -> bool {
        self.0.remove(value)
    }

    /// Every shared value.
    pub fn iter(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }
}

impl FromIterator<Value> for Shared {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl Extend<Value> for Shared {
    fn extend<I: IntoIterator<Item = Value>>(&mut self, values: I) {
        for value in values {
            self.insert(value);
        }
    }
}
