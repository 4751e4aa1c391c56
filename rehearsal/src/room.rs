//! The input of a rehearsal: the session, the network and the targets.

use crate::link::Faults;
use multicast::{BlockSet, Pace};
use std::sync::Arc;

/// A session and its targets.
#[derive(Clone, Debug)]
pub struct Room {
    /// Seed of all random decisions of the run.
    pub seed: u64,
    /// Number of source symbols of each block of the manifest.
    pub manifest: Vec<u16>,
    /// Number of source symbols of each block of the image.
    pub image: Vec<u16>,
    /// Cap of the rate on the wire in bytes a second, framing included; also the bandwidth that the
    /// console's bulk transfers share.
    pub rate_cap_bytes_per_s: u64,
    /// Rate at the start, in bytes a second.
    pub start_rate_bytes_per_s: u64,
    /// Largest number of proactive parity symbols of a block.
    pub proactive_max: u16,
    /// Blocks that at most this many targets lack after a pass are sent by bulk.
    pub bulk_receivers: usize,
    /// The receivers that set the speed when disks differ.
    pub pace: Pace,
    /// Number of block buffers of each target.
    pub buffers: u16,
    /// A switch port that every packet passes, if there is one slower than the cap.
    pub switch: Option<Switch>,
    /// The targets.
    pub targets: Vec<Target>,
    /// Times, in microseconds, at which the console stops and is restarted: with another session
    /// and another key, and with targets that join again with the blocks they have.
    pub console_restarts_us: Vec<u64>,
    /// Time limit of the run, in microseconds of the room's time.
    pub limit_us: u64,
}

/// A switch port with a queue; packets that do not fit are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Rate of the port, in bytes a second.
    pub rate_bytes_per_s: u64,
    /// Length of the queue in bytes.
    pub queue_bytes: u64,
}

/// One target.
#[derive(Clone, Debug)]
pub struct Target {
    /// Faults of the link to it.
    pub faults: Faults,
    /// Time at which it joins, in microseconds.
    pub join_us: u64,
    /// Write rate of its disk, in bytes a second of the image as it is sent.
    pub disk_bytes_per_s: u64,
    /// Times of a crash and of the restart, in microseconds. After it, the target reads the blocks
    /// on its disk again before it asks for the rest.
    pub crash_us: Option<(u64, u64)>,
    /// Times between which nothing arrives by multicast, in microseconds.
    pub partition_us: Option<(u64, u64)>,
    /// Share of blocks that fail their first check, in parts per million.
    pub bad_ppm: u64,
    /// The search of its disk before it asks for blocks; `None` without a search.
    pub look: Option<Look>,
}

/// A disk that may already hold a large part of the image.
#[derive(Clone, Debug)]
pub struct Look {
    /// Time to check one block, in microseconds.
    pub block_us: u64,
    /// Blocks that are not on the disk.
    pub differs: Arc<BlockSet>,
}

impl Room {
    /// A room without faults: 1 Gb/s, and 64 buffers for each target.
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

    /// Number of source symbols of the image.
    #[must_use]
    pub fn symbols(&self) -> u64 {
        self.image.iter().map(|k| u64::from(*k)).sum()
    }

    /// Time to send the image once at the cap, in microseconds.
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
    /// A machine without faults and with an SSD.
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
