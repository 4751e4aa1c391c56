//! `THIRD-PARTY.txt`: the licences of other people's crates in the agent. They have to go wherever
//! the agent goes, so an export takes the file that lies beside it.

use crate::bundle::{BundleError, at};
use std::io;
use std::path::Path;

/// Name of the file, beside the programs and in an export.
pub(super) const NAME: &str = "THIRD-PARTY.txt";

/// Reads the notices beside an agent. Without them the note for `SOURCES.txt` says what to do.
///
/// # Errors
/// A file that cannot be read: an export without it would not be complete.
pub(super) fn beside(
    agent: &Path,
    notes: &mut Vec<String>,
) -> Result<Option<Vec<u8>>, BundleError> {
    let path = agent.with_file_name(NAME);
    match std::fs::read(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            notes.push(format!(
                "The agent is diskcast's and contains crates of other people. {NAME} with their licences was not beside \
                 it\nwhen this was made; `cargo xtask notices` writes it. Pass it on together with this."
            ));
            Ok(None)
        }
        Err(error) => Err(at("reading", &path)(error)),
    }
}
