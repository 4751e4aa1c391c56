//! Offline-join blobs, one for each machine: made with Samba on the console, or supplied from
//! `djoin /provision`.
//!
//! A blob holds the password of one machine account and nothing about the administrator who made
//! it. It is the only secret of the domain that is sent to a target. Windows takes it from the
//! answer file or from `djoin /requestODJ`.
//!
//! Owns the run of Samba's `net offlinejoin provision` ([`Provision::run`]), the check of a blob
//! ([`validate_blob`]) and the search for a machine's blob in a folder ([`blob_of`]). Never puts a
//! password on a command line, into a file or into a message. Always holds: a blob made here was
//! checked, and names the requested machine if its form shows one.
//!
//! Blobs made here were accepted by Samba's own `requestodj`, and their accounts by the domain
//! controller that made them. Untested on real Windows.

mod blob;
mod folder;
mod provision;

pub use blob::{Blob, BlobError, BlobFacts, validate_blob};
pub use folder::{FolderError, NamedBlob, blob_of, blobs};
pub use provision::{Credential, DomainError, Provision, is_installed};
