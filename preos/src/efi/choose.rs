//! Chooses the boot entry of a deployed disk: an existing one, or a new one. Pure.
//!
//! 1. A loader on one of the disk's own EFI system partitions, identified by partition GUID, so
//!    that a disk moved to another port is still found. The loader has to exist as a file: an entry
//!    left by the disk's former system would send the firmware back to the network.
//! 2. If no loader was found (the partition could not be read): the firmware's own entry for the
//!    disk's controller, which starts `\EFI\BOOT\BOOTX64.EFI`.

use super::option::{ACTIVE, LoadOption};
use super::path::{HardDrive, Node};

/// Name of the entries made here. An existing one is reused instead of making another, so that the
/// firmware's memory does not fill up.
pub const DESCRIPTION: &str = "diskcast disk";

/// Facts about the disk.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Disk {
    /// EFI system partitions with the loaders found on them, the best loader first.
    pub partitions: Vec<(HardDrive, Vec<String>)>,
    /// Device and function of each PCI bridge and controller on the way to the disk.
    pub pci: Vec<(u8, u8)>,
}

/// The entry to start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Choice {
    /// Start this entry.
    Use(u16),
    /// Write this entry, and start it.
    Write(u16, LoadOption),
}

/// Chooses an entry. `entries` are all that could be read, `taken` all numbers in use. `None` when
/// nothing fits.
pub fn choose(disk: &Disk, entries: &[(u16, LoadOption)], taken: &[u16]) -> Option<Choice> {
    for (partition, loaders) in &disk.partitions {
        for loader in loaders {
            if let Some(number) = entries
                .iter()
                .find(|(_, entry)| starts(entry, partition, loader))
                .map(|(number, _)| *number)
            {
                return Some(Choice::Use(number));
            }
        }
        if let Some(loader) = loaders.first() {
            let entry = LoadOption {
                attributes: ACTIVE,
                description: DESCRIPTION.to_owned(),
                path: vec![Node::HardDrive(*partition), Node::File(loader.clone())],
            };
            let ours = entries
                .iter()
                .find(|(_, entry)| entry.description == DESCRIPTION)
                .map(|(number, _)| *number);
            let free = || (0..=u16::MAX).find(|number| !taken.contains(number));
            return Some(Choice::Write(ours.or_else(free)?, entry));
        }
    }
    entries
        .iter()
        .find(|(_, entry)| is_disk_at(entry, &disk.pci))
        .map(|(number, _)| Choice::Use(*number))
}

/// True when an entry starts `loader` from `partition`. The long form of its path begins with the
/// way to the disk.
fn starts(entry: &LoadOption, partition: &HardDrive, loader: &str) -> bool {
    let [.., Node::HardDrive(drive), Node::File(file)] = entry.path.as_slice() else {
        return false;
    };
    entry.attributes & ACTIVE != 0
        && drive.signature == partition.signature
        && drive.number == partition.number
        && file.eq_ignore_ascii_case(loader)
}

