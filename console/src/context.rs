//! State that the parts of a running console share.

use super::boot::Boot;
use super::capture::Requests;
use super::doctor::Doctor;
use super::image_check::Checks;
use super::jobs::Jobs;
use super::offers::Offers;
use super::personal::Personal;
use super::roster::Roster;
use super::store::Store;
use super::throttle::Throttle;
use imagefmt::VerifyingKey;
use net::igmp_watch::IgmpWatch;
use net::tls::Pin;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a running console, with all names resolved to addresses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Data directory.
    pub data_dir: PathBuf,
    /// Name of the interface for multicast.
    pub interface: String,
    /// IPv4 address of that interface.
    pub interface_address: Ipv4Addr,
    /// Address that the TCP ports are bound to.
    pub listen: IpAddr,
    /// TCP port for control connections of agents.
    pub control_port: u16,
    /// TCP port of the bulk service.
    pub bulk_port: u16,
    /// Main group and port of the first session.
    pub main: SocketAddrV4,
    /// Second group and port of the first session, and of the beacons.
    pub second: SocketAddrV4,
    /// TTL of multicast packets.
    pub ttl: u32,
    /// Time limits for targets that are away.
    pub patience: Patience,
    /// Trusted keys, one of which must have signed a deployed image; with none, every image is
    /// accepted.
    pub signed_by: Vec<VerifyingKey>,
}

/// Times that the console waits for a target.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Limit for a lost connection in a running job. Agents reconnect within 5 s; a switch port
    /// takes up to 15 s to forward again after its link came up.
    pub lost_after: Duration,
    /// Limit for a lost connection after a restart of the console: every agent must first notice it
    /// (10 s of silence).
    pub recover_after: Duration,
    /// Limit for the answer of an agent that was asked to leave: it ends its present write or step,
    /// then reports the state of its disk.
    pub answer_within: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            lost_after: Duration::from_secs(20),
            recover_after: Duration::from_secs(30),
            answer_within: Duration::from_secs(30),
        }
    }
}

/// Parts of a running console.
pub struct Console {
    /// Resolved settings.
    pub settings: Settings,
    /// Pin of the console's identity, which agents check.
    pub pin: Pin,
    /// Persistent state.
    pub store: Store,
    /// All known targets.
    pub roster: Roster,
    /// Jobs that have not ended.
    pub jobs: Jobs,
    /// Backup requests of people at targets.
    pub requests: Requests,
    /// Deployments that people at targets may start.
    pub offers: Offers,
    /// Rate limit of the bulk service.
    pub throttle: Throttle,
    /// Watch for IGMP queriers on the console's interface.
    pub igmp: IgmpWatch,
    /// Runs of `doctor`, one at a time.
    pub doctor: Doctor,
    /// State of network boot.
    pub boot: Boot,
    /// Image checks under way.
    pub checks: Checks,
    /// State for templates: secrets, inspection of images, hashes of files.
    pub personal: Personal,
}
