//! A session rehearsed before it is held: the real sender and the real receivers of
//! [`multicast`] in one thread, in virtual time, from one seed.
//!
//! A technician with three machines learns what three hundred will do; a test learns that
//! nothing wrong is ever accepted while links lose, disks crawl and machines crash, and that
//! everybody finishes once they stop. [`rehearse`] runs a [`Room`] and gives a [`Report`].
//!
//! Owns: the room around the machines: links ([`Faults`]), a switch port, disks, crashes, the
//! console's restarts, bulk transfers. Never decides what the machines decide, never sees a
//! payload, never reads a clock. The same room gives the same report, always.
//!
//! Checked at every step, and given back as [`Failure::Unsafe`] rather than by a panic: a block
//! is handed over only with `k` distinct symbols of it in one slot, packet numbers go up by
//! one, no parity index goes out twice in a go, statuses keep their bounds, nobody is taken for
//! complete who is not.
//!
//! Costs about 0.1 microseconds for each receiver and burst of packets, not for each packet: a
//! burst is mostly consecutive symbols, and a link says how far the next loss is.

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

/// Runs a room until everybody has everything.
///
/// # Errors
/// [`Failure::Unsafe`] when a machine did what it must never do, [`Failure::Unfinished`] when
/// somebody lacks something at the room's limit.
pub fn rehearse(room: &Room) -> Result<Report, Failure> {
    world::World::new(room).run()
}
