//! The diskcast multicast session as pure state machines: no sockets, no clock, no files.
//!
//! One [`Sender`] puts the blocks of two objects, the manifest and the image, into numbered
//! packets on two lanes; any number of [`Receiver`]s put them together again and report, over
//! a reliable connection that is not part of this crate, how many symbols each block still
//! needs. The sender answers the largest need once, for everyone, with parity.
//!
//! ```text
//!  layout ── wire ── seal, replay            bytes
//!     │        └──── parity, assembly        bytes of blocks
//!     │
//!  sender ── carousel, wants, ledger, rate, pacer, room, standing   numbers only
//!     ▲ Status          │ Transmit
//!     │                 ▼
//!  receiver ── meter, slots                                         numbers only
//! ```
//!
//! Each machine offers getters, `handle_*` for what happened, commands for what the caller
//! wants, and `poll_*` for what should happen now. After every call, poll until nothing
//! comes. Time is an argument ([`Instant`]) and never goes back; randomness is a seed. The
//! machines look at numbers, not payloads, so thousands of receivers fit in one test.
//!
//! Never panics on anything from outside; every queue and retry has a named bound.

#![forbid(unsafe_code)]

pub mod assembly;
pub mod blockset;
mod carousel;
pub mod layout;
mod ledger;
mod meter;
pub mod pacer;
pub mod parity;
mod peer;
mod proactive;
mod rate;
pub mod receiver;
pub mod replay;
mod rng;
mod room;
pub mod seal;
pub mod sender;
mod settle;
mod slots;
mod standing;
pub mod status;
mod time;
mod wants;
pub mod wire;

pub use assembly::{Assembly, AssemblyError, BlockBuffer, Decoder};
pub use blockset::BlockSet;
pub use layout::{
    BLOCK_BYTES, BlockKey, BlockShape, Layout, MAX_SOURCE_SYMBOLS, ObjectId, PARITY_SYMBOLS, Part,
    SYMBOL_BYTES, pack,
};
pub use parity::{Encoder, Parity, ParityError, source_symbol};
pub use receiver::{
    BlockOutcome, Disposition, Ignored, ImageBlocks, Receiver, ReceiverConfig, ReceiverCounters,
    ReceiverEvent, Stored,
};
pub use replay::{ReplayWindow, Replayed};
pub use seal::{OpenError, Opener, SealError, Sealer, SessionSecret, Suite};
pub use sender::{
    Pace, Progress, ReceiverId, ReceiverProgress, Sender, SenderConfig, SenderCounters,
    SenderEvent, Transmit, TransmitKind, Upcoming,
};
pub use standing::Demotion;
pub use status::{Status, status_interval};
pub use time::{Duration, Instant};
pub use wire::{
    Beacon, Epoch, Flags, HEADER_BYTES, Header, Lane, PACKET_BYTES, PacketKind, PacketNumber,
    SessionId, TAG_BYTES, WireError,
};
