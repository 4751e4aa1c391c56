//! The stage of a machine that boots over the network.

use serde::{Deserialize, Serialize};
use std::fmt;

/// User class of a console that searches for boot services. It gets an answer, but counts as no
/// machine that boots.
pub const DOCTOR: &str = "diskcast-doctor";

/// The stage a boot has reached.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Asked by DHCP.
    Asked,
    /// Has its first file, the loader.
    Loader,
    /// Has its script.
    Script,
    /// Has the kernel.
    Kernel,
    /// Has the initramfs.
    Initramfs,
    /// The pre-OS runs.
    Agent,
    /// The control channel is up.
    Joined,
    /// Was sent to its own disk.
    Local,
    /// Got no answer.
    Ignored,
    /// Cannot be served; the report's detail says why.
    Unusable,
}

impl Stage {
    /// The word used in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Loader => "loader",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
            Self::Agent => "agent",
            Self::Joined => "joined",
            Self::Local => "local",
            Self::Ignored => "ignored",
            Self::Unusable => "unusable",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
