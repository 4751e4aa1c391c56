//! What makes a target itself, as it travels in its order.

use serde::{Deserialize, Serialize};
use template::first_start::FirstStart;
use template::secrets::Secrets;
use template::step::MachinePlan;

/// The steps for one machine, and the values of the secrets they name. Only ever inside that machine's TLS connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApplyOrder {
    /// What was confirmed at the console.
    pub plan: MachinePlan,
    /// Values; `Debug` shows names only.
    #[serde(default)]
    pub secrets: Secrets,
    /// Where and how the machine reports its first start, when its plan says that it does. The agent puts the
    /// address by which it reaches the console before those of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_start: Option<FirstStart>,
}
