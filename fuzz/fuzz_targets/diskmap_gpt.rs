//! Fuzz target: any bytes as a disk with a GPT, which is read, cross-checked, and read again from
//! its own table sectors.
//!
//! The input is the front of the disk and, from its second half, the end. Checksums are corrected
//! if the first byte is odd, because a fuzzer does not find CRC-32 by chance.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "diskmap_support/mod.rs"]
mod support;

const SIZE: usize = 256 << 10;

fuzz_target!(|data: &[u8]| {
    let Some((&mode, data)) = data.split_first() else {
        return;
    };
    let sector = if mode & 2 == 0 { 512 } else { 4096 };
    let mut disk = vec![0u8; SIZE];
    let (front, tail) = data.split_at(data.len() / 2);
    let front = &front[..front.len().min(SIZE / 2)];
    let tail = &tail[..tail.len().min(SIZE / 2)];
    disk[..front.len()].copy_from_slice(front);
    disk[SIZE - tail.len()..].copy_from_slice(tail);
    if mode & 1 == 1 {
        seal(&mut disk, sector);
    }
    support::table(&disk, sector as u32);
});

/// Sets signatures and checksums of a GPT at both ends.
fn seal(disk: &mut [u8], sector: usize) {
    disk[450] = 0xee;
    disk[446] &= 0x80;
    disk[458..462].copy_from_slice(&[1, 0, 0, 0]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    for at in [sector, disk.len() - sector] {
        disk[at..at + 8].copy_from_slice(b"EFI PART");
        let field = |disk: &[u8], at: usize| {
            u32::from_le_bytes(disk[at..at + 4].try_into().expect("four bytes"))
        };
        let array = u64::from_le_bytes(disk[at + 72..at + 80].try_into().expect("eight bytes"));
        let len = u64::from(field(disk, at + 80)) * u64::from(field(disk, at + 84));
        let range = array
            .checked_mul(sector as u64)
            .and_then(|start| Some(start..start.checked_add(len)?))
            .filter(|range| range.end <= disk.len() as u64);
        if let Some(range) = range {
            let crc = crc32(&disk[range.start as usize..range.end as usize]);
            disk[at + 88..at + 92].copy_from_slice(&crc.to_le_bytes());
        }
        let size = (field(disk, at + 12) as usize).clamp(92, sector);
        disk[at + 16..at + 20].fill(0);
        let crc = crc32(&disk[at..at + size]);
        disk[at + 16..at + 20].copy_from_slice(&crc.to_le_bytes());
    }
}

/// CRC-32 of GPT, one bit at a time: the fuzz workspace needs no crate for it.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    };
    !bytes.iter().fold(!0, step)
}
