//! What is rehearsed: the session, the network and the targets.

use crate::link::Faults;
use multicast::{BlockSet, Pace};
use std::sync::Arc;

/// A session and everybody in it.
#[derive(Clone, Debug)]
pub struct Room {
    /// Every decision of the run comes from this.
    pub seed: u64,
    /// Source symbols of each block of the manifest.
    pub manifest: Vec<u16>,
    /// Source symbols of each block of the image.
    pub image: Vec<u16>,
    /// Most bytes a second on the wire, framing included; also what the console's bulk transfers
    /// share.
    pub rate_cap_bytes_per_s: u64,
    /// Where the rate starts.
    pub start_rate_bytes_per_s: u64,
    /// Most proactive parity symbols of a block.
    pub proactive_max: u16,
    /// Blocks that so few lack after a pass go by bulk.
    pub bulk_receivers: usize,
    /// What the room's speed goes by when disks differ.
    pub pace: Pace,
    /// Block buffers of each target.
    pub buffers: u16,
    /// A port that every packet passes, when there is one slower than the cap.
    pub switch: Option<Switch>,
    /// The targets.
    pub targets: Vec<Target>,
    /// Moments, in microseconds, at which the console stops and is started anew: another
    /// session, another key, and targets that come back with what they have.
    pub console_restarts_us: Vec<u64>,
    /// When to give up, in microseconds of the room's time.
    pub limit_us: u64,
}

/// A switch port with a queue that drops what does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Bytes a second that it passes on.
    pub rate_bytes_per_s: u64,
    /// Bytes that it keeps.
    pub queue_bytes: u64,
}

/// One target.
#[derive(Clone, Debug)]
pub struct Target {
    /// What the way to it does.
    pub faults: Faults,
    /// When it joins, in microseconds.
    pub join_us: u64,
    /// What its disk takes, in bytes a second of the image as it is sent.
    pub disk_bytes_per_s: u64,
    /// Crashes at the first moment and is back at the second, with what its disk holds, which it
    /// reads again before it asks.
    pub crash_us: Option<(u64, u64)>,
    /// Nothing arrives by multicast in between.
    pub partition_us: Option<(u64, u64)>,
    /// Blocks whose first check fails, in parts per million.
    pub bad_ppm: u64,
    /// It looks through its disk before it asks.
    pub look: Option<Look>,
}

/// A disk that may hold much of the image already.
#[derive(Clone, Debug)]
pub struct Look {
    /// Time to look at a block, in microseconds.
    pub block_us: u64,
    /// Blocks that it will not find.
    pub differs: Arc<BlockSet>,
}

impl Room {
    /// A room at 1 Gb/s with 64 buffers each, in which nothing goes wrong.
    #[must_use]
    pub fn new(seed: u64, image: Vec<u16>, targets: Vec<Target>) -> Self {
        Self {
            seed,
            manifest: vec![200],
            image,
            rate_cap_bytes_per_s: 125_000_000,
            start_rate_bytes_per_s: 125_000_000,
            proactive_max: 64,
            bulk_receivers: 2,
            pace: Pace::default(),
            buffers: 64,
            switch: None,
            targets,
            console_restarts_us: Vec::new(),
            limit_us: 300_000_000,
        }
    }

    /// Source symbols of the image.
    #[must_use]
    pub fn symbols(&self) -> u64 {
        self.image.iter().map(|k| u64::from(*k)).sum()
    }

    /// Time in which the image goes out once at the cap, in microseconds.
    #[must_use]
    pub fn pass_us(&self) -> u64 {
        self.symbols()
            .saturating_mul(multicast::pacer::WIRE_BYTES)
            .saturating_mul(1_000_000)
            .checked_div(self.rate_cap_bytes_per_s)
            .unwrap_or(0)
    }
}

impl Default for Target {
    /// A sound machine with an SSD.
    fn default() -> Self {
        Self {
            faults: Faults::default(),
            join_us: 0,
            disk_bytes_per_s: 520_000_000,
            crash_us: None,
            partition_us: None,
            bad_ppm: 0,
            look: None,
        }
    }
}
