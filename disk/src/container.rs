//! Files and folders that contain a disk in another form than byte for byte: containers of virtual
//! machines, compressed files, streams and folders of other imaging programs.
//!
//! Owns their signatures, and the advice for each. [`recognise`] is pure. Never reads the contents.

use super::DiskError;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes read at either end.
const LOOK_BYTES: u64 = 512;

/// The way to get the disk out of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// qemu-img converts it; the name of the format there.
    Qemu(&'static str),
    /// A program unpacks it; its command.
    Unpack(&'static str),
    /// The program that made it restores it; its name.
    Restore(&'static str),
}

/// A recognised container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Container {
    /// Name of the format with its article, such as `a qcow2 image`.
    pub(super) name: &'static str,
    way: Way,
}

impl Container {
    const fn new(name: &'static str, way: Way) -> Self {
        Self { name, way }
    }

    /// True for an image of this program.
    pub(super) fn is_ours(&self) -> bool {
        self.name == OURS
    }

    /// Advice for capturing the disk in the container at `path`.
    pub(super) fn hint(&self, path: &Path) -> String {
        let path = path.display();
        match self.way {
            Way::Qemu(format) => format!(
                "make a disk file of it (qemu-img convert -f {format} -O raw {path} disk.raw) and capture that"
            ),
            Way::Unpack(program) => {
                format!(
                    "unpack it ({program} {path}); where the bytes of a whole disk come out, capture those"
                )
            }
            Way::Restore(program) => {
                format!("restore it onto a disk with {program}, and capture that disk")
            }
        }
    }
}

/// Name of an image of this program, seen as a container.
const OURS: &str = "a diskcast image";

/// Signatures near the beginning of a file: offset, bytes, container.
const HEADS: &[(usize, &[u8], Container)] = &[
    (
        0,
        b"\x89DCI\r\n\x1a\n",
        Container::new(OURS, Way::Restore("diskcast image restore")),
    ),
    (
        0,
        b"QFI\xfb",
        Container::new("a qcow2 image", Way::Qemu("qcow2")),
    ),
    (0, b"QED\0", Container::new("a QED image", Way::Qemu("qed"))),
    (
        0,
        b"vhdxfile",
        Container::new("a VHDX image", Way::Qemu("vhdx")),
    ),
    (
        0,
        b"conectix",
        Container::new("a VHD image", Way::Qemu("vpc")),
    ),
    (
        0,
        b"KDMV",
        Container::new("a VMDK image", Way::Qemu("vmdk")),
    ),
    (
        0,
        b"COWD",
        Container::new("a VMDK image", Way::Qemu("vmdk")),
    ),
    (
        0,
        b"# Disk DescriptorFile",
        Container::new("the descriptor of a VMDK image", Way::Qemu("vmdk")),
    ),
    (
        0x40,
        b"\x7f\x10\xda\xbe",
        Container::new("a VDI image", Way::Qemu("vdi")),
    ),
    (
        0,
        b"WithoutFreeSpace",
        Container::new("a Parallels image", Way::Qemu("parallels")),
    ),
    (
        0,
        b"WithouFreSpacExt",
        Container::new("a Parallels image", Way::Qemu("parallels")),
    ),
    (
        0,
        b"VMA\0",
        Container::new("a Proxmox backup", Way::Unpack("vma extract")),
    ),
    (
        0,
        b"\x28\xb5\x2f\xfd",
        Container::new("a zstd file", Way::Unpack("zstd -d")),
    ),
    (
        0,
        b"\xfd7zXZ\0",
        Container::new("an xz file", Way::Unpack("xz -dk")),
    ),
    (
        0,
        b"\x1f\x8b\x08",
        Container::new("a gzip file", Way::Unpack("gunzip -k")),
    ),
    (
        0,
        b"\x04\x22\x4d\x18",
        Container::new("an lz4 file", Way::Unpack("lz4 -dk")),
    ),
    (
        0,
        b"\x89LZO\0\r\n\x1a\n",
        Container::new("an lzop file", Way::Unpack("lzop -dk")),
    ),
    (
        0,
        b"LZIP",
        Container::new("an lzip file", Way::Unpack("lzip -dk")),
    ),
    (
        0,
        b"PK\x03\x04",
        Container::new("a zip file", Way::Unpack("unzip")),
    ),
    (
        0,
        b"7z\xbc\xaf\x27\x1c",
        Container::new("a 7-Zip file", Way::Unpack("7z x")),
    ),
    (
        257,
        b"ustar",
        Container::new("a tar file", Way::Unpack("tar -xSf")),
    ),
    (
        0,
        b"partclone-image",
        Container::new(
            "a partclone stream, one partition",
            Way::Restore("partclone.restore"),
        ),
    ),
    (
        0,
        b"\0ntfsclone-image",
        Container::new(
            "an ntfsclone stream, one partition",
            Way::Restore("ntfsclone --restore-image"),
        ),
    ),
    (
        0,
        b"PaRtImAgE-VoLuMe",
        Container::new(
            "a partimage volume, one partition",
            Way::Restore("partimage"),
        ),
    ),
    (
        0,
        b"MSWIM\0\0\0",
        Container::new("a WIM archive of files", Way::Restore("wimapply")),
    ),
    (
        0,
        b"EVF\x09\x0d\x0a\xff\0",
        Container::new("an EnCase image", Way::Unpack("ewfexport")),
    ),
    (
        0,
        b"\x3a\xff\x26\xed",
        Container::new("an Android sparse image", Way::Unpack("simg2img")),
    ),
];

/// bzip2: the header has the block size, 1 to 9, and then the digits of pi.
const BZIP2: Container = Container::new("a bzip2 file", Way::Unpack("bunzip2 -k"));

/// Signatures in the last 512 bytes: a fixed VHD, and an Apple disk image.
const TAILS: &[(&[u8], Container)] = &[
    (b"conectix", Container::new("a VHD image", Way::Qemu("vpc"))),
    (
        b"koly",
        Container::new("an Apple disk image", Way::Qemu("dmg")),
    ),
];

/// Recognises a container by its first bytes `head` and its last bytes `tail` (512 bytes each, or
/// the whole file). `None` without a known signature.
pub(super) fn recognise(head: &[u8], tail: &[u8]) -> Option<Container> {
    let at = |bytes: &[u8], at: usize, mark: &[u8]| {
        bytes.get(at..).is_some_and(|rest| rest.starts_with(mark))
    };
    let bzip2 = at(head, 0, b"BZh")
        && matches!(head.get(3), Some(b'1'..=b'9'))
        && at(head, 4, b"\x31\x41\x59\x26\x53\x59");
    HEADS
        .iter()
        .find(|(place, mark, _)| at(head, *place, mark))
        .map(|(.., container)| *container)
        .or(bzip2.then_some(BZIP2))
        .or_else(|| {
            let tails = TAILS.iter();
            tails
                .clone()
                .find(|(mark, _)| tail.starts_with(mark))
                .map(|(_, container)| *container)
        })
}

/// Recognises the container in an open file or device of `size` bytes. `None` also when it cannot
/// be read: the caller's next read reports that.
pub(super) fn of_file(file: &File, size: u64) -> Option<Container> {
    let read = |from: u64| {
        let len = size.saturating_sub(from).min(LOOK_BYTES);
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        file.read_exact_at(&mut bytes, from).ok()?;
        Some(bytes)
    };
    recognise(&read(0)?, &read(size.saturating_sub(LOOK_BYTES))?)
}

/// Refuses a master that is a container of a disk.
///
/// # Errors
/// [`DiskError::Refused`] with the container's name and advice.
pub(super) fn refuse_source(path: &Path, file: &File, size: u64) -> Result<(), DiskError> {
    match of_file(file, size) {
        None => Ok(()),
        Some(found) => Err(DiskError::refused(
            format!(
                "{} is {}, not the bytes of a disk",
                path.display(),
                found.name
            ),
            format!("{}; --raw captures the bytes as they are", found.hint(path)),
        )),
    }
}

/// Refuses to write the bytes of a disk into a file of another format.
///
/// # Errors
/// [`DiskError::Refused`] with the container's name.
pub(super) fn refuse_target(path: &Path, size: u64) -> Result<(), DiskError> {
    let found = OpenOptions::new()
        .read(true)
        .open(path)
        .ok()
        .and_then(|file| of_file(&file, size));
    match found {
        None => Ok(()),
        Some(found) => Err(DiskError::refused(
            format!(
                "{} is {}: the bytes of a disk would make it useless",
                path.display(),
                found.name
            ),
            "name a file that does not exist yet, and convert what was restored (qemu-img convert)",
        )),
    }
}

/// The error for a folder given as a disk: some programs keep their images in folders.
pub(super) fn refuse_folder(path: &Path) -> DiskError {
    let has = |name: &str| path.join(name).exists();
    let (what, restore) = if has("clonezilla-img") || (has("disk") && has("parts")) {
        ("a Clonezilla image", "Clonezilla")
    } else if has("d1.mbr") || has("d1.partitions") || has("d1p1.img") {
        ("a FOG image", "FOG")
    } else {
        return DiskError::refused(
            format!("{} is a folder", path.display()),
            "name a whole disk, such as /dev/sda, or a file that holds one",
        );
    };
    DiskError::refused(
        format!("{} is the folder of {what}", path.display()),
        format!("restore it onto a disk with {restore}, and capture that disk"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_container_is_known_by_its_mark_and_a_disk_is_none() {
        for (at, mark, container) in HEADS {
            let mut head = vec![0u8; 512];
            head[*at..at + mark.len()].copy_from_slice(mark);
            assert_eq!(recognise(&head, &[]), Some(*container));
            assert_eq!(recognise(&head[..at + mark.len() - 1], &[]), None);
        }
        for (mark, container) in TAILS {
            assert_eq!(recognise(&[0; 512], mark), Some(*container));
        }
        assert_eq!(recognise(b"BZh91AY&SY", &[]), Some(BZIP2));
        // Boot sectors of MBR and NTFS, and empty ones.
        let disks: [&[u8]; 5] = [
            b"\xeb\x63\x90",
            b"\xeb\x52\x90NTFS    ",
            b"BZh",
            &[0; 512],
            &[],
        ];
        for disk in disks {
            assert_eq!(recognise(disk, disk), None);
        }
    }
}
