//! Fuzz target: any content of a `Boot####` variable. Never a panic; a path that was read is
//! written back and read as the same path, and the choice for a disk is an existing entry or one
//! that can be read back.
#![no_main]

use preos::efi::choose::{Choice, Disk, choose};
use preos::efi::option::LoadOption;
use preos::efi::path::{self, HardDrive, Signature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(entry) = LoadOption::parse(data) else {
        return;
    };
    assert_eq!(
        path::parse(&path::emit(&entry.path)).as_ref(),
        Some(&entry.path)
    );
    let partition = HardDrive {
        number: 1,
        start_lba: 2048,
        sectors: 1 << 20,
        signature: Signature::Guid([7; 16]),
    };
    let mut disk = Disk {
        partitions: vec![(partition, Vec::new())],
        pci: vec![(3, 0)],
    };
    let entries = [(5, entry)];
    assert!(matches!(
        choose(&disk, &entries, &[5]),
        None | Some(Choice::Use(5))
    ));
    disk.partitions[0].1.push("\\EFI\\BOOT\\BOOTX64.EFI".into());
    match choose(&disk, &entries, &[5]) {
        Some(Choice::Use(5)) => {}
        Some(Choice::Write(_, made)) => {
            assert_eq!(
                made.emit().as_deref().and_then(LoadOption::parse),
                Some(made)
            );
        }
        other => panic!("{other:?}"),
    }
});
