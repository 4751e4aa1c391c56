//! The choice between the agent and the own disk for a machine that boots. Pure.

use api::BootPolicy;
use facts::boot::Verdict;
use facts::identity::BootMatch;

/// Facts about a machine that boots, as far as the choice depends on them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// True if the machine is certainly a known target.
    pub known: bool,
    /// True if a job, a capture or `target wake` waits for this target, or for one that the machine
    /// may be.
    pub wanted: bool,
}

impl Standing {
    /// Returns the standing of a machine from its matches; `wanted` tells whether something waits
    /// for a target.
    ///
    /// A machine that may be one of several targets is not known: a twin board, or a laptop on a
    /// dock, must not be sent to its own disk because another machine has finished.
    pub fn of(found: &BootMatch, wanted: impl Fn(&str) -> bool) -> Self {
        let mut all = found.known.iter().chain(&found.unsure);
        Self {
            known: !found.known.is_empty(),
            wanted: all.any(|id| wanted(id)),
        }
    }
}

/// Returns the verdict for a machine. There is always an answer, because silence costs a machine up
/// to a minute before it tries its own disk.
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn who_may_be_another_gets_the_agent() {
        let found = |known: &[&str], unsure: &[&str]| BootMatch {
            known: known.iter().map(|id| (*id).to_owned()).collect(),
            unsure: unsure.iter().map(|id| (*id).to_owned()).collect(),
        };
        let standing = |found| Standing::of(&found, |id| id == "wanted");
        let sure = standing(found(&["t"], &[]));
        assert_eq!(verdict(BootPolicy::Unknown, sure), Verdict::Local);
        let unsure = standing(found(&[], &["t"]));
        assert_eq!(verdict(BootPolicy::Unknown, unsure), Verdict::Agent);
        assert_eq!(verdict(BootPolicy::Wanted, unsure), Verdict::Local);
        let perhaps_wanted = standing(found(&[], &["t", "wanted"]));
        assert_eq!(verdict(BootPolicy::Wanted, perhaps_wanted), Verdict::Agent);
    }
}
