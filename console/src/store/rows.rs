//! Stored form of a target. Those of jobs are in [`jobs::row`].

use facts::target::Facts;

/// Stored form of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetRow {
    /// Stable identity of the target.
    pub id: String,
    /// Unique name of the target.
    pub name: String,
    /// Instance of the agent that was last connected.
    pub instance: String,
    /// Facts about the machine.
    pub facts: Facts,
    /// True if the target was let in.
    pub approved: bool,
    /// Time when it was last connected, RFC 3339.
    pub last_seen: String,
    /// Time of its last report about its disks, RFC 3339. It is stored with each change of them and
    /// with each end of its connection, so that the facts never look newer than they are after a
    /// console was killed.
    pub facts_time: String,
}
