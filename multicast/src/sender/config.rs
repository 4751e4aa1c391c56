//! The configuration of a sender.

use crate::block::layout::Layout;
use crate::packet::seal::Suite;
use crate::packet::wire::{Epoch, SessionId};
use serde::{Deserialize, Serialize};

/// Default limit of proactive parity, in symbols of a block: enough for 5 % loss at 200 receivers.
const PROACTIVE_MAX: u16 = 64;

/// The number that the shell gives to a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiverId(pub u32);

/// The receivers that set the speed when disks differ.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// The fastest receiver: new blocks wait only while no receiver has a free buffer.
    Fastest,
    /// The majority: new blocks wait while most receivers have no free buffer. A minority skips
    /// blocks and gets them afterwards.
    #[default]
    Balanced,
    /// The slowest receiver: new blocks wait for every receiver, except lossy ones and those
    /// without a free buffer for two seconds.
    Everyone,
}

/// The configuration of a sender.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// The session id, random for each run of a job.
    pub session: SessionId,
    /// The key epoch for the packet headers.
    pub epoch: Epoch,
    /// The cipher, used by the shell that seals the packets.
    pub suite: Suite,
    /// Number of source symbols of each block of the manifest.
    pub manifest: Vec<u16>,
    /// Number of source symbols of each block of the image.
    pub image: Vec<u16>,
    /// The cap: highest rate on the wire in bytes a second, framing included. Never exceeded.
    pub rate_cap_bytes_per_s: u64,
    /// The rate at the start in bytes a second, for a cap that may be too high; the rate doubles
    /// from there until the cap or the first window with heavy loss. A value at or above the cap
    /// means a start near the cap.
    pub start_rate_bytes_per_s: u64,
    /// Largest share of the packets that repair may take while a pass runs, in percent.
    pub repair_share_percent: u8,
    /// Largest number of proactive parity symbols of a block; 0 turns proactive parity off.
    pub proactive_max: u16,
    /// Blocks that at most this many receivers lack after a pass are sent by bulk.
    pub bulk_receivers: usize,
    /// The receivers that set the speed when disks differ.
    pub pace: Pace,
}

impl SenderConfig {
    /// A configuration with the default values.
    #[must_use]
    pub fn new(
        session: SessionId,
        manifest: &Layout,
        image: &Layout,
        rate_cap_bytes_per_s: u64,
    ) -> Self {
        Self {
            session,
            epoch: Epoch::default(),
            suite: Suite::default(),
            manifest: manifest.symbol_counts(),
            image: image.symbol_counts(),
            rate_cap_bytes_per_s,
            start_rate_bytes_per_s: rate_cap_bytes_per_s,
            repair_share_percent: 15,
            proactive_max: PROACTIVE_MAX,
            bulk_receivers: 2,
            pace: Pace::default(),
        }
    }
}
