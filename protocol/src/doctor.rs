//! Requests of `diskcast doctor` to an agent, and the answers (control channel, TCP 5001).
//!
//! Values only. Every field may be missing, because agents and consoles of different versions talk
//! to each other; a check that could not be made is left out and does not count as failed.

use serde::{Deserialize, Serialize};
use std::net::SocketAddrV4;

/// Limit of a probe an agent takes part in, in seconds.
pub const MAX_SECONDS: f64 = 60.0;
/// Receive buffer that an agent asks the kernel for, in bytes: about 170 ms of a gigabit link with
/// the kernel's bookkeeping.
pub const RECEIVE_BUFFER: usize = 32 << 20;
/// Seconds without a report after which a switch stops forwarding a group: 2 x 125 + 10.
const MEMBERSHIP_SECS: u64 = 260;

/// Order to check the machine and the multicast probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoctorRequest {
    /// Id of the run: 16 hex digits, in every probe packet.
    pub id: String,
    /// Group and port of the probe's main lane.
    pub main: SocketAddrV4,
    /// Group and port of the probe's second lane; it also carries beacons when it is the console's
    /// own.
    pub second: SocketAddrV4,
    /// Duration of the stream in seconds; 0 when none is sent because a job runs.
    pub seconds: f64,
}

/// Findings of an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DoctorAnswer {
    /// Id of the run, from the request.
    pub id: String,
    /// The reason why nothing was checked: the job or the other check in progress.
    pub busy: Option<String>,
    /// Interface on which the agent listens.
    pub interface: String,
    /// MTU of the interface, in bytes of IP.
    pub mtu: Option<u32>,
    /// Link speed in Mbit/s, when the kernel knows it.
    pub speed_mbit_per_s: Option<u32>,
    /// `full` or `half`, when the kernel knows it.
    pub duplex: Option<String>,
    /// The reason why a group could not be joined.
    pub join_error: Option<String>,
    /// Receive buffer that the kernel granted, in bytes.
    pub receive_buffer: u64,
    /// Receive buffer that was requested, in bytes.
    pub receive_buffer_asked: u64,
    /// Packets received on the main lane.
    pub main: LaneCounts,
    /// Packets received on the second lane.
    pub second: LaneCounts,
    /// A beacon of its own console arrived during the probe or before.
    pub beacon_heard: bool,
    /// Other consoles whose beacons arrived.
    pub consoles: Vec<OtherConsole>,
    /// The IGMP querier, as seen by this machine.
    pub querier: QuerierFacts,
    /// Memory in bytes that is free or can be freed.
    pub memory_available: Option<u64>,
    /// Read speed of each disk on offer, at its start.
    pub disks: Vec<DiskSpeed>,
}

/// Packets received on one lane of the probe.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneCounts {
    /// Packets of the stream, without duplicates.
    pub received: u64,
    /// Packets that arrived twice.
    pub duplicates: u64,
    /// Packets that arrived after a later one.
    pub reordered: u64,
    /// Total of pauses of a second or more without any packet, in milliseconds.
    pub silent_ms: u64,
    /// Small packets received, of 5.
    pub small: u64,
    /// Jumbo packets received, of 5 when they were sent.
    pub jumbo: u64,
    /// Packets this machine's kernel dropped.
    pub kernel_drops: u64,
}

/// A console that is not the agent's own.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OtherConsole {
    /// Name of the console.
    pub name: String,
    /// Source address of its beacon.
    pub address: String,
    /// Pin of its public key.
    pub pin: String,
}

/// Facts about the IGMP querier on an interface.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuerierFacts {
    /// Name of the interface.
    pub interface: String,
    /// The reason why nothing is known, for example a missing raw socket.
    pub unchecked: Option<String>,
    /// Seconds since listening began.
    pub listening_seconds: u64,
    /// Address of a querier heard within 130 s.
    pub heard: Option<String>,
    /// Seconds since it was heard last.
    pub heard_seconds_ago: u64,
    /// Seconds without a query, when there are more than 130.
    pub silent_seconds: Option<u64>,
    /// This machine is the querier.
    pub own: bool,
}

/// Speed of a sequential read at the start of a disk.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskSpeed {
    /// Path of the disk.
    pub path: String,
    /// Speed in bytes per second.
    pub bytes_per_s: u64,
    /// The reason why it could not be read.
    pub error: Option<String>,
}

/// Warning about silence, for logs and reports.
pub fn silence_text(interface: &str, seconds: u64) -> String {
    format!(
        "no IGMP querier heard on {interface} for {seconds} s: a switch with IGMP snooping may stop passing the image after {MEMBERSHIP_SECS} s; \
         switch on its querier, or run the console with --querier"
    )
}

/// The warning about a receive buffer far below the requested size, with advice; `None` when it is
/// large enough.
pub fn short_buffer(bytes: usize) -> Option<String> {
    (bytes < RECEIVE_BUFFER / 2).then(|| {
        format!(
            "the kernel grants a receive buffer of {} KiB, {} KiB were asked for: a burst while this machine is busy is lost; \
             run the agent as root, or set sysctl net.core.rmem_max={RECEIVE_BUFFER}",
            bytes >> 10,
            RECEIVE_BUFFER >> 10
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_names_interface_and_time() {
        assert!(silence_text("eth0", 130).contains("on eth0 for 130 s"));
    }

    #[test]
    fn a_short_buffer_names_the_sysctl() {
        assert_eq!(short_buffer(RECEIVE_BUFFER), None);
        let text = short_buffer(212_992).unwrap();
        assert!(
            text.contains("208 KiB") && text.contains("net.core.rmem_max=33554432"),
            "{text}"
        );
    }
}
