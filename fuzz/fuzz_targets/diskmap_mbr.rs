//! Fuzz target: any bytes as a disk with an MBR and boot records, which is read, cross-checked, and
//! read again from its own table sectors. The input is the front of a disk that is zero after it.

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
    let data = &data[..data.len().min(SIZE)];
    disk[..data.len()].copy_from_slice(data);
    if mode & 1 == 1 {
        // End marks on every sector, so that chains of boot records continue.
        for sector in disk.chunks_mut(sector) {
            sector[510..512].copy_from_slice(&[0x55, 0xaa]);
        }
        for flag in [446, 462, 478, 494] {
            disk[flag] &= 0x80;
        }
    }
    support::table(&disk, sector as u32);
});
