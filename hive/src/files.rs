//! Hives as files of a Windows: what belongs to one, when one is believed, and which ones it cannot do without.
//!
//! Owns: the one rule by which every hive is judged, one of the machine or one of a user, in an image that is inspected and on a disk
//! that is edited: it is as good as its logs make it, and no structure of it has a fault.

use crate::error::{Fault, HiveError};
use crate::hive::Hive;
use thiserror::Error;

/// Suffixes of a hive's transaction logs, in the order [`Hive::open`] takes them.
pub const LOG_SUFFIXES: [&str; 3] = [".LOG", ".LOG1", ".LOG2"];
/// Largest hive that is taken in, in bytes; SOFTWARE of an old installation has some 150 MiB.
pub const MOST_HIVE_BYTES: u64 = 256 << 20;
/// Largest transaction log that is taken in, in bytes; Windows keeps them below their hive's size.
pub const MOST_LOG_BYTES: u64 = 64 << 20;
/// Faults that are told of one hive.
const TOLD: usize = 3;

/// File names of the hives that a Windows or one of its users cannot do without.
pub const NEEDED: [&str; 8] = [
    "SAM",
    "SECURITY",
    "SYSTEM",
    "SOFTWARE",
    "DEFAULT",
    "NTUSER.DAT",
    "NTUSER.MAN",
    "USRCLASS.DAT",
];

/// Reason why a hive is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unsound {
    /// It is incomplete, or no hive.
    #[error(transparent)]
    Hive(#[from] HiveError),
    /// Its structures do not hold together: the first faults.
    #[error("the hive is damaged ({0}); repair the master")]
    Faults(String),
}

impl Hive {
    /// Opens a hive, completed from its logs, in which no fault is found.
    ///
    /// # Errors
    /// When it is incomplete and its logs do not complete it, when it is no hive, or has faults.
    pub fn open_sound(primary: Vec<u8>, logs: &[&[u8]]) -> Result<Hive, Unsound> {
        let (hive, _) = Hive::open(primary, logs)?;
        hive.check()?;
        Ok(hive)
    }

    /// Validates it, faults told in one line.
    ///
    /// # Errors
    /// [`Unsound::Faults`].
    pub fn check(&self) -> Result<(), Unsound> {
        match self.validate() {
            Ok(_) => Ok(()),
            Err(faults) => {
                let first: Vec<String> = faults.iter().take(TOLD).map(Fault::to_string).collect();
                Err(Unsound::Faults(first.join("; ")))
            }
        }
    }
}

/// True for the file of a hive that its Windows or a user cannot do without: it has to be sound, where another one can be left as it
/// is. `folders` are the names above it; copies that Windows keeps (`RegBack`) are not needed.
pub fn is_needed<'n>(folders: impl DoubleEndedIterator<Item = &'n str>, name: &str) -> bool {
    let copy = folders
        .last()
        .is_some_and(|folder| folder.eq_ignore_ascii_case("RegBack"));
    !copy
        && NEEDED
            .iter()
            .any(|needed| name.eq_ignore_ascii_case(needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_logs_on_with_has_to_be_sound() {
        for (path, needed) in [
            ("/Windows/System32/config/SAM", true),
            ("/Windows/System32/config/RegBack/SAM", false),
            ("/Users/pat/ntuser.dat", true),
            (
                "/Users/pat/AppData/Local/Packages/x/Settings/settings.dat",
                false,
            ),
        ] {
            let mut names = path.split('/');
            let name = names.next_back().unwrap();
            assert_eq!(is_needed(names, name), needed, "{path}");
        }
    }
}
