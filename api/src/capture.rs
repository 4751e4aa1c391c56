//! The local API of captures and offers: types shared by the console (server) and the CLI (client).

use crate::DeployRequest;
use facts::order::EndAction;
use imagefmt::DiskSet;
use protocol::control::CaptureWishes;
use serde::{Deserialize, Serialize};

/// What a technician asks for with `image capture --target`: `POST /v1/captures`; the answer is the `JobView`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CaptureRequest {
    /// Selector; exactly one target has to match.
    pub target: String,
    /// `first` (first internal disk), `path:P`, `serial:S`, `largest`, `smallest`; what the person at the target asked for, or
    /// `first`, when absent.
    #[serde(default)]
    pub disk: Option<String>,
    /// Name of the image in the console's image folder; what the person at the target asked for when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// A remark kept in the image.
    #[serde(default)]
    pub note: Option<String>,
    /// Place of the disk among those of its machine, kept in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<DiskSet>,
    /// Encrypt with this password. Never stored, never logged, never sent to a target.
    #[serde(default)]
    pub password: Option<String>,
    /// How the disk is read.
    #[serde(default)]
    pub wishes: CaptureWishes,
    /// What the machine does afterwards.
    #[serde(default)]
    pub end: EndAction,
    /// Seconds in which the target must get on; 10 minutes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_limit_seconds: Option<u32>,
    /// Seconds the capture may take, from its first order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_seconds: Option<u32>,
}

/// A capture in a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptureView {
    /// The image has a password.
    pub encrypted: bool,
    /// Bytes of the master disk; 0 until it was surveyed.
    pub disk_bytes: u64,
    /// Device bytes the image will hold.
    pub used_bytes: u64,
    /// Chunks it will hold.
    pub chunks: u64,
    /// Chunks that came over the network since the console took up the job.
    pub received_chunks: u64,
    /// Bytes that came with them.
    pub received_bytes: u64,
    /// Chunks that were there already then.
    pub kept_chunks: u64,
    /// Bytes of the finished image, all its files together.
    pub file_bytes: u64,
    /// Files the finished image is in.
    pub volumes: u32,
    /// Description of the finished image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<imagefmt::Meta>,
}

/// What an offer does when it is taken. A template will be another kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OfferAction {
    /// Deploys an image: `targets`, `start` and `password` of the request mean nothing here.
    Deploy {
        /// The stored request.
        request: DeployRequest,
        /// Root of the image when it was offered: another image under this name is not deployed.
        root: String,
    },
}

/// A deployment that people at the targets may start themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offer {
    /// Name in the menu.
    pub name: String,
    /// What it is, for the person at the target.
    #[serde(default)]
    pub note: Option<String>,
    /// What it does.
    pub action: OfferAction,
    /// Which targets may take it.
    pub targets: String,
    /// How often it may be taken in all.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Until when, RFC 3339.
    #[serde(default)]
    pub until: Option<String>,
    /// When it was published, RFC 3339.
    pub created: String,
    /// How often it was taken.
    #[serde(default)]
    pub taken: u32,
}

/// `POST /v1/offers`; the answer is the `Offer`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfferRequest {
    /// Name: 1 to 63 of letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What it is, for the person at the target.
    #[serde(default)]
    pub note: Option<String>,
    /// What to deploy; `targets` says who may take it.
    pub request: DeployRequest,
    /// How often it may be taken in all.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Until when, RFC 3339.
    #[serde(default)]
    pub until: Option<String>,
}

/// `GET /v1/offers`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfferList {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// By name.
    pub offers: Vec<Offer>,
}
