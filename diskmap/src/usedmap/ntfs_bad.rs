//! `$BadClus`: the clusters that a driver found unreadable. `$Bitmap` marks them as used, so that
//! nothing is stored there.

use super::Excluded;
use super::bits::Used;
use super::ntfs::Ntfs;
use super::ntfs_attr::DATA;
use super::volume::{Stop, Volume};
use crate::extents::ExtentSet;

const RECORD_BAD_CLUSTERS: u64 = 8;

/// The name `$Bad` in UTF-16. The stream is as long as the volume and has a run for each bad
/// cluster.
const STREAM: &[u8] = b"$\0B\0a\0d\0";

/// The bad clusters of a volume; none if the record cannot be followed.
pub(super) fn excluded(
    ntfs: &Ntfs,
    volume: &Volume<'_>,
    metadata: &ExtentSet,
    used: &mut Used,
) -> Result<Vec<Excluded>, Stop> {
    let geometry = &ntfs.geometry;
    let found = ntfs
        .mft
        .record(volume, geometry, RECORD_BAD_CLUSTERS)
        .and_then(|record| ntfs.mft.stream(volume, geometry, &record, DATA, STREAM));
    let stream = match found {
        Ok(Some(stream)) => stream,
        Ok(None) | Err(Stop::Raw(_) | Stop::Refused { .. }) => return Ok(Vec::new()),
        Err(error @ Stop::Io(_)) => return Err(error),
    };
    // Runs on metadata, or on clusters that are free in the bitmap, are ignored.
    let named = stream
        .ranges(geometry)
        .filter(|range| !metadata.intersects(range.clone()));
    let bad = used.gathered(named);
    Ok(bad.take(Excluded::BAD_MAX).map(Excluded::bad).collect())
}
