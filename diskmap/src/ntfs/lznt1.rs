//! Decompression of files that NTFS stores compressed (LZNT1).
//!
//! ```text
//! unit     16 clusters of the file: stored unchanged, or packed into fewer clusters with a hole
//!          after them, or a hole as a whole
//! packed   chunks of 4096 bytes each: size and a flag (2 bytes, 0 ends the unit), then letters and
//!          backward references in groups of 8; the bits of a byte before each group tell which
//! ```

/// Bytes of a chunk.
const CHUNK: usize = 4096;

/// Appends the `size` bytes of a packed unit; invalid data ends it, and zeros fill the rest.
pub(super) fn unpack(stored: &[u8], size: usize, bytes: &mut Vec<u8>) {
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

/// Appends the bytes of one packed chunk up to the first invalid one.
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
            // Further into the chunk more bits hold the distance and fewer the length.
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
        // Three letters, then a reference: three back, nine bytes.
        let packed = [0x05, 0xb0, 0x08, b'a', b'b', b'c', 0x06, 0x20];
        assert_eq!(&unpacked(&packed, 12), b"abcabcabcabc");
        let raw = [0x02, 0x30, b'x', b'y', b'z', 0, 0];
        assert_eq!(&unpacked(&raw, 5), b"xyz\0\0");
        // A reference to before the beginning, and data that is cut at any place.
        assert_eq!(
            unpacked(&[0x03, 0xb0, 0x02, b'a', 0xff, 0xff], 3),
            [b'a', 0, 0]
        );
        for end in 0..packed.len() {
            assert_eq!(unpacked(&packed[..end], 12).len(), 12);
        }
    }
}
