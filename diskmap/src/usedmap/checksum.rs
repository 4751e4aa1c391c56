//! The two checksums of ext4 metadata, computed with tables.
//!
//! `crc32c` has Castagnoli's polynomial without the final inversion, as the kernel chains it;
//! `crc16` has the polynomial of CRC-16/ARC and a seed. Inputs are a few hundred bytes to a block
//! long, so a table indexed by one byte is fast enough. No function panics.

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

/// Table of the Castagnoli polynomial, reflected.
static CRC32C: [u32; 256] = table32(0x82F6_3B78);
/// Table of the polynomial 0x8005, reflected: 16 bits in the same kind of table.
static CRC16: [u32; 256] = table32(0xA001);

fn update(table: &[u32; 256], seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        // An index of one byte is always inside a table of 256 entries.
        table[usize::from(low ^ byte)] ^ crc >> 8
    })
}

/// CRC-32C of `bytes`, continued from `seed`, without the final inversion.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    update(&CRC32C, seed, bytes)
}

/// CRC-16 of `bytes`, continued from `seed`.
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
