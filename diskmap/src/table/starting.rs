//! The partitions that firmware starts from.
//!
//! Owns the list of markers. A caller that leaves out partitions uses it for a warning: a disk does
//! not start if all its marked partitions are left out.

use super::{Partition, PartitionKind, PartitionTable, TypeId};
use crate::guid::Guid;

/// GPT types that firmware or a boot loader in LBA 0 starts from.
const STARTING_GUIDS: [&str; 2] = [
    // EFI system partition (UEFI 2.10, 5.3.3).
    "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    // BIOS boot partition: GRUB's core image on a GPT disk, which has no gap for it.
    "21686148-6449-6E6F-744E-656564454649",
];

/// System id of the EFI system partition in an MBR (UEFI 2.10, 5.2.2).
const TYPE_EFI_SYSTEM: u8 = 0xef;

impl PartitionTable {
    /// Numbers of the partitions that firmware starts from, ascending.
    ///
    /// On GPT these are EFI system partitions, BIOS boot partitions, and those with the attribute
    /// "legacy BIOS bootable". On MBR these are entries in LBA 0 with the active flag (firmware
    /// ignores it on a logical partition), and EFI system partitions.
    #[must_use]
    pub fn starting_partitions(&self) -> Vec<u32> {
        self.partitions
            .iter()
            .filter(|partition| starts(partition))
            .map(|partition| partition.number)
            .collect()
    }
}

fn starts(partition: &Partition) -> bool {
    let typed = match partition.type_id {
        TypeId::Gpt(guid) => STARTING_GUIDS
            .iter()
            .any(|text| text.parse::<Guid>() == Ok(guid)),
        TypeId::Mbr(id) => id == TYPE_EFI_SYSTEM,
    };
    typed || (partition.bootable && partition.kind != PartitionKind::Logical)
}