/// True when an entry is for a whole disk behind this controller.
fn is_disk_at(entry: &LoadOption, pci: &[(u8, u8)]) -> bool {
    let chain: Vec<(u8, u8)> = entry
        .path
        .iter()
        .filter_map(|node| match node {
            Node::Pci { device, function } => Some((*device, *function)),
            _ => None,
        })
        .collect();
    let other = |node: &Node| {
        node.is_network()
            || node.is_firmware()
            || node.is_usb()
            || node.is_cd()
            || matches!(node, Node::File(_))
    };
    entry.attributes & ACTIVE != 0
        && !chain.is_empty()
        && chain == pci
        && !entry.path.iter().any(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::efi::path::Signature;

    fn esp(guid: u8) -> HardDrive {
        HardDrive {
            number: 1,
            start_lba: 2048,
            sectors: 1024,
            signature: Signature::Guid([guid; 16]),
        }
    }

    fn entry(description: &str, path: Vec<Node>) -> LoadOption {
        LoadOption {
            attributes: ACTIVE,
            description: description.into(),
            path,
        }
    }

    fn loader(guid: u8, file: &str) -> Vec<Node> {
        vec![Node::HardDrive(esp(guid)), Node::File(file.into())]
    }

    fn root() -> Node {
        Node::Other {
            kind: 2,
            subtype: 1,
            data: vec![0; 8],
        }
    }

    fn pci(device: u8) -> Node {
        Node::Pci {
            device,
            function: 0,
        }
    }

    fn messaging(subtype: u8) -> Node {
        Node::Other {
            kind: 3,
            subtype,
            data: Vec::new(),
        }
    }

    const SHIM: &str = "\\EFI\\debian\\shimx64.efi";
    const USUAL: &str = "\\EFI\\BOOT\\BOOTX64.EFI";

    fn firmware() -> Vec<(u16, LoadOption)> {
        vec![
            (
                0,
                entry(
                    "UiApp",
                    vec![
                        Node::Other {
                            kind: 4,
                            subtype: 7,
                            data: vec![1; 16],
                        },
                        Node::Other {
                            kind: 4,
                            subtype: 6,
                            data: vec![2; 16],
                        },
                    ],
                ),
            ),
            (
                1,
                entry(
                    "UEFI PXEv4",
                    vec![root(), pci(2), messaging(11), messaging(12)],
                ),
            ),
            (2, entry("UEFI Misc Device", vec![root(), pci(3)])),
            (4, entry("UEFI Misc Device 2", vec![root(), pci(4)])),
        ]
    }

    fn disk(loaders: &[&str]) -> Disk {
        Disk {
            partitions: vec![(esp(9), loaders.iter().map(|l| (*l).to_owned()).collect())],
            pci: vec![(3, 0)],
        }
    }

    #[test]
    fn an_entry_for_the_loader_on_this_very_partition_is_used() {
        let mut entries = firmware();
        entries.push((7, entry("old disk", loader(8, SHIM))));
        entries.push((8, entry("gone", loader(9, "\\EFI\\gone\\x.efi"))));
        let mut long = vec![root(), pci(3)];
        long.extend(loader(9, "\\efi\\DEBIAN\\shimx64.efi"));
        entries.push((9, entry("debian", long)));
        assert_eq!(
            choose(&disk(&[USUAL, SHIM]), &entries, &[]),
            Some(Choice::Use(9))
        );
    }

    #[test]
    fn without_one_an_entry_is_made_under_a_free_number_or_our_own() {
        let mut entries = firmware();
        let made = entry(DESCRIPTION, loader(9, USUAL));
        assert_eq!(
            choose(&disk(&[USUAL, SHIM]), &entries, &[0, 1, 2, 3, 4]),
            Some(Choice::Write(5, made.clone()))
        );
        entries.push((6, entry(DESCRIPTION, loader(1, USUAL))));
        assert_eq!(
            choose(&disk(&[USUAL]), &entries, &[0, 1, 2, 3, 4, 6]),
            Some(Choice::Write(6, made.clone()))
        );
        entries[4].1 = made;
        assert_eq!(
            choose(&disk(&[USUAL]), &entries, &[]),
            Some(Choice::Use(6)),
            "nothing is written twice"
        );
    }

    #[test]
    fn without_a_loader_the_firmwares_own_entry_for_the_controller_is_used() {
        let unread = Disk {
            partitions: vec![(esp(9), Vec::new())],
            pci: vec![(3, 0)],
        };
        assert_eq!(choose(&unread, &firmware(), &[]), Some(Choice::Use(2)));
        let elsewhere = Disk {
            pci: vec![(2, 0)],
            ..Disk::default()
        };
        assert_eq!(
            choose(&elsewhere, &firmware(), &[]),
            None,
            "the network card is no disk"
        );
        assert_eq!(choose(&Disk::default(), &firmware(), &[]), None);
    }

    #[test]
    fn an_entry_that_is_switched_off_is_not_used() {
        let mut entries = firmware();
        entries[2].1.attributes = 0;
        let unread = Disk {
            pci: vec![(3, 0)],
            ..Disk::default()
        };
        assert_eq!(choose(&unread, &entries, &[]), None);
    }
}
