//! Device paths (UEFI 2.10 section 10.3), as far as the choice of a disk needs them.
//!
//! ```text
//! node: | type | subtype | length, 2, little endian, with these four bytes | data ... |
//! ```
//!
//! Owns the bytes. Other nodes are kept unchanged, so that `emit` after `parse` gives the bytes
//! back.

/// Bytes of a node before its data.
const HEAD: usize = 4;
/// Most nodes that are read; real paths have ten.
const MAX_NODES: usize = 64;
/// Type of the end node, and its subtype for the end of the whole path (another one separates
/// instances).
const END: u8 = 0x7f;
const END_ENTIRE: u8 = 0xff;

/// Bytes of data in a hard drive node, UEFI 2.10 table 10-49: partition, start and sectors in LBA,
/// signature, kind of table (2: GPT), kind of signature (2: GUID).
const HARD_DRIVE_DATA: usize = 38;

/// Identity of a partition or its disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signature {
    /// GPT: the partition's unique GUID, in the byte order of the disk.
    Guid([u8; 16]),
    /// MBR: signature of the disk.
    Mbr(u32),
}

/// A partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HardDrive {
    /// Number, from 1.
    pub number: u32,
    /// First sector, LBA.
    pub start_lba: u64,
    /// Number of sectors.
    pub sectors: u64,
    /// Its identity.
    pub signature: Signature,
}

/// One node of a device path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// A PCI function.
    Pci {
        /// Device, 0 to 31.
        device: u8,
        /// Function, 0 to 7.
        function: u8,
    },
    /// A partition.
    HardDrive(HardDrive),
    /// Path of a file, with backslashes.
    File(String),
    /// Anything else.
    Other {
        /// Type.
        kind: u8,
        /// Subtype.
        subtype: u8,
        /// Data.
        data: Vec<u8>,
    },
}

/// Subtypes of messaging nodes for networks: MAC, IPv4, IPv6, URI, DNS, Wi-Fi (UEFI 2.10 section
/// 10.3.4).
const NETWORK: [u8; 6] = [11, 12, 13, 24, 31, 28];
/// Subtypes of messaging nodes for USB: USB, USB class, USB WWID. A USB stick is no deployed disk.
const USB: [u8; 3] = [5, 15, 16];

impl Node {
    /// True for a node of a network.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Other { kind: 3, subtype, .. } if NETWORK.contains(subtype))
    }

    /// True for a node of USB.
    pub fn is_usb(&self) -> bool {
        matches!(self, Self::Other { kind: 3, subtype, .. } if USB.contains(subtype))
    }

    /// True for a part of the firmware itself: volume, file in a volume, or the older memory-mapped
    /// form.
    pub fn is_firmware(&self) -> bool {
        matches!(
            self,
            Self::Other {
                kind: 4,
                subtype: 6 | 7,
                ..
            } | Self::Other {
                kind: 1,
                subtype: 3,
                ..
            }
        )
    }

    /// True for a CD.
    pub fn is_cd(&self) -> bool {
        matches!(
            self,
            Self::Other {
                kind: 4,
                subtype: 2,
                ..
            }
        )
    }
}

/// Parses a device path up to its end node. `None` when it is cut, has a node without a head, or no
/// end.
pub fn parse(bytes: &[u8]) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    let mut rest = bytes;
    while nodes.len() < MAX_NODES {
        let [kind, subtype, low, high, ..] = *rest else {
            return None;
        };
        let length = usize::from(u16::from_le_bytes([low, high]));
        let data = rest.get(HEAD..length)?;
        rest = rest.get(length..)?;
        if kind == END && subtype == END_ENTIRE {
            return Some(nodes);
        }
        nodes.push(node(kind, subtype, data));
    }
    None
}

fn node(kind: u8, subtype: u8, data: &[u8]) -> Node {
    let known = match (kind, subtype) {
        (1, 1) => match *data {
            [function, device] => Some(Node::Pci { device, function }),
            _ => None,
        },
        (4, 1) => hard_drive(data).map(Node::HardDrive),
        (4, 4) => file(data).map(Node::File),
        _ => None,
    };
    known.unwrap_or_else(|| Node::Other {
        kind,
        subtype,
        data: data.to_vec(),
    })
}

fn hard_drive(data: &[u8]) -> Option<HardDrive> {
    let data: &[u8; HARD_DRIVE_DATA] = data.try_into().ok()?;
    let (number, rest) = data.split_first_chunk::<4>()?;
    let (start, rest) = rest.split_first_chunk::<8>()?;
    let (sectors, rest) = rest.split_first_chunk::<8>()?;
    let (signature, kinds) = rest.split_first_chunk::<16>()?;
    let signature = match *kinds {
        [2, 2] => Signature::Guid(*signature),
        [1, 1] if signature[4..] == [0; 12] => {
            Signature::Mbr(u32::from_le_bytes(*signature.first_chunk::<4>()?))
        }
        _ => return None,
    };
    Some(HardDrive {
        number: u32::from_le_bytes(*number),
        start_lba: u64::from_le_bytes(*start),
        sectors: u64::from_le_bytes(*sectors),
        signature,
    })
}

