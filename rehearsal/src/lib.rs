//! Simulation of a session: the real sender and the real receivers of [`multicast`] in one thread,
//! in virtual time, from one seed.
//!
//! A technician with three machines can estimate the result for three hundred. A test can check
//! that nothing wrong is ever accepted while links lose packets, disks are slow and machines crash,
//! and that every target finishes once the faults end. [`rehearse`] runs a [`Room`] and returns a
//! [`Report`].
//!
//! Owns the environment of the machines: links ([`Faults`]), a switch port, disks, crashes,
//! restarts of the console, bulk transfers. Never makes a decision of the machines, never sees a
//! payload, never reads a clock. The same room always gives the same report.
//!
//! These rules are checked at every step, and a violation is returned as [`Failure::Unsafe`],
//! without a panic: a block is handed over only with `k` distinct symbols of it in one slot, packet
//! numbers go up by one, no parity index is sent twice between two transmissions of a block's
//! source, statuses keep their bounds, and no incomplete target counts as complete.
//!
//! A run costs about 0.1 microseconds for each receiver and burst of packets, not for each packet:
//! a burst is mostly consecutive symbols, and a link returns the distance to the next loss.

#![forbid(unsafe_code)]

mod check;
mod events;
mod link;
mod node;
mod report;
mod rng;
mod room;
mod world;

pub use link::Faults;
pub use report::{Failure, Report, TargetReport};
pub use rng::Rng;
pub use room::{Look, Room, Switch, Target};

/// Runs a room until every target has everything.
///
/// # Errors
/// [`Failure::Unsafe`] if a machine violated a rule, [`Failure::Unfinished`] if a target is not
/// complete at the room's time limit.
pub fn rehearse(room: &Room) -> Result<Report, Failure> {
    world::World::new(room).run()
}
