//! What a receiver tells the sender, over the control connection.
//!
//! Feedback is a count, not a bitmap: "this block needs d more symbols". Any d unused symbols
//! repair any pattern of loss, so the sender needs only the largest count.
//!
//! Owns: the shape of a status and its bounds. A status from outside is hostile: whoever
//! reads it treats every number as a claim, and no list longer than its bound is looked at
//! past it. Fields may be added; unknown ones are ignored, missing ones are their default.

use crate::layout::{BlockKey, ObjectId};
use crate::time::Duration;
use crate::wire::Lane;
use serde::{Deserialize, Serialize};

/// Most deficits in one status, oldest block first. More than any pool of buffers holds.
pub const MAX_DEFICITS: usize = 512;
/// Most ranges of one kind in one status: the rest of the completed ones follows in the next,
/// the rest of the undecided ones counts as wanted.
pub const MAX_RANGES: usize = 4096;
/// Most failed blocks in one status.
pub const MAX_BAD: usize = 64;

/// How often each receiver reports when `receivers` are in the session: about 500 to 2000
/// reports a second reach the console, whatever the number.
#[must_use]
pub fn status_interval(receivers: usize) -> Duration {
    match receivers {
        0..=50 => Duration::from_millis(100),
        51..=500 => Duration::from_millis(200),
        _ => Duration::from_millis(500),
    }
}

/// Packets of one lane as one receiver saw them, counted from when it joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneStatus {
    /// Highest packet counter seen; nothing when none came yet.
    pub seen: Option<u64>,
    /// Packets received.
    pub received: u64,
    /// Packets known to be lost: numbers skipped and not come late.
    pub lost: u64,
}

/// A block that needs more symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deficit(
    /// Object: 0 the manifest, 1 the image.
    pub u8,
    /// Block of the object.
    pub u32,
    /// Symbols missing.
    pub u16,
);

/// A run of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRange(
    /// Object: 0 the manifest, 1 the image.
    pub u8,
    /// First block of the run.
    pub u32,
    /// Blocks in the run.
    pub u32,
);

/// One report of a receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Counts up by one from 0 with each status of this receiver.
    pub sequence: u64,
    /// `completed` begins the whole picture anew; otherwise it adds to what was said before.
    pub full: bool,
    /// The manifest is read and the image's blocks are wanted.
    pub image_open: bool,
    /// The main lane.
    pub main: LaneStatus,
    /// The second lane.
    pub second: LaneStatus,
    /// Datagrams this machine's kernel dropped because nobody read them in time.
    pub kernel_drops: u64,
    /// Block buffers that are free.
    pub free_buffers: u32,
    /// Bytes a second the disk takes, as measured by the agent; 0 when not known.
    pub disk_bytes_per_s: u64,
    /// Blocks begun and incomplete.
    pub deficits: Vec<Deficit>,
    /// Blocks whose symbols are all in, being checked or written.
    pub held: Vec<BlockRange>,
    /// Blocks it still looks for on its own disk: not to be sent for it alone. The present
    /// state with every status, ascending; what is not in here, and not done, is wanted.
    pub undecided: Vec<BlockRange>,
    /// Blocks done since the last status.
    pub completed: Vec<BlockRange>,
    /// Blocks whose bytes did not match their hashes: wanted again, by bulk.
    pub bad: Vec<BlockRange>,
    /// Blocks passed over because no buffer was free, counted from when it joined.
    pub skipped: u64,
}

impl Status {
    /// What it says of a lane.
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

    /// The block, when the object is one this build knows.
    #[must_use]
    pub fn block(&self) -> Option<BlockKey> {
        Some(BlockKey {
            object: object_of(self.0)?,
            index: self.1,
        })
    }

    /// Symbols missing.
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

    /// The object, when this build knows it.
    #[must_use]
    pub fn object(&self) -> Option<ObjectId> {
        object_of(self.0)
    }

    /// The blocks, as far as they can be numbered.
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
