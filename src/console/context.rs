//! What the parts of a running console share.

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

/// Settings of a running console, resolved: every name has become an address.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its files are.
    pub data_dir: PathBuf,
    /// Interface multicast leaves by.
    pub interface: String,
    /// Address of that interface.
    pub interface_address: Ipv4Addr,
    /// Address TCP ports are open on.
    pub listen: IpAddr,
    /// TCP port agents connect to.
    pub control_port: u16,
    /// TCP port of the bulk service.
    pub bulk_port: u16,
    /// Main lane of the first session.
    pub main: SocketAddrV4,
    /// Second lane of the first session, and beacons.
    pub second: SocketAddrV4,
    /// Multicast hops.
    pub ttl: u32,
    /// How long a target may be away.
    pub patience: Patience,
    /// Keys one of which has to have signed an image that is deployed; with none, every image is.
    pub signed_by: Vec<VerifyingKey>,
}

/// How long the console waits for a target whose connection ended.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// In a running job. Agents try again within 5 s; a switch port takes up to 15 s to forward again after its link came
    /// up.
    pub lost_after: Duration,
    /// After the console was started again: every agent has to notice first (10 s of silence).
    pub recover_after: Duration,
    /// An agent that is asked to leave its job ends the write or the step it is at, and then says what its disk is.
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

/// A running console.
pub struct Console {
    /// Settings.
    pub settings: Settings,
    /// What agents pin.
    pub pin: Pin,
    /// What survives.
    pub store: Store,
    /// Targets.
    pub roster: Roster,
    /// Jobs that are not over.
    pub jobs: Jobs,
    /// Backups that people at targets ask for.
    pub requests: Requests,
    /// Deployments that people at targets may start.
    pub offers: Offers,
    /// What bulk may take of the wire.
    pub throttle: Throttle,
    /// Who asks for memberships on the console's interface.
    pub igmp: IgmpWatch,
    /// The run of `doctor` that may be under way.
    pub doctor: Doctor,
    /// Network boot.
    pub boot: Boot,
    /// Images that are being checked.
    pub checks: Checks,
    /// What templates need: secrets, inspection of images, hashes of files.
    pub personal: Personal,
}
