//! The result of a rehearsal.

use multicast::SenderCounters;
use thiserror::Error;

/// The report on a room in which every target finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Number of source symbols of the image.
    pub symbols: u64,
    /// Number of packets sent with symbols of the image.
    pub sent: u64,
    /// Number of bytes on the wire, framing and manifest included.
    pub wire_bytes: u64,
    /// Time from the first source packet of the image until the last target was complete, in
    /// microseconds.
    pub elapsed_us: u64,
    /// The targets, in the room's order.
    pub targets: Vec<TargetReport>,
    /// Number of deficits reported in all statuses.
    pub deficits: u64,
    /// Number of statuses sent.
    pub statuses: u64,
    /// Number of passes that ended.
    pub passes: u64,
    /// Send rate at the end, in wire bytes a second.
    pub rate_bytes_per_s: u64,
    /// Counters of the console, summed over all its lives.
    pub counters: SenderCounters,
}

/// The report on one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetReport {
    /// Time from the first source packet of the image until it was complete, in microseconds.
    pub done_us: u64,
    /// Number of symbols stored, in all its lives.
    pub stored: u64,
    /// Number of blocks restored from parity.
    pub restored: u64,
    /// Number of blocks that came by bulk.
    pub bulk_blocks: u64,
    /// Number of blocks found on its disk.
    pub kept: u64,
    /// Number of blocks skipped because no buffer was free.
    pub skipped: u64,
    /// Number of times it was demoted.
    pub demoted: u32,
    /// Number of times it was promoted again.
    pub promoted: u32,
}

impl Report {
    /// Number of transmissions for each source symbol of the image.
    #[must_use]
    pub fn transmissions(&self) -> f64 {
        self.sent as f64 / self.symbols.max(1) as f64
    }

    /// Number of deficits reported for each block that was restored from parity.
    #[must_use]
    pub fn reports_per_lost_block(&self) -> f64 {
        let restored: u64 = self.targets.iter().map(|target| target.restored).sum();
        self.deficits as f64 / restored.max(1) as f64
    }

    /// Number of blocks sent by bulk.
    #[must_use]
    pub fn bulk_blocks(&self) -> u64 {
        self.targets.iter().map(|target| target.bulk_blocks).sum()
    }
}

/// A failed rehearsal. The seed reproduces it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Failure {
    /// A machine violated a safety rule.
    #[error("seed {seed}, {at_us} us, {who}: {what}")]
    Unsafe {
        /// Seed of the room.
        seed: u64,
        /// Time of the violation, in microseconds.
        at_us: u64,
        /// The console, or the number of the target.
        who: String,
        /// Description of the violation.
        what: &'static str,
    },
    /// A target is not complete at the time limit.
    #[error(
        "seed {seed}: {unfinished} of {targets} targets are not complete after {at_us} us; {detail}"
    )]
    Unfinished {
        /// Seed of the room.
        seed: u64,
        /// The time limit, in microseconds.
        at_us: u64,
        /// Number of incomplete targets.
        unfinished: usize,
        /// Number of all targets.
        targets: usize,
        /// Some of the incomplete targets, with the blocks they lack.
        detail: String,
    },
}
