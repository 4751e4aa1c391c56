//! Which partitions firmware starts from.
//!
//! Owns the list of marks. A caller who leaves partitions out warns with it: a disk whose marked
//! partitions are all left out starts from nothing, whatever the rest holds.

use super::{Partition, PartitionKind, PartitionTable, TypeId};
use crate::guid::Guid;

/// GPT types that firmware or a boot loader in LBA 0 goes to.
const STARTING_GUIDS: [&str; 2] = [
    // EFI system partition (UEFI 2.10, 5.3.3).
    "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    // BIOS boot partition: GRUB's core image on a GPT disk without a gap.
    "21686148-6449-6E6F-744E-656564454649",
];

/// The EFI system partition of an MBR (UEFI 2.10, 5.2.2).
const TYPE_EFI_SYSTEM: u8 = 0xef;

impl PartitionTable {
    /// Numbers of the partitions that firmware starts from, ascending.
    ///
    /// GPT: EFI system partition, BIOS boot partition, or the attribute "legacy BIOS bootable". MBR: the
    /// active flag of an entry in LBA 0 (on a logical partition it means nothing to firmware), or an EFI
    /// system partition.
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
