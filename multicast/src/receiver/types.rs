//! The inputs and outputs of a receiver.

use crate::block::blockset::BlockSet;
use crate::block::layout::{BlockKey, ObjectId};
use crate::packet::wire::SessionId;
use crate::time::Duration;
use std::ops::Range;

/// The blocks of the image, known once the manifest is read.
#[derive(Clone, Debug)]
pub struct ImageBlocks {
    /// Number of source symbols of each block ([`crate::Layout::symbol_counts`]).
    pub symbol_counts: Vec<u16>,
    /// Blocks that the disk already holds.
    pub have: BlockSet,
    /// Blocks that the disk may hold. The agent searches for each of them and reports the result
    /// ([`Receiver::handle_kept_block`], [`Receiver::handle_wanted_block`]). Until then nothing is
    /// sent for this receiver alone, but packets sent for others are stored. The set may be empty;
    /// a set over another number of blocks is ignored.
    pub undecided: BlockSet,
}

/// The configuration of a receiver.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// The session id, from the job message.
    pub session: SessionId,
    /// Number of source symbols of each block of the manifest ([`crate::Layout::single`] of its
    /// length).
    pub manifest: Vec<u16>,
    /// The image's blocks, if the manifest is known already; otherwise [`Receiver::open_image`]
    /// gives them later.
    pub image: Option<ImageBlocks>,
    /// Number of block buffers; each is one slot.
    pub buffers: u16,
    /// Mean time between statuses ([`crate::status_interval`]).
    pub status_interval: Duration,
    /// Seed of the jitter; different for each receiver.
    pub seed: u64,
}

/// The reason why a packet is not stored. None of these is a fault by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Ignored {
    /// The packet carries no symbol.
    Heartbeat,
    /// The packet belongs to another session.
    OtherSession,
    /// The packet belongs to the image, which is not opened yet.
    NotOpen,
    /// The object has no such block, or the block has another `k`.
    Shape,
    /// The block is complete.
    Complete,
    /// The block has all symbols it needs and is being checked or written.
    Whole,
    /// The symbol was stored before.
    Duplicate,
    /// The packet carries parity of a block that was never begun.
    NotBegun,
    /// Too many symbols of the block were missed before this one.
    TooLate,
    /// No buffer is free: the whole block is skipped.
    NoBuffer,
}

/// The decision on a packet's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Store it in a slot, as symbol `header.symbol` of a block of `header.k`.
    Store {
        /// Index of the slot.
        slot: u16,
        /// True for the first symbol of a block: earlier contents of the slot must be dropped
        /// ([`crate::Assembly::begin`]).
        first: bool,
    },
    /// Drop it.
    Ignore(Ignored),
}

/// Consecutive symbols to store in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Index of the slot.
    pub slot: u16,
    /// True if the first of them is the first symbol of a block: earlier contents of the slot must
    /// be dropped.
    pub first: bool,
    /// Indexes of the symbols in the block.
    pub symbols: Range<u16>,
}

/// An event that the shell must act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiverEvent {
    /// A block has `k` distinct symbols: the shell restores, checks and writes it, then calls
    /// [`Receiver::handle_block_done`]. The slot stays in use until then.
    BlockReady {
        /// The block.
        block: BlockKey,
        /// The slot that holds the block.
        slot: u16,
        /// True if source symbols must be restored from parity.
        needs_parity: bool,
    },
    /// Every block of an object is complete.
    ObjectComplete(ObjectId),
}

/// The result of checking and writing a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOutcome {
    /// The bytes matched their hashes and are written.
    Ok,
    /// The bytes did not match or could not be used: the block is wanted again.
    Failed,
}

/// Counters of a receiver since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverCounters {
    /// Symbols stored.
    pub stored: u64,
    /// Symbols stored before, or of blocks that were whole or complete.
    pub duplicate: u64,
    /// Blocks restored from parity.
    pub restored: u64,
    /// Blocks skipped because no buffer was free.
    pub skipped: u64,
    /// Blocks begun and dropped before they were whole.
    pub abandoned: u64,
    /// Blocks that failed their check.
    pub failed: u64,
    /// Blocks that came by bulk.
    pub bulk: u64,
    /// Blocks found on the disk after the image was opened.
    pub kept: u64,
}
