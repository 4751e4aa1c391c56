//! Disks: describes them, captures them, writes them, proves them.
//!
//! Owns every byte that is read from or written to a disk. `diskmap` and `imagefmt` decide the
//! content of a disk; this module carries it out. `sys` alone has ioctls. Always holds: a disk is
//! identified and found free before its first byte is written, and the sectors that make it
//! bootable are written last, by [`deployment::Deployment::commit`], after everything else was read
//! back.
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
pub mod partition_words;
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

/// Receives progress of long disk work: bytes done and bytes in all, from any thread, often. A
/// total of zero means unknown, as during a survey.
pub type OnProgress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Cancellation check, called between chunks; true ends the work with [`DiskError::Cancelled`].
pub type Cancelled<'a> = &'a (dyn Fn() -> bool + Sync);
