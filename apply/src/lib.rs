//! Adapts a written disk to its machine: mounts its partitions, carries out the steps of a plan,
//! and reads the results back from the disk.
//!
//! Owns every effect of a template on a disk. Decides nothing: the plan says what is to be done. A
//! step is applied only if its check finds that its result does not hold yet, and it has failed
//! unless its verification, which reads the disk again, finds the result.
//!
//! ```text
//!  each step: check (mounted read-only) -> apply (writable), if the result does not hold yet
//!  all steps: unmounted, flushed, cache dropped -> mounted read-only -> verify, each step
//!             -> unmounted
//! ```
//!
//! Modules: `engine` has the order of steps; `error` their failures by cause; `context` what a step
//! may use; `device` loop devices; `mount` mounts; `left_over` the clean-up after a killed process;
//! `guest` files below a mounted root, which no symbolic link of the guest can leave; `linux`,
//! `windows`, `grow` and `copy` the steps themselves.

mod context;
mod copy;
mod device;
mod engine;
mod error;
mod grow;
mod guest;
mod left_over;
mod linux;
mod mount;
mod program;
mod windows;

pub use error::{ApplyError, Room, StepError};
pub use left_over::clean_up;
pub use program::ProgramError;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use template::first_start::FirstStart;
use template::secrets::Secrets;
use template::step::{MachinePlan, Payload};

/// A disk whose chunks are proven and whose partition table is not yet written.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Block device, or a regular file in a rehearsal.
    pub disk: &'a Path,
    /// Size of the disk's logical sector in bytes.
    pub sector_size: u32,
    /// Partitions as the table will have them, growth included.
    pub partitions: &'a [Slot],
    /// Folder for mount points; created if missing, empty after the run.
    pub work: &'a Path,
    /// Address and key for the report of the first start, for plans whose first-boot job reports.
    pub first_start: Option<&'a FirstStart>,
}

/// Position of a partition on the disk, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slot {
    /// Number in the partition table.
    pub number: u32,
    /// Offset of the first byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// Source of the console's files.
pub trait Payloads {
    /// Opens the content of a file. The caller compares it with the file's hash.
    ///
    /// # Errors
    /// The console cannot be reached or does not have the file.
    fn open(&self, payload: &Payload) -> std::io::Result<Box<dyn Read + '_>>;
}

/// Receiver of the progress of a run.
pub trait Watcher {
    /// Called when step number `index` of `count` begins.
    fn step(&mut self, index: usize, count: usize, what: &str);
    /// Called with a line for the job's log; the line holds no secrets.
    fn log(&mut self, line: &str);
}

/// Result of a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The step's result held already; nothing was changed.
    Unchanged,
    /// The step was carried out and its result read back.
    Applied,
}

/// Result of a whole run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every step of the plan in order: id and outcome.
    pub steps: Vec<(String, Outcome)>,
    /// Remarks for the technician.
    pub notes: Vec<String>,
}

/// Carries out the steps of a plan in order. Steps that take effect later (answer file, first boot)
/// are prepared here like every other step.
///
/// # Errors
/// The step that failed and the cause. Everything is unmounted then; the disk must not be committed.
pub fn run(
    target: &Target<'_>,
    plan: &MachinePlan,
    secrets: &Secrets,
    payloads: &dyn Payloads,
    cancelled: &AtomicBool,
    watcher: &mut dyn Watcher,
) -> Result<Report, ApplyError> {
    engine::run(target, plan, secrets, payloads, cancelled, watcher)
}
