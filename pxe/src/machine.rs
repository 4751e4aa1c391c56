//! A machine that boots, the stage it has reached, and the verdict on it.
//!
//! Owns: the words of the contract in `docs/network-boot.md`. Decides nothing: the implementation
//! of [`Policy`] does.

use facts::boot::Stage;
use facts::{Mac, Uuid};
use std::fmt;
use std::net::Ipv4Addr;

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

/// The words of the kernel's command line that the console sets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Words {
    /// `diskcast.console`: `ADDR:PORT`.
    pub console: Option<String>,
    /// `diskcast.pin`: 64 hex digits.
    pub pin: Option<String>,
    /// `diskcast.second`, when it is not the default.
    pub second: Option<String>,
    /// Further words, unchanged.
    pub extra: String,
}

/// Decides which machine gets what, and receives reports. The service calls it for every packet
/// from its own tasks, so an implementation returns at once and never waits.
pub trait Policy: Send + Sync + 'static {
    /// The current verdict on a machine.
    fn verdict(&self, machine: &Machine) -> Verdict;
    /// The words for the kernel's command line of a machine.
    fn words(&self, machine: &Machine) -> Words;
    /// Receives an event of a machine's boot.
    fn report(&self, report: Report);
    /// Receives the address of a DHCP server other than this service, seen when a machine took a
    /// lease from it.
    fn server_seen(&self, server: Ipv4Addr);
}
