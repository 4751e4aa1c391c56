//! Files that NTFS keeps compressed (LZNT1), unpacked.
//!
//! ```text
//! unit     16 clusters of the file: stored as they are, or packed into fewer clusters with a hole behind them, or all a hole
//! packed   chunks of 4096 bytes each: size and a flag (2 bytes, 0 ends the unit), then letters and references backwards in groups
//!          of 8, told apart by the bits of a byte before them
//! ```

use ntfs::attribute_value::NtfsAttributeValue;
use ntfs::{NtfsError, NtfsReadSeek};
use std::io::{Read, Seek, SeekFrom};

/// Clusters that are packed together, and bytes of a chunk.
const UNIT_CLUSTERS: u32 = 16;
const CHUNK: usize = 4096;

/// The content of a compressed file, and of one that only may be: what it has of `wanted` bytes.
pub(super) fn read<T: Read + Seek>(
    source: &mut T,
    value: &mut NtfsAttributeValue<'_, '_>,
    cluster: u32,
    wanted: u64,
) -> Result<Vec<u8>, NtfsError> {
    let length = value.len();
    let unit = u64::from(cluster) * u64::from(UNIT_CLUSTERS);
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < wanted {
        let size = unit.min(length - at);
        // Where its last cluster lies nowhere, the unit is packed, or is all zeros.
        let last = at + (size - 1) / u64::from(cluster) * u64::from(cluster);
        value.seek(source, SeekFrom::Start(last))?;
        let packed = value.data_position().value().is_none();
        value.seek(source, SeekFrom::Start(at))?;
        let hole = value.data_position().value().is_none();
        let size = usize::try_from(size).unwrap_or(0);
        let mut stored = vec![0; size];
        value.read_exact(source, &mut stored)?;
        match packed && !hole {
            true => unpack(&stored, size, &mut bytes),
            false => bytes.extend_from_slice(&stored),
        }
        at += unit;
    }
    bytes.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
    Ok(bytes)
}

/// Adds the `size` bytes of a packed unit; what makes no sense ends it, and zeros stand for the rest.
fn unpack(stored: &[u8], size: usize, bytes: &mut Vec<u8>) {
    let end = bytes.len() + size;
    let mut rest = stored;
    while bytes.len() < end {
        let Some((header, behind)) = rest.split_first_chunk::<2>() else {
            break;
        };
        let header = u16::from_le_bytes(*header);
        let length = usize::from(header & 0xfff) + 1;
        let Some((chunk, behind)) = behind.split_at_checked(length).filter(|_| header != 0) else {
            break;
        };
        rest = behind;
        let start = bytes.len();
        match header >> 15 {
            0 => bytes.extend_from_slice(chunk),
            _ => unpack_chunk(chunk, bytes),
        }
        if bytes.len() - start < CHUNK && !rest.is_empty() {
            bytes.resize(start + CHUNK, 0);
        }
    }
    bytes.resize(end, 0);
}

/// Adds the bytes of one packed chunk, as far as they make sense.
fn unpack_chunk(chunk: &[u8], bytes: &mut Vec<u8>) {
    let start = bytes.len();
    let mut rest = chunk.iter().copied();
    while let Some(flags) = rest.next() {
        for bit in 0..8 {
            let done = bytes.len() - start;
            if done >= CHUNK {
                return;
            }
            let Some(first) = rest.next() else { return };
            if flags >> bit & 1 == 0 {
                bytes.push(first);
                continue;
            }
            let Some(second) = rest.next() else { return };
            let reference = usize::from(u16::from_le_bytes([first, second]));
            // The further in the chunk, the more bits tell how far back, and the fewer how many.
            let mut length_bits = 12;
            while length_bits > 4 && done > 1 << (16 - length_bits) {
                length_bits -= 1;
            }
            let back = (reference >> length_bits) + 1;
            let count = (reference & ((1 << length_bits) - 1)) + 3;
            if back > done {
                return;
            }
            for _ in 0..count.min(CHUNK - done) {
                let Some(byte) = bytes.get(bytes.len() - back).copied() else {
                    return;
                };
                bytes.push(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(stored: &[u8], size: usize) -> Vec<u8> {
        let mut bytes = vec![9];
        unpack(stored, size, &mut bytes);
        bytes.split_off(1)
    }

    #[test]
    fn units_are_unpacked_and_nonsense_ends_in_zeros() {
        // Three letters, then all of them again: one back, nine times.
        let packed = [0x05, 0xb0, 0x08, b'a', b'b', b'c', 0x06, 0x20];
        assert_eq!(&unpacked(&packed, 12), b"abcabcabcabc");
        let raw = [0x02, 0x30, b'x', b'y', b'z', 0, 0];
        assert_eq!(&unpacked(&raw, 5), b"xyz\0\0");
        // Further back than there is anything, and cut anywhere.
        assert_eq!(
            unpacked(&[0x03, 0xb0, 0x02, b'a', 0xff, 0xff], 3),
            [b'a', 0, 0]
        );
        for end in 0..packed.len() {
            assert_eq!(unpacked(&packed[..end], 12).len(), 12);
        }
    }
}
