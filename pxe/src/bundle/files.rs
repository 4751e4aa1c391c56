//! Files of user-land packages: in memory, by clean name, with links followed.
//!
//! Always holds: all files together stay below [`MOST_BYTES`]; a link is followed at most
//! [`MOST_LINKS`] times.

use super::deb::{Deb, Kind, invalid};
use super::error::BundleError;
use super::path;
use super::progress::Report;
use super::spool::read_bounded;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most bytes of all kept files; the tools and the C library have 20 MB.
const MOST_BYTES: u64 = 512 << 20;
/// Most links followed in a row, the kernel's own limit.
const MOST_LINKS: usize = 40;

#[derive(Clone, Debug)]
enum Stored {
    File { bytes: Arc<[u8]>, package: usize },
    Link(String),
}

/// Files of several packages. If two packages have the same name, the first keeps it.
#[derive(Debug, Default)]
pub(crate) struct Files {
    stored: BTreeMap<String, Stored>,
    len_bytes: u64,
}

/// The file that a name leads to.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its own name, after links were followed.
    pub(crate) path: String,
    pub(crate) bytes: Arc<[u8]>,
    /// The number given to [`Files::add`] with its package.
    pub(crate) package: usize,
}

impl Files {
    /// Adds the files of a package whose names `keep` accepts.
    pub(crate) fn add(
        &mut self,
        deb: &Deb,
        package: usize,
        keep: &dyn Fn(&str) -> bool,
        report: &mut Report<'_>,
    ) -> Result<(), BundleError> {
        deb.unpack(report, &mut |entry| {
            if !keep(&entry.path) {
                return Ok(());
            }
            let stored = match entry.kind {
                Kind::Link(target) => Stored::Link(target),
                Kind::Same(target) => match self.stored.get(&target) {
                    Some(file) => file.clone(),
                    // A hard link to a file that was not kept is not wanted either.
                    None => return Ok(()),
                },
                Kind::File => {
                    let left = MOST_BYTES - self.len_bytes;
                    let bytes = read_bounded(entry.data, left)
                        .map_err(|_| invalid("the packages hold too much"))?;
                    self.len_bytes += bytes.len() as u64;
                    Stored::File {
                        bytes: bytes.into(),
                        package,
                    }
                }
            };
            self.stored.entry(entry.path).or_insert(stored);
            Ok(())
        })
    }

    /// Finds the file that a clean name leads to, through links of files and of folders.
    pub(crate) fn find(&self, name: &str) -> Option<Found> {
        let mut name = name.to_owned();
        for _ in 0..MOST_LINKS {
            match self.stored.get(&name) {
                Some(Stored::File { bytes, package }) => {
                    return Some(Found {
                        path: name,
                        bytes: bytes.clone(),
                        package: *package,
                    });
                }
                Some(Stored::Link(target)) => name = path::follow(&name, target)?,
                None => name = self.through_folder(&name)?,
            }
        }
        None
    }

    /// All files, without links, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.stored
            .iter()
            .filter_map(|(path, stored)| match stored {
                Stored::File { bytes, .. } => Some((path.as_str(), &bytes[..])),
                Stored::Link(_) => None,
            })
    }

    /// The name with its nearest linked folder replaced by that link's target.
    fn through_folder(&self, name: &str) -> Option<String> {
        name.rmatch_indices('/').find_map(|(at, _)| {
            let (folder, rest) = name.split_at(at);
            let Some(Stored::Link(target)) = self.stored.get(folder) else {
                return None;
            };
            Some(format!("{}{rest}", path::follow(folder, target)?))
        })
    }

    /// Adds a file without a package, for tests.
    #[cfg(test)]
    pub(crate) fn put(&mut self, name: &str, bytes: &[u8]) {
        let file = Stored::File {
            bytes: bytes.into(),
            package: 0,
        };
        self.stored.insert(name.to_owned(), file);
    }

    /// Adds a link.
    #[cfg(test)]
    pub(crate) fn put_link(&mut self, name: &str, target: &str) {
        self.stored
            .insert(name.to_owned(), Stored::Link(target.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_files_and_folders_are_followed() {
        let mut files = Files::default();
        files.put("usr/lib/x/libc.so.6", b"c");
        files.put_link("usr/lib64/ld.so", "/lib/x/libc.so.6");
        files.put_link("usr/alias", "lib/x");
        files.put_link("usr/a", "b");
        files.put_link("usr/b", "a");
        files.put_link("usr/out", "../../etc/passwd");
        assert_eq!(
            files.find("usr/lib64/ld.so").unwrap().path,
            "usr/lib/x/libc.so.6"
        );
        assert_eq!(
            files.find("usr/alias/libc.so.6").unwrap().path,
            "usr/lib/x/libc.so.6"
        );
        for name in ["usr/a", "usr/out", "usr/none", "usr/a/b", ""] {
            assert!(files.find(name).is_none(), "{name}");
        }
    }
}
