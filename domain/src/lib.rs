//! Offline-join blobs: one for each machine, made with Samba on the console, or brought along from `djoin /provision`.
//!
//! A blob holds the password of one machine account, and nothing of the administrator who made it: it is the only secret of the domain
//! that ever reaches a target. Windows takes it from the answer file or by `djoin /requestODJ`.
//!
//! Owns: running Samba's `net offlinejoin provision` ([`Provision::run`]), and looking into a blob ([`validate_blob`]).
//! Never does: put a password on a command line, into a file or into a message. Holds always: what it returns as a blob
//! was looked into and names the machine that was asked for.
//!
//! Blobs made here were accepted by Samba's own `requestodj`, and the account in them by the domain controller that made it. Untested
//! on real Windows.

mod blob;
mod provision;

pub use blob::{Blob, BlobError, BlobFacts, validate_blob};
pub use provision::{Credential, DomainError, Provision};
