//! Comparison of `$MFT` with `$MFTMirr`, the copy of the first records, which every driver writes
//! together with them.
//!
//! If the copy differs, a driver is writing to the volume right now, or it lost power during a
//! write: ntfs-3g and Windows leave both equal whenever the volume is idle.

use super::ntfs::Ntfs;
use super::ntfs_attr::{Stream, undo_fixups};
use super::volume::{Fields, Stop, Volume};

/// Number of records that the mirror always holds: `$MFT`, `$MFTMirr`, `$LogFile`, `$Volume`.
const MIRRORED: u64 = 4;

/// Refuses a volume with a mirror that differs from the original.
pub(super) fn check(ntfs: &Ntfs, volume: &Volume<'_>, mirror: &Stream) -> Result<(), Stop> {
    let geometry = &ntfs.geometry;
    for number in 0..MIRRORED {
        let at = number * geometry.record_bytes;
        let read = |stream: &Stream| stream.read(volume, geometry, at, geometry.record_bytes);
        let (original, copy) = (read(&ntfs.mft.stream)?, read(mirror)?);
        if original != copy && content(original).ok() != content(copy).ok() {
            return Err(Stop::refused(
                format!(
                    "NTFS record {number} in $MFT differs from its copy in $MFTMirr: the volume is being written, or is damaged"
                ),
                "unmount it wherever it is mounted (also from a file, or in a virtual machine); if it is not, boot Windows and run chkdsk /f",
            ));
        }
    }
    Ok(())
}

/// The used bytes of a record without its update sequence, which changes with each write.
fn content(mut record: Vec<u8>) -> Result<Vec<u8>, Stop> {
    undo_fixups(&mut record, b"FILE", "NTFS record")?;
    let (at, count, used) = {
        let fields = Fields(&record);
        let sequence = (usize::from(fields.u16(4)?), usize::from(fields.u16(6)?));
        (
            sequence.0,
            sequence.1,
            usize::try_from(fields.u32(0x18)?).unwrap_or(usize::MAX),
        )
    };
    if let Some(sequence) = record.get_mut(at..at + 2 * count) {
        sequence.fill(0);
    }
    record.truncate(used);
    Ok(record)
}
