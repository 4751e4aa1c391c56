//! Disks: naming them, capturing them, writing them, proving them.
//!
//! Owns every byte that is read from or written to a disk. Deciding what should be where is `diskmap`'s and
//! `imagefmt`'s; this module is the edge that does it. `sys` alone holds ioctls. What always holds: a disk is named
//! and found free before its first byte is written, and the sectors that make it bootable are written last, by
//! [`deployment::Deployment::commit`], after everything else was read back.
//!
//! ```text
//! capture:  survey (table, used maps) -> chunks in parallel -> imagefmt::Writer -> .partial -> fsync -> rename
//! deploy:   wipe -> chunks in any order, read back behind the writers -> commit backup table, primary table, LBA 0
//! ```

pub mod append;
mod blank;
pub mod buffer;
pub mod capture;
pub mod check;
pub mod choice;
mod claims;
mod container;
pub mod deployment;
pub mod device;
pub mod error;
mod exclusive;
pub mod fit;
mod front;
pub mod gaps;
pub mod ground;
mod heads;
mod holes;
pub mod journal;
pub mod leftovers;
pub mod master;
pub mod missing;
pub mod output;
pub mod pipeline;
mod place;
pub mod readback;
pub mod rebuild;
mod remains;
pub mod restore;
pub mod share;
pub mod signing;
mod source;
mod spans;
pub mod survey;
mod sys;
pub mod target_disk;
pub mod volumes;
mod watch;

pub use error::DiskError;

/// Progress of long disk work: called with bytes done and bytes in all, from any thread, often. A total of zero is one nobody knows yet:
/// that of a survey.
pub type OnProgress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Asked between chunks; true ends the work with [`DiskError::Cancelled`].
pub type Cancelled<'a> = &'a (dyn Fn() -> bool + Sync);
