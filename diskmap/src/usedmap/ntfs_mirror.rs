//! Comparison of `$MFT` with `$MFTMirr`, the copy of the first records, which every driver writes
//! together with them.
//!
//! If the copy differs, a driver is writing to the volume right now, or it lost power during a
//! write: ntfs-3g and Windows leave both equal whenever the volume is idle.

use super::ntfs::Ntfs;
use super::stop::Stop;
use crate::ntfs::{Record, Stream};
use crate::volume::Volume;

/// Number of records that the mirror always holds: `$MFT`, `$MFTMirr`, `$LogFile`, `$Volume`.
const MIRRORED: u64 = 4;

/// Refuses a volume with a mirror that differs from the original.
pub(super) fn check(ntfs: &Ntfs, volume: &Volume<'_>, mirror: &Stream) -> Result<(), Stop> {
    let bytes = ntfs.mft.geometry().record_bytes();
    for number in 0..MIRRORED {
        let read = |stream: &Stream| stream.read_metadata(volume, number * bytes, bytes);
        let (original, copy) = (read(ntfs.mft.stream())?, read(mirror)?);
        let content = |bytes| Some(Record::parse(number, bytes).ok()?.comparable());
        if original != copy && content(original) != content(copy) {
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
