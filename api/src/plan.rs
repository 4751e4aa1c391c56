//! The plan of a deployment, as the local API shows it and as it is stored with its job.

use crate::{DeployRequest, PlannedFile};
use facts::order::EndAction;
use facts::target::DiskFacts;
use imagefmt::DiskSet;
use serde::{Deserialize, Serialize};
use template::step::{AfterApply, MachinePlan};

/// The effects of a deployment, shown before anything is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The word `plan`, so that a `--json` stream can be read by type.
    pub r#type: String,
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// The request, without password and secrets.
    pub request: DeployRequest,
    /// The image.
    pub image: ImageSummary,
    /// Targets, sorted by name.
    pub targets: Vec<PlannedTarget>,
    /// Seconds of the transfer at the rate limit and without loss, when there is a limit.
    #[serde(default)]
    pub expected_seconds: Option<f64>,
    /// Files that the machines fetch over TCP 5003.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PlannedFile>,
    /// Notes for the technician before the confirmation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Plan {
    /// True when the image is sent without a check of its stored hashes.
    pub fn unchecked(&self) -> bool {
        self.request.no_check && self.image.checked.is_none()
    }

    /// The file with this BLAKE3 hash.
    pub fn file(&self, blake3: &str) -> Option<&PlannedFile> {
        self.files.iter().find(|file| file.payload.blake3 == blake3)
    }

    /// Action of a verified target: `end`, but a restart instead of a shutdown when first boot has
    /// work left and shuts down after it.
    pub fn after(&self, id: &str, end: EndAction) -> EndAction {
        let own = self.personal(id).map(|plan| plan.after);
        match (end, own) {
            (EndAction::Shutdown, Some(AfterApply::RestartForFirstBoot)) => EndAction::Restart,
            _ => end,
        }
    }

    /// Plan of the template for this target.
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
    /// Path of the image.
    pub path: String,
    /// Root of the image, 64 hex digits.
    pub root: String,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Size of the master disk in bytes.
    pub disk_bytes: u64,
    /// Bytes of a logical sector.
    pub sector_size: u32,
    /// Bytes that are written to each target.
    pub used_bytes: u64,
    /// Compressed bytes on the wire, without headers.
    pub wire_bytes: u64,
    /// Time of the capture, RFC 3339.
    pub created: String,
    /// Partitions, one line each.
    pub partitions: Vec<String>,
    /// Root of the chosen partitions, 64 hex digits, when only a part of the image is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_root: Option<String>,
    /// Place of the disk among those of its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<DiskSet>,
    /// Public keys that signed the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed_by: Vec<String>,
    /// Time when every stored byte of this very file matched its hash, RFC 3339; absent when it was
    /// never checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<String>,
}

impl ImageSummary {
    /// Root hash that a target must read back to be done.
    pub fn proof_root(&self) -> &str {
        self.chosen_root.as_deref().unwrap_or(&self.root)
    }
}

/// A target in a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedTarget {
    /// Id of the target.
    pub id: String,
    /// Name of the target.
    pub name: String,
    /// MAC address of the first card.
    #[serde(default)]
    pub mac: Option<String>,
    /// The disk that would be written.
    #[serde(default)]
    pub disk: Option<DiskFacts>,
    /// Reason why this target cannot take the image.
    #[serde(default)]
    pub refused: Option<String>,
    /// Age in seconds of the facts about its disks, when it did not answer before the plan was
    /// made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts_age_seconds: Option<f64>,
    /// Plan of the template for this target, when the deployment has a template.
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
