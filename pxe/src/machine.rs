//! The policy of network boot: the verdict on each machine, and the words of its kernel.
//!
//! Owns: the words of the contract in `docs/network-boot.md`. Decides nothing: the implementation
//! of [`Policy`] does.

use facts::boot::{Machine, Report, Verdict};
use std::net::Ipv4Addr;

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
