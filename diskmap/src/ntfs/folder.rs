//! Files by name: a search in the index of a folder, and along a path.

use std::cmp::Ordering;

use super::index::MOST_LEVELS;
use super::record::{Record, Reference};
use super::{FileName, Index, Mft, NtfsError, UpCase, number};
use crate::volume::Volume;

/// Name of the index of a folder.
pub const I30: &str = "$I30";

/// A file that was found by its name.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Base record of the file.
    pub record: Record,
    /// The name in the volume's own spelling.
    pub name: FileName,
}

impl Mft {
    /// Finds a name in a folder, without regard to case; `None` if there is none, or `folder` is no
    /// folder.
    ///
    /// # Errors
    ///
    /// The index makes no sense.
    pub fn lookup(
        &self,
        volume: &Volume<'_>,
        upcase: &UpCase,
        folder: &Record,
        name: &str,
    ) -> Result<Option<(Reference, FileName)>, NtfsError> {
        if !folder.is_folder() {
            return Ok(None);
        }
        let bad = |what| NtfsError::structure("index of record", folder.number(), what);
        let index = Index::open(self, volume, folder, I30)?;
        let index = index.ok_or(bad("the folder has none"))?;
        let mut node = index.root();
        for _ in 0..MOST_LEVELS {
            let mut child = None;
            for entry in node.entries()? {
                if entry.is_last {
                    child = entry.child;
                    break;
                }
                let key = FileName::parse(node.get(&entry.key));
                let key = key.ok_or(bad("the key of an entry is no name"))?;
                match upcase.compare(name.encode_utf16(), key.name.iter().copied()) {
                    Ordering::Equal => return Ok(Some((entry.reference, key))),
                    Ordering::Less => {
                        child = entry.child;
                        break;
                    }
                    Ordering::Greater => {}
                }
            }
            match child {
                Some(number) => node = index.node(volume, number)?,
                None => return Ok(None),
            }
        }
        Err(bad("it is too deep"))
    }

    /// Finds a file by its path from the root folder, without regard to case. Links are not
    /// followed. An empty path names nothing.
    ///
    /// # Errors
    ///
    /// A folder on the way makes no sense.
    pub fn path(
        &self,
        volume: &Volume<'_>,
        upcase: &UpCase,
        path: &[&str],
    ) -> Result<Option<Hit>, NtfsError> {
        let mut found: Option<Hit> = None;
        for name in path {
            let folder = match found {
                Some(hit) => hit.record,
                None => self.record(volume, number::ROOT)?,
            };
            let Some((reference, name)) = self.lookup(volume, upcase, &folder, name)? else {
                return Ok(None);
            };
            let record = self.file(volume, reference)?;
            found = Some(Hit { record, name });
        }
        Ok(found)
    }
}
