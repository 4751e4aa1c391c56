//! Files of an NTFS volume by path, case ignored.

use super::compressed;
use super::link::{self, Link};
use crate::source::Source;
use hive::sid::{self, Machine};
use ntfs::indexes::NtfsFileNameIndex;
use ntfs::structured_values::{NtfsFileName, NtfsFileNamespace, NtfsVolumeFlags};
use ntfs::{
    KnownNtfsFileRecordNumber, Ntfs, NtfsAttributeFlags, NtfsAttributeType, NtfsFile,
    NtfsFileFlags, NtfsReadSeek,
};
use std::collections::BTreeSet;

/// Most bytes of `$SDS` that are searched: far more than a company's file volume has.
const MOST_RIGHTS: u64 = 256 << 20;
/// Bytes of it that are searched at once, and the bytes kept for a SID that crosses two parts.
const WINDOW: usize = 1 << 20;
const ACROSS: usize = 23;
/// Most machines and domains that are reported for one volume.
const MOST_MACHINES: usize = 256;

/// Most folders above a file, and most files of one name on a volume.
const MOST_DEPTH: usize = 1024;
const MOST_NAMED: usize = 10_000;

/// An open volume.
pub(super) struct Volume {
    ntfs: Ntfs,
    source: Source,
}

impl Volume {
    /// Reads the boot sector and the case table, which everything else needs.
    pub(super) fn open(mut source: Source) -> Result<Self, String> {
        let mut ntfs = Ntfs::new(&mut source).map_err(|error| error.to_string())?;
        ntfs.read_upcase_table(&mut source)
            .map_err(|error| error.to_string())?;
        Ok(Self { ntfs, source })
    }

    /// True if the dirty flag is set: Windows has to check the volume first.
    pub(super) fn is_dirty(&mut self) -> Result<bool, String> {
        let information = self.ntfs.volume_info(&mut self.source);
        let information = information.map_err(|error| format!("$Volume: {error}"))?;
        Ok(information.flags().contains(NtfsVolumeFlags::IS_DIRTY))
    }

    /// True if `hiberfil.sys` holds a session. A file too short for its own header counts as a
    /// session, as it does for ntfs-3g.
    pub(super) fn is_hibernated(&mut self) -> Result<bool, String> {
        let Some((magic, length)) = self.read_start(&["hiberfil.sys"], 4)? else {
            return Ok(false);
        };
        let magic = magic.to_ascii_lowercase();
        Ok(magic == b"hibr" || magic == b"wake" || (1..4096).contains(&length))
    }

    /// True if the path exists.
    pub(super) fn exists(&mut self, path: &[&str]) -> Result<bool, String> {
        Ok(self.find(path)?.is_some())
    }

    /// The last name of a path in the volume's own spelling.
    pub(super) fn spelling(&mut self, path: &[&str]) -> Result<Option<String>, String> {
        Ok(self.find(path)?.map(|(_, name)| name))
    }

