//! A machine that boots, how far it came, and what it is to do.
//!
//! Owns: the words of the contract in `docs/network-boot.md`. Which machine gets what is decided by whoever implements [`Policy`]: this crate only asks.

use facts::{Mac, Uuid};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;

/// Longest detail of a report, in characters.
const MAX_DETAIL: usize = 200;

/// Who boots.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Machine {
    /// The card that boots.
    pub mac: Mac,
    /// The machine it is in, where its firmware says.
    pub uuid: Option<Uuid>,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mac.fmt(f)
    }
}

/// How far a boot came.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// By DHCP.
    Asked,
    /// Has its first file.
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
    /// Was not answered.
    Ignored,
    /// Cannot be served; the detail says why.
    Unusable,
}

impl Stage {
    /// The word of the contract.
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

/// What happened to a machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Who.
    pub machine: Machine,
    /// How far it came; absent when only `error` is new.
    pub stage: Option<Stage>,
    /// Its firmware, where the packet tells.
    pub firmware: Option<String>,
    /// Its address, where known.
    pub address: Option<Ipv4Addr>,
    /// More about it: the file, the reason, what the pre-OS said.
    pub detail: Option<String>,
    /// Something went wrong: the detail says what.
    pub failed: bool,
}

impl Report {
    /// A machine came this far.
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

    /// Something went wrong on the way.
    pub fn failure(machine: Machine, what: &str) -> Self {
        Self {
            stage: None,
            failed: true,
            ..Self::new(machine, Stage::Asked).detail(what)
        }
    }

    /// With more about it: bounded, and without control characters, because some of it comes from the wire and all of it reaches terminals.
    #[must_use]
    pub fn detail(mut self, text: &str) -> Self {
        self.detail = Some(clean(text));
        self
    }

    /// With its address.
    #[must_use]
    pub fn at(mut self, address: Ipv4Addr) -> Self {
        self.address = (!address.is_unspecified()).then_some(address);
        self
    }
}

/// Text from outside as one short line.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_DETAIL)
        .collect()
}

/// What a machine is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Run the agent.
    Agent,
    /// Boot its own disk.
    Local,
    /// Get no answer.
    Ignore,
}

/// Words of the kernel's command line that are the console's to say.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Words {
    /// `diskcast.console`: `ADDR:PORT`.
    pub console: Option<String>,
    /// `diskcast.pin`: 64 hex digits.
    pub pin: Option<String>,
    /// `diskcast.second`, when it is not the usual one.
    pub second: Option<String>,
    /// Further words, as they are.
    pub extra: String,
}

/// Which machine gets what, and who hears how it goes. Called for every packet, from the service's own tasks: answers at once, and never waits.
pub trait Policy: Send + Sync + 'static {
    /// What this machine is to do now.
    fn verdict(&self, machine: &Machine) -> Verdict;
    /// What its kernel is told.
    fn words(&self, machine: &Machine) -> Words;
    /// Something happened to a machine.
    fn report(&self, report: Report);
    /// A machine took an address from this DHCP server, which is not this service.
    fn server_seen(&self, server: Ipv4Addr);
}
