//! The part of a target's order that configures its machine by a template.

use serde::{Deserialize, Serialize};
use template::first_start::FirstStart;
use template::secrets::Secrets;
use template::step::MachinePlan;

/// Steps for one machine, and the values of the secrets they name. Sent only inside that machine's
/// TLS connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApplyOrder {
    /// The plan that was confirmed at the console.
    pub plan: MachinePlan,
    /// Values of secrets; `Debug` shows their names only.
    #[serde(default)]
    pub secrets: Secrets,
    /// Destination and key of the report of the first start, when the plan has one. The agent puts
    /// the address by which it reaches the console before those of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_start: Option<FirstStart>,
}