    /// Content of a whole file; `None` if it does not exist.
    pub(super) fn read(&mut self, path: &[&str], most: u64) -> Result<Option<Vec<u8>>, String> {
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
        &mut self,
        path: &[&str],
        most: u64,
    ) -> Result<Option<(Vec<u8>, u64)>, String> {
        let Some((number, _)) = self.find(path)? else {
            return Ok(None);
        };
        let told = |error: ntfs::NtfsError| format!("{}: {error}", path.join("\\"));
        let file = self.file(number)?;
        let mut source = self.source.clone();
        let Some(data) = file.data(&mut source, "") else {
            return Ok(None);
        };
        let data = data.map_err(told)?;
        let attribute = data.to_attribute().map_err(told)?;
        let mut value = attribute.value(&mut source).map_err(told)?;
        let length = value.len();
        if attribute.flags().contains(NtfsAttributeFlags::ENCRYPTED) {
            return Err(format!("{} is encrypted by EFS", path.join("\\")));
        }
        if attribute.flags().contains(NtfsAttributeFlags::COMPRESSED) && !attribute.is_resident() {
            let cluster = self.ntfs.cluster_size();
            let bytes = compressed::read(&mut source, &mut value, cluster, length.min(most));
            return Ok(Some((bytes.map_err(told)?, length)));
        }
        let wanted = usize::try_from(length.min(most)).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        // The buffer grows as the file is read: a declared length allocates nothing.
        let mut buffer = vec![0; 1 << 20];
        while bytes.len() < wanted {
            let room = buffer.len().min(wanted - bytes.len());
            let part = buffer.get_mut(..room).unwrap_or_default();
            let count = value.read(&mut source, part).map_err(told)?;
            if count == 0 {
                return Err(format!("{} ends early", path.join("\\")));
            }
            bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        Ok(Some((bytes, length)))
    }

    /// Machines and domains that are named in access rights, read from `$Secure`, which holds the
    /// descriptors shared by files. Volumes that do not keep descriptors there (NT 4) give none.
    pub(super) fn machines(&mut self) -> Result<BTreeSet<Machine>, String> {
        let told = |error: ntfs::NtfsError| format!("$Secure: {error}");
        let mut found = BTreeSet::new();
        let file = self.file(KnownNtfsFileRecordNumber::Secure as u64)?;
        let mut source = self.source.clone();
        let Some(data) = file.data(&mut source, "$SDS") else {
            return Ok(found);
        };
        let data = data.map_err(told)?;
        let attribute = data.to_attribute().map_err(told)?;
        let mut value = attribute.value(&mut source).map_err(told)?;
        let mut window = Vec::with_capacity(WINDOW + ACROSS);
        let mut buffer = vec![0; WINDOW];
        let mut done = 0;
        while done < MOST_RIGHTS && found.len() < MOST_MACHINES {
            let count = value.read(&mut source, &mut buffer).map_err(told)?;
            if count == 0 {
                break;
            }
            window.extend_from_slice(buffer.get(..count).unwrap_or_default());
            found.extend(sid::machines(&window));
            window.drain(..window.len().saturating_sub(ACROSS));
            done += count as u64;
        }
        Ok(found)
    }

    /// Paths of all files whose names `wanted` accepts, found through the MFT. Records that cannot
    /// be read are skipped.
    pub(super) fn named(
        &mut self,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Vec<String>>, String> {
        let told = |error: ntfs::NtfsError| format!("$MFT: {error}");
        let mut source = self.source.clone();
        let mft = self.file(KnownNtfsFileRecordNumber::MFT as u64)?;
        let data = mft.data(&mut source, "").ok_or("$MFT has no data")?;
        let length = data
            .map_err(told)?
            .to_attribute()
            .map_err(told)?
            .value_length();
        let count = length / u64::from(self.ntfs.file_record_size().max(1));
        let mut found = Vec::new();
        for number in 0..count {
            let Ok(file) = self.ntfs.file(&mut source, number) else {
                continue;
            };
            if !file.flags().contains(NtfsFileFlags::IN_USE) || file.is_directory() {
                continue;
            }
            for (parent, name) in names(&file, &mut source) {
                if wanted(&name)
                    && let Some(mut path) = self.folders(parent)
                {
                    path.push(name);
                    found.push(path);
                }
            }
            if found.len() > MOST_NAMED {
                return Err(format!(
                    "more than {MOST_NAMED} files have the names of hives"
                ));
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Path of a folder; `None` if it does not lead to the root.
    fn folders(&self, number: u64) -> Option<Vec<String>> {
        let mut source = self.source.clone();
        let mut path = Vec::new();
        let mut at = number;
        while at != KnownNtfsFileRecordNumber::RootDirectory as u64 {
            let folder = self.ntfs.file(&mut source, at).ok()?;
            let (parent, name) = names(&folder, &mut source).into_iter().next()?;
            path.push(name);
            at = parent;
            if path.len() > MOST_DEPTH {
                return None;
            }
        }
        path.reverse();
        Some(path)
    }

    /// Target of a junction or symbolic link; `None` for other files and for missing ones.
    pub(super) fn link(&mut self, path: &[&str]) -> Result<Option<Link>, String> {
        let Some((number, _)) = self.find(path)? else {
            return Ok(None);
        };
        let told = |error: ntfs::NtfsError| format!("{}: {error}", path.join("\\"));
        let mut source = self.source.clone();
        let file = self.file(number)?;
        let mut attributes = file.attributes();
        while let Some(item) = attributes.next(&mut source) {
            let item = item.map_err(told)?;
            let attribute = item.to_attribute().map_err(told)?;
            if attribute.ty().map_err(told)? != NtfsAttributeType::ReparsePoint {
                continue;
            }
            let mut value = attribute.value(&mut source).map_err(told)?;
            let wanted = value.len().min(link::MOST_BYTES);
            let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(0)];
            value.read_exact(&mut source, &mut bytes).map_err(told)?;
            return Ok(link::read(&bytes));
        }
        Ok(None)
    }

    fn file(&self, number: u64) -> Result<NtfsFile<'_>, String> {
        let mut source = self.source.clone();
        let file = self.ntfs.file(&mut source, number);
        file.map_err(|error| format!("MFT record {number}: {error}"))
    }

    /// Record number of a path, and its last name in the volume's spelling.
    fn find(&mut self, path: &[&str]) -> Result<Option<(u64, String)>, String> {
        let told = |error: ntfs::NtfsError| format!("{}: {error}", path.join("\\"));
        let mut source = self.source.clone();
        let mut at = self.ntfs.root_directory(&mut source).map_err(told)?;
        let mut spelt = String::new();
        for name in path {
            if !at.is_directory() {
                return Ok(None);
            }
            let index = at.directory_index(&mut source).map_err(told)?;
            let mut finder = index.finder();
            let entry = NtfsFileNameIndex::find(&mut finder, &self.ntfs, &mut source, name);
            let Some(entry) = entry else {
                return Ok(None);
            };
            let entry = entry.map_err(told)?;
            let key = entry
                .key()
                .ok_or("an index entry without a name")?
                .map_err(told)?;
            spelt = key.name().to_string_lossy();
            let next = entry.file_reference().file_record_number();
            at = self.ntfs.file(&mut source, next).map_err(told)?;
        }
        Ok(Some((at.file_record_number(), spelt)))
    }
}

/// Names of a file with their folders; short names are left out.
fn names(file: &NtfsFile<'_>, source: &mut Source) -> Vec<(u64, String)> {
    let names = file.attributes_raw().flatten().filter_map(|attribute| {
        if attribute.ty().ok()? != NtfsAttributeType::FileName {
            return None;
        }
        let name: NtfsFileName = attribute.structured_value(source).ok()?;
        let parent = name.parent_directory_reference().file_record_number();
        let long = name.namespace() != NtfsFileNamespace::Dos;
        long.then(|| (parent, name.name().to_string_lossy()))
    });
    names.collect()
}
