//! The stage of a machine that boots over the network.

use serde::{Deserialize, Serialize};
use std::fmt;

/// User class of a console that searches for boot services. It gets an answer, but counts as no
/// machine that boots.
pub const DOCTOR: &str = "diskcast-doctor";

/// Stage that a network boot has reached.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The machine has sent a DHCP request.
    Asked,
    /// It has loaded its first file, the loader.
    Loader,
    /// It has loaded its script.
    Script,
    /// It has loaded the kernel.
    Kernel,
    /// It has loaded the initramfs.
    Initramfs,
    /// The pre-OS runs.
    Agent,
    /// The control channel is open.
    Joined,
    /// It was sent to its own disk.
    Local,
    /// It got no answer.
    Ignored,
    /// It cannot be served; the report's detail gives the reason.
    Unusable,
}

impl Stage {
    /// The word in output and in the API.
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
