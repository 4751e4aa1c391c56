//! What a rehearsal came to.

use multicast::SenderCounters;
use thiserror::Error;

/// A room in which everybody finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Source symbols of the image.
    pub symbols: u64,
    /// Packets with symbols of the image that went out.
    pub sent: u64,
    /// Bytes on the wire, framing and manifest included.
    pub wire_bytes: u64,
    /// From the first source packet of the image until the last target had everything, in
    /// microseconds.
    pub elapsed_us: u64,
    /// Target by target, in the room's order.
    pub targets: Vec<TargetReport>,
    /// Deficits reported in all statuses.
    pub deficits: u64,
    /// Statuses sent.
    pub statuses: u64,
    /// Ends of passes that were noted.
    pub passes: u64,
    /// The rate at the end, in wire bytes a second.
    pub rate_bytes_per_s: u64,
    /// What the console counted, all its lives together.
    pub counters: SenderCounters,
}

/// How it went for one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetReport {
    /// When it had everything, from the first source packet of the image, in microseconds.
    pub done_us: u64,
    /// Symbols stored, in all its lives.
    pub stored: u64,
    /// Blocks restored from parity.
    pub restored: u64,
    /// Blocks that came by bulk.
    pub bulk_blocks: u64,
    /// Blocks found on its disk.
    pub kept: u64,
    /// Blocks passed over for want of a buffer.
    pub skipped: u64,
    /// Times it was set aside.
    pub demoted: u32,
    /// Times it counted again.
    pub promoted: u32,
}

impl Report {
    /// Transmissions for each source symbol of the image.
    #[must_use]
    pub fn transmissions(&self) -> f64 {
        self.sent as f64 / self.symbols.max(1) as f64
    }

    /// Deficits reported for each block that was restored from parity.
    #[must_use]
    pub fn reports_per_lost_block(&self) -> f64 {
        let restored: u64 = self.targets.iter().map(|target| target.restored).sum();
        self.deficits as f64 / restored.max(1) as f64
    }

    /// Blocks that went by bulk.
    #[must_use]
    pub fn bulk_blocks(&self) -> u64 {
        self.targets.iter().map(|target| target.bulk_blocks).sum()
    }
}

/// A room that did not end well. The seed plays it again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Failure {
    /// A machine did what it must never do.
    #[error("seed {seed}, {at_us} us, {who}: {what}")]
    Unsafe {
        /// Seed of the room.
        seed: u64,
        /// When.
        at_us: u64,
        /// The console, or which target.
        who: String,
        /// What it did.
        what: &'static str,
    },
    /// Somebody lacks something at the limit.
    #[error(
        "seed {seed}: {unfinished} of {targets} targets are not complete after {at_us} us; {detail}"
    )]
    Unfinished {
        /// Seed of the room.
        seed: u64,
        /// The limit.
        at_us: u64,
        /// How many are not complete.
        unfinished: usize,
        /// How many there are.
        targets: usize,
        /// Some of them, with what they lack.
        detail: String,
    },
}
