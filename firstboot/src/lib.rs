//! The job a machine finishes by itself after its first start.
//!
//! Owns: the text of the job ([`job`]), the journal of what was done ([`journal`]), the decision what comes next ([`machine`]), the
//! files on the disk ([`store`]), and what a machine reports to the console in the end ([`report`]). The Windows service in `windows/` carries it out.
//!
//! Never does: anything to a machine but through [`machine::Executor`]. Holds always: nothing is done that was not written to the
//! journal first, and no secret outlives the step that needs it.
//!
//! This library has no dependencies and keeps to Rust 1.63: Debian's compiler with a Windows standard library is that old.

pub mod job;
pub mod journal;
pub mod machine;
pub mod report;
pub mod store;
mod text;

pub use job::{Job, JobError};
pub use journal::{Entry, Journal};
