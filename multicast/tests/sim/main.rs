//! The session in a simulated room: see `world.rs` for the room, `faults.rs`, `slow.rs`,
//! `network.rs` and `bytes.rs` for what happens in it.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "ratios for assertions, not offsets"
)]

mod bytes;
mod faults;
mod link;
mod looking;
mod network;
mod repair;
mod rng;
mod slow;
mod world;
