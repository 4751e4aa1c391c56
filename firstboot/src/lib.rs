//! The job that a machine carries out by itself after its first start.
//!
//! Owns the text of the job ([`job`]), the journal of its steps ([`journal`]), the decision about
//! the next action ([`machine`]), the files on the disk ([`store`]), and the machine's final report
//! to the console ([`report`]). The Windows service in `windows/` carries it out.
//!
//! Never changes a machine except through [`machine::Executor`]. Nothing is done that was not
//! written to the journal first, and no secret outlives the step that needs it.
//!
//! This library has no dependencies and keeps to Rust 1.63: Debian's compiler with a Windows
//! standard library is that old.

pub mod job;
pub mod journal;
pub mod machine;
pub mod report;
pub mod store;
mod text;

pub use job::{Job, JobError};
pub use journal::{Entry, Journal};
