//! What a target reported of its first start, as the console shows and stores it.

use serde::{Deserialize, Serialize};

/// What is known of the first start of a target that is to report it. Absent where nothing was asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct FirstStart {
    /// Whether it was heard of, and how it went.
    pub state: FirstStartState,
    /// When the report came, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<String>,
    /// Id of the step that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Host name the machine has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Planned name, where the machine has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_name: Option<String>,
    /// `windows` or `linux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// SID the Windows has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Planned SID, where the Windows has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_sid: Option<String>,
    /// Content of `/etc/machine-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// `MAC ADDRESS/BITS`, one a card and address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// How a first start went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstStartState {
    /// No report came yet.
    #[default]
    NotHeard,
    /// Everything is done, and the machine is what was planned.
    Started,
    /// A step failed, or the machine is another than planned.
    Failed,
}

impl FirstStart {
    /// In one line: `started as LAB-07`, `first start failed: run.2: exit code 3`, `first start not heard of`.
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
