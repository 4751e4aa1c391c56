//! The status report of a receiver to the sender, sent over the control connection.
//!
//! Feedback is a count, not a bitmap: "this block needs d more symbols". Any d unused symbols
//! repair any pattern of loss, so the sender needs only the largest count.
//!
//! Owns the format of a status and its bounds. A status comes from outside and may be hostile: its
//! reader treats every number as a claim and reads no list past its bound. Fields may be added in
//! later versions; unknown fields are ignored, missing ones get their default.

use crate::block::layout::{BlockKey, ObjectId};
use crate::packet::wire::Lane;
use crate::time::Duration;
use serde::{Deserialize, Serialize};

/// Largest number of deficits in one status, oldest block first: more than any pool has buffers.
pub const MAX_DEFICITS: usize = 512;
/// Largest number of ranges of one kind in one status. Completed ranges beyond it follow in the
/// next status; undecided ones beyond it count as wanted.
pub const MAX_RANGES: usize = 4096;
/// Largest number of failed blocks in one status.
pub const MAX_BAD: usize = 64;

/// The mean time between two statuses of a receiver, for `receivers` in the session. The console
/// gets about 500 to 2000 reports a second in a large session.
#[must_use]
pub fn status_interval(receivers: usize) -> Duration {
    match receivers {
        0..=50 => Duration::from_millis(100),
        51..=500 => Duration::from_millis(200),
        _ => Duration::from_millis(500),
    }
}

/// Packet counts of one lane at one receiver, since it joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneStatus {
    /// Highest packet counter seen; `None` before the first packet.
    pub seen: Option<u64>,
    /// Packets received.
    pub received: u64,
    /// Packets known to be lost: skipped numbers that did not arrive late either.
    pub lost: u64,
}

/// A block that needs more symbols, as a triple of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deficit(
    /// The object: 0 is the manifest, 1 the image.
    pub u8,
    /// Index of the block in the object.
    pub u32,
    /// Number of missing symbols.
    pub u16,
);

/// A range of blocks, as a triple of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRange(
    /// The object: 0 is the manifest, 1 the image.
    pub u8,
    /// First block of the run.
    pub u32,
    /// Number of blocks in the run.
    pub u32,
);

/// One status report of a receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Sequence number of this receiver's statuses, from 0.
    pub sequence: u64,
    /// True if `completed` replaces everything reported before; otherwise it is added to that.
    pub full: bool,
    /// True if the manifest is read and the image's blocks are wanted.
    pub image_open: bool,
    /// Packet counts of the main lane.
    pub main: LaneStatus,
    /// Packet counts of the second lane.
    pub second: LaneStatus,
    /// Datagrams that this machine's kernel dropped because they were not read in time.
    pub kernel_drops: u64,
    /// Number of free block buffers.
    pub free_buffers: u32,
    /// Write rate of the disk in bytes a second, as measured by the agent; 0 if not known.
    pub disk_bytes_per_s: u64,
    /// Blocks begun and still incomplete.
    pub deficits: Vec<Deficit>,
    /// Blocks with all symbols, which are being checked or written.
    pub held: Vec<BlockRange>,
    /// Blocks that the receiver still searches for on its own disk, ascending; they are not sent
    /// for it alone. Every status has the complete list. A block that is neither listed nor done is
    /// wanted.
    pub undecided: Vec<BlockRange>,
    /// Blocks completed since the last status.
    pub completed: Vec<BlockRange>,
    /// Blocks whose bytes did not match their hashes; they are wanted again, by bulk.
    pub bad: Vec<BlockRange>,
    /// Number of blocks skipped because no buffer was free, since the receiver joined.
    pub skipped: u64,
}

impl Status {
    /// The packet counts of a lane.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> &LaneStatus {
        match lane {
            Lane::Main => &self.main,
            Lane::Second => &self.second,
        }
    }
}

impl Deficit {
    pub(crate) fn new(block: BlockKey, missing: u16) -> Self {
        Self(object_code(block.object), block.index, missing)
    }

    /// The block; `None` if this build does not know the object.
    #[must_use]
    pub fn block(&self) -> Option<BlockKey> {
        Some(BlockKey {
            object: object_of(self.0)?,
            index: self.1,
        })
    }

    /// Number of missing symbols.
    #[must_use]
    pub fn missing(&self) -> u16 {
        self.2
    }
}

impl BlockRange {
    pub(crate) fn new(object: ObjectId, blocks: std::ops::Range<u32>) -> Self {
        Self(
            object_code(object),
            blocks.start,
            blocks.end.saturating_sub(blocks.start),
        )
    }

    /// The object; `None` if this build does not know it.
    #[must_use]
    pub fn object(&self) -> Option<ObjectId> {
        object_of(self.0)
    }

    /// The block indexes; the end saturates at `u32::MAX`.
    #[must_use]
    pub fn blocks(&self) -> std::ops::Range<u32> {
        self.1..self.1.saturating_add(self.2)
    }
}

fn object_code(object: ObjectId) -> u8 {
    match object {
        ObjectId::Manifest => 0,
        ObjectId::Image => 1,
    }
}

fn object_of(code: u8) -> Option<ObjectId> {
    match code {
        0 => Some(ObjectId::Manifest),
        1 => Some(ObjectId::Image),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_from_outside_cannot_wrap() {
        assert_eq!(BlockRange(1, u32::MAX, 9).blocks(), u32::MAX..u32::MAX);
        assert_eq!(BlockRange(2, 0, 1).object(), None);
        assert_eq!(Deficit(1, 7, 3).block(), Some(BlockKey::image(7)));
    }

    #[test]
    fn the_console_hears_at_most_two_thousand_reports_a_second() {
        for receivers in [1, 50, 51, 200, 500, 501, 1000] {
            let interval = status_interval(receivers).as_micros();
            assert!(receivers as u64 * 1_000_000 / interval <= 2500);
        }
    }
}
