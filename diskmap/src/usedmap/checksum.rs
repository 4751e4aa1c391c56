//! The two checksums ext4 guards its metadata with, by table.
//!
//! `crc32c` is Castagnoli's polynomial without the final inversion, as the kernel chains it; `crc16`
//! is CRC-16/ARC's polynomial with a seed. A few hundred bytes to a block at a time, so a table of
//! one byte is fast enough. No call panics.

const fn table32(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0u32;
    while index < 256 {
        let mut value = index;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                value >> 1 ^ polynomial
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[index as usize] = value;
        index += 1;
    }
    table
}

/// Castagnoli, reflected.
static CRC32C: [u32; 256] = table32(0x82F6_3B78);
/// 0x8005, reflected; 16 bits in the same machinery.
static CRC16: [u32; 256] = table32(0xA001);

fn update(table: &[u32; 256], seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        // An index made of one byte is always inside a table of 256.
        table[usize::from(low ^ byte)] ^ crc >> 8
    })
}

/// CRC-32C over `bytes` from `seed`, not inverted at the end.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    update(&CRC32C, seed, bytes)
}

/// CRC-16 over `bytes` from `seed`.
pub(super) fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    let [low, high, ..] = update(&CRC16, u32::from(seed), bytes).to_le_bytes();
    u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_the_catalogue() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
    }
}
