//! Headers of programs and drivers (Microsoft PE and COFF specification).

use crate::findings::Arch;
use serde::{Deserialize, Serialize};

/// `IMAGE_FILE_MACHINE_*` of the processors Windows is deployed to.
const MACHINES: [(u16, Arch); 3] = [
    (0x014c, Arch::X86),
    (0x8664, Arch::X64),
    (0xaa64, Arch::Arm64),
];

/// Facts from the headers of a PE file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Processor it is for.
    pub arch: Arch,
    /// The file carries an Authenticode signature. The signature and its signer are not verified.
    pub signed: bool,
}

impl Program {
    /// Reads the headers; `None` when the bytes are no PE file.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header = usize::try_from(u32_at(bytes, 0x3c)?).ok()?;
        if bytes.get(..2)? != b"MZ" || bytes.get(header..header.checked_add(4)?)? != b"PE\0\0" {
            return None;
        }
        let machine = u16_at(bytes, header.checked_add(4)?)?;
        let arch = MACHINES
            .iter()
            .find(|(number, _)| *number == machine)
            .map_or(Arch::Other, |(_, arch)| *arch);
        Some(Self {
            arch,
            signed: signed(bytes, header.checked_add(24)?)?,
        })
    }
}

/// True when the optional header at this offset names a certificate table that lies in the file.
fn signed(bytes: &[u8], optional: usize) -> Option<bool> {
    // Offset of `NumberOfRvaAndSizes`; the directories follow it, and the fifth is the certificate
    // table.
    let count_at = optional.checked_add(match u16_at(bytes, optional)? {
        0x10b => 92,
        0x20b => 108,
        _ => return None,
    })?;
    if u32_at(bytes, count_at)? < 5 {
        return Some(false);
    }
    // This is the only directory whose address is a file offset.
    let entry = count_at.checked_add(4 + 4 * 8)?;
    let offset = usize::try_from(u32_at(bytes, entry)?).ok()?;
    let size = usize::try_from(u32_at(bytes, entry.checked_add(4)?)?).ok()?;
    let inside = offset
        .checked_add(size)
        .is_some_and(|end| end <= bytes.len());
    Some(offset > 0 && size > 8 && inside)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}
