//! Security descriptors of new files and folders on a Windows volume.
//!
//! ntfs-3g gives everyone access to everything it creates, so every file and folder created here
//! gets a descriptor of its own. A file that holds secrets gets it before its content.

use crate::error::{At, Result};
use crate::guest::{Guest, NewFile, Owner};
use std::io::Write;

/// Extended attribute through which ntfs-3g reads and sets a self-relative descriptor.
pub(crate) const ATTRIBUTE: &str = "system.ntfs_acl";

const SYSTEM: &[u8] = &[1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
const ADMINISTRATORS: &[u8] = &[1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0];
const USERS: &[u8] = &[1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x21, 2, 0, 0];
const FULL: u32 = 0x001f_01ff;
const READ_AND_EXECUTE: u32 = 0x0012_00a9;
/// Control flags: self-relative, with an access list that inherits nothing from above.
const CONTROL: u16 = 0x9004;
/// Flags of an entry that files and folders below inherit.
const INHERITED: u8 = 3;

/// Access rights of a new file or folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// Full access for SYSTEM and Administrators, none for others: for files with secrets.
    Private,
    /// Full access for SYSTEM and Administrators; users may read and execute.
    Ordinary,
}

impl Access {
    /// Security descriptor for a file or a folder.
    pub(crate) fn descriptor(self, folder: bool) -> Vec<u8> {
        let flags = if folder { INHERITED } else { 0 };
        let mut entries = vec![(SYSTEM, FULL), (ADMINISTRATORS, FULL)];
        if self == Self::Ordinary {
            entries.push((USERS, READ_AND_EXECUTE));
        }
        let mut list = Vec::new();
        for (sid, rights) in &entries {
            list.extend([0, flags]);
            list.extend(short(8 + sid.len()));
            list.extend(rights.to_le_bytes());
            list.extend(*sid);
        }
        let list_len = 8 + list.len();
        let owner = 20 + list_len;
        let mut bytes = vec![1, 0];
        bytes.extend(CONTROL.to_le_bytes());
        for offset in [owner, owner + ADMINISTRATORS.len(), 0, 20] {
            bytes.extend(short(offset));
            bytes.extend([0, 0]);
        }
        bytes.extend([2, 0]);
        bytes.extend(short(list_len));
        bytes.extend(short(entries.len()));
        bytes.extend([0, 0]);
        bytes.extend(list);
        bytes.extend(ADMINISTRATORS);
        bytes.extend(SYSTEM);
        bytes
    }

    /// True if the file or folder has exactly this descriptor.
    pub(crate) fn is_set(self, guest: &Guest, path: &str, folder: bool) -> Result<bool> {
        Ok(guest.attribute(path, ATTRIBUTE)? == Some(self.descriptor(folder)))
    }
}

/// Length as a 16-bit number; descriptors here are some hundred bytes long.
fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes()
}

/// Gives a file its descriptor before its content is written.
pub(crate) fn dress(file: &NewFile, path: &str, access: Access) -> Result<()> {
    let descriptor = access.descriptor(false);
    rustix::fs::fsetxattr(
        &file.file,
        ATTRIBUTE,
        &descriptor,
        rustix::fs::XattrFlags::empty(),
    )
    .at(format_args!("{path}: its access rights"))
}

/// Writes a whole file with these access rights.
pub(crate) fn write(guest: &Guest, path: &str, content: &[u8], access: Access) -> Result<()> {
    let mut file = guest.create(path, Owner::root(0o600))?;
    dress(&file, path, access)?;
    file.file.write_all(content).at(path)?;
    file.finish()
}

/// Creates the missing folders of a path with these access rights; existing ones stay unchanged.
pub(crate) fn create_folders(guest: &Guest, path: &str, access: Access) -> Result<()> {
    let mut so_far = String::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        so_far = format!("{so_far}/{name}");
        if !guest.exists(&so_far)? {
            guest.create_directories(&so_far, Owner::root(0o700))?;
            guest.set_attribute(&so_far, ATTRIBUTE, &access.descriptor(true))?;
        }
    }
    Ok(())
}

/// Security descriptor for a file that is new or replaces another one.
pub(crate) struct Rights(Vec<u8>);

impl Rights {
    /// Takes the descriptor of the existing file, or ordinary access if there is none; missing
    /// folders are created.
    pub(crate) fn prepare(guest: &Guest, path: &str) -> Result<Self> {
        let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
        create_folders(guest, folder, Access::Ordinary)?;
        let there = match guest.exists(path)? {
            true => guest.attribute(path, ATTRIBUTE)?,
            false => None,
        };
        Ok(Self(
            there.unwrap_or_else(|| Access::Ordinary.descriptor(false)),
        ))
    }

    /// Sets the descriptor on the file at that path.
    pub(crate) fn give(&self, guest: &Guest, path: &str) -> Result<()> {
        guest.set_attribute(path, ATTRIBUTE, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_what_windows_writes_for_them() {
        // O:BAG:SYD:P(A;;FA;;;SY)(A;;FA;;;BA)
        let bytes = Access::Private.descriptor(false);
        assert_eq!(bytes.len(), 20 + 8 + 20 + 24 + 16 + 12);
        assert_eq!(bytes[..4], [1, 0, 4, 0x90]);
        assert_eq!(bytes[4..8], [72, 0, 0, 0]);
        assert_eq!(bytes[20..28], [2, 0, 52, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[28..36], [0, 0, 20, 0, 0xff, 1, 0x1f, 0]);
        assert_eq!(&bytes[72..88], ADMINISTRATORS);
        assert_eq!(&bytes[88..], SYSTEM);
        let folder = Access::Ordinary.descriptor(true);
        assert_eq!(folder.len(), bytes.len() + 24);
        assert_eq!(folder[29], 3);
    }
}
