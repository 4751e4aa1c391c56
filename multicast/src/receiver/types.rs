//! What a receiver is told and what it says to its shell.

use crate::blockset::BlockSet;
use crate::layout::{BlockKey, ObjectId};
use crate::time::Duration;
use crate::wire::SessionId;
use std::ops::Range;

/// What the image looks like to a receiver, once the manifest is read.
#[derive(Clone, Debug)]
pub struct ImageBlocks {
    /// Source symbols of each block ([`crate::Layout::symbol_counts`]).
    pub symbol_counts: Vec<u16>,
    /// Blocks that the disk already holds.
    pub have: BlockSet,
    /// Blocks that the disk may hold: the agent looks for them and says of each what it found
    /// ([`Receiver::handle_kept_block`], [`Receiver::handle_wanted_block`]). Nothing is sent for
    /// this receiver alone before that; what comes is taken. None when empty or when it is a set
    /// over another number of blocks.
    pub undecided: BlockSet,
}

/// What a receiver must know from the start.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// The session, from the job message.
    pub session: SessionId,
    /// Source symbols of each block of the manifest ([`crate::Layout::single`] of its length).
    pub manifest: Vec<u16>,
    /// The image's blocks when the manifest is known already; otherwise
    /// [`Receiver::open_image`] brings them.
    pub image: Option<ImageBlocks>,
    /// Block buffers, one a slot.
    pub buffers: u16,
    /// Mean time between statuses ([`crate::status_interval`]).
    pub status_interval: Duration,
    /// Seed of the jitter, different for each receiver.
    pub seed: u64,
}

/// Why a packet is not stored. None of these is a fault by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Ignored {
    /// Carries no symbol.
    Heartbeat,
    /// Another session's.
    OtherSession,
    /// The image is not opened yet.
    NotOpen,
    /// A block that the object does not have, or not with that `k`.
    Shape,
    /// The block is complete.
    Complete,
    /// The block has all symbols it needs and is being checked or written.
    Whole,
    /// The symbol is there already.
    Duplicate,
    /// Parity of a block that was never begun.
    NotBegun,
    /// Too many symbols of the block went by before this one.
    TooLate,
    /// No buffer is free: the block is skipped whole.
    NoBuffer,
}

/// Where a packet's payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Into a slot, as symbol `header.symbol` of a block of `header.k`.
    Store {
        /// The slot.
        slot: u16,
        /// The block begins with this symbol: forget what was in the slot
        /// ([`crate::Assembly::begin`]).
        first: bool,
    },
    /// Nowhere.
    Ignore(Ignored),
}

/// Symbols that go into a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The slot.
    pub slot: u16,
    /// The block begins with the first of them: forget what was in the slot.
    pub first: bool,
    /// Which symbols of the block.
    pub symbols: Range<u16>,
}

/// What the shell must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiverEvent {
    /// A block has `k` distinct symbols: restore, check and write it, then
    /// [`Receiver::handle_block_done`]. Its slot stays taken until then.
    BlockReady {
        /// The block.
        block: BlockKey,
        /// The slot it lies in.
        slot: u16,
        /// Some of its symbols are parity: it must be restored first.
        needs_parity: bool,
    },
    /// Every block of an object is complete.
    ObjectComplete(ObjectId),
}

/// How a block ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOutcome {
    /// Its bytes matched their hashes and are safe.
    Ok,
    /// They did not match, or could not be used: the block is wanted again.
    Failed,
}

/// What went through a receiver, counted from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverCounters {
    /// Symbols stored.
    pub stored: u64,
    /// Symbols that were there already, or of blocks that needed none.
    pub duplicate: u64,
    /// Blocks restored from parity.
    pub restored: u64,
    /// Blocks passed over for want of a buffer.
    pub skipped: u64,
    /// Blocks begun and given up.
    pub abandoned: u64,
    /// Blocks that failed their check.
    pub failed: u64,
    /// Blocks that came by bulk.
    pub bulk: u64,
    /// Blocks found on the disk after the image was opened.
    pub kept: u64,
}
