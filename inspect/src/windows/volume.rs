//! Files of an NTFS volume by path, case ignored.

use super::link::{self, Link};
use crate::source::Source;
use diskmap::Volume as Partition;
use diskmap::ntfs::{FileName, Hit, Mft, NtfsError, UpCase, VolumeInformation, kind, number};
use hive::sid::{self, Machine};
use std::collections::BTreeSet;

/// Most bytes of `$SDS` that are searched: far more than a company's file volume has.
const MOST_RIGHTS: u64 = 256 << 20;
/// Bytes of it that are searched at once, and the bytes kept for a SID that crosses two parts.
const WINDOW: u64 = 1 << 20;
const ACROSS: usize = 23;
/// Most machines and domains that are reported for one volume.
const MOST_MACHINES: usize = 256;

/// Most folders above a file, and most files of one name on a volume.
const MOST_DEPTH: usize = 1024;
const MOST_NAMED: usize = 10_000;

/// An open volume.
pub(super) struct Volume<'a> {
    partition: Partition<'a>,
    mft: Mft,
    upcase: UpCase,
}

impl<'a> Volume<'a> {
    /// Reads the boot sector, the first record and the case table, which everything else needs.
    pub(super) fn open(source: &'a Source) -> Result<Self, String> {
        let partition = Partition::new(source, source.length());
        let mft = Mft::open(&partition).map_err(|error| error.to_string())?;
        let upcase = UpCase::read(&mft, &partition).map_err(|error| error.to_string())?;
        Ok(Self {
            partition,
            mft,
            upcase,
        })
    }

    /// True if the dirty flag is set: Windows has to check the volume first.
    pub(super) fn is_dirty(&self) -> Result<bool, String> {
        let information = self.mft.information(&self.partition);
        let information = information.map_err(|error| error.to_string())?;
        Ok(information.flags & VolumeInformation::DIRTY != 0)
    }

    /// True if `hiberfil.sys` holds a session. A file too short for its own header counts as a
    /// session, as it does for ntfs-3g.
    pub(super) fn is_hibernated(&self) -> Result<bool, String> {
        let Some((magic, length)) = self.read_start(&["hiberfil.sys"], 4)? else {
            return Ok(false);
        };
        let magic = magic.to_ascii_lowercase();
        Ok(magic == b"hibr" || magic == b"wake" || (1..4096).contains(&length))
    }

    /// True if the path exists.
    pub(super) fn exists(&self, path: &[&str]) -> Result<bool, String> {
        Ok(self.find(path)?.is_some())
    }

    /// The last name of a path in the volume's own spelling.
    pub(super) fn spelling(&self, path: &[&str]) -> Result<Option<String>, String> {
        Ok(self.find(path)?.map(|hit| hit.name.text()))
    }

    /// Content of a whole file; `None` if it does not exist.
    pub(super) fn read(&self, path: &[&str], most: u64) -> Result<Option<Vec<u8>>, String> {
        let Some((bytes, length)) = self.read_start(path, most)? else {
            return Ok(None);
        };
        if length > most {
            return Err(format!(
                "{} has {length} bytes, more than {most}",
                path.join("\\")
            ));
        }
        Ok(Some(bytes))
    }

    /// The first `most` bytes of a file at most, and its length.
    pub(super) fn read_start(
        &self,
        path: &[&str],
        most: u64,
    ) -> Result<Option<(Vec<u8>, u64)>, String> {
        let Some(hit) = self.find(path)? else {
            return Ok(None);
        };
        let told = |error: NtfsError| format!("{}: {error}", path.join("\\"));
        let data = self.mft.find(&self.partition, &hit.record, kind::DATA, "");
        let Some(data) = data.map_err(told)? else {
            return Ok(None);
        };
        if data.is_encrypted() {
            return Err(format!("{} is encrypted by EFS", path.join("\\")));
        }
        let bytes = data.read(&self.partition, 0, data.size().min(most));
        Ok(Some((bytes.map_err(told)?, data.size())))
    }

    /// Machines and domains that are named in access rights, read from `$Secure`, which holds the
    /// descriptors shared by files. Volumes that do not keep descriptors there (NT 4) give none.
    pub(super) fn machines(&self) -> Result<BTreeSet<Machine>, String> {
        let told = |error: NtfsError| format!("$Secure: {error}");
        let mut found = BTreeSet::new();
        let secure = self.mft.record(&self.partition, number::SECURE);
        let secure = secure.map_err(told)?;
        let rights = self.mft.find(&self.partition, &secure, kind::DATA, "$SDS");
        let Some(rights) = rights.map_err(told)? else {
            return Ok(found);
        };
        let size = rights.size().min(MOST_RIGHTS);
        let mut window = Vec::new();
        let mut done = 0;
        while done < size && found.len() < MOST_MACHINES {
            let count = WINDOW.min(size - done);
            window.append(&mut rights.read(&self.partition, done, count).map_err(told)?);
            found.extend(sid::machines(&window));
            window.drain(..window.len().saturating_sub(ACROSS));
            done += count;
        }
        Ok(found)
    }

    /// Paths of all files whose names `wanted` accepts, found through the MFT. Records that make no
    /// sense are skipped.
    pub(super) fn named(&self, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Vec<String>>, String> {
        let mut found = Vec::new();
        let walked = self.mft.each_record(&self.partition, |record| {
            let names = record.and_then(|record| FileName::in_record(&record));
            for name in names.unwrap_or_default() {
                let text = name.text();
                if !name.is_folder
                    && wanted(&text)
                    && let Some(mut path) = self.folders(name.folder.number)
                {
                    path.push(text);
                    found.push(path);
                }
            }
            match found.len() > MOST_NAMED {
                true => Err(Stopped::TooMany),
                false => Ok(()),
            }
        });
        walked.map_err(|error| error.to_string())?;
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Path of a folder; `None` if it does not lead to the root.
    fn folders(&self, number: u64) -> Option<Vec<String>> {
        let mut path = Vec::new();
        let mut at = number;
        while at != number::ROOT {
            let folder = self.mft.record(&self.partition, at).ok()?;
            let names = self.mft.names(&self.partition, &folder).ok()?;
            let name = names.into_iter().next()?;
            path.push(name.text());
            at = name.folder.number;
            if path.len() > MOST_DEPTH {
                return None;
            }
        }
        path.reverse();
        Some(path)
    }

    /// Target of a junction or symbolic link; `None` for other files and for missing ones.
    pub(super) fn link(&self, path: &[&str]) -> Result<Option<Link>, String> {
        let Some(hit) = self.find(path)? else {
            return Ok(None);
        };
        let told = |error: NtfsError| format!("{}: {error}", path.join("\\"));
        let point = self
            .mft
            .find(&self.partition, &hit.record, kind::REPARSE_POINT, "");
        let Some(point) = point.map_err(told)? else {
            return Ok(None);
        };
        let wanted = point.size().min(link::MOST_BYTES);
        let bytes = point.read(&self.partition, 0, wanted).map_err(told)?;
        Ok(link::read(&bytes))
    }

    /// The file with a path.
    fn find(&self, path: &[&str]) -> Result<Option<Hit>, String> {
        let found = self.mft.path(&self.partition, &self.upcase, path);
        found.map_err(|error| format!("{}: {error}", path.join("\\")))
    }
}

/// The reason why a walk over all records ended early.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("$MFT: {0}")]
    Ntfs(#[from] NtfsError),
    #[error("more than {MOST_NAMED} files have the names of hives")]
    TooMany,
}
