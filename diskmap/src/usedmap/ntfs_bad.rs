//! `$BadClus`: the clusters that a driver found unreadable. `$Bitmap` marks them as used, so that
//! nothing is stored there.

use super::Excluded;
use super::bits::Used;
use super::ntfs::Ntfs;
use super::stop::Stop;
use crate::extents::ExtentSet;
use crate::ntfs::{kind, number};
use crate::volume::Volume;

/// Name of the stream that is as long as the volume and has a run for each bad cluster.
const STREAM: &str = "$Bad";

/// The bad clusters of a volume; none if the record cannot be followed.
pub(super) fn excluded(
    ntfs: &Ntfs,
    volume: &Volume<'_>,
    metadata: &ExtentSet,
    used: &mut Used,
) -> Result<Vec<Excluded>, Stop> {
    let found = ntfs
        .mft
        .record(volume, number::BAD_CLUSTERS)
        .and_then(|record| ntfs.mft.find(volume, &record, kind::DATA, STREAM));
    let stream = match found {
        Ok(Some(stream)) => stream,
        Err(error) if error.is_io() => return Err(error.into()),
        Ok(None) | Err(_) => return Ok(Vec::new()),
    };
    // Runs on metadata, or on clusters that are free in the bitmap, are ignored.
    let named = stream
        .ranges()
        .filter(|range| !metadata.intersects(range.clone()));
    let bad = used.gathered(named);
    Ok(bad.take(Excluded::BAD_MAX).map(Excluded::bad).collect())
}
