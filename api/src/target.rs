//! Targets as the local API shows them, and what may be asked of one.

use crate::{FirstStart, MachineView};
use facts::target::{Facts, TargetState};
use serde::{Deserialize, Serialize};

/// One target in `target list` and `target show`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TargetView {
    /// Stable identity.
    pub id: String,
    /// Name shown to the technician.
    pub name: String,
    /// State now.
    pub state: TargetState,
    /// Connected now.
    pub connected: bool,
    /// Address of its control connection.
    #[serde(default)]
    pub address: Option<String>,
    /// Console beacons reach it by multicast.
    #[serde(default)]
    pub multicast: bool,
    /// Job it is in.
    #[serde(default)]
    pub job: Option<String>,
    /// When it was last seen, RFC 3339.
    pub last_seen: String,
    /// What a person at the target asks for, and how it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
    /// Identity of the target: open questions and values that are not unique.
    #[serde(default)]
    pub identity: IdentityView,
    /// The machine.
    pub facts: Facts,
    /// When it said so, RFC 3339.
    #[serde(default)]
    pub facts_time: String,
    /// How its last network boot went, when it booted here.
    #[serde(default)]
    pub boot: Option<MachineView>,
    /// First start after the last deployment, where a report of it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_start: Option<FirstStart>,
}

impl TargetView {
    /// The question who it is, with how a technician answers it; none when it is known.
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
    /// Names of targets it may be, with a part changed; `POST /v1/targets/{id}/identify` answers it.
    #[serde(default)]
    pub may_be: Vec<String>,
    /// Identity values of the machine that other machines report too, so that they decide nothing.
    #[serde(default)]
    pub not_unique: Vec<String>,
}

/// `GET /v1/targets`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TargetList {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// By name.
    pub targets: Vec<TargetView>,
    /// Machines that asked for a network boot and belong to no target, the last first.
    #[serde(default)]
    pub machines: Vec<MachineView>,
}

/// `POST /v1/targets/{id}/identify`; the answer is the `TargetView` of the machine as it is known then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdentifyRequest {
    /// Id or name of the target it is; none when it is a machine of its own.
    #[serde(default)]
    pub is: Option<String>,
}

/// `POST /v1/targets/{id}/rename`; the answer is the `TargetView`.
///
/// `approve` and `forget` have no body; they answer with the `TargetView` as it is afterwards (for `forget`: as it was).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenameRequest {
    /// New name: 1 to 63 of letters, digits, `-`, `_` and `.`; no other target has it.
    pub name: String,
}
