//! A plan as the local API shows it, and as it is stored with its job.

use crate::{DeployRequest, PlannedFile};
use facts::order::EndAction;
use facts::target::DiskFacts;
use imagefmt::DiskSet;
use serde::{Deserialize, Serialize};
use template::step::{AfterApply, MachinePlan};

/// What a deployment would do (DESIGN promise 5).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// `plan`, so that a `--json` stream can be read by type.
    pub r#type: String,
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// The request it answers, without the password.
    pub request: DeployRequest,
    /// The image.
    pub image: ImageSummary,
    /// One entry a target, by name.
    pub targets: Vec<PlannedTarget>,
    /// Seconds the transfer takes at the rate cap without loss, when a cap is known.
    #[serde(default)]
    pub expected_seconds: Option<f64>,
    /// Files the machines get over TCP 5003.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PlannedFile>,
    /// What a technician should know before saying yes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Plan {
    /// True when the image is sent without anybody having held it against its stored hashes.
    pub fn unchecked(&self) -> bool {
        self.request.no_check && self.image.checked.is_none()
    }

    /// The file with this BLAKE3.
    pub fn file(&self, blake3: &str) -> Option<&PlannedFile> {
        self.files.iter().find(|file| file.payload.blake3 == blake3)
    }

    /// What a proven target does: `end`, unless it has work of its own left and does that after it.
    pub fn after(&self, id: &str, end: EndAction) -> EndAction {
        let own = self.personal(id).map(|plan| plan.after);
        match (end, own) {
            (EndAction::Shutdown, Some(AfterApply::RestartForFirstBoot)) => EndAction::Restart,
            _ => end,
        }
    }

    /// What makes this target itself.
    pub fn personal(&self, id: &str) -> Option<&MachinePlan> {
        let mut targets = self.targets.iter();
        targets
            .find(|target| target.id == id)
            .and_then(|target| target.personal.as_ref())
    }
}

/// An image in a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageSummary {
    /// Path.
    pub path: String,
    /// Root, 64 hex digits.
    pub root: String,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the master disk.
    pub disk_bytes: u64,
    /// Bytes of the logical sector.
    pub sector_size: u32,
    /// Bytes written to each target.
    pub used_bytes: u64,
    /// Compressed bytes on the wire, headers left out.
    pub wire_bytes: u64,
    /// When it was captured, RFC 3339.
    pub created: String,
    /// One line a partition.
    pub partitions: Vec<String>,
    /// Root of the chosen partitions, 64 hex digits, when it is not all of the image that is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_root: Option<String>,
    /// Its place among the disks of one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<DiskSet>,
    /// Public keys that signed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed_by: Vec<String>,
    /// When every stored byte of this very file was held against its hash, RFC 3339; absent when nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<String>,
}

impl ImageSummary {
    /// What a target has to prove.
    pub fn proof_root(&self) -> &str {
        self.chosen_root.as_deref().unwrap_or(&self.root)
    }
}

/// A target in a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedTarget {
    /// Target.
    pub id: String,
    /// Name.
    pub name: String,
    /// First MAC address.
    #[serde(default)]
    pub mac: Option<String>,
    /// The disk that would be written.
    #[serde(default)]
    pub disk: Option<DiskFacts>,
    /// Why this target cannot take the image.
    #[serde(default)]
    pub refused: Option<String>,
    /// Seconds since it said what is on its disks, when it did not answer before the plan was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts_age_seconds: Option<f64>,
    /// What makes it itself, when the deployment has a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<MachinePlan>,
}

impl PlannedTarget {
    /// True when the machine is to report its first start.
    pub fn reports_first_start(&self) -> bool {
        let reports = self.personal.as_ref().map(MachinePlan::reports_first_start);
        self.refused.is_none() && reports == Some(true)
    }
}
