//! Windows registry hives: parsing, log replay, editing in place, validation.
//!
//! A hive is a base block of 4096 bytes followed by bins of cells. Keys, values, lists and security
//! descriptors are cells that refer to each other by offset:
//!
//! ```text
//! base block | hbin [cell][cell][free].. | hbin .. | what Windows reserved behind the last bin
//!
//! nk (key) --subkeys--> ri --> lf/lh/li --> nk ..      each nk names its parent
//!    |--values--> list --> vk --> data, or db --> list --> segments of 16,344 bytes
//!    |--class--> text      |--security--> sk <-> sk <-> sk (a ring, counted)
//! ```
//!
//! - [`Hive::open`] takes the file and its transaction logs. If a hive was not written completely,
//!   its logs are applied as Windows would do; without valid logs it is refused.
//! - Reads are safe on any bytes. [`Hive::validate`] checks every structure.
//! - Edits change the cells in place and leave all other bytes as Windows wrote them. An edit
//!   succeeds, or fails and changes no byte. A hive with a fault is not edited at all.
//! - [`Hive::into_bytes`] returns the file to write. Without an edit it is the opened file.
//!
//! The crate is pure: bytes in, bytes out, and the time is an argument. No input causes a panic,
//! and nothing is allocated by a merely declared size. The log files are never changed: Windows
//! ignores those of a completely written hive.
//!
//! Tested against other readers and against Windows' own recovery of a hive. It is untested that
//! Windows starts with an edited hive, because there was no Windows to try it on.
//!
//! The format: "Windows registry file format specification" by M. Suhanov, cited here as `regf`.
//! A hive is opened, a value is set, and the file to write comes out:
//!
//! ```
//! use hive::{FileTime, Hive, HiveError, kind, sz};
//!
//! // A file that was written completely; `Hive::open` takes any hive of Windows.
//! let now = FileTime(133_700_000_000_000_000);
//! let file = Hive::empty(5, "SYSTEM", now)?.into_bytes(now);
//!
//! // No log files beside it, so nothing is recovered.
//! let (mut hive, recovery) = Hive::open(file, &[])?;
//! assert_eq!(recovery.entries, 0);
//! let name = r"ControlSet001\Control\ComputerName\ComputerName";
//! let key = hive.create_path(hive.root(), name, now)?;
//! assert!(hive.set_value(key, "ComputerName", kind::SZ, &sz("ROOM-07"), now)?);
//! // Set again, nothing changes.
//! assert!(!hive.set_value(key, "ComputerName", kind::SZ, &sz("ROOM-07"), now)?);
//!
//! let (hive, _) = Hive::open(hive.into_bytes(now), &[])?;
//! // Names are found in any case.
//! let key = hive.find(r"controlset001\control\computername\computername")?.expect("it was created");
//! let value = hive.value(key, "computername")?.expect("it was set");
//! assert_eq!(value.as_string().as_deref(), Some("ROOM-07"));
//! # Ok::<(), HiveError>(())
//! ```

#![forbid(unsafe_code)]

mod base;
mod cells;
mod data;
mod edit;
mod empty;
mod error;
pub mod files;
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

/// A point in time as in the registry: steps of 100 ns since the start of 1601, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTime(pub u64);
