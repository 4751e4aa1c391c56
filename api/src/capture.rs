//! The local API of captures and offers: types shared by the console (server) and the CLI (client).

use crate::DeployRequest;
use facts::disk_rule::DiskRule;
use facts::order::EndAction;
use imagefmt::DiskSet;
use protocol::control::CaptureWishes;
use serde::{Deserialize, Serialize};

/// Request of `image capture --target`: `POST /v1/captures`; the answer is the `JobView`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CaptureRequest {
    /// Selector; exactly one target has to match.
    pub target: String,
    /// `first` (first internal disk), `path:P`, `serial:S`, `largest`, `smallest`. When absent: the
    /// disk that the person at the target chose, otherwise `first`.
    #[serde(default)]
    pub disk: Option<DiskRule>,
    /// Name of the image in the console's image folder; when absent, the name that the person at
    /// the target suggested.
    #[serde(default)]
    pub name: Option<String>,
    /// A remark kept in the image.
    #[serde(default)]
    pub note: Option<String>,
    /// Place of the disk among those of its machine, kept in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<DiskSet>,
    /// Password that encrypts the image. Never stored, never logged, never sent to a target.
    #[serde(default)]
    pub password: Option<String>,
    /// Options of reading the disk.
    #[serde(default)]
    pub wishes: CaptureWishes,
    /// Action of the machine afterwards.
    #[serde(default)]
    pub end: EndAction,
    /// Limit of seconds without progress; 10 minutes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_limit_seconds: Option<u32>,
    /// Limit of seconds for the capture, from its first order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_seconds: Option<u32>,
}

/// A capture in a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptureView {
    /// The image has a password.
    pub encrypted: bool,
    /// Size of the master disk in bytes; 0 until it was surveyed.
    pub disk_bytes: u64,
    /// Device bytes the image will hold.
    pub used_bytes: u64,
    /// Number of chunks in the image.
    pub chunks: u64,
    /// Chunks received since the console took up the job.
    pub received_chunks: u64,
    /// Bytes received with these chunks.
    pub received_bytes: u64,
    /// Chunks that the console had already at that time.
    pub kept_chunks: u64,
    /// Size of the finished image in bytes, all its files together.
    pub file_bytes: u64,
    /// Number of files of the finished image.
    pub volumes: u32,
    /// Description of the finished image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<imagefmt::Meta>,
}

/// Action of an offer when it is taken. Only deployments exist.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OfferAction {
    /// Deploys an image. `targets`, `start` and `password` of the request are ignored.
    Deploy {
        /// The stored request.
        request: DeployRequest,
        /// Root of the image when it was offered; another image under this name is not deployed.
        root: String,
    },
}

/// A deployment that people at the targets may start themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offer {
    /// Name in the menu.
    pub name: String,
    /// Description for the person at the target.
    #[serde(default)]
    pub note: Option<String>,
    /// Action of the offer.
    pub action: OfferAction,
    /// Selector of targets that may take it.
    pub targets: String,
    /// Limit of how often it may be taken, in total.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Time when it expires, RFC 3339.
    #[serde(default)]
    pub until: Option<String>,
    /// Time when it was published, RFC 3339.
    pub created: String,
    /// Number of times it was taken.
    #[serde(default)]
    pub taken: u32,
}

/// `POST /v1/offers`; the answer is the `Offer`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfferRequest {
    /// Name: 1 to 63 of letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Description for the person at the target.
    #[serde(default)]
    pub note: Option<String>,
    /// The deployment; its `targets` select the machines that may take the offer.
    pub request: DeployRequest,
    /// Limit of how often it may be taken, in total.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Time when it expires, RFC 3339.
    #[serde(default)]
    pub until: Option<String>,
}

/// Answer to `GET /v1/offers`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfferList {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Offers, sorted by name.
    pub offers: Vec<Offer>,
}
