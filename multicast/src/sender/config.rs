//! What a sender is told at the start.

use crate::layout::Layout;
use crate::seal::Suite;
use crate::wire::{Epoch, SessionId};
use serde::{Deserialize, Serialize};

/// Default cap of proactive parity: what 5 % loss at 200 receivers needs.
const PROACTIVE_MAX: u16 = 64;

/// A receiver, as the shell numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiverId(pub u32);

/// What the room's speed goes by when disks differ.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// The fastest: new blocks wait only while nobody has room for one.
    Fastest,
    /// The slower half: while most have no room there is no sense in sending; a minority skips
    /// blocks and gets them afterwards.
    #[default]
    Balanced,
    /// The slowest: new blocks wait for everyone who counts, except those that had no room for
    /// two seconds on end.
    Everyone,
}

/// What a sender must know from the start.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Random for each run of a job.
    pub session: SessionId,
    /// Key epoch.
    pub epoch: Epoch,
    /// Cipher, for the shell that seals.
    pub suite: Suite,
    /// Source symbols of each block of the manifest.
    pub manifest: Vec<u16>,
    /// Source symbols of each block of the image.
    pub image: Vec<u16>,
    /// Most bytes a second on the wire, framing included. Never exceeded.
    pub rate_cap_bytes_per_s: u64,
    /// Where to start when the cap is not to be trusted; the rate doubles from there until the
    /// first loss. At or above the cap: start there.
    pub start_rate_bytes_per_s: u64,
    /// Most of the wire that repair may take while a pass runs, in percent.
    pub repair_share_percent: u8,
    /// Most proactive parity symbols of a block; 0 turns it off.
    pub proactive_max: u16,
    /// Blocks that so few receivers lack after they were sent go by bulk.
    pub bulk_receivers: usize,
    /// What the room's speed goes by when disks differ.
    pub pace: Pace,
}

impl SenderConfig {
    /// The usual choices for a session.
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
