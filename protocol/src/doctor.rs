//! What `diskcast doctor` asks an agent, and what the agent answers (control channel, TCP 5001).
//!
//! Values only. Every field may be missing: agents and consoles of different versions speak to each other, and a check that could not be
//! made is left out rather than failed.

use serde::{Deserialize, Serialize};
use std::net::SocketAddrV4;

/// Longest probe an agent takes part in, seconds.
pub const MAX_SECONDS: f64 = 60.0;

/// Look at yourself, and at what multicast brings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoctorRequest {
    /// Run: 16 hex digits, the id in every probe packet.
    pub id: String,
    /// Main lane of the probe.
    pub main: SocketAddrV4,
    /// Second lane of the probe; beacons are on it as well when it is the console's own.
    pub second: SocketAddrV4,
    /// How long the stream lasts; 0 when none is sent because a job runs.
    pub seconds: f64,
}

/// What an agent found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DoctorAnswer {
    /// Run, as in the request.
    pub id: String,
    /// Why nothing was checked: the job or the other check it is in the middle of.
    pub busy: Option<String>,
    /// Interface it listens on.
    pub interface: String,
    /// Its MTU, bytes of IP.
    pub mtu: Option<u32>,
    /// Link speed where the kernel knows it, Mbit/s.
    pub speed_mbit_per_s: Option<u32>,
    /// `full` or `half`, where the kernel knows it.
    pub duplex: Option<String>,
    /// Why a group could not be joined.
    pub join_error: Option<String>,
    /// Bytes of receive buffer the kernel granted.
    pub receive_buffer: u64,
    /// Bytes that were asked for.
    pub receive_buffer_asked: u64,
    /// What came on the main lane.
    pub main: LaneCounts,
    /// What came on the second lane.
    pub second: LaneCounts,
    /// A beacon of its own console came during the probe or before.
    pub beacon_heard: bool,
    /// Other consoles whose beacons came.
    pub consoles: Vec<OtherConsole>,
    /// Who asks for memberships, as heard there.
    pub querier: QuerierFacts,
    /// Memory that is free or can be freed, bytes.
    pub memory_available: Option<u64>,
    /// How fast each disk on offer is read from its start.
    pub disks: Vec<DiskSpeed>,
}

/// What came of one lane of the probe.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneCounts {
    /// Packets of the stream, each once.
    pub received: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets overtaken by a later one.
    pub reordered: u64,
    /// Time without any packet, in pauses of a second or more, milliseconds.
    pub silent_ms: u64,
    /// Small packets, of 5.
    pub small: u64,
    /// Jumbo packets, of 5 when they were sent.
    pub jumbo: u64,
    /// Packets this machine's kernel dropped.
    pub kernel_drops: u64,
}

/// A console that is not the agent's own.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OtherConsole {
    /// Its name.
    pub name: String,
    /// Where its beacon came from.
    pub address: String,
    /// Its pin.
    pub pin: String,
}

/// What is known of the IGMP querier on an interface.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuerierFacts {
    /// Interface.
    pub interface: String,
    /// Why it is not known at all, for example for want of a raw socket.
    pub unchecked: Option<String>,
    /// How long it has been listened.
    pub listening_seconds: u64,
    /// Address of the querier heard within 130 s.
    pub heard: Option<String>,
    /// When it was heard last.
    pub heard_seconds_ago: u64,
    /// Nobody has asked for so long, and it is longer than 130 s.
    pub silent_seconds: Option<u64>,
    /// This machine is the querier.
    pub own: bool,
}

/// A sequential read of a disk's beginning.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskSpeed {
    /// Path.
    pub path: String,
    /// Bytes per second.
    pub bytes_per_s: u64,
    /// Why it could not be read.
    pub error: Option<String>,
}
