//! Makes a written disk itself: mounts its partitions, carries out the steps of a plan, and reads back what it did.
//!
//! Owns: every effect of a template on a disk. Decides nothing: what is to be done is in the plan. What always holds: a
//! step is applied only when its check says that it is not so already, and has failed unless its verification, which reads
//! the disk again, agrees.
//!
//! ```text
//!  each step: check (mounted read-only) -> apply (writable), when it is not so
//!  all steps: unmounted, flushed, cache dropped -> mounted read-only -> verify, each step -> unmounted
//! ```
//!
//! Where what lies: `engine` order and failure; `context` what a step may use; `device` loop devices; `mount`
//! mounts; `left_over` what a killed process left; `guest` files below a mounted root, which no symbolic link of it can leave; `linux`, `windows`, `grow`, `copy`
//! the steps themselves.

mod context;
mod copy;
mod device;
mod engine;
mod grow;
mod guest;
mod left_over;
mod linux;
mod mount;
mod program;
mod windows;

pub use left_over::clean_up;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use template::first_start::FirstStart;
use template::secrets::Secrets;
use template::step::{MachinePlan, Payload};

/// A disk whose chunks are proven and whose table is not yet written.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Block device, or a regular file in a rehearsal.
    pub disk: &'a Path,
    /// Bytes of its logical sector.
    pub sector_size: u32,
    /// Where the partitions will be, growth included.
    pub partitions: &'a [Slot],
    /// Folder for mount points, made when it is missing and empty afterwards.
    pub work: &'a Path,
    /// Where the machine reports its first start, for plans whose first-boot job reports.
    pub first_start: Option<&'a FirstStart>,
}

/// A partition's place on the disk, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slot {
    /// Number in the table.
    pub number: u32,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Files of the console.
pub trait Payloads {
    /// Its content. Whoever reads it holds it against its hash.
    ///
    /// # Errors
    /// When the console cannot be reached or does not have it.
    fn open(&self, payload: &Payload) -> std::io::Result<Box<dyn Read + '_>>;
}

/// Hears how it goes.
pub trait Watcher {
    /// Step number `index` of `count` begins.
    fn step(&mut self, index: usize, count: usize, what: &str);
    /// A line for the job's log, without secrets.
    fn log(&mut self, line: &str);
}

/// What became of a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was so already.
    Unchanged,
    /// Done, and read back.
    Applied,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every step of the plan, in order: id and outcome.
    pub steps: Vec<(String, Outcome)>,
    /// What the technician should know.
    pub notes: Vec<String>,
}

/// Why a machine could not be made itself.
#[derive(Debug, thiserror::Error)]
#[error("step {step}: {reason}")]
pub struct ApplyError {
    /// Id of the step, or `plan`, `cancelled`, `unmount`.
    pub step: String,
    /// What went wrong, where, and what to try.
    pub reason: String,
}

/// Carries out the steps of a plan, in order. Steps that take effect later (answer file, first boot) are prepared
/// here like every other one.
///
/// # Errors
/// The step that failed and why. Everything is unmounted then; the disk must not be committed.
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
