//! Windows registry hives: parse, replay logs, edit in place, validate.
//!
//! A hive is a base block of 4096 bytes and then bins of cells; keys, values, lists and security
//! descriptors are cells that name each other by offset:
//!
//! ```text
//! base block | hbin [cell][cell][free].. | hbin .. | what Windows reserved behind the last bin
//!
//! nk (key) --subkeys--> ri --> lf/lh/li --> nk ..      each nk names its parent
//!    |--values--> list --> vk --> data, or db --> list --> segments of 16,344 bytes
//!    |--class--> text      |--security--> sk <-> sk <-> sk (a ring, counted)
//! ```
//!
//! - [`Hive::open`] takes the file and its transaction logs. A hive that was not written out
//!   completely is only as good as its logs: they are applied as Windows would, or it is refused.
//! - Reads are safe on any bytes. [`Hive::validate`] says whether every structure is sound.
//! - Edits work on the cells in place and leave all else as Windows wrote it. Each one succeeds, or
//!   fails and leaves every byte as it was. A hive with a fault is not edited at all.
//! - [`Hive::into_bytes`] gives the file to write. Without an edit it is the file that was opened.
//!
//! The crate is pure: bytes in, bytes out, the time is an argument. No input panics, and nothing is
//! allocated by a size that was only declared. It never touches the log files: those of a hive that is
//! written complete are ignored by Windows.
//!
//! Proven against other readers and against Windows' own recovery of a hive. That Windows starts with
//! an edited hive is untested: there was no Windows to try it on.
//!
//! The format: "Windows registry file format specification" by M. Suhanov, cited here as `regf`.

#![forbid(unsafe_code)]

mod base;
mod cells;
mod data;
mod edit;
mod empty;
mod error;
mod hive;
mod key;
mod list;
mod list_edit;
mod log;
mod name;
mod scan;
mod security;
pub mod sid;
mod space;
mod validate;
mod value;
mod value_edit;

pub use error::{Fault, HiveError};
pub use hive::{Hive, KeyId};
pub use log::{Recovery, Stop};
pub use validate::Census;
pub use value::{Value, dword, kind, multi_sz, qword, sz};

/// A point in time as the registry counts it: 100 ns steps since the start of 1601, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTime(pub u64);
