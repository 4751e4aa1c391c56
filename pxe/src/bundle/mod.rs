//! Builds the pre-OS: from Debian packages to a kernel and an initramfs, without root.
//!
//! ```text
//! packages (apt, or a folder of .deb) --deb--> files --+-- modules, closure by .modinfo --+
//!                                                      +-- tools, closure by DT_NEEDED ---+--> newc --> zstd --> initrd.img
//!                                        agent --------+-- /init -------------------------+
//! ```
//!
//! | module | content |
//! |---|---|
//! | `path` | names inside packages: cleaned, in the merged-/usr form |
//! | `deb` | one package: ar, its compression, tar, with bounds |
//! | `control` | descriptions of packages; the order of versions |
//! | `catalog` | sources of packages: apt, or a folder |
//! | `gather` | which packages a bundle needs, and their files on disk |
//! | `files` | files of user-land packages, links followed |
//! | `spool` | modules on disk instead of in memory |
//! | `modinfo`, `modules` | a module's description; the closure and kmod's text files |
//! | `profile` | which drivers and tools for which machines |
//! | `elf` | requirements of a program |
//! | `userland` | programs with their libraries |
//! | `newc`, `root` | the archive format; the tree that goes into it |
//! | `assemble` | all of it together, and the cache |
//! | `sources` | `SOURCES.txt` |
//!
//! Owns: the cache folder it is given. Never writes to a name that a package chose: unpacked files
//! are kept in memory or go into the archive. Always holds: the same packages, agent and profile
//! give the same bytes.

mod assemble;
mod catalog;
mod control;
mod deb;
mod elf;
mod error;
mod files;
mod gather;
mod modinfo;
mod modules;
mod newc;
mod path;
mod profile;
mod progress;
mod root;
mod sources;
mod spool;
mod userland;

pub(crate) use assemble::assemble;
pub use assemble::{Bundle, BundleOptions, bundle};
pub use catalog::PackageSource;
pub use deb::{Deb, Entry, Kind, Limits, unpack};
pub use error::BundleError;
pub(crate) use error::at;
pub(crate) use files::Files;
pub use gather::{Gathered, Package, Wanted, gather};
pub use profile::Profile;
pub use progress::{Progress, Report, Step};
pub use sources::{PackageUsed, sources_text};
pub(crate) use userland::needs_no_libraries;
