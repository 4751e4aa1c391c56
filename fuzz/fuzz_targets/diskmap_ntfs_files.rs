//! Fuzz target: any bytes as an NTFS volume whose files are looked for, read and listed. No panic,
//! and no content is longer than its stream.

#![no_main]

use diskmap::Volume;
use diskmap::ntfs::{Index, Log, Mft, NtfsError, Record, UpCase, kind, number};
use libfuzzer_sys::fuzz_target;

/// Bytes of a stream that are read.
const MOST: u64 = 1 << 16;

fn look(mft: &Mft, volume: &Volume<'_>, record: &Record) -> Result<(), NtfsError> {
    for (kind, name) in [
        (kind::DATA, ""),
        (kind::DATA, "$SDS"),
        (kind::REPARSE_POINT, ""),
        (kind::SECURITY_DESCRIPTOR, ""),
    ] {
        if let Some(stream) = mft.find(volume, record, kind, name)? {
            let wanted = stream.size().min(MOST);
            let content = stream.read(volume, 0, wanted)?;
            assert_eq!(content.len() as u64, wanted);
            let _ = stream.read(volume, stream.size() / 2, wanted / 2);
            let _ = stream.read_metadata(volume, 0, wanted);
            for range in stream.ranges() {
                assert!(range.start < range.end && range.end <= mft.geometry().size());
            }
        }
    }
    for name in ["$I30", "$SII", "$SDH"] {
        if let Some(index) = Index::open(mft, volume, record, name)? {
            index.each_entry(volume, 64, |entry, key| assert_eq!(entry.key.len(), key.len()))?;
        }
    }
    mft.names(volume, record).map(drop)
}

fn walk(volume: &Volume<'_>) -> Result<(), NtfsError> {
    let mft = Mft::open(volume)?;
    let _ = mft.information(volume);
    let _ = Log::read(&mft, volume);
    for number in [number::ROOT, number::SECURE, number::MFT] {
        if let Ok(record) = mft.record(volume, number) {
            let _ = look(&mft, volume, &record);
        }
    }
    if let Ok(upcase) = UpCase::read(&mft, volume) {
        for path in [&["Windows", "System32", "a"][..], &["a"], &["hiberfil.sys"]] {
            let _ = mft.path(volume, &upcase, path);
        }
    }
    let mut left = 256;
    mft.each_record(volume, |record| {
        left -= 1;
        if left == 0 {
            return Err(NtfsError::structure("fuzz target", 0, "enough"));
        }
        let _ = record.and_then(|record| look(&mft, volume, &record));
        Ok(())
    })
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    if let Some(name) = bytes.get_mut(3..11) {
        name.copy_from_slice(b"NTFS    ");
    }
    let _ = walk(&Volume::new(&bytes.as_slice(), bytes.len() as u64));
});
