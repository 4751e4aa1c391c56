//! A target's report of its first start, as the console shows and stores it.

use serde::{Deserialize, Serialize};

/// First start of a target from which a report is expected.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct FirstStart {
    /// Result of the first start.
    pub state: FirstStartState,
    /// Time when the report arrived, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<String>,
    /// Id of the step that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Reason of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Host name of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Planned name, when the machine has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_name: Option<String>,
    /// `windows` or `linux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// SID of the machine's Windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Planned SID, when the machine has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_sid: Option<String>,
    /// Content of `/etc/machine-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// Addresses as `MAC ADDRESS/BITS`, one entry for each card and address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// Result of a first start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstStartState {
    /// No report has arrived yet.
    #[default]
    NotHeard,
    /// All steps succeeded, and the machine matches its plan.
    Started,
    /// A step failed, or the machine does not match its plan.
    Failed,
}

impl FirstStart {
    /// The result in one line: `started as LAB-07`, `first start failed: run.2: exit code 3`,
    /// `first start not heard of`.
    pub fn line(&self) -> String {
        if self.state == FirstStartState::NotHeard {
            return "first start not heard of".to_owned();
        }
        let mut started = format!("started as {}", self.name.as_deref().unwrap_or("?"));
        if let Some(planned) = &self.planned_name {
            started.push_str(&format!(", planned {planned}"));
        }
        if let Some(planned) = &self.planned_sid {
            let sid = self.sid.as_deref().unwrap_or("unknown");
            started.push_str(&format!(", SID {sid}, planned {planned}"));
        }
        let differs = self.planned_name.is_some() || self.planned_sid.is_some();
        match &self.reason {
            None => started,
            Some(reason) => {
                let step = self.step.as_ref().map(|step| format!("{step}: "));
                let mut line = format!("first start failed: {}{reason}", step.unwrap_or_default());
                if differs {
                    line.push_str(&format!("; {started}"));
                }
                line
            }
        }
    }
}
