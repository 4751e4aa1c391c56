//! A Linux root in an ext file system.

use crate::source::Source;
use template::findings::{LinuxFindings, PartitionFindings};

/// The system in the volume; `None` when there is none. What cannot be read is noted with the partition.
pub(crate) fn inspect(source: Source, partition: &mut PartitionFindings) -> Option<LinuxFindings> {
    let _ = (source, partition);
    None
}
