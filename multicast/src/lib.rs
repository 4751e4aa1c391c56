//! The diskcast multicast session as pure state machines: no sockets, no clock, no files.
//!
//! One [`Sender`] puts the blocks of two objects, the manifest and the image, into numbered packets
//! on two lanes. Any number of [`Receiver`]s reassemble the blocks and report how many symbols each
//! block still needs, over a reliable connection that is not part of this crate. The sender answers
//! the largest need once, with parity that serves every receiver.
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
//! Each machine has getters, `handle_*` methods for events, commands, and `poll_*` methods that
//! return the next thing to do. The caller, called *the shell* here, owns sockets, clock and files.
//! After every call it polls until nothing is returned. Time is an argument ([`Instant`]) and never
//! goes back; randomness comes from a seed. The machines see block numbers, never payloads, so
//! thousands of receivers fit into one test.
//!
//! Never panics on input from outside; every queue and retry has a named bound.

#![forbid(unsafe_code)]

pub mod assembly;
pub mod blockset;
mod carousel;
mod few;
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
