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
//! A sender and a receiver, joined by hand: every tenth packet is lost, and the image arrives.
//!
//! ```
//! use multicast::{
//!     Assembly, BlockOutcome, BlockSet, Disposition, Duration, Encoder, Epoch, ImageBlocks,
//!     Instant, Layout, ObjectId, Receiver, ReceiverConfig, ReceiverEvent, ReceiverId, SYMBOL_BYTES,
//!     Sender, SenderConfig, SessionId, source_symbol, status_interval,
//! };
//!
//! // One block of 100,000 bytes, and a manifest so short that it does not matter here.
//! let bytes: Vec<u8> = (0..100_000u32).map(|at| (at % 251) as u8).collect();
//! let (manifest, image) = (Layout::single(1), Layout::single(100_000));
//! let session = SessionId(7);
//! let mut now = Instant::ZERO;
//! let mut sender = Sender::new(SenderConfig::new(session, &manifest, &image, 12_500_000), now);
//! let mut receiver = Receiver::new(
//!     ReceiverConfig {
//!         session,
//!         manifest: manifest.symbol_counts(),
//!         image: Some(ImageBlocks {
//!             symbol_counts: image.symbol_counts(),
//!             have: BlockSet::empty(1),
//!             undecided: BlockSet::empty(1),
//!         }),
//!         buffers: 2,
//!         status_interval: status_interval(1),
//!         seed: 1,
//!     },
//!     now,
//! );
//! let me = ReceiverId(1);
//! sender.add_receiver(now, me);
//!
//! let parity = Encoder::new().encode(&bytes)?;
//! let mut slots = Assembly::new(2);
//! let mut arrived = Vec::new();
//! let mut packets = 0;
//! while !receiver.is_all_complete() {
//!     now = now + Duration::from_millis(1);
//!     while let Some(packet) = sender.poll_transmit(now) {
//!         packets += 1;
//!         if packets % 10 == 0 {
//!             continue;
//!         }
//!         // Over a network the header is sealed together with its payload.
//!         let header = packet.header(session, Epoch::default());
//!         let mut payload = [0; SYMBOL_BYTES];
//!         if packet.block.object == ObjectId::Image {
//!             match packet.symbol.checked_sub(packet.k) {
//!                 None => assert!(source_symbol(&bytes, packet.symbol, &mut payload)),
//!                 Some(index) => payload.copy_from_slice(parity.symbol(index).expect("below 256")),
//!             }
//!         }
//!         if let Disposition::Store { slot, first } = receiver.handle_packet(now, &header) {
//!             if first {
//!                 slots.begin(slot, header.k)?;
//!             }
//!             slots.store(slot, header.symbol, &payload)?;
//!         }
//!         while let Some(event) = receiver.poll_event() {
//!             if let ReceiverEvent::BlockReady { block, slot, .. } = event {
//!                 if block.object == ObjectId::Image {
//!                     arrived = slots.finish(slot, 100_000)?.to_vec();
//!                 }
//!                 receiver.handle_block_done(now, block, BlockOutcome::Ok);
//!             }
//!         }
//!     }
//!     // The reliable connection back.
//!     if let Some(status) = receiver.poll_status(now) {
//!         sender.handle_status(now, me, &status);
//!     }
//! }
//! assert_eq!(arrived, bytes);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod block;
mod packet;
pub mod receiver;
mod rng;
pub mod sender;
mod time;

pub use block::{assembly, blockset, layout, parity};
pub use packet::{replay, seal, status, wire};
pub use sender::pacer;

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
pub use sender::standing::Demotion;
pub use sender::{
    Pace, Progress, ReceiverId, Sender, SenderConfig, SenderCounters, SenderEvent, Transmit,
    TransmitKind, Upcoming,
};
pub use status::{Status, status_interval};
pub use time::{Duration, Instant};
pub use wire::{
    Beacon, Epoch, Flags, HEADER_BYTES, Header, Lane, PACKET_BYTES, PacketKind, PacketNumber,
    SessionId, TAG_BYTES, WireError,
};
