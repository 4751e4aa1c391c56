//! Files of an NTFS volume by their path, any case.

use crate::source::Source;
use ntfs::indexes::NtfsFileNameIndex;
use ntfs::structured_values::NtfsVolumeFlags;
use ntfs::{Ntfs, NtfsFile, NtfsReadSeek};

/// An open volume.
pub(super) struct Volume {
    ntfs: Ntfs,
    source: Source,
}

impl Volume {
    /// Reads what all else needs: the boot sector and the case table.
    pub(super) fn open(mut source: Source) -> Result<Self, String> {
        let mut ntfs = Ntfs::new(&mut source).map_err(|error| error.to_string())?;
        ntfs.read_upcase_table(&mut source)
            .map_err(|error| error.to_string())?;
        Ok(Self { ntfs, source })
    }

    /// Windows has to check it first.
    pub(super) fn is_dirty(&mut self) -> Result<bool, String> {
        let information = self.ntfs.volume_info(&mut self.source);
        let information = information.map_err(|error| format!("$Volume: {error}"))?;
        Ok(information.flags().contains(NtfsVolumeFlags::IS_DIRTY))
    }

    /// `hiberfil.sys` holds a session. One that is too short for its own header counts as one, as it does for ntfs-3g.
    pub(super) fn is_hibernated(&mut self) -> Result<bool, String> {
        let Some((magic, length)) = self.read_start(&["hiberfil.sys"], 4)? else {
            return Ok(false);
        };
        let magic = magic.to_ascii_lowercase();
        Ok(magic == b"hibr" || magic == b"wake" || (1..4096).contains(&length))
    }

    /// Something is there.
    pub(super) fn exists(&mut self, path: &[&str]) -> Result<bool, String> {
        Ok(self.find(path)?.is_some())
    }

    /// The last name of a path as the volume spells it.
    pub(super) fn spelling(&mut self, path: &[&str]) -> Result<Option<String>, String> {
        Ok(self.find(path)?.map(|(_, name)| name))
    }

    /// A whole file; `None` when it is not there.
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

    /// The first bytes of a file, `most` at most, and its length.
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
        let wanted = usize::try_from(length.min(most)).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        // Grown as it is read: a declared length allocates nothing.
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

    fn file(&self, number: u64) -> Result<NtfsFile<'_>, String> {
        let mut source = self.source.clone();
        let file = self.ntfs.file(&mut source, number);
        file.map_err(|error| format!("MFT record {number}: {error}"))
    }

    /// Number of the record at a path, and its last name as it is spelt.
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