/// Parses a file name: UCS-2 with exactly one zero at its end, because another form would not be
/// emitted unchanged.
fn file(data: &[u8]) -> Option<String> {
    let (pairs, odd) = data.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    let (last, name) = units.split_last()?;
    (odd.is_empty() && *last == 0 && !name.contains(&0))
        .then(|| String::from_utf16(name).ok())
        .flatten()
}

/// The bytes of a device path, end node included. Nodes with too much data for a node are left out.
pub fn emit(nodes: &[Node]) -> Vec<u8> {
    let mut out = Vec::new();
    for node in nodes {
        let (kind, subtype, data) = match node {
            Node::Pci { device, function } => (1, 1, vec![*function, *device]),
            Node::HardDrive(drive) => (4, 1, hard_drive_data(drive)),
            Node::File(name) => {
                let units = name.encode_utf16().chain([0]);
                (4, 4, units.flat_map(u16::to_le_bytes).collect())
            }
            Node::Other {
                kind,
                subtype,
                data,
            } => (*kind, *subtype, data.clone()),
        };
        if let Ok(length) = u16::try_from(HEAD + data.len()) {
            out.extend([kind, subtype]);
            out.extend(length.to_le_bytes());
            out.extend(data);
        }
    }
    out.extend([END, END_ENTIRE, 4, 0]);
    out
}

fn hard_drive_data(drive: &HardDrive) -> Vec<u8> {
    let mut data = Vec::with_capacity(HARD_DRIVE_DATA);
    data.extend(drive.number.to_le_bytes());
    data.extend(drive.start_lba.to_le_bytes());
    data.extend(drive.sectors.to_le_bytes());
    match drive.signature {
        Signature::Guid(guid) => {
            data.extend(guid);
            data.extend([2, 2]);
        }
        Signature::Mbr(signature) => {
            data.extend(signature.to_le_bytes());
            data.extend([0; 12]);
            data.extend([1, 1]);
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_loader_on_a_partition_is_read_and_written_back() {
        let nodes = vec![
            Node::HardDrive(HardDrive {
                number: 1,
                start_lba: 2048,
                sectors: 1 << 20,
                signature: Signature::Guid([7; 16]),
            }),
            Node::File("\\EFI\\debian\\shimx64.efi".into()),
        ];
        let bytes = emit(&nodes);
        assert_eq!(&bytes[..8], [4, 1, 42, 0, 1, 0, 0, 0]);
        assert_eq!(parse(&bytes), Some(nodes));
        assert_eq!(parse(&bytes[..bytes.len() - 1]), None, "no end");
    }

    #[test]
    fn what_the_firmware_of_qemu_makes_is_understood() {
        // OVMF, "UEFI Misc Device": PciRoot(0x0)/Pci(0x3,0x0).
        let disk = b"\x02\x01\x0c\x00\xd0\x41\x03\x0a\x00\x00\x00\x00\x01\x01\x06\x00\x00\x03\x7f\xff\x04\x00";
        let nodes = parse(disk).unwrap();
        assert_eq!(
            nodes[1],
            Node::Pci {
                device: 3,
                function: 0
            }
        );
        assert!(!nodes.iter().any(|n| n.is_network() || n.is_firmware()));
        assert_eq!(emit(&nodes), disk);
        // PciRoot(0x0)/Pci(0x2,0x0)/MAC(525400123456,0x1).
        let mut mac = disk[..18].to_vec();
        mac.extend(b"\x03\x0b\x25\x00\x52\x54\x00\x12\x34\x56");
        mac.extend([0; 26]);
        mac.extend(b"\x01\x7f\xff\x04\x00");
        assert!(parse(&mac).unwrap().iter().any(Node::is_network));
    }

    #[test]
    fn nodes_that_lie_about_their_length_are_refused() {
        assert_eq!(parse(b"\x04\x01\x03\x00"), None, "shorter than its head");
        assert_eq!(
            parse(b"\x04\x01\x00\x00\x7f\xff\x04\x00"),
            None,
            "would never end"
        );
        assert_eq!(parse(b"\x04\x01\xff\xff\x00"), None);
        assert_eq!(parse(b""), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_back(bytes in any::<Vec<u8>>(), kind in 1u8..6, subtype in 0u8..40) {
            let node = node(kind, subtype, &bytes);
            let path = emit(std::slice::from_ref(&node));
            prop_assert_eq!(&path[4..4 + bytes.len()], &bytes);
            prop_assert_eq!(parse(&path), Some(vec![node]));
            let _ = parse(&bytes);
        }
    }
}
