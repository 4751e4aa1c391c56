//! A volume that is read and written by position.

use super::NtfsError;
use diskmap::{ReadAt, Volume};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// A partition, as it is read and written here.
pub(crate) trait Device: ReadAt {
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Writes all of `bytes` at byte `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all written bytes are on the medium.
    fn flush(&self) -> io::Result<()>;
}

impl Device for File {
    fn length(&self) -> io::Result<u64> {
        // The metadata of a block device has no length.
        let mut file = self;
        file.seek(SeekFrom::End(0))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// The device as the reader of NTFS takes it.
///
/// # Errors
/// The device fails, or BitLocker encrypts it.
pub(super) fn volume_of(device: &dyn Device) -> Result<Volume<'_>, NtfsError> {
    /// Bytes of the jump before the name of a file system.
    const JUMP: usize = 3;
    let volume = Volume::new(device, device.length()?);
    let mut start = [0; JUMP + 8];
    volume
        .read_into(0, &mut start)
        .map_err(diskmap::ntfs::NtfsError::from)?;
    match start.ends_with(b"-FVE-FS-") {
        true => Err(NtfsError::Refused("it is encrypted by BitLocker")),
        false => Ok(volume),
    }
}
