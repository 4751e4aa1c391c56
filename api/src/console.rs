//! What a console says about itself.

use serde::{Deserialize, Serialize};

/// Raised when a document changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// `console show`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsoleInfo {
    /// `SCHEMA_VERSION`.
    pub schema_version: u32,
    /// Product version.
    pub version: String,
    /// SHA-256 of the console's public key (SPKI), 64 hex digits: what agents pin.
    pub pin: String,
    /// `address:port` agents connect to.
    pub control: String,
    /// TCP port of the bulk service.
    pub bulk_port: u16,
    /// Group and port of the main lane.
    pub main: String,
    /// Group and port of the second lane.
    pub second: String,
    /// Interface multicast leaves by.
    pub interface: String,
    /// Data directory.
    pub data_dir: String,
    /// Process id.
    pub pid: u32,
    /// Public keys one of which has to have signed an image that is deployed; with none, every image is.
    #[serde(default)]
    pub signed_by: Vec<String>,
}

/// File name of the API's socket in the data directory.
pub const SOCKET_NAME: &str = "console.sock";
