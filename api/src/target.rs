//! Targets as the local API shows them, and requests about one of them.

use crate::{FirstStart, MachineView};
use facts::target::{Facts, TargetState};
use serde::{Deserialize, Serialize};

/// A target in `target list` and `target show`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TargetView {
    /// Permanent id.
    pub id: String,
    /// Name shown to the technician.
    pub name: String,
    /// Present state.
    pub state: TargetState,
    /// The target is connected.
    pub connected: bool,
    /// Address of its control connection.
    #[serde(default)]
    pub address: Option<String>,
    /// Beacons of the console reach it by multicast.
    #[serde(default)]
    pub multicast: bool,
    /// Id of its present job.
    #[serde(default)]
    pub job: Option<String>,
    /// Time when it was last seen, RFC 3339.
    pub last_seen: String,
    /// Request of a person at the target, and how to confirm it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
    /// Identity of the target: open questions and values that are not unique.
    #[serde(default)]
    pub identity: IdentityView,
    /// Facts of the machine.
    pub facts: Facts,
    /// Time when it reported them, RFC 3339.
    #[serde(default)]
    pub facts_time: String,
    /// Progress of its last network boot from this console.
    #[serde(default)]
    pub boot: Option<MachineView>,
    /// First start after the last deployment, when a report is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_start: Option<FirstStart>,
}

impl TargetView {
    /// The open question about its identity, with the command that answers it; `None` when it is
    /// identified.
    pub fn question(&self) -> Option<String> {
        let name = &self.name;
        let old = self.identity.may_be.first()?;
        let all = self.identity.may_be.join(" or ");
        Some(format!(
            "may be {all} with a part changed, or another machine: diskcast target identify {name} --is {old}, or --new"
        ))
    }
}

/// Identity of a machine as the console shows it: open questions and values that are not unique.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct IdentityView {
    /// Names of targets it may be, with a part changed; `POST /v1/targets/{id}/identify` answers
    /// the question.
    #[serde(default)]
    pub may_be: Vec<String>,
    /// Identity values that other machines report, too, so that they decide nothing.
    #[serde(default)]
    pub not_unique: Vec<String>,
}

/// Answer to `GET /v1/targets`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TargetList {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Targets, sorted by name.
    pub targets: Vec<TargetView>,
    /// Machines that requested a network boot and belong to no target, the latest first.
    #[serde(default)]
    pub machines: Vec<MachineView>,
}

/// Body of `POST /v1/targets/{id}/identify`; the answer is the `TargetView` of the machine
/// afterwards.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdentifyRequest {
    /// Id or name of the target it is; `None` when it is a new machine.
    #[serde(default)]
    pub is: Option<String>,
}

/// Body of `POST /v1/targets/{id}/rename`; the answer is the `TargetView`.
///
/// `approve` and `forget` have no body; they answer with the `TargetView` afterwards (for `forget`:
/// before).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenameRequest {
    /// New name: 1 to 63 of letters, digits, `-`, `_` and `.`; no other target has it.
    pub name: String,
}
