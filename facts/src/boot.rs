//! A machine that boots over the network, the stage it has reached, and the verdict on it.

use crate::{Mac, Uuid};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;

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

/// Longest detail of a report, in characters.
const MAX_DETAIL: usize = 200;

/// The identity of a machine that boots.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Machine {
    /// MAC address of the card that boots.
    pub mac: Mac,
    /// UUID of the machine, if its firmware reports one.
    pub uuid: Option<Uuid>,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mac.fmt(f)
    }
}

/// An event in a machine's boot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// The stage reached; `None` when only the error is new.
    pub stage: Option<Stage>,
    /// Its firmware, if the packet tells.
    pub firmware: Option<String>,
    /// Its IPv4 address, if known.
    pub address: Option<Ipv4Addr>,
    /// More about the event: the file, the reason, the message of the pre-OS.
    pub detail: Option<String>,
    /// True when something went wrong; the detail says what.
    pub failed: bool,
}

impl Report {
    /// A report that the machine has reached `stage`.
    pub fn new(machine: Machine, stage: Stage) -> Self {
        Self {
            machine,
            stage: Some(stage),
            firmware: None,
            address: None,
            detail: None,
            failed: matches!(stage, Stage::Unusable),
        }
    }

    /// A report that something went wrong.
    pub fn failure(machine: Machine, what: &str) -> Self {
        Self {
            stage: None,
            failed: true,
            ..Self::new(machine, Stage::Asked).detail(what)
        }
    }

    /// Adds a detail, shortened and without control characters: part of it comes from the network
    /// and all of it reaches terminals.
    #[must_use]
    pub fn detail(mut self, text: &str) -> Self {
        self.detail = Some(clean(text));
        self
    }

    /// Adds the machine's address, unless it is unspecified.
    #[must_use]
    pub fn at(mut self, address: Ipv4Addr) -> Self {
        self.address = (!address.is_unspecified()).then_some(address);
        self
    }
}

/// Shortens text from outside to one line without control characters.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_DETAIL)
        .collect()
}

/// The decision of the policy about a machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Run the agent.
    Agent,
    /// Boot its own disk.
    Local,
    /// Get no answer.
    Ignore,
}
