//! Who gets the agent. Pure.

use crate::target::Facts;
use pxe::machine::{Machine, Verdict};
use serde::{Deserialize, Serialize};

/// `console run --boot`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootPolicy {
    /// Machines the console has never seen, and those that are wanted.
    #[default]
    Unknown,
    /// Those that are wanted.
    Wanted,
    /// Everyone.
    Always,
}

impl BootPolicy {
    /// The word of the option.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Wanted => "wanted",
            Self::Always => "always",
        }
    }
}

/// What the console knows of a machine that asks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// It was a target before.
    pub known: bool,
    /// A job, a capture or `target wake` waits for it, and is not over for it.
    pub wanted: bool,
}

/// What a machine is to do. Nobody is left without an answer: silence costs a machine up to a minute before it tries its own disk.
pub fn verdict(policy: BootPolicy, standing: Standing) -> Verdict {
    let agent = standing.wanted
        || match policy {
            BootPolicy::Always => true,
            BootPolicy::Unknown => !standing.known,
            BootPolicy::Wanted => false,
        };
    if agent {
        Verdict::Agent
    } else {
        Verdict::Local
    }
}

/// Whether these facts are of the machine that asks: by UUID where both have one, because docks and USB cards carry their address from machine to machine; else by
/// the address of a card.
pub fn is_same(machine: &Machine, facts: &Facts) -> bool {
    let uuid = facts.uuid.as_deref().and_then(|text| text.parse().ok());
    match (machine.uuid, uuid) {
        (Some(asked), Some(known)) => {
            let known: pxe::identity::Uuid = known;
            asked == known
        }
        _ => facts
            .nics
            .iter()
            .any(|nic| nic.mac.parse() == Ok(machine.mac)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::NicFacts;

    #[test]
    fn who_gets_the_agent() {
        use BootPolicy::{Always, Unknown, Wanted};
        for (policy, known, wanted, agent) in [
            (Unknown, false, false, true),
            (Unknown, true, false, false),
            (Unknown, true, true, true),
            (Wanted, false, false, false),
            (Wanted, true, true, true),
            (Always, true, false, true),
        ] {
            let given = verdict(policy, Standing { known, wanted });
            assert_eq!(
                given == Verdict::Agent,
                agent,
                "{policy:?} {known} {wanted}"
            );
        }
    }

    #[test]
    fn a_dock_does_not_make_two_machines_one() {
        let facts = |uuid: Option<&str>, mac: &str| Facts {
            uuid: uuid.map(str::to_owned),
            nics: vec![NicFacts {
                mac: mac.to_owned(),
                ..NicFacts::default()
            }],
            ..Facts::default()
        };
        let (first, second) = (
            "00112233-4455-6677-8899-AABBCCDDEEFF",
            "10112233-4455-6677-8899-AABBCCDDEEFF",
        );
        let dock = "52:54:00:00:00:01";
        let asks = |uuid: Option<&str>| Machine {
            mac: dock.parse().unwrap(),
            uuid: uuid.and_then(|text| text.parse().ok()),
        };
        assert!(is_same(
            &asks(Some(first)),
            &facts(Some(first), "52:54:00:00:00:09")
        ));
        assert!(
            !is_same(&asks(Some(second)), &facts(Some(first), dock)),
            "the dock moved"
        );
        // A ROM that says no UUID, and a board that has none: by the card.
        assert!(is_same(&asks(None), &facts(Some(first), dock)));
        assert!(is_same(
            &asks(Some(first)),
            &facts(Some("Not Settable"), "52-54-00-00-00-01")
        ));
        assert!(!is_same(&asks(None), &facts(None, "52:54:00:00:00:02")));
    }
}
