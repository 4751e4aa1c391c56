//! The EFI system partition of an ISO: a small FAT file system with shim, GRUB and MokManager, as
//! bytes.
//!
//! Pure: no clock (FAT's first day stands in every entry), so the same loaders give the same bytes.

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use std::io::{self, Cursor, Write};

/// Room beside the files, in bytes: tables, folders, rounding.
const SLACK: usize = 512 << 10;
/// The image's length is a multiple of this, in bytes, like partitions on media.
const STEP: usize = 1 << 20;
/// Volume serial number: an arbitrary constant.
const SERIAL: u32 = 0xd15c_ca57;

/// Builds a FAT image that holds `files`: paths with `/`, and bytes.
pub(super) fn image(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let content: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let len = (content + SLACK).next_multiple_of(STEP);
    let mut disk = Cursor::new(vec![0; len]);
    let options = FormatVolumeOptions::new()
        .volume_id(SERIAL)
        .volume_label(*b"DISKCAST   ");
    fatfs::format_volume(&mut disk, options)?;
    let system = FileSystem::new(&mut disk, FsOptions::new())?;
    for (path, bytes) in files {
        let root = system.root_dir();
        for (at, _) in path.match_indices('/') {
            let (folder, _) = path.split_at(at);
            root.create_dir(folder)?;
        }
        root.create_file(path)?.write_all(bytes)?;
    }
    system.unmount()?;
    Ok(disk.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn files_come_back_and_the_bytes_are_the_same_twice() {
        let loader = vec![7; 1_000_003];
        let files: &[(&str, &[u8])] = &[
            ("EFI/BOOT/BOOTX64.EFI", &loader),
            ("EFI/BOOT/grubx64.efi", b"grub"),
            ("boot/grub/grub.cfg", b"search"),
        ];
        let bytes = image(files).unwrap();
        assert_eq!(bytes.len() % STEP, 0);
        assert_eq!(bytes, image(files).unwrap());
        let system = FileSystem::new(Cursor::new(bytes), FsOptions::new()).unwrap();
        for (path, content) in files {
            let mut read = Vec::new();
            let mut file = system.root_dir().open_file(path).unwrap();
            file.read_to_end(&mut read).unwrap();
            assert_eq!(&read, content, "{path}");
        }
    }
}
