//! A Windows installation in an NTFS volume.

use crate::source::Source;
use template::findings::{PartitionFindings, WindowsFindings};

/// The system in the volume; `None` when there is none. What cannot be read is noted with the partition.
pub(crate) fn inspect(
    source: Source,
    partition: &mut PartitionFindings,
) -> Option<WindowsFindings> {
    let _ = (source, partition);
    None
}
