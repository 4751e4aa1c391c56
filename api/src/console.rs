//! Description of a running console.

use serde::{Deserialize, Serialize};

/// Version of the API's documents, raised when one changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// Answer to `console show`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsoleInfo {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Product version.
    pub version: String,
    /// SHA-256 hash of the console's public key (SPKI), 64 hex digits, which agents pin.
    pub pin: String,
    /// `address:port` that agents connect to.
    pub control: String,
    /// TCP port of the bulk service.
    pub bulk_port: u16,
    /// Group and port of the main lane.
    pub main: String,
    /// Group and port of the second lane.
    pub second: String,
    /// Name of the interface that sends multicast.
    pub interface: String,
    /// Path of the data directory.
    pub data_dir: String,
    /// Process id.
    pub pid: u32,
    /// Public keys of which one must have signed an image before it is deployed; empty when images
    /// need no signature.
    #[serde(default)]
    pub signed_by: Vec<String>,
}

/// File name of the API's socket in the data directory.
pub const SOCKET_NAME: &str = "console.sock";
