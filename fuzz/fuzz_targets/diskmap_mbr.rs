//! Fuzz target: any bytes as a disk with an MBR and boot records, which is read, cross-checked, and
//! read again from its own table sectors. The input is the front of a disk that is zero after it.

#![no_main]

use libfuzzer_sys::fuzz_target;

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
    if let Ok(table) = diskmap::read_table(&disk, SIZE as u64, sector as u32) {
        let _ = diskmap::cross_check(&table, &disk);
        let _ = diskmap::signature::beside_table(&disk, &table);
        let _ = diskmap::other_sector_size(&disk, SIZE as u64, sector as u32);
        let pieces = table
            .regions
            .iter()
            .map(|region| (region.offset, region.bytes.as_slice()));
        let again = diskmap::table_from_regions(pieces, SIZE as u64, sector as u32)
            .expect("a table reads back from its own sectors");
        assert_eq!(again.partitions, table.partitions);
        assert_eq!(again.regions, table.regions);
    }
});
