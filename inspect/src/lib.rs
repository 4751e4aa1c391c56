//! Inspection of the system in a partition, without a mount.
//!
//! Owns readers over the bytes of partitions that fill in [`template::findings::Findings`]. Never
//! writes, never mounts, and trusts nothing it reads.

mod linux;
mod source;
mod windows;

pub use source::ReadSeek;

use diskmap::usedmap::{FsInfo, FsKind, identify};
use source::Source;
use template::findings::{Findings, Obstacle, PartitionFindings, System};
use template::step::FileSystem;

/// One partition with its bytes.
pub struct Slice {
    /// Number in the partition table.
    pub number: u32,
    /// Length in bytes.
    pub length: u64,
    /// Reader of the content; position 0 is the partition's first byte.
    pub reader: Box<dyn ReadSeek>,
}

/// Inspects all partitions of one disk or image.
pub fn disk(slices: impl IntoIterator<Item = Slice>) -> Findings {
    let mut findings = Findings::default();
    for slice in slices {
        let (partition, system) = partition(slice);
        findings.partitions.push(partition);
        findings.systems.extend(system);
    }
    findings
}

/// Inspects one partition and the system in it.
pub fn partition(slice: Slice) -> (PartitionFindings, Option<System>) {
    let source = Source::new(slice.reader, slice.length);
    let mut found = PartitionFindings {
        number: slice.number,
        file_system: None,
        label: None,
        sids: Vec::new(),
        uuid: None,
        obstacles: Vec::new(),
    };
    let info = match identify(&source, source.length()) {
        Ok(Some(info)) => info,
        Ok(None) => return (found, None),
        Err(error) => {
            found.obstacles.push(unreadable("the partition", &error));
            return (found, None);
        }
    };
    found.label.clone_from(&info.label);
    found.uuid.clone_from(&info.uuid);
    found.file_system = changeable(&info);
    let system = match info.kind {
        FsKind::Ext2 | FsKind::Ext3 | FsKind::Ext4 => {
            linux::inspect(source, &mut found).map(|linux| System::Linux(Box::new(linux)))
        }
        FsKind::Ntfs => {
            windows::inspect(source, &mut found).map(|windows| System::Windows(Box::new(windows)))
        }
        FsKind::BitLocker => {
            found.obstacles.push(Obstacle::BitLocker);
            None
        }
        FsKind::Luks => {
            found.obstacles.push(Obstacle::Luks);
            None
        }
        FsKind::Btrfs | FsKind::Xfs | FsKind::LvmPv | FsKind::MdRaid => {
            found.obstacles.push(unreadable(
                &format!("{} volume", info.kind),
                &"a system in it is not looked for: only ext and NTFS are read",
            ));
            None
        }
        _ => None,
    };
    (found, system)
}

fn changeable(info: &FsInfo) -> Option<FileSystem> {
    match info.kind {
        FsKind::Ext2 | FsKind::Ext3 | FsKind::Ext4 => Some(FileSystem::Ext),
        FsKind::Ntfs => Some(FileSystem::Ntfs),
        FsKind::Fat12 | FsKind::Fat16 | FsKind::Fat32 => Some(FileSystem::Fat),
        FsKind::ExFat => Some(FileSystem::Exfat),
        FsKind::Xfs => Some(FileSystem::Xfs),
        FsKind::Btrfs => Some(FileSystem::Btrfs),
        _ => None,
    }
}

/// Obstacle for a thing that could not be read.
pub(crate) fn unreadable(what: &str, reason: &impl std::fmt::Display) -> Obstacle {
    Obstacle::Unreadable {
        what: what.to_owned(),
        reason: reason.to_string(),
    }
}
