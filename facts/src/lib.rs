//! Vocabulary that every part of diskcast shares: values with one text form, and the rule that
//! identifies machines.
//!
//! Pure: no socket, clock or file. Text of firmware, packets and people is parsed into these types
//! once, at the edge.
//!
//! | module | content |
//! |---|---|
//! | [`mac`] | address of a network card |
//! | [`uuid`] | UUID of a machine |
//! | [`identity`] | identity of machines, for the roster, network boot, names and addresses |
//! | [`target`] | facts that an agent reports about its machine, and the states of a target |
//! | [`disk_rule`] | rule that selects a disk of a machine |
//! | [`same_disk`] | the rule that finds a disk of a machine again |
//! | [`look`] | contents a disk must have when the order to erase it is carried out |
//! | [`order`] | words of an order: read-back, reuse, growing partition, end action |
//! | [`failure`] | kinds of failure with their exit codes |
//! | [`boot`] | a machine that boots over the network, its stage, and the verdict on it |
//! | [`units`] | sizes, rates and durations as people read and type them |
//! | [`speed`] | speed and remaining time, from the last few seconds |
//! | [`hex`] | keys and digests as text |

pub mod boot;
pub mod disk_rule;
pub mod failure;
pub mod hex;
pub mod identity;
pub mod look;
pub mod mac;
pub mod order;
pub mod same_disk;
pub mod speed;
pub mod target;
pub mod units;
pub mod uuid;

pub use mac::Mac;
pub use uuid::Uuid;

/// Bytes of hex digits, with or without separators between them; at most `most` bytes.
fn hex(text: &str, marks: &[char], most: usize) -> Option<Box<[u8]>> {
    // A longer text cannot be valid, so it is not read.
    if text.len() > 3 * most {
        return None;
    }
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !marks.contains(c))
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let (pairs, odd) = digits.as_chunks::<2>();
    (odd.is_empty() && pairs.len() <= most).then(|| pairs.iter().map(|[a, b]| a << 4 | b).collect())
}

/// Implements serde through `FromStr` and `Display`.
macro_rules! as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
use as_text;
